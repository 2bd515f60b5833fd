"""The deployable graphs under LangGraph's own development server, over HTTP and as RemoteGraph."""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, TypedDict

import httpx
import pytest
from langchain_core.runnables import RunnableConfig
from langgraph.graph import END, START, StateGraph
from langgraph.pregel.remote import RemoteGraph
from langgraph_sdk import get_client, get_sync_client
from langgraph_sdk.client import SyncLangGraphClient

from tests.conftest import FOREIGN
from tests.ports import free_port

ROOT = Path(__file__).parent.parent
COMMAND = Path(sys.executable).parent / "langgraph"
QUESTION = "Where was the director of Metropolis born?"
GRAPHS = ("multi_hop", "iterative")

pytestmark = [
    pytest.mark.langgraph_dev,
    pytest.mark.timeout(300),
    pytest.mark.skipif(
        not COMMAND.exists(),
        reason='langgraph-cli is not installed: pip install "langgraph-cli[inmem]"',
    ),
]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """`langgraph dev` over a copy of what it needs; gives its address."""
    folder = tmp_path_factory.mktemp("served")
    shutil.copytree(ROOT / "graphs", folder / "graphs")
    served = json.loads((ROOT / "langgraph.json").read_text(encoding="utf-8"))
    served |= {"dependencies": ["./graphs"], "env": {}}
    (folder / "langgraph.json").write_text(json.dumps(served), encoding="utf-8")
    port = free_port()
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith(FOREIGN)
    }
    environment |= {
        "LANGGRAPH_CLI_NO_ANALYTICS": "1",
        "LANGSMITH_TRACING": "false",
        "HOPTRAIL_HOME": str(folder / "home"),
        "HOPTRAIL_DOCS": str(ROOT / "examples" / "corpus"),
        "HOPTRAIL_BACKENDS": "extractive",
        "HOPTRAIL_EMBEDDERS": "hash",
    }
    command = [str(COMMAND), "dev", "--no-browser", "--no-reload", "--port", str(port)]
    log = (folder / "log").open("w", encoding="utf-8")
    with (
        log,
        subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=log) as process,
    ):
        try:
            yield _when_up(f"http://127.0.0.1:{port}", folder / "log")
        finally:
            process.terminate()


def _when_up(address: str, log: Path) -> str:
    until = time.monotonic() + 150
    while time.monotonic() < until:
        with suppress(httpx.TransportError):
            if httpx.get(f"{address}/ok").is_success:
                return address
        time.sleep(0.5)
    raise AssertionError(log.read_text(encoding="utf-8"))


@pytest.fixture
def client(server: str) -> Iterator[SyncLangGraphClient]:
    """The server's client; a `RemoteGraph` leaves one that it makes by itself open."""
    with get_sync_client(url=server) as client:
        yield client


@pytest.mark.parametrize("name", GRAPHS)
def test_the_server_answers_with_the_graph_and_streams_its_events(server: str, name: str) -> None:
    body = {
        "assistant_id": name,
        "input": {"question": QUESTION},
        "stream_mode": ["values", "custom", "updates"],
    }
    with httpx.Client(base_url=server, timeout=120) as http:
        thread = http.post("/threads", json={}).json()["thread_id"]
        for _ in range(2):  # a thread's next question is a run of its own
            told = http.post(f"/threads/{thread}/runs/stream", json=body).text
            assert "event: custom" in told
            assert "STEP_FINISHED" in told
            assert "event: error" not in told
        state = http.get(f"/threads/{thread}/state").json()
    assert state["values"]["short_answer"] == "Vienna"
    assert "live" not in state["values"]


@pytest.mark.parametrize("name", GRAPHS)
def test_a_remote_graph_is_invoked_like_the_local_one(
    client: SyncLangGraphClient, name: str
) -> None:
    remote = RemoteGraph(name, sync_client=client)
    output = remote.invoke({"question": QUESTION})
    assert isinstance(output, dict)
    assert output["short_answer"] == "Vienna"
    assert output["citations"][0]["title"] == "Fritz Lang"


@pytest.mark.anyio
@pytest.mark.parametrize("name", GRAPHS)
async def test_a_remote_graph_streams_the_events_while_it_goes(server: str, name: str) -> None:
    async with get_client(url=server) as client:
        stream = RemoteGraph(name, client=client).astream(
            {"question": QUESTION}, stream_mode="custom"
        )
        told = [event async for event in stream]
    kinds = [event["type"] for event in told]
    assert kinds[0] == "RUN_STARTED"
    assert kinds.count("STEP_FINISHED") == 2
    assert kinds[-1] == "RUN_FINISHED"
    trace = told[-1]["trace"]
    assert trace["short_answer"] == "Vienna"
    assert trace["graph"] == name.replace("_", "-")


class Report(TypedDict, total=False):
    """The state of a caller's own graph, which shares keys with ours."""

    question: str
    short_answer: str
    report: str


@pytest.mark.parametrize("name", GRAPHS)
def test_a_remote_graph_is_a_node_of_a_local_one(client: SyncLangGraphClient, name: str) -> None:
    def write(state: Report) -> dict[str, str]:
        return {"report": f"It is {state['short_answer']}."}

    outer = StateGraph(Report)
    outer.add_node("research", RemoteGraph(name, sync_client=client))
    outer.add_node("write", write)
    outer.add_edge(START, "research")
    outer.add_edge("research", "write")
    outer.add_edge("write", END)
    graph = outer.compile()
    given: Report = {"question": QUESTION}
    assert graph.invoke(given)["report"] == "It is Vienna."
    told: list[Any] = list(graph.stream(given, stream_mode="custom", subgraphs=True))
    assert any(event["type"] == "STEP_FINISHED" for _, event in told)


def test_a_remote_conversation_remembers(client: SyncLangGraphClient) -> None:
    remote = RemoteGraph("chat", sync_client=client)

    def trace_of(text: str, user: str) -> Any:
        given = {"messages": [{"role": "user", "content": text}]}
        config: RunnableConfig = {"configurable": {"user_id": user}}
        told = list(remote.stream(given, config, stream_mode="custom"))
        assert [told[0]["type"], told[-1]["type"]] == ["RUN_STARTED", "RUN_FINISHED"]
        return told[-1]["trace"]

    assert trace_of("Remember that my boat is called Aino.", "ada")["graph"] == "chat"
    assert "Aino" in json.dumps(trace_of("What is my boat called?", "ada"))
    assert "Aino" not in json.dumps(trace_of("What is my boat called?", "grace"))


def test_the_example_asks_a_started_server(server: str) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", str(ROOT / "examples" / "remote_graph.py"), server],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "Salzach" in done.stdout
