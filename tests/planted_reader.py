"""Reads what is planted in every file that Hoptrail reads back; a process of its own.

It tells what Python's audit hook saw meanwhile, and how each reading ended.
"""

from __future__ import annotations

import asyncio
import json
import os
import pickle
import shutil
import sqlite3
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import closing, suppress
from functools import partial
from itertools import islice
from pathlib import Path

import numpy as np
import ormsgpack
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import empty_checkpoint
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer

from hoptrail import Hoptrail, HoptrailError, load_settings, read_trace
from hoptrail.change import Change
from hoptrail.checkpoints import sqlite_checkpointer
from hoptrail.embeddings import EmbedderChain, HashEmbedder
from hoptrail.journal import Journal
from hoptrail.memory import Memory
from hoptrail.memory_store import sqlite_store
from hoptrail.retrieval.arrays import pack
from hoptrail.retrieval.seal import copy_unsealed, seal

TOUCHED = "touched"
FORBIDDEN = {
    "pickle.find_class",
    "os.system",
    "os.exec",
    "os.posix_spawn",
    "os.fork",
    "subprocess.Popen",
    "exec",
    "compile",
    "import",
    "marshal.loads",
    "code.__new__",
    "ctypes.dlopen",
    "socket.connect",
    "socket.getaddrinfo",
    "sqlite3.load_extension",
    "open",
}
WHERE: RunnableConfig = {"configurable": {"thread_id": "t", "checkpoint_ns": ""}}


class Foo:
    """What a row of the type of this very process would name."""

    def __init__(self, *args: object, **named: object) -> None:
        Path(TOUCHED).touch()


class Bomb:
    """What touches a file when it is unpickled."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, (f"touch {TOUCHED}",)


NAMED: list[tuple[str, str, object, str]] = [
    ("__main__", "Foo", "x", "__init__"),
    ("os", "system", f"touch {TOUCHED}", "__call__"),
    ("builtins", "eval", f"open({TOUCHED!r}, 'w')", "__call__"),
    ("builtins", "exec", f"open({TOUCHED!r}, 'w')", "__call__"),
    ("builtins", "open", [TOUCHED, "w"], "__call__"),
    ("subprocess", "Popen", ["touch", TOUCHED], "__init__"),
    ("importlib", "import_module", "tabnanny", "__call__"),
    ("tabnanny", "check", "x", "lower"),
    ("pickle", "loads", pickle.dumps(Bomb()), "__call__"),
    ("langchain_core.load.load", "loads", '{"lc": 1}', "__call__"),
    ("pathlib", "Path", TOUCHED, "touch"),
    ("pathlib", "Path", TOUCHED, "write_text"),
    ("datetime", "datetime", "2026-01-01", "fromtimestamp"),
]
LC = [
    {"lc": 2, "type": "constructor", "id": ["os", "system"], "args": [f"touch {TOUCHED}"]},
    {"lc": 2, "type": "constructor", "id": ["__main__", "Foo"], "kwargs": {"a": 1}},
    {"lc": 2, "type": "constructor", "id": ["tabnanny", "check"]},
    {"lc": 1, "type": "secret", "id": ["HF_TOKEN"]},
    {"lc": 1, "type": "not_implemented", "id": ["os", "system"]},
    {
        "lc": 1,
        "type": "constructor",
        "id": ["langchain_core", "prompts", "prompt", "PromptTemplate"],
        "kwargs": {"template": "{{ cycler.__init__ }}", "template_format": "jinja2"},
    },
]


def extensions() -> Iterator[tuple[str, ormsgpack.Ext]]:
    """Give every extension of LangGraph's msgpack, naming what must not be built."""
    for module, name, argument, method in NAMED:
        for code in range(6):
            given: object = {"x": argument} if code in (2, 4, 5) else argument
            given = [argument] if code == 1 and not isinstance(argument, list) else given
            packed = ormsgpack.packb((module, name, given, method))
            yield f"{module}.{name} as {code}", ormsgpack.Ext(code, packed)
    for dtype in ("O", "|O8", "(1,__import__('os').system('touch touched'))i4", "V99999999999"):
        yield f"array of {dtype}", ormsgpack.Ext(6, ormsgpack.packb((dtype, [1], "C", b"12345678")))
    yield "unknown extension", ormsgpack.Ext(99, b"x")
    yield "no msgpack inside", ormsgpack.Ext(2, b"\xc1")


