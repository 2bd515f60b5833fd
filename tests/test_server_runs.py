"""The routes of runs: asking, following, replaying, listing, stopping."""

import asyncio
import json
import mmap
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event
from typing import Any

import httpx
import pytest

from hoptrail.answer import answer_of
from hoptrail.trace import Trace, read_trace
from tests import two_hops
from tests.providers import ChatRequest, LoopbackProvider, Reply
from tests.serving import Server, served
from tests.test_server_clients import hang_in, in_phase, wait_for

ASK = "/reasoning/multi-hop"
NO_LIMITS = httpx.Limits(max_connections=None)


@pytest.fixture
def server(provider: LoopbackProvider, tmp_path: Path) -> Iterator[Server]:
    two_hops.serve(provider)
    with served(provider, docs=two_hops.write_documents(tmp_path / "docs")) as it:
        yield it


def frames(text: str) -> list[tuple[str, str, dict[str, Any]]]:
    """Give id, type and data of each event."""
    found = []
    for block in text.strip().split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.split("\n") if line[0] != ":")
        if fields:
            found.append((fields["id"], fields["event"], json.loads(fields["data"])))
    return found


def test_the_answer_is_that_of_the_command_line_and_says_who_served_it(server: Server) -> None:
    answer = server.http.post(ASK, json={"question": two_hops.QUESTION})
    assert answer.status_code == 200
    told = answer.json()
    assert told["short_answer"] == "Prague"
    trace = server.trail.assembly.journal.trace(told["run_id"])
    assert told == answer_of(trace).as_json()
    assert answer.headers["x-hoptrail-run-id"] == told["run_id"]
    assert answer.headers["x-hoptrail-backends"] == "ollama"
    assert answer.headers["x-hoptrail-embedding-space"] == told["steps"][0]["embedding_space"]
    assert {step["backend"] for step in told["steps"]} == {"ollama"}


def test_the_iterative_graph_answers_too(server: Server, provider: LoopbackProvider) -> None:
    answer = server.http.post(ASK, json={"question": two_hops.QUESTION, "graph": "iterative"})
    assert answer.status_code == 200
    trace = server.http.get(f"/runs/{answer.json()['run_id']}/trace.json").json()
    assert trace["graph"] == "iterative"


def test_the_events_tell_the_run_and_end_with_the_answer(server: Server) -> None:
    told = server.http.post(ASK, json={"question": two_hops.QUESTION, "stream": True})
    assert told.headers["content-type"].startswith("text/event-stream")
    run_id = told.headers["x-hoptrail-run-id"]
    events = frames(told.text)
    assert [each for each, _, _ in events] == [f"{run_id}:{n + 1}" for n in range(len(events))]
    assert events[0][1:] == (
        "RUN_STARTED",
        {
            "run_id": run_id,
            "question": two_hops.QUESTION,
            "resumed": False,
            "type": "RUN_STARTED",
        },
    )
    kinds = [kind for _, kind, _ in events]
    assert kinds.count("STEP_FINISHED") == 2
    assert "TEXT_MESSAGE_CONTENT" in kinds
    assert kinds[-1] == "RUN_FINISHED"
    assert all(data["type"] == kind for _, kind, data in events)
    text = "".join(str(data["delta"]) for _, kind, data in events if kind == "TEXT_MESSAGE_CONTENT")
    end = events[-1][2]
    assert isinstance(end["answer"], dict)
    assert end["answer"]["answer"] == text.strip()
    assert "prompt" not in told.text


def test_a_replay_from_any_event_has_no_gap_and_nothing_twice(server: Server) -> None:
    told = server.http.post(ASK, json={"question": two_hops.QUESTION, "stream": True})
    run_id, events = told.headers["x-hoptrail-run-id"], frames(told.text)
    for at, (event_id, _, _) in enumerate(events):
        again = server.http.get(f"/runs/{run_id}/events", headers={"Last-Event-ID": event_id})
        assert frames(again.text) == events[at + 1 :] if at + 1 < len(events) else not again.text


@pytest.mark.parametrize(
    ("event_id", "status"),
    [("other:1", 404), ("{run}:9999", 404), ("{run}:x", 422), ("1", 422), ("{run}:t1", 404)],
)
def test_an_event_id_of_elsewhere_is_refused(server: Server, event_id: str, status: int) -> None:
    run_id = server.http.post(ASK, json={"question": two_hops.QUESTION}).json()["run_id"]
    other = server.http.post(ASK, json={"question": two_hops.QUESTION}).json()["run_id"]
    given = {"Last-Event-ID": event_id.replace("{run}", run_id).replace("other", other)}
    assert server.http.get(f"/runs/{run_id}/events", headers=given).status_code == status


