"""The deployable graphs under LangGraph's own development server."""

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

ROOT = Path(__file__).parent.parent
COMMAND = Path(sys.executable).parent / "langgraph"

pytestmark = [
    pytest.mark.langgraph_dev,
    pytest.mark.skipif(
        not COMMAND.exists(),
        reason='langgraph-cli is not installed: pip install "langgraph-cli[inmem]"',
    ),
]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    """`langgraph dev` over a copy of what it needs; gives its address."""
    (tmp_path / "graphs").mkdir()
    shutil.copy(ROOT / "graphs" / "multi_hop.py", tmp_path / "graphs")
    served = json.loads((ROOT / "langgraph.json").read_text(encoding="utf-8"))
    served |= {"dependencies": ["./graphs"], "env": {}}
    (tmp_path / "langgraph.json").write_text(json.dumps(served), encoding="utf-8")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = {
        "LANGGRAPH_CLI_NO_ANALYTICS": "1",
        "LANGSMITH_TRACING": "false",
        "HOPTRAIL_DOCS": str(ROOT / "examples" / "corpus"),
        "HOPTRAIL_BACKENDS": "extractive",
        "HOPTRAIL_EMBEDDERS": "hash",
    }
    command = [str(COMMAND), "dev", "--no-browser", "--no-reload", "--port", str(port)]
    log = (tmp_path / "log").open("w")
    with (
        log,
        subprocess.Popen(
            command, cwd=tmp_path, env=os.environ | environment, stdout=log, stderr=log
        ) as process,
    ):
        try:
            yield _when_up(f"http://127.0.0.1:{port}", tmp_path / "log")
        finally:
            process.terminate()


def _when_up(address: str, log: Path) -> str:
    for _ in range(120):
        try:
            if httpx.get(f"{address}/ok").is_success:
                return address
        except httpx.TransportError:
            time.sleep(0.5)
    raise AssertionError(log.read_text(encoding="utf-8"))


@pytest.mark.timeout(180)
def test_the_server_answers_with_the_graph_and_streams_its_events(server: str) -> None:
    question = "Where was the director of Metropolis born?"
    body = {
        "assistant_id": "multi_hop",
        "input": {"question": question},
        "stream_mode": ["values", "custom", "updates"],
    }
    with httpx.Client(base_url=server, timeout=120) as client:
        thread = client.post("/threads", json={}).json()["thread_id"]
        told = client.post(f"/threads/{thread}/runs/stream", json=body).text
        state = client.get(f"/threads/{thread}/state").json()
    assert "event: custom" in told
    assert "STEP_FINISHED" in told
    assert "event: error" not in told
    assert state["values"]["short_answer"] == "Vienna"
    assert "live" not in state["values"]
