"""What the OpenAI door costs: requests a second, added latency, and 200 streams at once.

    python -m benchmarks.doors [--seconds 3] [--only capacity|latency|streams]

The model is the loopback Hugging Face of the tests, the server is ``hoptrail serve``, each in a
process of its own; this process sends the load, and all three share the machine's cores. Every
figure stands beside the same load sent to the provider itself (``bare``), in turn with it, so
that ratios hold where seconds do not. ``CPU ms`` is what a request cost the process asked.

``hoptrail/chat`` makes one model call a request, ``hoptrail/multi-hop`` two (a plan of one step,
and its answer). Admission, journal and trace are on.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
import numpy as np
from rich.console import Console
from rich.table import Table

from hoptrail.testing import step_reply

WORDS = " ".join(["word"] * 20)
ONE_STEP = "What comes of the plan of one step?"
TWO_STEPS = "What comes of the plan of two steps?"
ANSWERS = {
    "Findings:": f"A2\n\n{WORDS}",
    "Question: Who wrote alpha?": step_reply("A1", ()),
    "Question: Where was A1 born?": step_reply("A2", ()),
    f"Question: {ONE_STEP}": json.dumps({"steps": ["Who wrote alpha?"]}),
    f"Question: {TWO_STEPS}": json.dumps({"steps": ["Who wrote alpha?", "Where was #1 born?"]}),
    "": WORDS,
}
AT_ONCE = (1, 10, 50)
STREAMS = 200
PROVIDER_MODEL = "openai/gpt-oss-20b"
_ADDRESS = re.compile(r"http://127\.0\.0\.1:\d+")


@dataclass(frozen=True)
class Pace:
    """How fast the model answers, in seconds."""

    first_token: float
    token: float


NO_DELAY, AS_A_MODEL, SLOW = Pace(0, 0), Pace(0.2, 0.01), Pace(0.2, 0.1)


@dataclass(frozen=True)
class Started:
    """A process under way, and where it listens; what the system does not tell is 0."""

    pid: int
    url: str

    @property
    def megabytes(self) -> float:
        """What it holds in memory."""
        return int(self._told("status").partition("VmRSS:")[2].split()[0]) / 1024

    @property
    def cpu(self) -> float:
        """The CPU seconds it has spent."""
        spent = self._told("stat").rpartition(")")[2].split()[11:13]
        return sum(map(int, spent)) / os.sysconf("SC_CLK_TCK")

    def _told(self, name: str) -> str:
        file = Path(f"/proc/{self.pid}/{name}")
        nothing = {"status": "VmRSS: 0", "stat": ")" + " 0" * 13}
        return file.read_text(encoding="ascii") if file.exists() else nothing[name]


@dataclass(frozen=True)
class Target:
    """Whom to ask for what."""

    name: str
    at: Started
    model: str
    question: str = "Hello?"

    def body(self, stream: bool) -> dict[str, object]:
        """Give the request's body."""
        messages = [{"role": "user", "content": self.question}]
        return {"model": self.model, "messages": messages, "stream": stream}


@dataclass
class Load:
    """What came of a load: the seconds of each request, and when each piece of a stream came."""

    seconds: list[float] = field(default_factory=list)
    arrivals: list[list[float]] = field(default_factory=list)
    failures: int = 0
    took: float = 0.0
    cpu: float = 0.0

    @property
    def rate(self) -> float:
        """Requests answered a second."""
        return len(self.seconds) / self.took

    def percentiles(self) -> tuple[float, float, float]:
        """Give p50, p95 and p99 of the requests, in milliseconds."""
        p50, p95, p99 = np.percentile(self.seconds, (50, 95, 99)) * 1000
        return float(p50), float(p95), float(p99)


@contextmanager
def process(command: Sequence[str], environment: Mapping[str, str]) -> Iterator[Started]:
    """Start a process; give the first address it tells."""
    with subprocess.Popen(
        [sys.executable, "-m", *command],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=environment,  # nothing of the caller's
    ) as started:
        assert started.stdout is not None
        try:
            told = (_ADDRESS.search(line) for line in started.stdout)
            yield Started(started.pid, next(found[0] for found in told if found))
        finally:
            started.terminate()


@contextmanager
def doors(pace: Pace) -> Iterator[tuple[Started, Started]]:
    """Start the provider, at this pace, and the server over it."""
    reply = {"first_token_delay": pace.first_token, "token_delay": pace.token}
    side = {"answers": ANSWERS, "reply": reply}
    with tempfile.TemporaryDirectory() as folder:
        script = Path(folder) / "script.json"
        script.write_text(json.dumps({"huggingface": side}), encoding="utf-8")
        with process(["tests.providers", "--script", str(script)], {}) as provider:
            settings = {
                "HUGGINGFACE_BASE_URL": provider.url,
                "HF_TOKEN": "hf_loopback",
                "HOPTRAIL_HF_MODEL": PROVIDER_MODEL,
                "HOPTRAIL_BACKENDS": "huggingface",
                "HOPTRAIL_EMBEDDERS": "hash",
                "HOPTRAIL_HOME": f"{folder}/home",
            }
            with process(["hoptrail", "serve", "--port", "0"], settings) as server:
                yield provider, server


def targets(provider: Started, server: Started) -> list[Target]:
    """Give whom to compare: the provider bare, and what stands before it."""
    return [
        Target("bare", provider, PROVIDER_MODEL),
        Target("chat", server, "hoptrail/chat"),
        Target("multi-hop", server, "hoptrail/multi-hop", ONE_STEP),
    ]