def stored() -> Iterator[tuple[str, str | None, bytes]]:
    """Give rows: what they are, their type, their bytes."""
    for name, extension in extensions():
        yield name, "msgpack", ormsgpack.packb(extension)
    for number, envelope in enumerate(LC):
        for kind in ("json", "msgpack"):
            dumped = json.dumps(envelope).encode()
            yield (
                f"lc {number} as {kind}",
                kind,
                (dumped if kind == "json" else ormsgpack.packb(envelope)),
            )
    for named in ("pickle", "unknown", "", None, "bytes", "bytearray", "null", "json", "msgpack"):
        yield f"a pickle as {named}", named, pickle.dumps(Bomb())
    yield "deep", "msgpack", b"\x91" * 5000
    yield "nothing", "msgpack", b""


class Watch:
    """What the audit hook saw while it was on."""

    def __init__(self, home: Path) -> None:
        self.home, self.on, self.events = str(home), False, list[str]()
        sys.addaudithook(self._saw)

    def _saw(self, event: str, given: tuple[object, ...]) -> None:
        if not self.on or event not in FORBIDDEN:
            return
        if event == "open" and os.path.abspath(str(given[0])).startswith((self.home, "/dev/")):
            return
        if event == "compile" and sys._getframe(2).f_code.co_name == "literal_eval":
            return  # numpy parses the shapes of arrays so, which runs nothing
        self.events.append(f"{event} {str(given)[:150]}")


watch: Watch | None = None


async def outcome(read: Callable[[], Awaitable[object]]) -> str:
    """Say how a reading ended, and watch it where there is a watch."""
    if watch is not None:
        watch.on = True
    try:
        found = await read()
    except HoptrailError as error:
        return f"refused: {type(error).__name__}: {error}"
    except Exception as error:  # noqa: BLE001 # which one it is, is what is told
        return f"raised: {type(error).__name__}: {error}"
    finally:
        if watch is not None:
            watch.on = False
    return f"data: {str(found)[:60]}"


def checkpoint_of(value: object) -> bytes:
    """Give a checkpoint whose messages are a value."""
    document = {**empty_checkpoint(), "channel_values": {"messages": value, "run_id": value}}
    versions = {"messages": "1", "run_id": "1"}
    return ormsgpack.packb({**document, "channel_versions": versions})


async def checkpoints(home: Path, every: int) -> dict[str, str]:
    """Read planted checkpoints, writes and metadata, row by row."""
    path, ended = home / "own.db", {}
    saver = await sqlite_checkpointer(path)
    kept = await saver.aput(WHERE, empty_checkpoint(), {}, {})
    await saver.aput_writes(kept, [("messages", "said")], "task")

    async def read() -> object:
        found = await saver.aget_tuple(WHERE)
        listed = [each async for each in saver.alist(WHERE)]
        return found, listed

    assert await read()
    good = checkpoint_of([])
    with closing(sqlite3.connect(path, isolation_level=None)) as planting:

        def plant(table: str, column: str, kind: str | None, value: bytes) -> None:
            planting.execute(f"UPDATE {table} SET type = ?, {column} = ?", (kind, value))

        for name, kind, value in islice(stored(), None, None, every):
            plant("checkpoints", "checkpoint", kind, value)
            ended[f"checkpoint: {name}"] = await outcome(read)
            plant("checkpoints", "checkpoint", "msgpack", good)
            plant("writes", "value", kind, value)
            ended[f"write: {name}"] = await outcome(read)
            plant("writes", "value", "null", b"")
        for name, extension in islice(extensions(), None, None, every):
            plant("checkpoints", "checkpoint", "msgpack", checkpoint_of([extension]))
            ended[f"channel: {name}"] = await outcome(read)
        plant("checkpoints", "checkpoint", "msgpack", good)
        for number, metadata in enumerate([*map(json.dumps, LC), "no json", "[]", "null", "1e999"]):
            planting.execute("UPDATE checkpoints SET metadata = ?", (metadata.encode(),))
            ended[f"metadata {number}"] = await outcome(read)
    await saver.aclose()
    return ended


