"""``hoptrail trace diff``: what it reads, prints and exits with."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from hoptrail.change import Change
from hoptrail.cli import main
from hoptrail.comparison import Comparison, compare
from hoptrail.journal import Journal
from hoptrail.settings import load_settings
from hoptrail.trace import Trace
from tests.sample_trace import sample_trace


def hoptrail(*arguments: str, stdin: str | None = None) -> Result:
    return CliRunner().invoke(main, arguments, input=stdin)


def child() -> Trace:
    trace = sample_trace()
    trace.run_id, trace.parent_run_id = "20261122-100000-aaaaaa", sample_trace().run_id
    trace.change = Change(step=2, answer="Elbe")
    trace.steps[0].from_run = sample_trace().run_id
    trace.steps[1].given, trace.steps[1].answer = True, "Elbe"
    trace.answer = "Elbe"
    return trace


@pytest.fixture
def kept() -> tuple[Trace, Trace]:
    """A run and its fork, as the journal has them."""
    runs = sample_trace(), child()
    journal = Journal(load_settings().home)
    for trace in runs:
        journal.admit(trace.run_id, trace.question, {}).release()
        journal.finish(trace)
    journal.close()
    return runs


def test_two_runs_by_their_ids(kept: tuple[Trace, Trace]) -> None:
    result = hoptrail("trace", "diff", kept[0].run_id, "last")
    assert result.exit_code == 0
    told = result.stdout.splitlines()
    assert told[0].startswith(f"- {kept[0].run_id}")
    assert told[1].startswith(f"+ {kept[1].run_id}")
    assert "Step 2 was given another answer: “Elbe” instead of “Vltava”." in told
    assert "\x1b" not in result.stdout


@pytest.mark.parametrize("command", [["diff", "last"], ["show", "last"]])
@pytest.mark.parametrize("columns", [60, 80, 100, 140])
def test_no_line_is_padded(
    kept: tuple[Trace, Trace], command: list[str], columns: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    told = hoptrail("trace", *command).stdout.splitlines()
    assert told
    assert [line for line in told if line.endswith(" ") or len(line) > columns] == []


def test_a_fork_alone_is_compared_with_its_parent(kept: tuple[Trace, Trace]) -> None:
    alone = hoptrail("trace", "diff", "last")
    assert alone.stdout == hoptrail("trace", "diff", *(run.run_id for run in kept)).stdout


def test_a_run_alone_that_is_no_fork(kept: tuple[Trace, Trace]) -> None:
    result = hoptrail("trace", "diff", kept[0].run_id)
    assert (result.exit_code, result.stdout) == (1, "")
    assert f"run {kept[0].run_id} was not forked from another: name the run" in result.stderr


def test_json_is_the_whole_comparison(kept: tuple[Trace, Trace]) -> None:
    result = hoptrail("trace", "diff", "last", "--json")
    assert Comparison.model_validate(json.loads(result.stdout)) == compare(*kept)


def test_files_that_somebody_sent(kept: tuple[Trace, Trace], tmp_path: Path) -> None:
    sent = tmp_path / "sent.json"
    sent.write_text(kept[0].model_dump_json(), encoding="utf-8")
    result = hoptrail("trace", "diff", str(sent), "-", stdin=kept[1].model_dump_json())
    assert result.exit_code == 0
    assert "Step 2 was given another answer" in result.stdout


def test_the_exit_code_says_whether_they_differ_if_that_is_asked_for(
    kept: tuple[Trace, Trace],
) -> None:
    one = kept[0].run_id
    assert hoptrail("trace", "diff", one, "last", "--exit-code").exit_code == 1
    same = hoptrail("trace", "diff", one, one, "--exit-code")
    assert same.exit_code == 0
    assert "Nothing differs but the time they took." in same.stdout


@pytest.mark.parametrize("named", ["20260101-000000-abcdef", "../secret"])
def test_runs_that_are_not_there(kept: tuple[Trace, Trace], named: str) -> None:
    for arguments in ((named, "last"), ("last", named), (named,)):
        result = hoptrail("trace", "diff", *arguments)
        assert (result.exit_code, result.stdout) == (1, "")
        assert result.stderr.startswith("error: ")
        assert "Traceback" not in result.stderr
