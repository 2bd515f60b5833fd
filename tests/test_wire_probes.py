"""Every fault of the wire on both probes: in time, and never "up" for what is no list of models."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterable

import pytest

from hoptrail.providers import huggingface, ollama
from tests.canaries import leaks
from tests.providers import Fault, LoopbackProvider
from tests.wire_cells import LONG, SLACK, Cell, Work, backend, in_flight_no_more, run_all, side
from tests.wire_faults import GROUPS, PROBE_GROUPS, PROBED, PROBES, Row

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.promise("every-fault-ends-well"),
    pytest.mark.timeout(300),
]

HANGING = 3.0
"""Seconds for those that only a limit of time ends; some do answer, but not to the end."""


def work(row: Row, path: str) -> Work:
    async def run(provider: LoopbackProvider) -> Iterable[str]:
        name = path.partition(" ")[0]
        cell = Cell(row, name, provider)
        side(provider, name).probe_fault = row.fault
        began = asyncio.get_running_loop().time()
        found = await backend(name, provider).probe()
        seconds = asyncio.get_running_loop().time() - began
        cell.expect("it ended in time", seconds < SLACK, True)
        cell.expect("state", found.state, PROBED[row.named(path)])
        cell.expect("it says why", bool(found.detail) or found.up, True)
        cell.expect("keys that got out", leaks(found.model_dump_json()), [])
        cell.expect("contacts of the other", sum(side(provider, cell.other).calls.values()), 0)
        cell.expect("chats", cell.calls(name), 0)
        cell.expect("the provider is left in peace", await in_flight_no_more(provider), True)
        return cell.complaints

    return run


@pytest.mark.parametrize("path", PROBES)
async def test_every_fault_is_found_to_be_what_it_is(
    path: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.DEBUG)
    rows = [row for group in PROBE_GROUPS for row in GROUPS[group] if row.concerns(path)]
    complaints: list[str] = []
    # Who answers is waited for, however slow the machine is.
    for hangs, seconds in ((True, HANGING), (False, LONG)):
        for module in (huggingface, ollama):
            monkeypatch.setattr(module, "_PROBE_SECONDS", seconds)
        complaints += await run_all([work(row, path) for row in rows if row.hangs == hangs])
    assert not complaints, "\n".join(complaints)
    assert not leaks(caplog.text)


@pytest.mark.parametrize("name", ["huggingface", "ollama"])
async def test_what_holds_up_our_own_loop_is_not_the_servers_fault(
    name: str, provider: LoopbackProvider
) -> None:
    provider.ollama.models = ["qwen3:8b"]
    served = side(provider, name)
    served.probe_fault = Fault("slow_first_byte", seconds=1.7)
    async with asyncio.TaskGroup() as group:
        probe = group.create_task(backend(name, provider).probe())
        while not served.calls:  # noqa: ASYNC110 # the provider is in another thread
            await asyncio.sleep(0.01)
        time.sleep(1.4)  # noqa: ASYNC251 # holding up the loop is the point
    assert probe.result().state == "up", probe.result()
