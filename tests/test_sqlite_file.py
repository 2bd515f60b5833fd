"""What all of Hoptrail's SQLite files have in common."""

import sqlite3
import stat
import threading
from contextlib import closing
from pathlib import Path

import pytest

from hoptrail.doctor import sqlite_notes
from hoptrail.errors import StorageFailed
from hoptrail.sqlite_file import Transaction, make_private

pytestmark = pytest.mark.promise("storage-faults-are-told")


@pytest.mark.parametrize(
    ("version", "has_it"),
    [
        ((3, 6, 23), False),
        ((3, 7, 0), True),
        ((3, 40, 1), True),
        ((3, 44, 5), True),
        ((3, 44, 6), False),
        ((3, 45, 0), True),
        ((3, 50, 6), True),
        ((3, 50, 7), False),
        ((3, 51, 2), True),
        ((3, 51, 3), False),
        ((3, 53, 0), False),
    ],
)
def test_the_check_up_knows_which_sqlite_has_the_wal_reset_bug(
    version: tuple[int, ...], has_it: bool
) -> None:
    notes = sqlite_notes(version)
    assert bool(notes) == has_it
    assert all(".".join(map(str, version)) in note and "3.51.3" in note for note in notes)


def test_a_file_is_its_owners_from_the_first_byte(tmp_path: Path) -> None:
    path = tmp_path / "home" / "x.db"
    make_private(path)
    make_private(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


@pytest.mark.parametrize("length", [1, 15, 16, 99, 100, 511])
def test_the_stump_of_a_database_is_not_written_over(length: int, tmp_path: Path) -> None:
    path = tmp_path / "x.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE x (y)")
    make_private(path)
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(StorageFailed, match=r"x\.db is damaged"):
        make_private(path)
    assert path.stat().st_size == length


def opened(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, timeout=0, isolation_level=None, check_same_thread=False)
    connection.execute("CREATE TABLE IF NOT EXISTS x (y)")
    return connection


class Interrupting(sqlite3.Connection):
    """Ctrl-C is pressed when a transaction has just begun."""

    def execute(self, sql: str, *given: object) -> sqlite3.Cursor:
        done = super().execute(sql, *given)  # type: ignore[arg-type] # as sqlite3 takes them
        if sql.startswith("BEGIN"):
            raise KeyboardInterrupt
        return done


@pytest.mark.parametrize("reading", [False, True])
def test_a_transaction_that_is_interrupted_as_it_begins_keeps_nobody_out(
    reading: bool, tmp_path: Path
) -> None:
    path = tmp_path / "x.db"
    with closing(opened(path)) as other:
        held = sqlite3.connect(path, isolation_level=None, factory=Interrupting)
        lock = threading.RLock()
        with pytest.raises(KeyboardInterrupt), Transaction(held, lock, reading=reading):
            raise AssertionError("it has begun")
        assert not held.in_transaction
        assert lock.acquire(blocking=False)
        with Transaction(other) as connection:
            connection.execute("INSERT INTO x VALUES (1)")
        held.close()


def test_one_that_only_reads_keeps_nobody_from_writing(tmp_path: Path) -> None:
    path = tmp_path / "x.db"
    with closing(opened(path)) as reader, closing(opened(path)) as writer:
        writer.execute("PRAGMA journal_mode = WAL")
        with Transaction(reader, reading=True) as connection:
            assert connection.execute("SELECT count(*) FROM x").fetchone() == (0,)
            with Transaction(writer) as other:
                other.execute("INSERT INTO x VALUES (1)")
            assert connection.execute("SELECT count(*) FROM x").fetchone() == (0,)
