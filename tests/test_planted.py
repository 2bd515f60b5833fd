"""What is stored is data: nothing that somebody has planted in a file is run when it is read."""

import asyncio
import base64
import json
import os
import re
import sqlite3
import subprocess
import sys
import zlib
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import BaseCheckpointSaver, empty_checkpoint
from langgraph.checkpoint.memory import InMemorySaver

from hoptrail import Hoptrail, load_settings
from hoptrail.checkpoints import sqlite_checkpointer, strict_serializer
from hoptrail.embeddings import EmbedderChain, HashEmbedder
from hoptrail.errors import StorageFailed
from hoptrail.memory import Memory
from hoptrail.memory_store import sqlite_store
from hoptrail.request import StepRequest
from hoptrail.testing import Asked, ScriptedChatModel, step_reply
from tests import two_hops

# One process reads it all, and the machine may be busy.
pytestmark = [pytest.mark.promise("stored-data-runs-no-code"), pytest.mark.timeout(180)]

READER = Path(__file__).parent / "planted_reader.py"
TOKEN = "hf_CanaryThatIsNeverToBeSeen0123456789"
ENVELOPE = {"lc": 1, "type": "secret", "id": ["HF_TOKEN"]}


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What a process of its own saw while it read everything that was planted."""
    home = tmp_path_factory.mktemp("planted")
    done = subprocess.run(
        [sys.executable, str(READER), str(home)],
        env={**os.environ, "HOME": str(home), "HF_TOKEN": TOKEN, "HOPTRAIL_BACKENDS": "extractive"},
        cwd=home,
        capture_output=True,
        timeout=150,
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode()[-3000:]
    assert TOKEN.encode() not in done.stdout + done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_a_planted_row_runs_nothing(told: dict[str, Any]) -> None:
    assert told["events"] == []
    assert told["new modules"] == []
    assert told["touched"] is False


def test_the_hook_would_have_seen_it(told: dict[str, Any]) -> None:
    """The same rows, read as LangGraph reads them by default."""
    assert {"exec", "os.system"} <= set(told["seen when permissive"])


def test_each_row_came_back_as_data_or_was_refused_by_name(told: dict[str, Any]) -> None:
    outcomes = told["outcomes"]
    assert len(outcomes) >= 300
    kinds = {outcome.partition(":")[0] for outcome in outcomes.values()}
    wrong = {place: how for place, how in outcomes.items() if how.startswith("raised")}
    assert not wrong
    assert kinds == {"data", "refused"}


def envelopes(saver_name: str, folder: Path) -> Any:
    if saver_name == "sqlite":
        return sqlite_checkpointer(folder / "checkpoints.db")

    async def in_memory() -> BaseCheckpointSaver[str]:
        return InMemorySaver(serde=strict_serializer())

    return in_memory()


@pytest.mark.anyio
@pytest.mark.parametrize("saver_name", ["sqlite", "memory"])
async def test_data_that_looks_like_langchains_own_stays_data(
    saver_name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    saver = await envelopes(saver_name, tmp_path)
    where: RunnableConfig = {"configurable": {"thread_id": "t", "checkpoint_ns": ""}}
    checkpoint = empty_checkpoint()
    values = {"one": ENVELOPE, "list": [ENVELOPE], "text": json.dumps(ENVELOPE)}
    checkpoint["channel_values"] = dict(values)
    versions: dict[str, str | int | float] = dict.fromkeys(values, "1")
    checkpoint["channel_versions"] = versions
    kept = await saver.aput(where, checkpoint, {"said": ENVELOPE}, versions)
    await saver.aput_writes(kept, [("messages", ENVELOPE)], "task")
    found = await saver.aget_tuple(where)
    assert found.checkpoint["channel_values"] == values
    assert found.metadata["said"] == ENVELOPE
    assert found.pending_writes == [("task", "messages", ENVELOPE)]
    if saver_name == "sqlite":
        await saver.aclose()
    store = sqlite_store(tmp_path / "memory.db")
    await store.aput(("a",), "b", {"c": ENVELOPE})
    item = await store.aget(("a",), "b")
    store.close()
    assert item is not None
    assert item.value == {"c": ENVELOPE}


def strange(text: str, folder: Path) -> Hoptrail:
    """Give a trail whose documents and model say a text in all they say."""
    docs = two_hops.write_documents(folder / "docs")
    (docs / "strange.md").write_bytes(
        f"# Prague\nFranz Kafka said: {text}\n".encode(errors="replace")
    )

    def say(asked: Asked) -> str:
        if isinstance(asked.request, StepRequest):
            return step_reply("HEARD", (1,)).replace(
                "HEARD", json.dumps(text, ensure_ascii=False)[1:-1]
            )
        return f"I heard: {text}"

    model = ScriptedChatModel(respond=say)
    settings = load_settings(home=folder / "home", embedders="hash")
    return Hoptrail(docs=docs, model=model, settings=settings)


@pytest.mark.anyio
@pytest.mark.parametrize("text", [json.dumps(ENVELOPE), "half a \ud800 character", "\udfff"])
async def test_hostile_text_is_kept_as_text_everywhere(
    text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    trail = strange(text, tmp_path)
    for _ in range(2):
        answer = await trail.achat(f"Who said {text}?", thread_id=text, user=text)
    assert TOKEN not in answer.text
    # A graph of a caller's own, with the checkpointer that is offered for it.
    saver = await sqlite_checkpointer(tmp_path / "home" / "own.db")
    graph = trail.graph.copy({"checkpointer": saver})
    config: RunnableConfig = {"configurable": {"thread_id": "t"}, "metadata": {"said": text}}
    await graph.ainvoke({"question": f"Who said {text}?"}, config)
    state = await graph.aget_state(config)
    assert state.values["answer"]
    await saver.aclose()
    trail.close()
    for name in ("threads.db", "own.db"):
        with closing(sqlite3.connect(tmp_path / "home" / name)) as connection:
            kinds = {
                kind
                for table in ("checkpoints", "writes")
                for (kind,) in connection.execute(f"SELECT DISTINCT type FROM {table}")
            }
        assert kinds <= {"msgpack", "null"}, name
        assert "msgpack" in kinds
    files = [path for path in (tmp_path / "home").rglob("*") if path.is_file()]
    assert len(files) >= 5
    assert not [path for path in files if TOKEN.encode() in path.read_bytes()]


def test_messages_and_plain_data_come_back_as_they_were() -> None:
    serializer = strict_serializer()
    values = [
        HumanMessage("Who?", id="1"),
        AIMessage("He.", response_metadata={"hoptrail": {"degraded": True}}),
        {"a": [1, 2.5, None, True, b"bytes", "text"]},
        None,
        b"\x00",
    ]
    for value in values:
        assert serializer.loads_typed(serializer.dumps_typed(value)) == value


@pytest.mark.parametrize("kind", ["json", "pickle", "unknown", "", "null ", None])
def test_only_what_is_written_is_read(kind: Any) -> None:
    with pytest.raises(StorageFailed, match="is not read"):
        strict_serializer().loads_typed((kind, b"{}"))


@pytest.mark.anyio
@pytest.mark.parametrize(
    "vector",
    [
        np.full(3, 1.0, "<f4").tobytes(),
        np.full(4096, np.nan, "<f4").tobytes(),
        np.full(4096, np.inf, "<f4").tobytes(),
        b"123",
        b"\x00" * 50_000_000,
    ],
    ids=["of another width", "no number", "too large", "half a number", "a bomb"],
)
async def test_vectors_that_somebody_has_changed_are_made_anew(
    vector: bytes, tmp_path: Path
) -> None:
    store = sqlite_store(tmp_path / "memory.db")
    memory = Memory(store, EmbedderChain([HashEmbedder()]), "anna")
    await memory.remember("I live in Prague.")
    found = await memory.recall("Where do I live?")
    assert len(found) == 1
    planted = {"vector": base64.b64encode(zlib.compress(vector)).decode(), "floor": 0.2}
    planted["canaries"] = planted["vector"]
    for of in ("memory-vectors", "memory-spaces"):
        for item in await store.asearch((of,)):
            await store.aput(item.namespace, item.key, planted)
    assert await memory.recall("Where do I live?") == found
    store.close()


HOSTILE = [
    name.replace("KEY", key)
    for key in ("a", "value", "key", "$", "é", "a.b")
    for name in (
        "KEY\n",
        "KEY' OR 1=1 --",
        "KEY') OR 1=1; DROP TABLE store; --",
        "KEY'); DELETE FROM store; --",
        'KEY") --',
        "KEY\x00",
        "KEY;",
        "KEY'||load_extension('/tmp/x')||'",
        "KEY') UNION SELECT * FROM store_migrations --",
        "KEY\\'",
        "KEY*",
        "KEY%",
        "KEY?",
        "KEY[0]",
        "KEY/*",
        "KEY--",
        " KEY",
        "KEY\u2028",
        "KEY\ud800",
        "KEY" * 2000 + "'",
        "#KEY",
        "KEY' AND randomblob(1000000000) --",
        "KEY') = '' OR json_extract(value, '$.a",
        "'; ATTACH DATABASE 'x' AS KEY; --",
        "{KEY}",
        "%(KEY)s",
        "${KEY}",
        "KEY`",
    )
]


def bytes_of(path: Path) -> bytes:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return path.read_bytes()


def test_hostile_names_reach_no_sql(tmp_path: Path) -> None:
    """Filters, namespaces and keys, on memory's store and on checkpoints."""
    tried = refused = 0
    store = sqlite_store(tmp_path / "memory.db")
    store.put(("kept", "here"), "a", {"a": "secret", "value": 1})
    before = bytes_of(tmp_path / "memory.db")
    for name in HOSTILE:
        for filtered in ({name: "x"}, {name: {"$ne": "x"}}, {"a": {name: "x"}}):
            tried += 1
            try:
                assert store.search(("other",), filter=filtered) == []
            except ValueError:
                refused += 1
        for look in (
            lambda name=name: store.search((name,)),
            lambda name=name: store.get((name,), "a"),
            lambda name=name: store.get(("kept",), name),
            lambda name=name: store.list_namespaces(prefix=(name,)),
            lambda name=name: store.list_namespaces(suffix=(name,)),
        ):
            tried += 1
            try:
                assert not look()
            except (ValueError, StorageFailed):
                refused += 1
    store.close()
    assert bytes_of(tmp_path / "memory.db") == before
    assert tried >= 500
    assert refused >= tried // 4


@pytest.mark.anyio
async def test_hostile_names_of_metadata_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "checkpoints.db"
    where: RunnableConfig = {"configurable": {"thread_id": "t", "checkpoint_ns": ""}}
    saver = await sqlite_checkpointer(path)
    await saver.aput(where, empty_checkpoint(), {"source": "input"}, {})
    before = await asyncio.to_thread(bytes_of, path)
    for name in HOSTILE:
        if re.fullmatch(r"[A-Za-z0-9_.-]+", name):
            continue  # a plain name, of nothing that is there
        with pytest.raises(ValueError, match="no metadata goes by"):
            _ = [each async for each in saver.alist(where, filter={name: "x"})]
        other: RunnableConfig = {"configurable": {"thread_id": name, "checkpoint_ns": name}}
        with_surrogate = "\ud800" in name
        if not with_surrogate:
            assert await saver.aget_tuple(other) is None
    assert len([each async for each in saver.alist(where, filter={"source": "input"})]) == 1
    assert await asyncio.to_thread(bytes_of, path) == before
    await saver.aclose()
