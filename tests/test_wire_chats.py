"""Every fault of the wire on both chat paths, streamed and not, in every setting of the other."""

from __future__ import annotations

import logging
from collections.abc import Iterable

import pytest

from hoptrail import standing
from hoptrail.providers import huggingface, ollama
from tests.canaries import leaks
from tests.providers import LoopbackProvider
from tests.wire_cells import LONG, MODES, Cell, Work, in_flight_no_more, run_all
from tests.wire_faults import CHAT_GROUPS, CHATS, GROUPS, Row

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.promise("every-fault-ends-well"),
    pytest.mark.timeout(300),
]


@pytest.fixture(autouse=True)
def patient_probes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Here no probe fails, however slow the machine is."""
    for module in (huggingface, ollama):
        monkeypatch.setattr(module, "_PROBE_SECONDS", LONG)
    monkeypatch.setattr(standing, "PROBE_SECONDS", LONG)


def work(row: Row, path: str, mode: str, *, streamed: bool) -> Work:
    async def run(provider: LoopbackProvider) -> Iterable[str]:
        cell = Cell(row, path, provider)
        await MODES[mode](cell, streamed=streamed)
        cell.expect("the provider is left in peace", await in_flight_no_more(provider), True)
        how = "streamed" if streamed else "whole"
        return [f"{mode}, {how}: {complaint}" for complaint in cell.complaints]

    return run


@pytest.mark.parametrize("path", CHATS)
@pytest.mark.parametrize("group", CHAT_GROUPS)
async def test_every_fault_ends_as_the_table_says(
    group: str, path: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    cells = [
        work(row, path, mode, streamed=streamed)
        for row in GROUPS[group]
        for mode in MODES
        for streamed in ((True, False) if mode in ("outage", "both") else (True,))
        # Megabytes take their time: these are asked for in the two ways that matter.
        if row.named(path) != "too much" or (mode in ("outage", "alone") and streamed)
    ]
    complaints = await run_all(cells)
    assert not complaints, "\n".join(complaints)
    assert not leaks(caplog.text)
