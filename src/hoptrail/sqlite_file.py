"""What all SQLite files of Hoptrail's own have in common: owner, version, transactions, waiting."""

from __future__ import annotations

import os
import sqlite3
import threading
from pathlib import Path

from hoptrail.errors import StorageFailed

BUSY_SECONDS = 30.0
"""How long another process that writes to the same file is waited for."""
DISK_SECONDS = 60.0
"""How long a disk that does not answer is waited for: longer than any process that writes."""

_MAGIC = b"SQLite format 3\x00"
_SHORTEST = 512
"""Bytes of the shortest page; a database has one at least."""


class Transaction:
    """``BEGIN IMMEDIATE`` … ``COMMIT``: a plain BEGIN that upgrades ignores the busy time-out.

    With a lock, threads that share the connection take turns. One that only reads keeps nobody
    else from writing.
    """

    def __init__(
        self,
        connection: sqlite3.Connection,
        lock: threading.RLock | None = None,
        *,
        reading: bool = False,
    ) -> None:
        self._connection = connection
        self._lock = lock or threading.RLock()
        self._begin = "BEGIN" if reading else "BEGIN IMMEDIATE"

    def __enter__(self) -> sqlite3.Connection:
        self._lock.acquire()
        try:
            self._connection.execute(self._begin)
        except BaseException:
            self._end()
            raise
        return self._connection

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if kind is None:
                self._connection.execute("COMMIT")
        finally:
            self._end()

    def _end(self) -> None:
        """Leave no transaction open, whatever happened: it would keep everybody else out."""
        try:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
        finally:
            self._lock.release()


class Owner:
    """The process that a file was opened by; connections and threads do not survive a fork."""

    def __init__(self) -> None:
        self._process: int | None = None

    def check(self, what: str) -> None:
        """Take the first process that asks for the owner.

        Raises:
            StorageFailed: another one asks.
        """
        process = os.getpid()
        if self._process is None:
            self._process = process
        if self._process != process:
            raise StorageFailed(
                f"{what} was opened before this process was forked: "
                "make a Hoptrail of its own in each process"
            )


def make_private(path: Path) -> None:
    """Make the file, if there is none, for its owner alone; SQLite would let others read it.

    Raises:
        StorageFailed: what is there is no database. SQLite would take the stump of a file that
            was cut off for an empty one, and write over it.
    """
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    descriptor = os.open(path, os.O_CREAT | os.O_RDWR, 0o600)
    try:
        start = os.read(descriptor, _SHORTEST)
    finally:
        os.close(descriptor)
    if start and not (start.startswith(_MAGIC) and len(start) == _SHORTEST):
        raise StorageFailed(f"{path} is damaged, or no database: move it away to begin a new one")


def opening_lock(path: Path) -> Path:
    """Give the file whose lock is held while a database is opened, and begun if need be.

    Where two processes begin one, SQLite refuses one of them rather than have it wait.
    """
    return path.with_suffix(".lock")


def is_in_wal(path: Path) -> bool:
    """Say whether a file has a write-ahead log: its "file format write version" is 2.

    See the SQLite database header, https://www.sqlite.org/fileformat2.html.
    """
    with path.open("rb") as file:
        return file.read(_SHORTEST)[18:19] == b"\x02"


def check_version(path: Path, kind: str, version: int, known: int) -> None:
    """Check that this Hoptrail knows a file's version.

    Raises:
        StorageFailed: it was written by a newer one.
    """
    if version > known:
        raise StorageFailed(
            f"{path} was written by a newer Hoptrail ({kind} version {version}, this one knows "
            f"{known}): upgrade with `pip install -U hoptrail`"
        )


def version_of(connection: sqlite3.Connection) -> int:
    """Give the version that a file says it is of; one that was just made says 0."""
    version: int = connection.execute("PRAGMA user_version").fetchone()[0]
    return version


def slow(what: Path) -> StorageFailed:
    """Give the error of a disk that does not answer."""
    return StorageFailed(
        f"the disk under {what} has not answered for {DISK_SECONDS:g} s: see to it, then resume "
        "the run by its id"
    )