async def ask(session: aiohttp.ClientSession, target: Target, stream: bool, load: Load) -> None:
    """Make one request and note how it went."""
    began = time.perf_counter()
    url = f"{target.at.url}/v1/chat/completions"
    arrivals: list[float] = []
    async with session.post(url, json=target.body(stream)) as response:
        last = b""
        async for line in response.content:
            last = line if line.strip() else last
            if b'"content":' in line and b'"content":""' not in line:
                arrivals.append(time.perf_counter() - began)
    complete = last.strip() == b"data: [DONE]" if stream else bool(arrivals)
    if response.status != 200 or not complete:
        load.failures += 1
        return
    load.seconds.append(time.perf_counter() - began)
    load.arrivals.append(arrivals)


async def closed_loop(target: Target, stream: bool, at_once: int, seconds: float) -> Load:
    """Keep so many requests under way for some seconds."""
    load, began = Load(), time.perf_counter()
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        await ask(session, target, stream, Load())

        async def client() -> None:
            while time.perf_counter() - began < seconds:
                await ask(session, target, stream, load)

        began, spent = time.perf_counter(), target.at.cpu
        async with asyncio.TaskGroup() as clients:
            for _ in range(at_once):
                clients.create_task(client())
        load.took, load.cpu = time.perf_counter() - began, target.at.cpu - spent
    return load


async def measure_loop(pace: Pace, title: str, seconds: float, console: Console) -> None:
    """Print requests a second and latency of each target, at each number of clients."""
    table = Table(title=title)
    table.add_column("asked")
    for column in ("at once", "stream", "req/s", "CPU ms", "p50 ms", "p95", "p99"):
        table.add_column(column, justify="right")
    for column in ("added p50 ms", "p95", "p99", "failed"):
        table.add_column(column, justify="right")
    with doors(pace) as (provider, server):
        for at_once in AT_ONCE:
            for stream in (False, True):
                bare: Load | None = None
                for target in targets(provider, server):
                    load = await closed_loop(target, stream, at_once, seconds)
                    bare = bare or load
                    table.add_row(target.name, str(at_once), *_cells(stream, load, bare))
                table.add_section()
    console.print(table)


def _cells(stream: bool, load: Load, bare: Load) -> list[str]:
    ours, theirs = load.percentiles(), bare.percentiles()
    added = ["" if load is bare else f"{a - b:.1f}" for a, b in zip(ours, theirs, strict=True)]
    cpu = f"{load.cpu / len(load.seconds) * 1000:.1f}"
    latency = [f"{value:.1f}" for value in ours]
    yes = "yes" if stream else ""
    return [yes, f"{load.rate:.0f}", cpu, *latency, *added, str(load.failures)]


async def measure_streams(console: Console) -> None:
    """Print how 200 streams at once went: how many ended whole, how late their pieces came."""
    table = Table(
        title=f"{STREAMS} streams at once; a piece is due {SLOW.token * 1000:.0f} ms apart"
    )
    table.add_column("asked")
    for column in ("complete", "took, s", "one alone, s", "first piece p50 s", "lag p50 ms"):
        table.add_column(column, justify="right")
    for column in ("lag p95", "lag p99", "RSS before MB", "after"):
        table.add_column(column, justify="right")
    with doors(SLOW) as (provider, server):
        two_hops = Target("multi-hop, 2 hops", server, "hoptrail/multi-hop", TWO_STEPS)
        for target in (*targets(provider, server)[:2], two_hops):
            table.add_row(*await _streams_row(target, server))
    console.print(table)


async def _streams_row(target: Target, server: Started) -> list[str]:
    alone = await closed_loop(target, stream=True, at_once=1, seconds=0.01)
    before, load = server.megabytes, Load()
    began = time.perf_counter()
    timeout = aiohttp.ClientTimeout(total=120)
    connector = aiohttp.TCPConnector(limit=0)
    async with (
        aiohttp.ClientSession(connector=connector, timeout=timeout) as session,
        asyncio.TaskGroup() as clients,
    ):
        for _ in range(STREAMS):
            clients.create_task(ask(session, target, True, load))
    took = time.perf_counter() - began
    lags = np.concatenate([_lags(arrivals) for arrivals in load.arrivals]) * 1000
    return [
        target.name,
        f"{len(load.seconds)}/{STREAMS}",
        f"{took:.2f}",
        f"{np.median(alone.seconds):.2f}",
        f"{np.median([arrivals[0] for arrivals in load.arrivals]):.2f}",
        *(f"{lag:.0f}" for lag in np.percentile(lags, (50, 95, 99))),
        f"{before:.0f}",
        f"{server.megabytes:.0f}",
    ]


def _lags(arrivals: Sequence[float]) -> np.ndarray:
    """Say how much later each piece came than the stream's best piece foretells."""
    late = np.array(arrivals) - SLOW.token * np.arange(len(arrivals))
    found: np.ndarray = late - late.min()
    return found


def main() -> None:
    """Run what was asked for and print its tables."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=3.0, help="seconds a row")
    parser.add_argument("--only", choices=("capacity", "latency", "streams"), help="one table")
    wish = parser.parse_args()
    console = Console(width=130)
    if wish.only in (None, "capacity"):
        title = "Capacity: a model without any delay"
        asyncio.run(measure_loop(NO_DELAY, title, wish.seconds, console))
    if wish.only in (None, "latency"):
        title = "Latency: a model of 200 ms to the first token and 10 ms a token, 20 tokens"
        asyncio.run(measure_loop(AS_A_MODEL, title, wish.seconds, console))
    if wish.only in (None, "streams"):
        asyncio.run(measure_streams(console))


if __name__ == "__main__":
    main()
