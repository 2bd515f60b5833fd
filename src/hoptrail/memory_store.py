"""The store that memory lies in: LangGraph's on SQLite, for any event loop, all or nothing."""

from __future__ import annotations

import asyncio
import json
import sqlite3
import weakref
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from filelock import FileLock
from langgraph.store.base import BaseStore, PutOp
from langgraph.store.sqlite import SqliteStore

from hoptrail import sqlite_file
from hoptrail.errors import StorageFailed
from hoptrail.sqlite_file import (
    BUSY_SECONDS,
    Owner,
    Transaction,
    check_version,
    make_private,
    opening_lock,
    slow,
    version_of,
)

if TYPE_CHECKING:
    from langgraph.store.base import Op, Result

_VERSION = 1


def sqlite_store(path: Path) -> ThreadedSqliteStore:
    """Give a store in a SQLite file that only its owner can read; made when it is first used."""
    return ThreadedSqliteStore(path)


class ThreadedSqliteStore(BaseStore):
    """LangGraph's SQLite store for any event loop, and for none.

    LangGraph has a synchronous one and one that is bound to a single event loop; this one does
    the work of the first in a thread of its own. What was written is committed, and stays so
    through a power cut, when the call returns. Several processes may use the file at once.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._inner: SqliteStore | None = None
        self._owner = Owner()
        self._files = ExitStack()
        weakref.finalize(self, self._files.close)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="hoptrail-memory")

    def batch(self, ops: Iterable[Op]) -> list[Result]:
        """Do the operations, waiting; raises as `abatch`."""
        self._owner.check(str(self.path))
        return self._thread.submit(self._do, list(ops)).result()

    async def abatch(self, ops: Iterable[Op]) -> list[Result]:
        """Do the operations, all or none. Whoever is cancelled leaves them to their end.

        Raises:
            StorageFailed: the disk refused, or does not answer, or the process was forked since.
        """
        self._owner.check(str(self.path))
        loop = asyncio.get_running_loop()
        work = loop.run_in_executor(self._thread, self._do, list(ops))
        # Whoever was cancelled no longer hears of a failure: asyncio would report it as lost.
        work.add_done_callback(lambda done: done.cancelled() or done.exception())
        try:
            async with asyncio.timeout(sqlite_file.DISK_SECONDS):
                return await asyncio.shield(work)
        except TimeoutError as error:
            raise slow(self.path) from error

    def close(self) -> None:
        """Finish what is under way and close the file; the store is not used afterwards."""
        self._thread.shutdown(wait=True)
        self._files.close()

    def _do(self, ops: list[Op]) -> list[Result]:
        try:
            return self._open().batch(ops)
        except (sqlite3.Error, OSError, json.JSONDecodeError) as error:
            raise self._unusable(error) from error
        except ValueError as error:
            # LangGraph's store tells some of SQLite's errors so, and most hostile names.
            if isinstance(error.__cause__, sqlite3.Error):
                raise self._unusable(error.__cause__) from error
            raise

    def _unusable(self, error: Exception) -> StorageFailed:
        return StorageFailed(f"the memory in {self.path} is not usable: {error}")

    def _open(self) -> SqliteStore:
        if self._inner is None:
            make_private(self.path)
            with FileLock(opening_lock(self.path), BUSY_SECONDS, mode=0o600):
                self._inner = self._begun()
        return self._inner

    def _begun(self) -> SqliteStore:
        connection = sqlite3.connect(
            self.path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False
        )
        try:
            # Before anything is changed: a file that is refused stays as it is.
            check_version(self.path, "memory", version_of(connection), _VERSION)
            done = _tables_of(connection)
            check_version(self.path, "table", done, len(SqliteStore.MIGRATIONS))
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = FULL")
            if done < len(SqliteStore.MIGRATIONS) or version_of(connection) < _VERSION:
                _bring_up(connection, done)
            store = _WholeBatches(connection)
            store.setup()
        except BaseException:
            connection.close()
            raise
        self._files.callback(connection.close)
        return store


class _WholeBatches(SqliteStore):
    """LangGraph's store, but of a batch that fails nothing is kept; its own keeps the half."""

    _reading = False

    def batch(self, ops: Iterable[Op]) -> list[Result]:
        ops = list(ops)
        self._reading = not any(isinstance(op, PutOp) for op in ops)
        return super().batch(ops)

    @contextmanager
    def _cursor(self, *, transaction: bool = True) -> Iterator[sqlite3.Cursor]:
        whole_batch = Transaction(self.conn, reading=self._reading)
        with self.lock, whole_batch as connection, closing(connection.cursor()) as cursor:
            yield cursor


def _tables_of(connection: sqlite3.Connection) -> int:
    """Give how many of LangGraph's migrations a file has been through."""
    there = "SELECT count(*) FROM sqlite_master WHERE name = 'store_migrations'"
    if not connection.execute(there).fetchone()[0]:
        return 0
    last: int = connection.execute("SELECT coalesce(max(v), -1) FROM store_migrations").fetchone()[
        0
    ]
    return last + 1


def _bring_up(connection: sqlite3.Connection, done: int) -> None:
    """Bring a file up to this version: all of it, or nothing.

    LangGraph's own way is to note each migration after it is done: a process that is killed in
    between leaves a file that it never opens again.
    """
    with Transaction(connection):
        connection.execute("CREATE TABLE IF NOT EXISTS store_migrations (v INTEGER PRIMARY KEY)")
        for number, statement in enumerate(SqliteStore.MIGRATIONS[done:], done):
            try:
                connection.execute(statement)
            except sqlite3.OperationalError as error:
                if "duplicate column" not in str(error):  # what such a process has left
                    raise
            connection.execute("INSERT INTO store_migrations (v) VALUES (?)", (number,))
        connection.execute(f"PRAGMA user_version = {_VERSION}")
