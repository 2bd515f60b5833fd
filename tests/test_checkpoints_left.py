"""Checkpoints that are left by everybody at once: the file is closed before the loop ends."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import pytest
from langgraph.checkpoint.base import empty_checkpoint

from hoptrail.checkpoints import kept_thread, sqlite_checkpointer
from tests.test_checkpoints import WHERE, check_free

pytestmark = pytest.mark.promise("storage-faults-are-told")


class SlowDisk:
    """Takes its time to open and to close files, and for each statement; tells what is open."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.open = set[sqlite3.Connection]()
        self.at: Callable[[str], object] = lambda _doing: None
        """Hears what is done next, on the thread that does it."""
        disk, real = self, sqlite3.connect

        class Slow(sqlite3.Connection):
            def close(self) -> None:
                disk._do("close")
                super().close()
                disk.open.discard(self)

            def execute(self, *given: Any) -> Any:
                disk._do(str(given[0]))
                return super().execute(*given)

            def executescript(self, script: str) -> Any:
                disk._do(script)
                return super().executescript(script)

            def commit(self) -> None:
                disk._do("commit")
                super().commit()

        def connect(*given: Any, **named: Any) -> sqlite3.Connection:
            disk._do("connect")
            opened: sqlite3.Connection = real(*given, **named, factory=Slow)
            disk.open.add(opened)
            return opened

        monkeypatch.setattr(sqlite3, "connect", connect)

    def _do(self, doing: str) -> None:
        self.at(doing)
        time.sleep(0.02)


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> SlowDisk:
    return SlowDisk(monkeypatch)


@pytest.fixture
def thread_failures(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What ended a thread, which Python would print."""
    failures: list[str] = []
    monkeypatch.setattr(threading, "excepthook", lambda told: failures.append(str(told.exc_value)))
    return failures


MOMENTS = ["connect", "PRAGMA user_version", "CREATE TABLE", "INSERT", "commit", "close"]


@pytest.mark.parametrize("moment", MOMENTS)
@pytest.mark.parametrize("by", ["scope", "loop"])
def test_the_file_is_closed_before_the_loop_is(
    moment: str, by: str, tmp_path: Path, disk: SlowDisk, thread_failures: list[str]
) -> None:
    """``scope`` cancels at every await, as anyio does; ``loop`` cancels whatever is left, once."""
    path = tmp_path / "threads.db"

    async def turn() -> None:
        async with kept_thread("t", path) as saver:
            await saver.aput(WHERE, empty_checkpoint(), {}, {})

    async def left() -> None:
        loop, reached = asyncio.get_running_loop(), asyncio.Event()

        def at(doing: str) -> None:
            if moment in doing and not reached.is_set():
                loop.call_soon_threadsafe(reached.set)

        disk.at = at
        if by == "scope":
            async with anyio.create_task_group() as group:
                group.start_soon(turn)
                await reached.wait()
                group.cancel_scope.cancel()
        else:
            kept.append(asyncio.create_task(turn()))
            await reached.wait()

    kept: list[asyncio.Task[None]] = []
    asyncio.run(left())
    assert disk.open == set()
    assert thread_failures == []
    disk.at = lambda _doing: None
    check_free(path)


def test_who_leaves_while_the_file_is_opened_leaves_it_free(
    tmp_path: Path, disk: SlowDisk, thread_failures: list[str]
) -> None:
    path = tmp_path / "own.db"

    async def left() -> None:
        with anyio.move_on_after(0):
            await sqlite_checkpointer(path)

    asyncio.run(left())
    assert (disk.open, thread_failures) == (set(), [])
    check_free(path)