def test_a_run_whose_log_is_gone_is_told_from_its_trace(server: Server) -> None:
    told = server.http.post(ASK, json={"question": two_hops.QUESTION, "stream": True})
    run_id, live = told.headers["x-hoptrail-run-id"], frames(told.text)
    server.app.state.served.runs._runs.clear()
    path = f"/runs/{run_id}/events"
    again = frames(server.http.get(path).text)
    assert again[-1][2] == live[-1][2]
    assert {kind for _, kind, _ in again} <= {kind for _, kind, _ in live}
    for at, (event_id, _, _) in enumerate(again[:-1]):
        rest = frames(server.http.get(path, headers={"Last-Event-ID": event_id}).text)
        assert rest == again[at + 1 :]
    # Whoever had followed it live has its own numbers: the end says everything.
    rest = frames(server.http.get(path, headers={"Last-Event-ID": live[3][0]}).text)
    assert [kind for _, kind, _ in rest] == ["RUN_FINISHED"]
    foreign = server.http.get(path, headers={"Last-Event-ID": "other:t1"})
    assert foreign.status_code == 404


def test_a_run_can_be_followed_while_it_goes_and_stopped(
    server: Server, provider: LoopbackProvider
) -> None:
    hang_in(provider, "synthesis")
    with ThreadPoolExecutor() as pool:
        body = {"question": two_hops.QUESTION, "run_id": "long"}
        waiting = pool.submit(server.http.post, ASK, json=body)
        wait_for(lambda: in_phase(provider, "synthesis"))
        row = server.http.get("/runs/long").json()
        assert (row["status"], row["live"]) == ("running", True)
        assert server.http.post(ASK, json=body).status_code == 409
        with server.http.stream("GET", "/runs/long/events") as following:
            told = following.iter_lines()
            seen = [next(told)]
            assert server.http.post("/runs/long/cancel").json()["cancelled"] is True
            seen += told
        refused = waiting.result(30)
    assert refused.status_code == 409
    assert refused.json()["error"]["type"] == "run_cancelled"
    assert frames("\n".join(seen))[-1][1] == "RUN_ERROR"
    wait_for(lambda: not provider.in_flight)
    assert server.http.get("/runs/long").json()["status"] == "interrupted"
    assert server.http.post("/runs/long/cancel").json()["cancelled"] is False


def test_more_runs_than_may_are_429_at_once(provider: LoopbackProvider, tmp_path: Path) -> None:
    two_hops.serve(provider)
    hang_in(provider, "plan")
    docs = two_hops.write_documents(tmp_path / "docs")
    with served(provider, docs=docs, max_runs=3) as server, ThreadPoolExecutor() as pool:
        body = {"question": two_hops.QUESTION}
        for number in range(3):
            pool.submit(server.http.post, ASK, json={**body, "run_id": f"r{number}"})
        wait_for(lambda: server.live == 3)
        refused = server.http.post(ASK, json=body)  # if it waited, it would wait for an hour
        assert refused.status_code == 429
        assert int(refused.headers["retry-after"]) >= 1
        assert refused.json()["error"]["type"] == "too_many_runs"
        for number in range(3):
            server.http.post(f"/runs/r{number}/cancel")
        wait_for(lambda: not server.live)
        provider.ollama.respond = two_hops.respond
        assert server.http.post(ASK, json=body).status_code == 200


def test_runs_are_listed_newest_first_and_leafed_through(server: Server) -> None:
    ids = [
        server.http.post(ASK, json={"question": two_hops.QUESTION, "run_id": f"r{n}"}).json()[
            "run_id"
        ]
        for n in range(5)
    ]
    first = server.http.get("/runs?limit=2").json()["runs"]
    rest = server.http.get("/runs", params={"before": first[-1]["created"]}).json()["runs"]
    assert [row["run_id"] for row in first + rest] == ids[::-1]
    assert all(row["status"] == "answered" and not row["live"] for row in first)
    assert len(server.http.get("/runs?status=answered").json()["runs"]) == 5
    assert server.http.get("/runs?status=failed").json()["runs"] == []


