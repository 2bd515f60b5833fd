"""The browser helper, run by Node: against servers of its own, and against Hoptrail's."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import os
import re
import shutil
import subprocess
import typing
import unicodedata
from importlib.resources import files
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hoptrail.embeddings import HashEmbedder
from hoptrail.events import Event
from hoptrail.evidence import Citation
from hoptrail.server.answer_body import AnswerBody, AttemptBody, ContextBody, EvidenceBody, StepBody
from hoptrail.server.event_stream import event_json
from hoptrail.server.huggingface import EmbeddingBatchReply, EmbeddingReply
from hoptrail.server.problems import ProblemDetail
from hoptrail.trace import ToolUse, Usage
from tests import two_hops
from tests.cutting_proxy import cutting_proxy
from tests.providers import LoopbackProvider, Reply
from tests.serving import served
from tests.test_server_clients import wait_for

NODE = shutil.which("node")
HERE = Path(__file__).parent / "browser"
SCRIPTS = sorted(HERE.glob("*.test.mjs"))
MODULE = Path(str(files("hoptrail").joinpath("client", "hoptrail.js")))
TYPES = MODULE.with_name("hoptrail.d.ts").read_text(encoding="utf-8")

in_node = pytest.mark.skipif(NODE is None, reason="there is no Node.js on this machine")


def node(*arguments: str, told: str | None = None) -> str:
    done = subprocess.run(
        [NODE or "node", *arguments],
        input=told,
        env=os.environ | {"HOPTRAIL_JS": MODULE.as_uri()},
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def does(work: str, **order: object) -> Any:
    """Let the module do something, and give what came of it."""
    return json.loads(node(str(HERE / "module.mjs"), told=json.dumps({"work": work, **order})))


@in_node
@pytest.mark.timeout(120)
@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_the_module_holds_against_servers_of_every_kind(script: Path) -> None:
    told = node("--test", str(script))
    assert int(re.findall(r"^# pass (\d+)", told, re.MULTILINE)[0]) > 10
    assert "\n# fail 0" in told


# ------------------------------------------------------------------ the hash embedding

CASES = [
    *("", " ", "_", "-", "a", "A b!", "a-b a_b", "aa AA aa", "The Vltava flows through Prague."),
    *("Straße STRASSE ẞ", "ΑΣ ΑΣΑ ΑΣ. ΣΑΣ Σ", "İstanbul I ı İ", "ŉ ǰ ΐ ﬁ ﬀ Ǆ ǅ", "Øresund ÉMILE"),
    *("é e\u0301 E\u0301", "١٢٣ ४५ ²³ ½ Ⅷ ⑧ 〇", "日本語テスト 東京", "한국어 \u1112\u1161\u11ab"),
    *(
        "हिन्दी में",
        "👩\u200d👩\u200d👧 ok 🇨🇿",
        "𝐁old 𝟘𝟙 𐐀𐐨 𠮷",
        "a\u200bb a\u00adb \ufeffc",
        "\r\nend\0nul",
    ),
    *("a\ud800b", "\udc00", "x" * 124, "x" * 125, "x" * 126, "x" * 127, "x" * 1000),
    "river " * 500,
]


def is_common(character: str) -> bool:
    """Say whether Python and Node know the same of a character.

    A later Unicode assigned some, and changed the classes of two beside a capital sigma.
    """
    known = unicodedata.category(character) not in ("Cn", "Cs")
    return known and character not in "\u0295\U0001171e"


CHARACTERS = st.one_of(
    st.sampled_from("aAbB ._-ßẞΣσςİıⅧǅ\u0301\u0307\u200d👩日한é"),
    st.characters(exclude_categories=["Cs", "Cn"]),
).filter(is_common)
SAME_EVERYWHERE = st.lists(st.text(CHARACTERS, max_size=80), min_size=300, max_size=300)


def assert_same_vectors(texts: list[str]) -> None:
    async def ours() -> tuple[Any, str]:
        embedder = HashEmbedder()
        return await embedder.embed(texts, "query"), (await embedder.space()).id

    rows, space = asyncio.run(ours())
    theirs = does("hash", texts=texts)
    assert len(theirs) == len(texts)
    for text, row, found in zip(texts, rows, theirs, strict=True):
        assert found["space"] == space
        dense = np.zeros(len(row))
        dense[found["places"]] = found["values"]
        np.testing.assert_allclose(dense, row, rtol=0, atol=1e-6, err_msg=repr(text))


@in_node
def test_the_hash_embedding_is_pythons() -> None:
    folder = Path(__file__).parent.parent / "examples" / "corpus"
    passages = [path.read_text(encoding="utf-8") for path in sorted(folder.glob("*.md"))]
    assert len(passages) > 50
    assert_same_vectors(CASES + passages)


@in_node
@given(SAME_EVERYWHERE)
@settings(max_examples=3)
def test_the_hash_embedding_is_pythons_for_any_text(texts: list[str]) -> None:
    assert_same_vectors(texts)


# ------------------------------------------------------------------ with a real server


@in_node
def test_vectors_of_a_server_without_an_embedder_are_the_modules_own() -> None:
    texts = ["The Vltava flows through Prague.", "Straße"]
    with served() as server:
        there = does("embed", client={"baseUrl": server.url}, texts=texts)
    here = does("embed", client={"baseUrl": server.url}, texts=texts)
    assert there.pop("reason") is None
    assert "cannot be reached" in here.pop("reason")
    np.testing.assert_allclose(there.pop("embeddings"), here.pop("embeddings"), rtol=0, atol=1e-6)
    assert there == here


@in_node
def test_a_question_over_a_real_server(provider: LoopbackProvider, tmp_path: Path) -> None:
    two_hops.serve(provider)
    with served(provider, docs=two_hops.write_documents(tmp_path / "docs")) as server:
        told = ask(server.url)
        log = log_of(server, told["answer"]["run_id"])
    assert told["error"] is None
    assert told["events"] == log
    assert told["answer"] == log[-1]["answer"]
    assert told["answer"]["answer"].startswith("Prague [1]")
    assert told["answer"]["citations"][0]["title"] == "Franz Kafka"
    assert {"RUN_STARTED", "STEP_FINISHED", "TEXT_MESSAGE_CONTENT", "RUN_FINISHED"} <= {
        event["type"] for event in told["events"]
    }


@in_node
def test_without_a_stream_the_answer_is_the_same(
    provider: LoopbackProvider, tmp_path: Path
) -> None:
    two_hops.serve(provider)
    with served(provider, docs=two_hops.write_documents(tmp_path / "docs")) as server:
        told = ask(server.url, stream=False)
    assert told["answer"]["short_answer"] == "Prague"
    assert told["events"] == []


@in_node
def test_the_example_page_shows_steps_answer_and_citations(tmp_path: Path) -> None:
    page = Path(__file__).parent.parent / "examples" / "browser" / "index.html"
    corpus = page.parent.parent / "corpus"
    with served(docs=corpus) as server:
        shown = json.loads(node(str(HERE / "page.mjs"), str(page), server.url, str(tmp_path)))
    assert shown["answer"].startswith("Salzach [1]")
    assert "Who is the composer of The Magic Flute? Wolfgang Amadeus Mozart" in shown["steps"]
    assert len(shown["citations"]) == 3


@in_node
@pytest.mark.parametrize("cuts", [[600], [1500], [700, 500, 120, 900]])
def test_a_connection_cut_anywhere_costs_no_event(
    cuts: list[int], provider: LoopbackProvider, tmp_path: Path
) -> None:
    two_hops.serve(provider)
    docs = two_hops.write_documents(tmp_path / "docs")
    with served(provider, docs=docs) as server, cutting_proxy(server.port, cuts) as proxy:
        told = ask(proxy.url)
        assert told["error"] is None
        assert told["events"] == log_of(server, told["answer"]["run_id"])
    assert proxy.connections > len(cuts)
    assert len(provider.ollama.chats) == 4


@in_node
def test_an_abort_frees_the_run_and_its_calls(provider: LoopbackProvider, tmp_path: Path) -> None:
    two_hops.serve(provider)
    plan = Reply(json.dumps({"steps": two_hops.STEPS}))
    provider.ollama.answer(
        lambda request: plan if two_hops.kind_of(request) == "plan" else Reply("x", delay=3600.0)
    )
    with served(provider, docs=two_hops.write_documents(tmp_path / "docs")) as server:
        told = ask(server.url, abort_at="STEP_STARTED")
        assert told["error"]["name"] == "AbortError"
        assert told["answer"] is None
        wait_for(lambda: not server.live and not provider.ollama.in_flight)


@in_node
def test_errors_of_a_real_server_are_typed() -> None:
    with served(api_token="s3cret-s3cret-s3cret") as server:
        refused = ask(server.url)["error"]
        assert (refused["type"], refused["status"]) == ("unauthorized", 401)
        assert "Bearer" in refused["fix"]
        blank = does(
            "ask",
            client={"baseUrl": server.url, "token": "s3cret-s3cret-s3cret"},
            question=" ",
            options={},
        )
        assert blank["error"]["status"] == 422
        assert "question" in blank["error"]["message"]


def ask(url: str, abort_at: str | None = None, **options: object) -> Any:
    order = {"client": {"baseUrl": url}, "question": two_hops.QUESTION, "options": options}
    return does("ask", abortAt=abort_at, **order)


def log_of(server: Any, run_id: str) -> list[dict[str, object]]:
    """Give the events of a run as JSON would carry them."""
    run = server.app.state.served.runs.get(run_id)
    found: list[dict[str, object]] = json.loads(json.dumps([event_json(each) for each in run.log]))
    return found


# ------------------------------------------------------------------ as files


@pytest.mark.parametrize(
    ("name", "content_type"),
    [("hoptrail.js", "text/javascript"), ("hoptrail.d.ts", "application/typescript")],
)
def test_the_server_gives_the_files_of_the_package(name: str, content_type: str) -> None:
    with served() as server, httpx.Client(base_url=server.url, timeout=30) as client:
        first = client.get(f"/client/{name}")
        assert first.status_code == 200
        assert first.headers["content-type"] == f"{content_type}; charset=utf-8"
        assert first.headers["x-content-type-options"] == "nosniff"
        assert first.content == MODULE.with_name(name).read_bytes()
        etag = first.headers["etag"]
        for held in (etag, f'"other", W/{etag}', "*"):
            again = client.get(f"/client/{name}", headers={"If-None-Match": held})
            assert (again.status_code, again.content) == (304, b"")
            assert again.headers["etag"] == etag
        changed = client.get(f"/client/{name}", headers={"If-None-Match": '"other"'})
        assert changed.status_code == 200
        assert client.get("/client/other.js").status_code == 404


def test_the_files_are_guarded_like_every_route() -> None:
    with served(api_token="s3cret-s3cret-s3cret") as server:
        assert httpx.get(f"{server.url}/client/hoptrail.js", timeout=30).status_code == 401


@in_node
def test_every_export_is_declared_and_every_declaration_exported() -> None:
    declared = {}
    for found in re.finditer(r"^export function (\w+)\(([^)]*)\)", TYPES, re.MULTILINE):
        needed = [each for each in re.findall(r"(\w+)(\??):", found.group(2)) if not each[1]]
        declared[found.group(1)] = ["function", len(needed)]
    declared["HoptrailError"] = ["function", 2]
    declared["HASH_SPACE"] = ["string", len("hash:words-and-3-to-5-grams:0ef032697fba")]
    exported = {name: [kind, length] for name, kind, length in does("exports")}
    assert exported == declared
    for kind in ("class HoptrailError", "const HASH_SPACE: string"):
        assert f"export {kind}" in TYPES


@pytest.mark.parametrize(
    ("interface", "model"),
    [
        ("Answer", AnswerBody),
        ("Step", StepBody),
        ("StepEvidence", EvidenceBody),
        ("ContextStep", ContextBody),
        ("Attempt", AttemptBody),
        ("Citation", Citation),
        ("Usage", Usage),
        ("ToolUse", ToolUse),
        ("Problem", ProblemDetail),
        ("Embedding", EmbeddingReply),
        ("Embeddings", EmbeddingBatchReply),
    ],
)
def test_the_types_have_the_fields_of_what_the_server_sends(interface: str, model: Any) -> None:
    added = {"reason"} if interface.startswith("Embedding") else set()
    assert members(interface) == set(model.model_fields) | added


def test_the_types_know_every_event() -> None:
    union = TYPES.partition("export type HoptrailEvent =")[2].partition(";\n\nexport")[0]
    told = {
        kind: set(re.findall(r"(\w+):", rest))
        for kind, rest in re.findall(r'\| \{ type: "(\w+)";([^}]*)\}', union)
    }
    assert told.pop("RUN_ERROR") == {"error"}
    assert told.pop("RUN_FINISHED") == {"status", "answer"}
    ours = {
        kind.__dataclass_fields__["type"].default: {
            field.name for field in dataclasses.fields(kind) if field.name != "type"
        }
        for kind in typing.get_args(Event)
    }
    del ours["RUN_FINISHED"]
    ours["RUN_STARTED"].remove("trace")  # a page asks for the record itself
    assert told == ours


def members(interface: str) -> set[str]:
    found = re.search(
        rf"^export interface {interface}(?: extends (\w+))? \{{\n(.*?)^\}}",
        TYPES,
        re.MULTILINE | re.DOTALL,
    )
    assert found is not None
    inherited = members(found.group(1)) if found.group(1) else set()
    return inherited | set(re.findall(r"^  (\w+)\??:", found.group(2), re.MULTILINE))
