"""The checkpointers that Hoptrail ships keep LangGraph's own contract."""

import tempfile
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.checkpoint.conformance import checkpointer_test, validate
from langgraph.checkpoint.memory import InMemorySaver

from hoptrail.checkpoints import sqlite_checkpointer, strict_serializer

pytestmark = [pytest.mark.anyio, pytest.mark.promise("checkpointers-conform")]

Savers = Callable[[], AsyncIterator[BaseCheckpointSaver[str]]]
SPECIFIED = {"put": 17, "put_writes": 10, "get_tuple": 10, "list": 16, "delete_thread": 5}
"""How many tests LangGraph's suite has for each capability that every checkpointer needs."""


async def on_sqlite() -> AsyncIterator[BaseCheckpointSaver[str]]:
    with tempfile.TemporaryDirectory() as folder:
        saver = await sqlite_checkpointer(Path(folder) / "checkpoints.db")
        yield saver
        await saver.aclose()


async def in_memory() -> AsyncIterator[BaseCheckpointSaver[str]]:
    yield InMemorySaver(serde=strict_serializer())


@pytest.mark.parametrize("savers", [on_sqlite, in_memory])
async def test_langgraphs_conformance_suite_passes(savers: Savers) -> None:
    report = await validate(checkpointer_test(name=savers.__name__)(savers))
    failures = [failure for result in report.results.values() for failure in result.failures]
    assert failures == []
    assert report.passed_all_base()
    passed = {name: report.results[name].tests_passed for name in SPECIFIED}
    assert all(passed[name] >= count for name, count in SPECIFIED.items()), passed
