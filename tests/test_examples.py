"""Every example runs as it is; every file that LangGraph is to serve loads the way it does."""

import importlib.util
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from hoptrail.graph import build_graph
from hoptrail.journal import Journal
from hoptrail.run import Parts
from hoptrail.testing import ScriptedChatModel, script
from tests.providers import LoopbackProvider

ROOT = Path(__file__).parent.parent
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))
EXPECTED = {
    "ask.py": "[1]",
    "inspect_trace.py": "critical path",
    "own_model_and_retriever.py": "On Lake Orta [1]",
    "routed_chat_model.py": "Nobody answered.",
    "tool_in_an_agent.py": "Hämeenlinna [1]",
}


def run(example: Path, **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, "-W", "error", str(example)],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=60,
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


def test_langgraph_json_names_graphs_that_load_as_the_server_loads_them() -> None:
    served = json.loads((ROOT / "langgraph.json").read_text(encoding="utf-8"))["graphs"]
    for place in served.values():
        path, _, name = place.partition(":")
        spec = importlib.util.spec_from_file_location("__graphs__x", ROOT / path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        graph = getattr(module, name)
        assert graph.checkpointer is None
        assert "question" in graph.get_input_jsonschema()["properties"]


def test_the_readme_shows_the_graph_as_it_is(tmp_path: Path) -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    shown = re.search(r"```mermaid\n(.*?)```", readme, re.DOTALL)
    assert shown is not None
    parts = Parts(
        model=ScriptedChatModel(respond=script()), journal=Journal(tmp_path), policy="scripted"
    )
    drawn = build_graph(parts).compile().get_graph().draw_mermaid()
    arrows = re.compile(r"^\s*(\w+ -[-.]+> \w+);", re.MULTILINE)
    assert arrows.findall(shown.group(1)) == arrows.findall(drawn)


def test_the_readmes_python_runs() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    code = re.search(r"```python\n(.*?)```", readme, re.DOTALL)
    assert code is not None
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code.group(1)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "answered" in done.stdout
