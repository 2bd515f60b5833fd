"""Checkpoints on SQLite: what they leave behind when they are left."""

import asyncio
import threading
import time
from pathlib import Path

import pytest
from langchain_core.messages import HumanMessage
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import empty_checkpoint

from hoptrail.checkpoints import kept_thread

pytestmark = [pytest.mark.anyio, pytest.mark.promise("storage-faults-are-told")]


SAID = HumanMessage("I live in Prague.", id="1")


class Left(Exception):
    """Somebody went away."""


async def test_a_write_under_way_when_a_thread_is_left_is_finished(tmp_path: Path) -> None:
    path = tmp_path / "threads.db"
    where: RunnableConfig = {"configurable": {"thread_id": "t", "checkpoint_ns": ""}}
    writing = threading.Event()

    def slowly(statement: str) -> None:
        if "INTO writes" in statement:
            writing.set()
            time.sleep(0.1)

    async def leave_while_writing() -> None:
        async with asyncio.TaskGroup() as beside, kept_thread("t", path) as saver:
            kept = await saver.aput(where, empty_checkpoint(), {}, {})
            await saver.conn.set_trace_callback(slowly)
            # As LangGraph does when a graph is left: it notes why, and nobody waits for it.
            beside.create_task(saver.aput_writes(kept, [("messages", SAID)], "task"))
            await asyncio.to_thread(writing.wait)
            raise Left

    with pytest.raises(ExceptionGroup) as left:
        await leave_while_writing()
    assert left.group_contains(Left)
    async with kept_thread("t", path) as saver:
        await saver.conn.execute("PRAGMA busy_timeout = 100")
        found = await saver.aget_tuple(where)
        assert found is not None
        assert found.pending_writes == [("task", "messages", SAID)]
        await saver.aput(where, empty_checkpoint(), {}, {})  # the file is not locked
