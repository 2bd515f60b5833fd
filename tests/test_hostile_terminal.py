"""Whatever stands in a trace is text in the terminal: nothing of it moves, colours or hides."""

from __future__ import annotations

import io
import re
import sys
from contextlib import closing

import pytest
from click.testing import CliRunner
from rich.console import Console

from hoptrail.cli import main
from hoptrail.cli.past_runs import open_journal
from hoptrail.comparison import compare
from hoptrail.journal import Journal
from hoptrail.terminal.comparison import print_comparison
from hoptrail.terminal.record import print_record
from hoptrail.trace import Trace
from tests.hostile import PAYLOADS
from tests.viewer.planted import ENDS, FIELDS, batches, hostile_trace

CONTROL = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
COLOUR = re.compile(r"\x1b\[[0-9;]*m")
"""What Hoptrail itself writes where it may colour."""


def traces() -> list[Trace]:
    """Give runs in which every payload stands in every field."""
    return [
        Trace.model_validate(
            hostile_trace(numbers, end, checked=True, run_id=f"{end}-{numbers[0]}")
        )
        for end in ENDS
        for numbers in batches()
    ]


@pytest.fixture
def run_ids() -> list[str]:
    kept = traces()
    with closing(open_journal()) as journal:
        for trace in kept:
            keep(journal, trace)
    return [trace.run_id for trace in kept]


def keep(journal: Journal, trace: Trace) -> None:
    journal.let_go(trace, journal.admit(trace.run_id, trace.question, {}))


def told(*arguments: str) -> str:
    result = CliRunner().invoke(main, ["trace", *arguments])
    assert result.exit_code == 0, result.output
    return str(result.output)


@pytest.mark.timeout(300)
def test_no_control_character_reaches_the_terminal(run_ids: list[str]) -> None:
    outputs = [told("list", "--limit", "100"), told("list", "--limit", "100", "--json")]
    for run_id in run_ids:
        outputs += [told("show", run_id), told("show", run_id, "--json")]
    for before, after in zip(run_ids[::2], run_ids[1::2], strict=True):
        outputs += [told("diff", before, after), told("diff", before, after, "--json")]
    for output in outputs:
        assert not CONTROL.search(output)
        assert "⟦" in output
    sys.stdout.write(
        f"terminal: {len(PAYLOADS)} payloads in {len(FIELDS)} fields, {len(outputs)} outputs\n"
    )


@pytest.mark.timeout(300)
def test_a_terminal_that_takes_colours_gets_hoptrail_s_alone() -> None:
    before, *others = traces()
    for trace in others[::4]:
        out = Console(file=io.StringIO(), width=100, force_terminal=True, _environ={}, markup=False)
        print_record(out, trace)
        print_comparison(out, compare(before, trace), before, trace)
        assert isinstance(out.file, io.StringIO)
        written = out.file.getvalue()
        assert COLOUR.search(written)
        assert not CONTROL.search(COLOUR.sub("", written))
