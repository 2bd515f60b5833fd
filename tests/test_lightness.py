"""What a command does not need it does not load."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import hoptrail
from hoptrail.journal import Journal
from tests.sample_trace import sample_trace

HEAVY = ("langgraph", "langchain_core", "numpy", "httpx", "huggingface_hub", "ollama", "fastembed")
PROBE = """
import json, sys
{work}
print(json.dumps(sorted(name for name in sys.modules if "." not in name)), file=sys.stderr)
"""
COMMAND = """
from hoptrail.cli import main
main({arguments!r}, standalone_mode=False)
"""


def loaded_by(work: str) -> set[str]:
    done = subprocess.run(
        [sys.executable, "-c", PROBE.format(work=work)],
        env=dict(os.environ),
        capture_output=True,
        text=True,
        check=True,
    )
    return set(json.loads(done.stderr.splitlines()[-1]))


@pytest.fixture
def a_run(tmp_path: Path) -> str:
    journal = Journal(tmp_path / "home")
    trace = sample_trace()
    journal.admit(trace.run_id, trace.question, {}).release()
    journal.finish(trace)
    journal.close()
    return trace.run_id


def test_importing_the_package_loads_nothing_heavy() -> None:
    assert not loaded_by("import hoptrail; hoptrail.__version__").intersection((*HEAVY, "pydantic"))


@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        ["ask", "--help"],
        ["chat", "--help"],
        ["trace", "list"],
        ["trace", "show", "last"],
        ["trace", "show", "last", "--json"],
        ["trace", "html", "last"],
        ["trace", "diff", "last", "last"],
        ["config", "show"],
    ],
    ids=" ".join,
)
def test_a_light_command_loads_nothing_heavy(arguments: list[str], a_run: str) -> None:
    loaded = loaded_by(COMMAND.format(arguments=arguments))
    assert "hoptrail" in loaded
    assert not loaded.intersection(HEAVY)


def test_help_loads_neither_pydantic_nor_rich() -> None:
    assert not loaded_by(COMMAND.format(arguments=["--help"])).intersection({"pydantic", "rich"})


def test_every_exported_name_is_there() -> None:
    for name in hoptrail.__all__:
        assert getattr(hoptrail, name) is not None
    assert set(hoptrail.__all__) <= set(dir(hoptrail))
    assert len(set(hoptrail.__all__)) == len(hoptrail.__all__)


def test_every_name_that_is_loaded_on_use_is_exported() -> None:
    assert {*hoptrail._HOME_OF, "__version__"} == set(hoptrail.__all__)


def test_a_name_that_is_not_there_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="nonsense"):
        hoptrail.__getattr__("nonsense")