async def threads(trail: Hoptrail, home: Path, every: int) -> dict[str, str]:
    """Go on with a conversation whose file somebody has written to."""
    ended = {}
    good = home / "threads.good"
    shutil.copy(home / "threads.db", good)
    for name, extension in islice(extensions(), None, None, every):
        for rest in ("-wal", "-shm"):
            (home / f"threads.db{rest}").unlink(missing_ok=True)
        shutil.copy(good, home / "threads.db")
        with closing(sqlite3.connect(home / "threads.db", isolation_level=None)) as planting:
            planted = ormsgpack.packb([extension]), checkpoint_of([extension])
            planting.execute("UPDATE writes SET type = 'msgpack', value = ?", planted[:1])
            planting.execute("UPDATE checkpoints SET checkpoint = ?", planted[1:])
        ended[f"thread: {name}"] = await outcome(lambda: trail.achat("And now?", thread_id="t"))
    return ended


async def journal(trail: Hoptrail, home: Path, run_id: str) -> dict[str, str]:
    """Resume, fork and list runs whose rows and traces somebody has written to."""
    ended = {}
    question = "Who said it?"
    trace = home / "traces" / f"{run_id}.json"
    good = trace.read_bytes()
    values = [*map(json.dumps, LC), pickle.dumps(Bomb()).decode("latin-1"), "", "null", "[]", "{"]

    async def read() -> object:
        found = Journal(home)
        try:
            return found.run(run_id), found.trace(run_id), found.entries(run_id)
        finally:
            found.close()

    async def resume() -> object:
        return await trail.aask(question, run_id=run_id)

    async def fork() -> object:
        return await trail.arerun(run_id, Change(question="Who said that?"))

    with closing(sqlite3.connect(home / "journal.db", isolation_level=None)) as planting:
        entries = planting.execute(
            "SELECT key, value FROM entries WHERE run_id = ?", (run_id,)
        ).fetchall()
        (options,) = planting.execute(
            "SELECT options FROM runs WHERE run_id = ?", (run_id,)
        ).fetchone()
        for number, value in enumerate(values):
            planting.execute("UPDATE entries SET value = ? WHERE run_id = ?", (value, run_id))
            ended[f"entry {number}"] = await outcome(resume)
            for key, kept in entries:
                planting.execute("UPDATE entries SET value = ? WHERE key = ?", (kept, key))
            planting.execute("UPDATE runs SET options = ? WHERE run_id = ?", (value, run_id))
            ended[f"options {number}"] = await outcome(read)
            planting.execute("UPDATE runs SET options = ? WHERE run_id = ?", (options, run_id))
            trace.write_text(value, encoding="utf-8")
            ended[f"trace {number}"] = await outcome(read)
            ended[f"fork {number}"] = await outcome(fork)
            planted = json.loads(good) | {"answer": value, "versions": {"lc": value}}
            trace.write_text(json.dumps(planted), encoding="utf-8")
            ended[f"trace text {number}"] = await outcome(read)
            trace.write_bytes(good)
    return ended


async def memory(home: Path) -> dict[str, str]:
    """Recall from a store whose rows somebody has written to."""
    ended = {}
    path = home / "own-memory.db"
    values = [*map(json.dumps, LC), "no json", "[]", "null", '{"text": 1}', '{"vector": "eJw="}']
    bomb = json.dumps({"text": "I live here.", "said_at": "", "canaries": "x", "floor": {}})
    for number, value in enumerate([*values, bomb]):
        for rest in ("", "-wal", "-shm", ".lock"):
            path.with_name(path.name + rest).unlink(missing_ok=True)
        store = sqlite_store(path)
        of_anna = Memory(store, EmbedderChain([HashEmbedder()]), "anna")
        await of_anna.remember("I live in Prague.")
        await of_anna.recall("Where do I live?")
        for like in ("memory.%", "memory-vectors.%", "memory-spaces"):
            with closing(sqlite3.connect(path, isolation_level=None)) as planting:
                (kept,) = planting.execute(
                    "SELECT value FROM store WHERE prefix LIKE ?", (like,)
                ).fetchone()
                planting.execute("UPDATE store SET value = ? WHERE prefix LIKE ?", (value, like))
                ended[f"{like} {number}"] = await outcome(
                    lambda memory=of_anna: memory.recall("Where do I live?")  # type: ignore[misc]
                )
                planting.execute("UPDATE store SET value = ? WHERE prefix LIKE ?", (kept, like))
        await of_anna.forget_all()
        assert await of_anna.facts() == []
        store.close()
    return ended


