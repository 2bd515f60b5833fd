"""LangGraph checkpoints on SQLite, read back strictly: a stored name never runs code.

The journal already makes every run resumable; checkpoints serve those who pause a run
(`approve`), look at its state, or travel back in it.
"""

from __future__ import annotations

import os
from pathlib import Path

import aiosqlite
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer
from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver


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
