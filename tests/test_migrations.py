"""Files of an earlier version are brought forward, whole; those of a newer one are left alone."""

import asyncio
import json
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from langchain_core.messages import HumanMessage
from langgraph.checkpoint.base import empty_checkpoint
from langgraph.store.sqlite import SqliteStore

from hoptrail.checkpoints import sqlite_checkpointer, strict_serializer
from hoptrail.errors import StorageFailed, TraceUnreadable
from hoptrail.journal import Journal
from hoptrail.memory_store import sqlite_store
from hoptrail.trace import TRACE_VERSION, read_trace
from tests.first_journal import write_first_journal

pytestmark = [pytest.mark.promise("schemas-migrate-or-refuse"), pytest.mark.timeout(120)]

FIRST_CHECKPOINTS = """
CREATE TABLE checkpoints (
    thread_id TEXT NOT NULL, checkpoint_ns TEXT NOT NULL DEFAULT '',
    checkpoint_id TEXT NOT NULL, parent_checkpoint_id TEXT, type TEXT, checkpoint BLOB,
    metadata BLOB, PRIMARY KEY (thread_id, checkpoint_ns, checkpoint_id));
CREATE TABLE writes (
    thread_id TEXT NOT NULL, checkpoint_ns TEXT NOT NULL DEFAULT '',
    checkpoint_id TEXT NOT NULL, task_id TEXT NOT NULL, idx INTEGER NOT NULL,
    channel TEXT NOT NULL, type TEXT, value BLOB,
    PRIMARY KEY (thread_id, checkpoint_ns, checkpoint_id, task_id, idx));
"""
"""Checkpoints as LangGraph laid them out before writes had a path."""


def made(path: Path, script: str, *, wal: bool = False) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        if wal:
            connection.execute("PRAGMA journal_mode = WAL")
        connection.executescript(script)
    return path


def read_journal(folder: Path) -> object:
    journal = Journal(folder)
    rows = [(row.question, row.answer, row.graph, row.steps) for row in journal.runs()]
    told = rows, journal.entries("r1")
    journal.close()
    return told


def older_memory(folder: Path, migrations: int = 2, more: str = "") -> None:
    tables = "CREATE TABLE store_migrations (v INTEGER PRIMARY KEY);"
    for number in range(migrations):
        tables += f"{SqliteStore.MIGRATIONS[number]};"
        tables += f"INSERT INTO store_migrations VALUES ({number});"
    row = "INSERT INTO store (prefix, key, value) VALUES ('a', 'b', '{\"c\": 1}');"
    made(folder / "memory.db", tables + more + row)


def memory_left_half_way(folder: Path) -> None:
    """As LangGraph's own set-up leaves it, killed after a column and before the note of it."""
    older_memory(folder, more=f"{SqliteStore.MIGRATIONS[2]};")


def read_memory(folder: Path) -> object:
    store = sqlite_store(folder / "memory.db")
    item = store.get(("a",), "b")
    store.put(("a",), "d", {"e": 2})
    second = store.get(("a",), "d")
    store.close()
    return item and item.value, second and second.value


def older_checkpoints(folder: Path) -> None:
    path = made(folder / "threads.db", FIRST_CHECKPOINTS)
    checkpoint = {**empty_checkpoint(), "id": "1", "channel_values": {"messages": [SAID]}}
    kind, value = strict_serializer().dumps_typed(checkpoint)
    with closing(sqlite3.connect(path)) as connection, connection:
        row = ("t", "", "1", None, kind, value, b"{}")
        connection.execute("INSERT INTO checkpoints VALUES (?, ?, ?, ?, ?, ?, ?)", row)
        written = ("t", "", "1", "task", 0, "x", "null", b"")
        connection.execute("INSERT INTO writes VALUES (?, ?, ?, ?, ?, ?, ?, ?)", written)


def read_checkpoints(folder: Path) -> object:
    async def read() -> object:
        saver = await sqlite_checkpointer(folder / "threads.db")
        found = await saver.aget_tuple({"configurable": {"thread_id": "t"}})
        await saver.aclose()
        return found and (found.checkpoint["channel_values"], found.pending_writes)

    return asyncio.run(read())


SAID = HumanMessage("I live in Prague.", id="1")
Make = Callable[[Path], object]
Read = Callable[[Path], object]
STORES: dict[str, tuple[Make, Read, object]] = {
    "journal": (
        write_first_journal,
        read_journal,
        (
            [("Who?", "", "iterative", 0), ("Who?", "Kafka", "multi-hop", 0)],
            {"step:1": "kept"},
        ),
    ),
    "memory": (older_memory, read_memory, ({"c": 1}, {"e": 2})),
    "memory left half-way": (memory_left_half_way, read_memory, ({"c": 1}, {"e": 2})),
    "checkpoints": (
        older_checkpoints,
        read_checkpoints,
        ({"messages": [SAID]}, [("task", "x", None)]),
    ),
}