async def index(trail: Hoptrail, home: Path) -> dict[str, str]:
    """Search an index whose file somebody has written to, checksum and all."""
    ended = {}
    corpus = trail.assembly.corpus
    assert corpus is not None
    file = corpus.folder / "index.db"
    good = home / "index.good"
    shutil.copy(file, good)
    objects = pack(names=np.array([1]))
    planted = (pickle.dumps(Bomb()), b"", objects, b"PK\x03\x04", b"\x93NUMPY")
    for name in ("words", "graph", "canaries", "embedder"):
        for number, value in enumerate(planted):
            with file.open("wb") as target:
                copy_unsealed(good, target)
            with closing(sqlite3.connect(file, isolation_level=None)) as planting:
                planting.execute("UPDATE blobs SET content = ? WHERE name = ?", (value, name))
            seal(file)

            fresh = Hoptrail(index=corpus.folder, settings=trail.assembly.settings)
            assert fresh.graph  # LangGraph evaluates the annotations of its state
            ended[f"index {name} {number}"] = await outcome(partial(fresh.aask, "Who said it?"))
            fresh.close()
    return ended


async def config(home: Path) -> dict[str, str]:
    """Read settings that somebody has written."""
    ended = {}
    written = [
        "!!python/object/apply:os.system ['x']",
        "a = \"__import__('os')\"",
        "[tool\n",
        "\xff",
    ]
    for number, text in enumerate([*written, *map(json.dumps, LC)]):
        (home / "hoptrail.toml").write_text(text, encoding="latin-1")

        async def load() -> object:
            return load_settings(home=home)

        ended[f"config {number}"] = await outcome(load)
    (home / "hoptrail.toml").unlink()
    return ended


def trace_of_anything() -> dict[str, str]:
    """Read documents that are no traces."""
    ended = {}
    for number, text in enumerate([pickle.dumps(Bomb()), b"\x80", b"[" * 100_000]):
        try:
            read_trace(text)
            ended[f"document {number}"] = "data"
        except HoptrailError as error:
            ended[f"document {number}"] = f"refused: {error}"
    return ended


async def everything(home: Path, docs: Path, every: int) -> dict[str, str]:
    """Read all that can be planted."""
    os.chdir(home.parent)
    trail = Hoptrail(docs=docs, settings=load_settings(home=home, embedders="hash"))
    answer = await trail.aask("Who said it?", run_id="planted")
    await trail.achat("I live in Prague.", thread_id="t")
    ended = {
        **await checkpoints(home, every),
        **await threads(trail, home, 3 * every),
        **await journal(trail, home, answer.run_id),
        **await memory(home),
        **await index(trail, home),
        **await config(home),
        **trace_of_anything(),
    }
    trail.close()
    return ended


def permissively() -> None:
    """Read as LangGraph does unless it is told otherwise."""
    permissive = JsonPlusSerializer(allowed_msgpack_modules=True)
    for name, kind, value in stored():
        if name.startswith(("os.system as 0", "tabnanny")):
            with suppress(ValueError):  # from Python 3.12 on, `tabnanny` ends with an exit
                permissive.loads_typed((str(kind), value))


def main(home: Path) -> None:
    """Read everything twice: what is imported at first is no fault."""
    docs = home / "docs"
    docs.mkdir()
    (docs / "said.md").write_text("# Saying\nFranz Kafka said it in Prague.\n", encoding="utf-8")
    asyncio.run(everything(home / "first", docs, 7))
    Path(TOUCHED).unlink(missing_ok=True)
    modules = set(sys.modules)
    global watch
    watch = Watch(home)
    outcomes = asyncio.run(everything(home / "second", docs, 1))
    told = {
        "outcomes": outcomes,
        "events": watch.events[:20],
        "new modules": sorted(set(sys.modules) - modules),
        "touched": Path(TOUCHED).exists(),
    }
    watch.events.clear()
    watch.on = True
    permissively()
    watch.on = False
    told["seen when permissive"] = sorted({event.split()[0] for event in watch.events})
    print(json.dumps(told))  # noqa: T201 # whoever started this reads it


if __name__ == "__main__":
    main(Path(sys.argv[1]))
