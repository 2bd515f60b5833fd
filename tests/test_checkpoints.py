"""Checkpoints on SQLite: what they leave behind when they are left."""

import asyncio
import sqlite3
import threading
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from langchain_core.messages import HumanMessage
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import empty_checkpoint

from hoptrail.checkpoints import kept_thread, sqlite_checkpointer
from hoptrail.errors import StorageFailed
from tests.faulty_disk import FaultyDisk

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


WHERE: RunnableConfig = {"configurable": {"thread_id": "t", "checkpoint_ns": ""}}


def check_free(path: Path) -> None:
    """Check that nobody keeps others from writing to a file."""
    with closing(sqlite3.connect(path, timeout=0, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        other.execute("ROLLBACK")


async def test_a_write_that_cannot_be_committed_keeps_nobody_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "own.db"
    disk = FaultyDisk("own.db")
    disk.inserted(monkeypatch)
    saver = await sqlite_checkpointer(path)
    kept = await saver.aput(WHERE, empty_checkpoint(), {}, {})
    for write in (
        lambda: saver.aput(WHERE, empty_checkpoint(), {}, {}),
        lambda: saver.aput_writes(kept, [("messages", SAID)], "task"),
        lambda: saver.adelete_thread("t"),
    ):
        # The last thing that each of them does is its commit.
        with monkeypatch.context() as patch:
            patch.setattr(disk, "do", refusing_to_commit(disk))
            with pytest.raises(StorageFailed, match=r"own\.db.*disk is full"):
                await write()
        await asyncio.to_thread(check_free, path)
    assert len([each async for each in saver.alist(WHERE)]) == 1
    await saver.aclose()


def refusing_to_commit(disk: FaultyDisk) -> Callable[[str, Callable[[], Any]], Any]:
    real = disk.do

    def do(text: str, act: Callable[[], Any]) -> Any:
        if text == "commit":
            raise sqlite3.OperationalError("database or disk is full")
        return real(text, act)

    return do


async def test_whoever_is_cancelled_while_writing_has_written_and_keeps_nobody_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "own.db"
    disk = FaultyDisk("own.db", how="hang")
    disk.inserted(monkeypatch)
    saver = await sqlite_checkpointer(path)
    disk.at = disk.seen + 2  # the commit
    putting = asyncio.ensure_future(saver.aput(WHERE, empty_checkpoint(), {}, {}))
    assert await asyncio.to_thread(disk.hangs.wait, 60)
    assert disk.failed == "commit"
    putting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await putting
    disk.goes_on.set()
    assert await saver.aget_tuple(WHERE) is not None
    await asyncio.to_thread(check_free, path)
    await saver.aclose()
    await saver.aclose()  # as often as anybody likes


async def test_a_conversation_of_something_else_is_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "threads.db"
    saver = await sqlite_checkpointer(path)
    await saver.aput(WHERE, {**empty_checkpoint(), "channel_values": {"messages": ["x"]}}, {}, {})
    await saver.aclose()
    with pytest.raises(StorageFailed, match=r"'t' in .*threads\.db is damaged: begin another"):
        async with kept_thread("t", path):
            raise AssertionError("it was given")
    async with kept_thread("other", path) as other:
        assert await other.aget_tuple({"configurable": {"thread_id": "other"}}) is None
