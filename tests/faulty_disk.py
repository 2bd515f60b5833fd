"""A disk that refuses, refuses after it has done as told, or says nothing, at any statement."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

import pytest

How = Literal["before", "after", "hang"]
REFUSALS = (
    "database or disk is full",
    "disk I/O error",
    "attempt to write a readonly database",
    "unable to open database file",
    "database is locked",
)
"""What SQLite says to ENOSPC, EIO, EROFS, EMFILE and EACCES, and to another who writes."""


@dataclass
class FaultyDisk:
    """Fails one statement on the files of one name: the one of this number, from 1 on."""

    name: str
    at: int = 0
    how: How = "before"
    says: str = REFUSALS[0]
    seen: int = 0
    failed: str = ""
    goes_on: threading.Event = field(default_factory=threading.Event)
    hangs: threading.Event = field(default_factory=threading.Event)

    def do(self, text: str, act: Callable[[], Any]) -> Any:
        """Do a statement, or fail it."""
        self.seen += 1
        if self.seen != self.at:
            return act()
        self.failed = text
        if self.how == "hang":
            self.hangs.set()
            self.goes_on.wait(60)
            return act()
        if self.how == "after":
            act()
        raise sqlite3.OperationalError(self.says)

    def inserted(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Put it under every connection that is opened from now on."""
        real = sqlite3.connect

        def connect(path: Any, *given: Any, **named: Any) -> sqlite3.Connection:
            if str(path).endswith(self.name):
                named["factory"] = self._factory()
            opened: sqlite3.Connection = real(path, *given, **named)
            return opened

        monkeypatch.setattr(sqlite3, "connect", connect)

    def _factory(self) -> type[sqlite3.Connection]:
        return type("Connection", (_Connection,), {"disk": self})


class _Cursor(sqlite3.Cursor):
    disk: FaultyDisk

    def execute(self, sql: str, *given: Any) -> Any:
        return self._do(sql, lambda: sqlite3.Cursor.execute(self, sql, *given))

    def executemany(self, sql: str, *given: Any) -> Any:
        return self._do(sql, lambda: sqlite3.Cursor.executemany(self, sql, *given))

    def _do(self, sql: str, act: Callable[[], Any]) -> Any:
        try:
            return self.disk.do(sql, act)
        except sqlite3.Error:
            self.close()  # the error would hold what was read so far, and its lock
            raise


class _Connection(sqlite3.Connection):
    disk: FaultyDisk

    def cursor(self, *_: Any, **__: Any) -> Any:
        made = super().cursor(_Cursor)
        made.disk = self.disk
        return made

    def execute(self, *given: Any) -> Any:
        return self.cursor().execute(*given)

    def executemany(self, *given: Any) -> Any:
        return self.cursor().executemany(*given)

    def commit(self) -> None:
        # sqlite3 says nothing to the disk when there is nothing to commit.
        if self.in_transaction:
            self.disk.do("commit", super().commit)
