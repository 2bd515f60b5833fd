"""Two runs side by side: what differs first on top, then answers, steps, passages and measures.

A mark says which run a line is of, whatever the colours: ``-`` the first, ``+`` the second,
``~`` both, but otherwise, ``=`` both, and the same.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from difflib import SequenceMatcher
from itertools import accumulate, groupby

from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from hoptrail.comparison import Comparison, Measure, StepComparison
from hoptrail.difference import Difference, EvidenceDifference
from hoptrail.terminal.answer import place
from hoptrail.terminal.marks import ARROW, QUIET, status_mark, status_style
from hoptrail.terminal.plain import amount, duration, one_line, plain
from hoptrail.terminal.steps import outcome_of
from hoptrail.trace import Trace

Row = tuple[str, str, Text]
"""A label, a mark, and what is told."""

FIRST, SECOND, OTHERWISE, SAME = "-", "+", "~", "="
_STYLES = {FIRST: "red", SECOND: "green", OTHERWISE: "yellow", SAME: QUIET}
_RELATED = {
    "child": "the second was forked from the first",
    "parent": "the first was forked from the second",
    "sibling": "both were forked from one run",
}
_TOLD_ONCE = ("retrieval", "embedding space")
"""They are the same for every step."""
_SAID_BY = {"context": "asked", "degraded": "answered by", "short answer": "answer"}
"""What need not be told beside another thing: the earlier answers stand in what was asked."""
_WORDS = re.compile(r"\s+|\w+|[^\w\s]")
_MOST_WORDS = 400
_MILLISECONDS = " ms"
_INDENT = 5


def print_comparison(out: Console, compared: Comparison, before: Trace, after: Trace) -> None:
    """Print how two runs compare."""
    for mark, trace in ((FIRST, before), (SECOND, after)):
        out.print(_head(mark, trace))
    if compared.related:
        out.print(Text(f"  {_RELATED[compared.related]}", QUIET))
    out.print()
    first = one_line(compared.first) or "Nothing differs but the time they took."
    out.print(Text(first, "bold"))
    out.print()
    _print_rows(out, _run_rows(compared, after))
    _print_steps(out, compared.steps, before, after)
    out.print()
    out.print(_measures(compared.measures))


def _head(mark: str, trace: Trace) -> Text:
    line = Text.assemble((f"{mark} ", _STYLES[mark]), one_line(trace.run_id), "  ")
    line.append_text(status_mark(trace.status)).append(
        f" {trace.status}", status_style(trace.status)
    )
    facts = [trace.graph, one_line(trace.started_at[:16].replace("T", " "))]
    return line.append("".join(f" · {fact}" for fact in facts if fact), QUIET)


def _run_rows(compared: Comparison, after: Trace) -> Iterator[Row]:
    told = {each.name for each in compared.differences}
    if "answer" not in told and after.answer:
        yield "answer", SAME, Text(_tidy(after.answer))
    for each in compared.differences:
        if _SAID_BY.get(each.name) not in told:
            yield from _difference(each)
    for cited in compared.citations:
        yield "citations", _mark(cited), Text(_place(cited), _STYLES[_mark(cited)])


def _difference(each: Difference) -> Iterator[Row]:
    ours, theirs = (_tidy(text) for text in (each.before, each.after))
    common = _common(ours, theirs)
    for mark, text, at in ((FIRST, ours, 0), (SECOND, theirs, 1)):
        line = Text(text or "none", f"{_STYLES[mark]} bold" if text else QUIET)
        for block in common if text else ():
            line.stylize(f"not bold {_STYLES[mark]}", *block[at])
        yield each.name, mark, line


def _tidy(text: str) -> str:
    """Give a text without its empty lines."""
    return "\n".join(line for line in plain(text).splitlines() if line.strip())


Span = tuple[int, int]


def _common(ours: str, theirs: str) -> list[tuple[Span, Span]]:
    """Give where two texts have the same words; what is long is not looked through."""
    words, others = _WORDS.findall(ours), _WORDS.findall(theirs)
    if max(len(words), len(others)) > _MOST_WORDS:
        return []
    blocks = SequenceMatcher(None, words, others, autojunk=False).get_matching_blocks()
    starts, other_starts = _starts(words), _starts(others)
    return [
        (
            (starts[block.a], starts[block.a + block.size]),
            (other_starts[block.b], other_starts[block.b + block.size]),
        )
        for block in blocks
    ]


def _starts(words: Iterable[str]) -> list[int]:
    return list(accumulate((len(word) for word in words), initial=0))


def _print_rows(out: Console, rows: Iterable[Row], indent: int = 0) -> None:
    """Print rows below each other; a label is told once."""
    grid, last = Table.grid(padding=(0, 1, 0, 0)), ""
    grid.add_column(style=QUIET, no_wrap=True)
    for label, mark, text in rows:
        grid.add_row("" if label == last else label, Text(mark, _STYLES[mark]), text)
        last = label
    if grid.rows:
        out.print(Padding(grid, (0, 0, 0, indent)))
        if not indent:
            out.print()


def _print_steps(
    out: Console, steps: Sequence[StepComparison], before: Trace, after: Trace
) -> None:
    told: set[Difference] = set()
    for same, group in groupby(steps, lambda step: step.same):
        if same:
            out.print(_folded(list(group)))
            continue
        for step in group:
            out.print(_title(step, before, after))
            new = [each for each in step.differences if each not in told]
            told |= {each for each in new if each.name in _TOLD_ONCE}
            _print_rows(out, _step_rows(new, step.evidence), _INDENT)


def _folded(steps: Sequence[StepComparison]) -> Text:
    """Tell of steps in a row in which nothing differs, on one line."""
    line = Text(f"{SAME} ", _STYLES[SAME]).append(_number(steps[0]), "default")
    if len(steps) > 1:
        line.append(f" to {_number(steps[-1])}", "default")
    else:
        line.append(f"  {one_line(steps[0].question)}")
    line.append("  the same")
    kept = sum(step.kept for step in steps)
    if kept:
        line.append(", taken over" if kept == len(steps) else f", {kept} of them taken over")
    return line


def _title(step: StepComparison, before: Trace, after: Trace) -> Text:
    if step.before is not None and step.after is not None:
        mark, alone = OTHERWISE, None
    elif step.before is not None:
        mark, alone = FIRST, before.step(step.before)
    else:
        mark, alone = SECOND, after.step(step.after or 0)
    line = Text.assemble((f"{mark} ", _STYLES[mark]), _number(step), "  ", one_line(step.question))
    if alone is not None:
        line.append(f"  {ARROW} ", QUIET).append_text(outcome_of(alone))
    return line


def _number(step: StepComparison) -> str:
    ids = [str(each) for each in (step.before, step.after) if each is not None]
    return ARROW.join(dict.fromkeys(ids))


def _step_rows(
    differences: Sequence[Difference], evidence: Sequence[EvidenceDifference]
) -> Iterator[Row]:
    names = {each.name for each in differences}
    for each in differences:
        if _SAID_BY.get(each.name) not in names:
            yield from _difference(each)
    yield from _passages("passages", evidence)


def _passages(label: str, evidence: Sequence[EvidenceDifference]) -> Iterator[Row]:
    """Tell each passage that is or was cited, of the others how many were lost and gained."""
    for each in evidence:
        if each.before_cited or each.after_cited or each.rewritten:
            yield label, _mark(each), _passage(each)
    for mark in (FIRST, SECOND):
        others = [each for each in evidence if _mark(each) == mark]
        others = [each for each in others if not (each.before_cited or each.after_cited)]
        if others:
            names = "; ".join(_place(each) for each in others)
            count = amount(len(others), "passage")
            yield label, mark, Text(f"{count} not cited: {names}", QUIET)


def _mark(each: EvidenceDifference) -> str:
    if each.after_rank is None:
        return FIRST
    return SECOND if each.before_rank is None else OTHERWISE


def _passage(each: EvidenceDifference) -> Text:
    facts = ["holds another text"] if each.rewritten else []
    if each.before_cited != each.after_cited:
        now = "now cited" if each.after_cited else "no longer cited"
        facts.append("cited" if _mark(each) != OTHERWISE else now)
    line = Text(_place(each), _STYLES[_mark(each)])
    return line.append("".join(f"  {fact}" for fact in facts), QUIET)


def _place(each: EvidenceDifference) -> str:
    return place(each.title, each.source) or one_line(each.passage_id)


def _measures(measures: Iterable[Measure]) -> Table:
    table = Table(box=None, header_style=QUIET, padding=(0, 2, 0, 0), pad_edge=False)
    table.add_column("", style=QUIET, no_wrap=True)
    for head in (f"{FIRST} before", f"{SECOND} after", "change"):
        table.add_column(head, justify="right", no_wrap=True)
    for each in measures:
        if each.before or each.after:
            change = each.after - each.before
            sign = "+" if change > 0 else "-"
            table.add_row(
                Text(each.name.removesuffix(_MILLISECONDS)),
                _measured(each.name, each.before),
                _measured(each.name, each.after),
                f"{sign}{_measured(each.name, abs(change))}" if change else SAME,
            )
    return table


def _measured(name: str, value: float) -> str:
    return duration(value) if name.endswith(_MILLISECONDS) else f"{value:,.0f}"
