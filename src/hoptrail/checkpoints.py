"""LangGraph checkpoints on SQLite, read back strictly: a stored name never runs code.

The journal already makes every run resumable; checkpoints serve those who pause a run
(`approve`), look at its state, or travel back in it, and they hold what was said in a thread of
conversation.
"""

from __future__ import annotations

import asyncio
import re
import sqlite3
from collections.abc import AsyncIterator, Coroutine, Sequence
from contextlib import asynccontextmanager, suppress
from hashlib import sha256
from pathlib import Path
from typing import Any, TypeVar

from filelock import AsyncFileLock, FileLock, Timeout
from langchain_core.messages import BaseMessage
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import (
    ChannelVersions,
    Checkpoint,
    CheckpointMetadata,
    CheckpointTuple,
)
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer
from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver

from hoptrail import sqlite_file
from hoptrail.errors import RunBusy, StorageFailed
from hoptrail.sqlite_file import (
    BUSY_SECONDS,
    check_version,
    is_in_wal,
    make_private,
    opening_lock,
    slow,
)
from hoptrail.sqlite_thread import SqliteThread, seen_through

T = TypeVar("T")

_VERSION = 1
_KINDS = ("msgpack", "null", "bytes", "bytearray")
"""How values are stored. LangGraph also reads what its versions before stored as "json", and
builds the objects that such a row names."""
_SHAPE = {
    "id": str,
    "ts": str,
    "v": int,
    "channel_values": dict,
    "channel_versions": dict,
    "versions_seen": dict,
}
_PLAIN = re.compile(r"[a-zA-Z0-9_.-]+")
"""Names of metadata: they become part of a statement. LangGraph's own rule lets "a\\n" pass."""
# NotImplementedError is what LangGraph's serializer raises for a kind of row that it does not know.
_DAMAGED = (ValueError, TypeError, LookupError, NotImplementedError, RecursionError)
"""What a damaged or planted row makes LangGraph raise while it is read."""


class StrictSerializer(JsonPlusSerializer):
    """Reads back plain data, messages and LangGraph's own types; anything else stays data."""

    def __init__(self) -> None:
        super().__init__(allowed_msgpack_modules=[])

    def loads_typed(self, data: tuple[str, bytes]) -> Any:  # Any: whatever was stored
        """Give a stored value.

        Raises:
            StorageFailed: it is damaged, or stored in a way that nothing is stored in.
        """
        kind = data[0]
        if kind not in _KINDS:
            raise StorageFailed(f"a value stored as {str(kind)[:40]!r} is not read")
        try:
            return super().loads_typed(data)
        except _DAMAGED as error:
            raise StorageFailed(f"a stored value is damaged: {error}") from error


def strict_serializer() -> StrictSerializer:
    """Give a serializer that rebuilds no type by its stored name, but LangGraph's own."""
    return StrictSerializer()


