"""What a terminal shows of two runs, at any width, from any text."""

import re

import pytest

from hoptrail.change import Change
from hoptrail.comparison import compare
from hoptrail.terminal.comparison import print_comparison
from hoptrail.trace import StepTrace, Trace
from tests.long_trace import long_trace
from tests.planting import planted_trace
from tests.sample_trace import KAFKA, PRAGUE, evidence, sample_trace
from tests.test_terminal import CONTROL, HOSTILE, screen, shown


def compared(before: Trace, after: Trace, width: int = 100, *, terminal: bool = False) -> str:
    out = screen(width, terminal=terminal)
    print_comparison(out, compare(before, after), before, after)
    return shown(out)


def forked() -> tuple[Trace, Trace]:
    before, after = sample_trace(), sample_trace()
    after.run_id, after.parent_run_id = "fork", before.run_id
    after.change = Change(step=2, answer="Elbe")
    after.steps[0].from_run = before.run_id
    step = after.steps[1]
    step.given, step.answer, step.calls = True, "Elbe", []
    step.evidence = [evidence(PRAGUE, 1, cited=True)]
    after.answer = "Elbe\nKafka was born in Prague, on the Elbe [1]."
    after.citations = after.citations[:1]
    after.usage.wall_ms = 600
    return before, after


def lines(text: str) -> list[str]:
    return [line.rstrip() for line in text.splitlines()]


def test_what_differs_first_stands_on_top() -> None:
    told = lines(compared(*forked()))
    assert told[0].startswith("- 20261122-091500-4f2a9c  ✓ answered · multi-hop · 2026-11-22 09:15")
    assert told[1].startswith("+ fork  ✓ answered")
    assert told[2] == "  the second was forked from the first"
    assert told[4] == "Step 2 was given another answer: “Elbe” instead of “Vltava”."


def test_answers_steps_passages_and_measures_stand_beside_each_other() -> None:
    told = lines(compared(*forked()))
    at = told.index("answer    - Vltava")
    assert "+ Elbe" in told[at + 2]
    assert "= 1  Who wrote The Trial?  the same, taken over" in told
    at = told.index("~ 2  Which river flows through the birthplace of #1?")
    assert told[at + 1 : at + 7] == [
        "     answered by - ollama:qwen3:8b",
        "                 + somebody by hand",
        "     answer      - Vltava",
        "                 + Elbe",
        "     passages    - Franz Kafka (people.md)  cited",
        "",
    ]
    assert "citations - Prague (cities.md)" in told
    (wall,) = [line for line in told if line.startswith("wall time")]
    assert wall.split() == ["wall", "time", "2.6", "s", "600", "ms", "-2.0", "s"]
    assert not any(line.startswith("calls kept") for line in told), "there were none"


def test_the_same_answer_and_the_same_steps_are_told_in_short() -> None:
    before, after = long_trace(), long_trace()
    after.steps[10].answer, after.steps[0].from_run = "something else", before.run_id
    told = lines(compared(before, after))
    assert "= 1 to 10  the same, 1 of them taken over" in told
    assert "= 12 to 60  the same" in told
    assert any(line.startswith("answer = ") for line in told)


def test_two_runs_that_are_the_same() -> None:
    told = compared(sample_trace(), sample_trace())
    assert "Nothing differs but the time they took." in told
    assert "= 1 to 2  the same" in told


def test_steps_that_only_one_run_has() -> None:
    before, after = sample_trace(), sample_trace()
    after.steps[1] = StepTrace(id=2, question="When?", status="answered", answer="1915")
    told = lines(compared(before, after, 120))
    assert "- 2  Which river flows through the birthplace of #1?  → Vltava" in told
    assert "+ 2  When?  → 1915" in told


def test_a_step_with_another_number_has_both() -> None:
    before, after = sample_trace(), sample_trace()
    after.steps[0].id, after.steps[0].answer = 5, "Kafka"
    assert "~ 1→5  Who wrote The Trial?" in lines(compared(before, after))


def test_what_is_not_cited_is_told_in_one_line() -> None:
    before, after = sample_trace(), sample_trace()
    before.steps[0].evidence = [evidence(each, 1, cited=False) for each in (PRAGUE, KAFKA)]
    after.steps[0].evidence = []
    told = compared(before, after, 120)
    assert "- 2 passages not cited: Prague (cities.md); Franz Kafka (people.md)" in told


def test_passages_cited_by_one_alone_and_rewritten_ones() -> None:
    before, after = sample_trace(), sample_trace()
    changed = PRAGUE.model_copy(update={"text": "Prague is on the Elbe."})
    after.steps[1].evidence = [evidence(changed, 1, cited=True), evidence(KAFKA, 2, cited=False)]
    told = compared(before, after)
    assert "~ Prague (cities.md)  holds another text" in told
    assert "~ Franz Kafka (people.md)  no longer cited" in told


def test_words_that_differ_stand_out_in_colour() -> None:
    before, after = sample_trace(), sample_trace()
    before.answer, after.answer = "It is the Vltava.", "It is the Elbe."
    told = compared(before, after, terminal=True)
    assert re.search(r"\x1b\[1;31mVltava\x1b\[0m", told)
    assert re.search(r"\x1b\[31mIt is the \x1b\[0m", told)
    assert "\x1b" not in compared(before, after)


@pytest.mark.parametrize("width", [40, 80, 140])
def test_it_fits_at_any_width(width: int) -> None:
    told = compared(*forked(), width=width)
    assert max(map(len, told.splitlines())) <= width
    whole = " ".join(told.split())
    for each in ("Elbe", "Vltava", "taken over", "wall time", "cities.md"):
        assert each in whole


def hostile(text: str) -> Trace:
    document = planted_trace(Trace, lambda _path, _number: text, (0, 1), checked=True)
    return Trace.model_validate(document)


def test_hostile_text_is_shown_as_text() -> None:
    evil, other, good = hostile(HOSTILE), hostile(f"other {HOSTILE}"), sample_trace()
    for before, after in ((evil, other), (evil, good), (good, evil)):
        assert not CONTROL.search(compared(before, after))
    assert compared(evil, other, 400).count("[bold]redlinkevil[/bold]") > 20