def test_the_trace_is_the_one_on_disk_and_is_not_sent_twice(server: Server) -> None:
    run_id = server.http.post(ASK, json={"question": two_hops.QUESTION}).json()["run_id"]
    path = f"/runs/{run_id}/trace.json"
    told = server.http.get(path)
    assert read_trace(told.content) == server.trail.assembly.journal.trace(run_id)
    etag = told.headers["etag"]
    for held in (etag, f"W/{etag}", f'"x", {etag}', "*"):
        again = server.http.get(path, headers={"If-None-Match": held})
        assert (again.status_code, again.content) == (304, b"")
    assert server.http.get(path, headers={"If-None-Match": '"x"'}).status_code == 200
    many = {"Range": "bytes=" + ",".join(f"{n}-{n}" for n in range(1000))}
    assert server.http.get(path, headers=many).status_code == 200


def test_an_unknown_run_is_404_everywhere(server: Server) -> None:
    for method, end in (
        ("GET", ""),
        ("GET", "/trace.json"),
        ("GET", "/trace.html"),
        ("GET", "/events"),
        ("POST", "/cancel"),
    ):
        answer = server.http.request(method, f"/runs/nobody{end}")
        assert answer.status_code == 404
        assert answer.json()["error"]["type"] == "run_not_found"


def test_without_a_backend_it_is_503_with_the_way_out(
    provider: LoopbackProvider, tmp_path: Path
) -> None:
    provider.ollama.stop()
    with served(provider) as server:
        answer = server.http.post(ASK, json={"question": two_hops.QUESTION})
        assert answer.status_code == 503
        assert "doctor" in answer.json()["error"]["fix"]
        ready = server.http.get("/readyz")
        assert ready.status_code == 503
        assert ready.json()["reasons"] == ["no backend is up"]
        assert server.http.get("/healthz").status_code == 200


def test_documents_that_cannot_be_read_make_it_unready(tmp_path: Path) -> None:
    with served(docs=tmp_path / "nowhere") as server:
        ready = server.http.get("/readyz")
        assert ready.status_code == 503
        assert "nowhere" in ready.json()["reasons"][0]


def test_ready_says_how_each_backend_and_embedder_stands(server: Server) -> None:
    told = server.http.get("/readyz").json()
    assert told["ready"] is True
    assert [(each["backend"], each["state"]) for each in told["backends"]] == [("ollama", "up")]
    assert told["embedders"][0]["backend"] == "hash"


@pytest.mark.anyio
@pytest.mark.timeout(300)
async def test_two_hundred_runs_at_a_time_are_all_told_whole(
    server: Server, provider: LoopbackProvider
) -> None:
    all_there = Event()

    def respond(request: ChatRequest) -> Reply:
        text = two_hops.respond(request).text
        return Reply(text, token_delay=0.02, hold=all_there.is_set)

    async def ask(number: int) -> httpx.Response:
        body = {"question": two_hops.QUESTION, "stream": True, "run_id": f"r{number}"}
        return await client.post(ASK, json=body)

    async def watch() -> None:
        await asyncio.to_thread(wait_for, lambda: server.live == 200, 120)
        all_there.set()

    provider.ollama.respond = respond
    before = resident_megabytes()
    async with (
        httpx.AsyncClient(base_url=server.url, timeout=250, limits=NO_LIMITS) as client,
        asyncio.TaskGroup() as group,
    ):
        group.create_task(watch())
        answers = await asyncio.gather(*map(ask, range(200)))
    # The clients' and the provider's own share is in it.
    assert resident_megabytes() - before < 200
    assert len(provider.ollama.chats) == 200 * 4
    for number, answer in enumerate(answers):
        assert answer.status_code == 200
        check_whole(frames(answer.text), f"r{number}")
    assert not server.live


def check_whole(events: list[tuple[str, str, dict[str, Any]]], run_id: str) -> None:
    """Check that no event is missing, or told twice, and that the answer is the right one."""
    assert [each for each, _, _ in events] == [f"{run_id}:{n + 1}" for n in range(len(events))]
    kinds = [kind for _, kind, _ in events]
    assert (kinds[0], kinds[-1]) == ("RUN_STARTED", "RUN_FINISHED")
    assert (kinds.count("STEP_STARTED"), kinds.count("STEP_FINISHED")) == (2, 2)
    assert not any("RESTARTED" in kind for kind in kinds)
    text = "".join(data["delta"] for _, kind, data in events if kind == "TEXT_MESSAGE_CONTENT")
    answer = events[-1][2]["answer"]
    assert answer["answer"] == text.strip()
    assert answer["short_answer"] == "Prague"