class SqliteCheckpoints(AsyncSqliteSaver):
    """LangGraph's SQLite checkpoints, with errors that name the file and no write left open.

    Raises:
        StorageFailed: by each method, when the disk refuses or does not answer, or when what is
            stored is damaged.
    """

    def __init__(self, path: Path) -> None:
        self._thread = SqliteThread(path)
        super().__init__(self._thread, serde=strict_serializer())
        self.path = path
        self._under_way: set[asyncio.Task[Any]] = set()

    async def open(self) -> None:
        """Open the file and bring its tables up to this version."""
        await self._thread
        await self.setup()

    async def setup(self) -> None:
        """Bring the tables up to this version."""
        if not self.is_setup:
            await self._told(self._brought_up())

    async def aget_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        """Give a checkpoint, or None."""
        return await self._told(self._found(config), _DAMAGED)

    async def alist(
        self,
        config: RunnableConfig | None,
        *,
        filter: dict[str, Any] | None = None,
        before: RunnableConfig | None = None,
        limit: int | None = None,
    ) -> AsyncIterator[CheckpointTuple]:
        """Give checkpoints, the newest first."""
        if hostile := [key for key in filter or () if not _PLAIN.fullmatch(key)]:
            raise ValueError(f"no metadata goes by {hostile[0]!r}")
        found = super().alist(config, filter=filter, before=before, limit=limit)
        for each in await self._told(_all(found), _DAMAGED):
            yield each

    async def aput(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> RunnableConfig:
        """Store a checkpoint."""
        return await self._told(super().aput(config, checkpoint, metadata, new_versions))

    async def aput_writes(
        self,
        config: RunnableConfig,
        writes: Sequence[tuple[str, Any]],
        task_id: str,
        task_path: str = "",
    ) -> None:
        """Store what a task wrote."""
        await self._told(super().aput_writes(config, writes, task_id, task_path))

    async def adelete_thread(self, thread_id: str) -> None:
        """Forget a thread."""
        await self._told(super().adelete_thread(thread_id))

    async def aclose(self) -> None:
        """Finish what is under way, and close the file; whoever is cancelled is so afterwards."""
        await seen_through(asyncio.ensure_future(self._close()))

    async def _close(self) -> None:
        try:
            with suppress(TimeoutError, sqlite3.Error):
                async with asyncio.timeout(sqlite_file.DISK_SECONDS):
                    await self._take_back()
        finally:
            # However this ends: its thread would keep the process from ending.
            with suppress(TimeoutError, sqlite3.Error):
                await self._thread.end()

    async def _told(
        self, work: Coroutine[Any, Any, T], damaged: tuple[type[Exception], ...] = ()
    ) -> T:
        """Give what some work on the file gives; whoever is cancelled leaves it to its end."""
        task = asyncio.ensure_future(self._whole(work))
        self._under_way.add(task)  # a task that nobody holds may be thrown away
        task.add_done_callback(self._over)
        expected: tuple[type[Exception], ...] = (sqlite3.Error, OSError, StorageFailed, *damaged)
        try:
            async with asyncio.timeout(sqlite_file.DISK_SECONDS) as limit:
                return await asyncio.shield(task)
        except expected as error:
            if limit.expired():
                raise slow(self.path) from error
            if isinstance(error, StorageFailed) and str(self.path) in str(error):
                raise
            raise StorageFailed(
                f"the checkpoints in {self.path} are not usable: {error}. When the disk is in "
                "order, move the file away: threads begin anew, and runs resume without it"
            ) from error

    async def _whole(self, work: Coroutine[Any, Any, T]) -> T:
        try:
            return await work
        except BaseException:
            # A write without its commit would keep everybody else out of the file.
            with suppress(sqlite3.Error):
                await self._take_back()
            raise

    def _over(self, task: asyncio.Task[Any]) -> None:
        self._under_way.discard(task)
        # Whoever was cancelled no longer hears of a failure: asyncio would report it as lost.
        if not task.cancelled():
            task.exception()

    async def _take_back(self) -> None:
        async with self.lock:
            if self._is_open() and self.conn.in_transaction:
                await self.conn.rollback()

    async def _brought_up(self) -> None:
        async with self.conn.execute("PRAGMA user_version") as found:
            row = await found.fetchone()
        check_version(self.path, "checkpoints", int(row[0]) if row else 0, _VERSION)
        await super().setup()
        await self.conn.execute(f"PRAGMA user_version = {_VERSION}")

    async def _found(self, config: RunnableConfig) -> CheckpointTuple | None:
        found = await super().aget_tuple(config)
        return None if found is None else _checked(found)

    def _is_open(self) -> bool:
        try:
            return self.conn.in_transaction in (True, False)
        except ValueError:
            return False


async def _all(found: AsyncIterator[CheckpointTuple]) -> list[CheckpointTuple]:
    return [_checked(each) async for each in found]


def _checked(found: CheckpointTuple) -> CheckpointTuple:
    """Give a checkpoint that has the shape of one.

    Raises:
        TypeError: it has another.
    """
    kept, metadata = found.checkpoint, found.metadata
    if not isinstance(kept, dict) or not isinstance(metadata, dict):
        raise TypeError("a row holds no checkpoint")
    wrong = [name for name, kind in _SHAPE.items() if not isinstance(kept.get(name), kind)]
    if wrong:
        raise TypeError(f"the {wrong[0]} of a checkpoint is missing or no {_SHAPE[wrong[0]]}")
    return found


def _is_conversation(found: CheckpointTuple) -> bool:
    """Say whether what was said in a thread are messages."""
    said = [found.checkpoint["channel_values"].get("messages", [])]
    said += [value for _, name, value in found.pending_writes or () if name == "messages"]
    each = [value if isinstance(value, list) else [value] for value in said]
    return all(isinstance(message, BaseMessage) for values in each for message in values)


async def sqlite_checkpointer(path: Path) -> SqliteCheckpoints:
    """Open, or begin, the checkpoints in a file that only its owner can read.

    It belongs to the running event loop; close it with ``await saver.aclose()``.

    Raises:
        StorageFailed: the file cannot be used, or was written by a newer Hoptrail.
    """
    try:
        make_private(path)
        if is_in_wal(path):  # each turn opens the file: only who begins it has to be alone
            return await _opened(path)
        # Not by a thread: cancelled while it has the lock, it would keep it.
        async with AsyncFileLock(
            opening_lock(path), BUSY_SECONDS, mode=0o600, run_in_executor=False
        ):
            return await _opened(path)
    except (OSError, sqlite3.Error) as error:
        raise StorageFailed(f"the checkpoints in {path} cannot be opened: {error}") from error


async def _opened(path: Path) -> SqliteCheckpoints:
    saver = SqliteCheckpoints(path)
    try:
        await saver.open()
    except BaseException:
        # Its thread would keep the process from ending.
        await saver.aclose()
        raise
    return saver


@asynccontextmanager
async def alone_on(thread_id: str, home: Path) -> AsyncIterator[None]:
    """Have a thread of conversation to oneself, in this process and in all others here.

    Raises:
        RunBusy: somebody else has it.
        StorageFailed: there is no room for its lock.
    """
    folder = home / "locks"
    name = sha256(thread_id.encode("utf-8", "surrogatepass")).hexdigest()[:32]
    # The operating system drops the lock when its process dies, however it dies.
    lock = FileLock(folder / f"thread-{name}.lock", blocking=False, thread_local=False)
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        lock.acquire()
    except Timeout as error:
        raise RunBusy(
            f"the conversation {thread_id!r} is being answered: wait for that, or begin another"
        ) from error
    except OSError as error:
        raise StorageFailed(f"the locks in {folder} are not usable: {error}") from error
    try:
        yield
    finally:
        lock.release()


@asynccontextmanager
async def kept_thread(thread_id: str, path: Path) -> AsyncIterator[SqliteCheckpoints]:
    """Give the checkpoints in a file while a turn of this thread is answered.

    Each checkpoint holds the whole conversation, so only the newest is left at the end.
    """
    saver = await sqlite_checkpointer(path)
    try:
        found = await saver.aget_tuple({"configurable": {"thread_id": thread_id}})
        if found is not None and not _is_conversation(found):
            raise StorageFailed(
                f"the conversation {thread_id!r} in {path} is damaged: begin another"
            )
        yield saver
        # The answer has been given. What cannot be cleared away now, the next turn will.
        with suppress(sqlite3.Error):
            for table in ("checkpoints", "writes"):
                await saver.conn.execute(
                    f"DELETE FROM {table} WHERE thread_id = :thread AND checkpoint_id <"
                    " (SELECT max(checkpoint_id) FROM checkpoints WHERE thread_id = :thread)",
                    {"thread": thread_id},
                )
            await saver.conn.commit()
    finally:
        # A graph that is left writes on for a moment. Closed between a write and its commit, the
        # file would stay locked for as long as anything holds the cursor of that write.
        await saver.aclose()
