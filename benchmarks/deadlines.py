"""How long after its deadline a run ends, fifty of them at once, each held up in the same way.

    python -m benchmarks.deadlines [--runs 50] [--deadline 5] [--only TEXT]

The loopback Ollama of the tests is in a process of its own and holds up one stage of each run:
it never answers, sends half a header, a byte a second, signs of life without a token, or stalls
after three tokens. The time is taken by the asker, from the question to the answer or the error;
documents are indexed before, and libraries are loaded.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import multiprocessing
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path

from rich.console import Console
from rich.table import Table
from tests.late import FAULTS, STAGES, Ask, Ended, a_trail, all_at_once, hold_up
from tests.providers import LoopbackProvider
from tests.two_hops import write_documents

TARGET_MS = 250


class Remote:
    """The addresses of a provider in another process, and a way to tell it what to do."""

    def __init__(self, control: Connection) -> None:
        self._control = control
        self.ollama_url, self.huggingface_url = control.recv()

    def hold_up(self, stage: str, fault: str) -> None:
        """Have it hold up a stage; with none it is well again."""
        self._control.send((stage, fault))
        self._control.recv()


def serve(control: Connection) -> None:
    """Be the provider, until the other end is closed."""
    with LoopbackProvider() as provider:
        control.send((provider.ollama_url, provider.huggingface_url))
        while True:
            try:
                stage, fault = control.recv()
            except EOFError:
                return
            provider.reset()
            if stage:
                hold_up(provider, stage, FAULTS[fault])
            control.send(None)


@contextmanager
def another_process() -> Iterator[Remote]:
    """Run the provider in a process of its own while the block runs."""
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(target=serve, args=(theirs,))
    process.start()
    theirs.close()
    try:
        yield Remote(ours)
    finally:
        ours.close()
        process.join(10)
        process.kill()


def late_ms(ended: list[Ended]) -> list[float]:
    """Give by how many milliseconds each run missed its deadline, the most punctual first."""
    return sorted(each.overshoot * 1000 for each in ended)


def measured(remote: Remote, ask: Ask, stage: str, fault: str, runs: int) -> list[float]:
    """Give the overshoot of each of so many runs at once, in milliseconds, sorted."""
    flags = {"ollama_host": remote.ollama_url, "huggingface_base_url": remote.huggingface_url}
    trail = a_trail(None, Ask(ask.graph, ask.deadline, ask.parts, flags))

    async def go() -> list[Ended]:
        await trail.prepare()
        remote.hold_up("", "")
        await trail.assembly.router.ainvoke("hello")
        remote.hold_up(stage, fault)
        return await all_at_once(trail, ask, runs)

    try:
        return late_ms(asyncio.run(go()))
    finally:
        trail.close()


def main() -> None:
    """Measure every stage of every graph with every fault, and print a table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.deadlines")
    parser.add_argument("--runs", type=int, default=50)
    parser.add_argument("--deadline", type=float, default=5.0, help="Seconds.")
    parser.add_argument("--only", default="", help="Scenarios whose name contains this.")
    given = parser.parse_args()
    logging.disable(logging.WARNING)
    table = Table("graph, stage: fault", "p50", "p99", "max")
    everything: list[float] = []
    with tempfile.TemporaryDirectory() as folder, another_process() as remote:
        docs = write_documents(Path(folder) / "docs")
        for graph, stage, fault in scenarios(given.only):
            ask = Ask(graph=graph, deadline=given.deadline, parts={"docs": docs})
            late = measured(remote, ask, stage, fault, given.runs)
            everything += late
            table.add_row(f"{graph}, {stage}: {fault}", *shares(late))
    everything.sort()
    table.add_section()
    table.add_row(f"all {len(everything)} runs", *shares(everything))
    console = Console()
    console.print(f"Milliseconds after a deadline of {given.deadline:g} s; target: p99 {TARGET_MS}")
    console.print(table)


def scenarios(only: str) -> Iterator[tuple[str, str, str]]:
    """Give graph, stage and fault of each scenario that is wanted."""
    for graph, stages in STAGES.items():
        for stage in stages:
            for fault in FAULTS:
                if only in f"{graph}, {stage}: {fault}":
                    yield graph, stage, fault


def shares(late: list[float]) -> list[str]:
    """Give the median, the 99th percentile and the greatest of sorted figures."""
    return [f"{late[min(len(late) - 1, int(share * len(late)))]:.0f}" for share in (0.5, 0.99, 1)]


if __name__ == "__main__":
    main()