def resident_megabytes() -> float:
    """Give the memory of this process, or 0 where the system does not tell."""
    told = Path("/proc/self/statm")
    pages = int(told.read_text("ascii").split()[1]) if told.exists() else 0
    return pages * mmap.PAGESIZE / 1e6


def test_naughty_questions_are_kept_exactly(server: Server, provider: LoopbackProvider) -> None:
    provider.ollama.respond = lambda _: Reply("{}")
    for text in (
        "a\x00b?",
        "\u202eabc?",
        "e\u0301 \u00e9?",
        "{{7*7}} %s {0}?",
        "👩‍👩‍👧?",
        "<script>?",
    ):
        run_id = server.http.post(ASK, json={"question": text, "stream": True}).headers[
            "x-hoptrail-run-id"
        ]
        assert server.http.get(f"/runs/{run_id}").json()["question"] == text


def test_runs_are_found_and_sorted(server: Server) -> None:
    journal = server.trail.assembly.journal
    for run_id, question, took in (("a", "Which RIVER?", 10.0), ("b", "Which town?", 30.0)):
        lock = journal.admit(run_id, question, {"graph": "chat"})
        trace = Trace(run_id=run_id, question=question, graph="chat", status="answered")
        trace.degraded = run_id == "b"
        trace.usage.wall_ms = took
        journal.let_go(trace, lock)
    journal.admit("c", "Which was killed?", {}).release()

    def found(**query: str | int) -> str:
        answer = server.http.get("/runs", params=query)
        assert answer.status_code == 200, answer.text
        return "".join(row["run_id"] for row in answer.json()["runs"])

    assert found() == "cba"
    assert found(question="river") == "a"
    assert found(degraded="true") == "b"
    assert found(degraded="false", sort="oldest") == "ac"
    assert found(status="interrupted") == "c", "its process was killed"
    assert found(status="running") == ""
    assert found(sort="slowest", limit=1, offset=1) == "a"
    assert found(backend="ollama") == ""
    assert found(since="2099-01-01T00:00:00Z") == ""
    row = server.http.get("/runs/b").json()
    assert (row["graph"], row["parent_run_id"], row["llm_calls"], row["steps"]) == (
        "chat",
        "",
        0,
        0,
    )


@pytest.mark.parametrize(
    "query",
    ["status=done", "degraded=1", "degraded=", "sort=best", "limit=0", "limit=501", "offset=-1",
     "since=yesterday", "since=1700000000", "before=2026-11-22", "question=" + "x" * 1001],
)  # fmt: skip
def test_a_query_that_cannot_be_is_422(server: Server, query: str) -> None:
    refused = server.http.get(f"/runs?{query}")
    assert refused.status_code == 422
    name = query.partition("=")[0]
    assert re.fullmatch(rf"query\.{name}: [^;]+", refused.json()["error"]["message"])


def test_the_page_of_a_run_stands_alone_and_holds_no_secret(server: Server) -> None:
    journal, key = server.trail.assembly.journal, "hf_aB3dE6gH9jK2mN5pQ8sT1vW4"
    journal.admit("r1", "Why?", {}).release()
    journal.save_trace(Trace(run_id="r1", question=f"</script><script>{key}"))
    answer = server.http.get("/runs/r1/trace.html")
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert answer.headers["content-disposition"] == 'inline; filename="r1.html"'
    (policy,) = answer.headers.get_list("content-security-policy")
    assert policy.startswith("default-src 'none'; script-src 'sha256-")
    assert "sandbox allow-scripts" in policy
    assert "connect-src" not in policy
    assert key not in answer.text
    assert "</script><script>hf_" not in answer.text
    assert r"\u003c/script\u003e\u003cscript\u003ehf_…" in answer.text
    held = {"If-None-Match": answer.headers["etag"]}
    assert server.http.get("/runs/r1/trace.html", headers=held).status_code == 304


def test_the_page_of_a_run_under_way_shows_what_there_is(
    server: Server, provider: LoopbackProvider
) -> None:
    hang_in(provider, "synthesis")
    with ThreadPoolExecutor() as pool:
        waiting = pool.submit(
            server.http.post, ASK, json={"question": two_hops.QUESTION, "run_id": "long"}
        )
        wait_for(lambda: in_phase(provider, "synthesis"))
        page = server.http.get("/runs/long/trace.html").text
        server.http.post("/runs/long/cancel")
        waiting.result(20)
    assert '"status":"running"' in page
    assert '"answer":"Franz Kafka"' in page