KILLED = """
import os, signal, sqlite3, sys
from pathlib import Path

from tests.test_migrations import STORES, shutil

make, read, held = STORES[sys.argv[1]]
real, folder = sqlite3.connect, Path(sys.argv[2])


def killed_at(statement):
    seen = 0

    def tick(_text):
        nonlocal seen
        seen += 1
        if seen == statement:
            os.kill(os.getpid(), signal.SIGKILL)

    def connect(*given, **named):
        connection = real(*given, **named)
        connection.set_trace_callback(tick)
        return connection

    sqlite3.connect = connect
    read(folder)
    os._exit(0)


kills, statement = 0, 0
while True:
    statement += 1
    shutil.rmtree(folder, ignore_errors=True)
    make(folder)
    child = os.fork()
    if child == 0:
        killed_at(statement)
    _, status = os.waitpid(child, 0)
    if status == 0:
        break
    assert os.WTERMSIG(status) == signal.SIGKILL, status
    kills += 1
    reader = os.fork()
    if reader == 0:
        os._exit(0 if read(folder) == held else 1)
    _, status = os.waitpid(reader, 0)
    assert status == 0, f"after a kill at statement {statement}"
print(kills)
"""


@pytest.mark.parametrize("store", STORES)
def test_what_an_earlier_version_wrote_is_all_there(store: str, tmp_path: Path) -> None:
    make, read, held = STORES[store]
    make(tmp_path / "home")
    assert read(tmp_path / "home") == held
    assert read(tmp_path / "home") == held  # it is of this version now


@pytest.mark.parametrize("store", STORES)
def test_killed_at_any_statement_it_is_brought_up_by_the_next(store: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", KILLED, store, str(tmp_path / "home")],
        cwd=Path(__file__).parent.parent,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert int(done.stdout) >= 8  # statements at which a process was killed


@pytest.mark.parametrize("migrations", range(len(SqliteStore.MIGRATIONS) + 1))
def test_memory_goes_on_from_wherever_it_is(migrations: int, tmp_path: Path) -> None:
    if migrations:
        older_memory(tmp_path, migrations)
        assert read_memory(tmp_path) == ({"c": 1}, {"e": 2})
    else:
        assert read_memory(tmp_path) == (None, {"e": 2})


TABLE = "CREATE TABLE x (y);"
NEWER: dict[str, tuple[str, str, Read]] = {
    "journal": ("journal.db", f"{TABLE} PRAGMA user_version = 3", read_journal),
    "memory": ("memory.db", f"{TABLE} PRAGMA user_version = 2", read_memory),
    "memory's tables": (
        "memory.db",
        "CREATE TABLE store_migrations (v INTEGER PRIMARY KEY);"
        "INSERT INTO store_migrations VALUES (99)",
        read_memory,
    ),
    "checkpoints": ("threads.db", f"{TABLE} PRAGMA user_version = 2", read_checkpoints),
}


@pytest.mark.parametrize("wal", [False, True])
@pytest.mark.parametrize("store", NEWER)
def test_a_newer_one_is_refused_and_stays_as_it_is(store: str, wal: bool, tmp_path: Path) -> None:
    name, script, read = NEWER[store]
    path = made(tmp_path / name, script, wal=wal)
    before = path.read_bytes()
    for _ in range(2):
        with pytest.raises(StorageFailed, match=r"newer Hoptrail.*pip install -U hoptrail") as told:
            read(tmp_path)
        assert str(path) in str(told.value)
    assert path.read_bytes() == before


def test_traces_of_the_first_version_are_read_and_of_the_next_refused(tmp_path: Path) -> None:
    old = Path(__file__).parent / "data" / "trace-1.json"
    path = tmp_path / "traces" / "r1.json"
    path.parent.mkdir()
    shutil.copy(old, path)
    assert read_trace(path.read_bytes()).trace_version == TRACE_VERSION
    assert path.read_bytes() == old.read_bytes()
    newer = json.dumps({"trace_version": TRACE_VERSION + 1, "steps": "of another kind"})
    path.write_text(newer, encoding="utf-8")
    journal = Journal(write_first_journal(tmp_path))
    with pytest.raises(TraceUnreadable, match="pip install -U hoptrail"):
        journal.trace("r1")
    journal.close()
    assert path.read_text(encoding="utf-8") == newer


CUT_OFF = [
    b"no database, and long enough to be seen as none" * 99,
    b"x",
    b"SQLite format 3\x00 cut",
]


@pytest.mark.parametrize("store", ["journal", "memory", "checkpoints"])
@pytest.mark.parametrize("content", CUT_OFF)
def test_what_is_no_database_is_refused_by_name_and_stays(
    store: str, content: bytes, tmp_path: Path
) -> None:
    name, _, read = NEWER[store]
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(StorageFailed) as told:
        read(tmp_path)
    assert path.read_bytes() == content
    assert str(path) in str(told.value)
