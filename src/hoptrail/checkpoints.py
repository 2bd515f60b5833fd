"""LangGraph checkpoints on SQLite, read back strictly: a stored name never runs code.

The journal already makes every run resumable; checkpoints serve those who pause a run
(`approve`), look at its state, or travel back in it, and they hold what was said in a thread of
conversation.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from hashlib import sha256
from pathlib import Path

import aiosqlite
from filelock import FileLock, Timeout
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer
from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver

from hoptrail.errors import RunBusy


def strict_serializer() -> JsonPlusSerializer:
    """Give a serializer that rebuilds no type: the graph's state is plain JSON."""
    return JsonPlusSerializer(allowed_msgpack_modules=[])


async def sqlite_checkpointer(path: Path) -> AsyncSqliteSaver:
    """Open, or begin, the checkpoints in a file that only its owner can read.

    It belongs to the running event loop; close it with ``await saver.conn.close()``.
    """
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
    saver = AsyncSqliteSaver(await aiosqlite.connect(path), serde=strict_serializer())
    await saver.setup()
    return saver


@asynccontextmanager
async def alone_on(thread_id: str, home: Path) -> AsyncIterator[None]:
    """Have a thread of conversation to oneself, in this process and in all others here.

    Raises:
        RunBusy: somebody else has it.
    """
    folder = home / "locks"
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    name = sha256(thread_id.encode("utf-8", "surrogatepass")).hexdigest()[:32]
    # The operating system drops the lock when its process dies, however it dies.
    lock = FileLock(folder / f"thread-{name}.lock", blocking=False, thread_local=False)
    try:
        lock.acquire()
    except Timeout as error:
        raise RunBusy(
            f"the conversation {thread_id!r} is being answered: wait for that, or begin another"
        ) from error
    try:
        yield
    finally:
        lock.release()


@asynccontextmanager
async def kept_thread(thread_id: str, path: Path) -> AsyncIterator[AsyncSqliteSaver]:
    """Give the checkpoints in a file while a turn of this thread is answered.

    Each checkpoint holds the whole conversation, so only the newest is left at the end.
    """
    saver = await sqlite_checkpointer(path)
    try:
        yield saver
        for table in ("checkpoints", "writes"):
            await saver.conn.execute(
                f"DELETE FROM {table} WHERE thread_id = ?1 AND checkpoint_id <"
                " (SELECT max(checkpoint_id) FROM checkpoints WHERE thread_id = ?1)",
                (thread_id,),
            )
        await saver.conn.commit()
    finally:
        # A graph that is left writes on for a moment. Closed between a write and its commit, the
        # file would stay locked for as long as anything holds the cursor of that write.
        async with saver.lock:
            await saver.conn.rollback()
            await saver.conn.close()
