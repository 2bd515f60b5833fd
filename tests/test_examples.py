"""Every example runs as it is; every file that LangGraph is to serve loads the way it does."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.providers import LoopbackProvider

pytestmark = pytest.mark.timeout(180)

ROOT = Path(__file__).parent.parent
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))
EXPECTED = {
    "ask.py": "[1]",
    "chat_with_memory.py": "You told me: “My dog is called Rex, and I live in Prague.”",
    "huggingface_client.py": "set HF_TOKEN",
    "inspect_trace.py": "critical path",
    "mcp_client.py": "1 of 2: Who is the composer of Finlandia? → Jean Sibelius",
    "openai_client.py": "Salzach [1]",
    "own_model_and_retriever.py": "On Lake Orta [1]",
    "remote_graph.py": "No LangGraph server answers",
    "retriever.py": "● step 2: Jean Sibelius",
    "routed_chat_model.py": "Nobody answered.",
    "subgraph.py": "Hämeenlinna [1]",
    "tool_in_an_agent.py": "-- step 2: Where was Jean Sibelius born? Hämeenlinna",
    "tools_in_steps.py": "it is 13096 days",
    "what_if.py": "-- step 1: Who is the author of Dracula? Bram Stoker (kept)",
}


def run(example: Path, **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, "-W", "error", str(example)],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=150,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.name)
def test_an_example_runs_as_it_is(example: Path) -> None:
    assert EXPECTED[example.name] in run(example)


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.name)
def test_an_example_is_short(example: Path) -> None:
    assert len(example.read_text(encoding="utf-8").splitlines()) < 40


def test_the_routed_model_answers_with_whoever_is_up(provider: LoopbackProvider) -> None:
    provider.ollama.models = ["qwen3:8b"]
    provider.ollama.answer("The Kemijoki is a river in Finland.")
    told = run(ROOT / "examples" / "routed_chat_model.py", OLLAMA_HOST=provider.ollama_url)
    assert "The Kemijoki is a river in Finland." in told
    assert "-- ollama:qwen3:8b, because: " in told


def test_the_huggingface_client_embeds_and_streams(provider: LoopbackProvider) -> None:
    provider.huggingface.answer("The Kemijoki is a river in Finland.")
    example = ROOT / "examples" / "huggingface_client.py"
    told = run(example, HUGGINGFACE_BASE_URL=provider.huggingface_url, HF_TOKEN="hf_loopback")
    assert "A vector of 384 numbers" in told
    assert "The Kemijoki is a river in Finland.\n" in told


def test_langgraph_json_names_graphs_that_load_as_the_server_loads_them() -> None:
    served = json.loads((ROOT / "langgraph.json").read_text(encoding="utf-8"))["graphs"]
    assert set(served) == {path.stem for path in (ROOT / "graphs").glob("*.py")}
    for served_as, place in served.items():
        path, _, name = place.partition(":")
        spec = importlib.util.spec_from_file_location("__graphs__x", ROOT / path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        graph = getattr(module, name)
        assert graph.checkpointer is None
        given = "messages" if served_as == "chat" else "question"
        assert set(graph.get_input_jsonschema()["properties"]) == {given}
