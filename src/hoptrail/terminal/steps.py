"""One step in words: what it depends on, how it ended, who answered it and from what."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rich.text import Text

from hoptrail.terminal.answer import place
from hoptrail.terminal.marks import ARROW, BAD, QUIET, status_style
from hoptrail.terminal.plain import amount, duration, model_name, one_line
from hoptrail.trace import Call, StepTrace, ToolUse

_LONGEST_CALL, _LONGEST_OUTPUT = 80, 120
_UNANSWERED = {"abstained": "not found", "running": "not finished", "waiting": "not begun"}


def needs(depends_on: Sequence[int]) -> str:
    """Say which steps a step builds on, or nothing."""
    return f"needs {', '.join(map(str, depends_on))}" if depends_on else ""


def outcome_of(step: StepTrace) -> Text:
    """Give the step's answer, or what stands in its place."""
    if step.status == "answered":
        return Text(one_line(step.answer), "bold")
    said = _UNANSWERED.get(step.status, step.status)
    return Text(one_line(step.error) or said, status_style(step.status))


def answered_by(calls: Iterable[Call]) -> str:
    """Say which models answered, in order, each once."""
    names = [model_name(call.backend, call.model) for call in calls if call.backend]
    return ", ".join(dict.fromkeys(names))


def provenance(step: StepTrace) -> str:
    """Say who answered, how long it took and what was found and cited, on one line."""
    parts = [answered_by(step.calls)]
    if step.given:
        parts.append("answer given by hand")
    elif step.from_run:
        parts.append(f"kept from {one_line(step.from_run)}")
    elif step.calls and all(call.from_journal for call in step.calls):
        parts.append("from the journal")
    elif step.ms:
        parts.append(duration(step.ms))
    if step.degraded:
        parts.append("degraded")
    if step.tools:
        parts.append(amount(len(step.tools), "tool call"))
    return " · ".join(filter(None, [*parts, found(step)]))


def tool_line(use: ToolUse) -> Text:
    """Give a call of a tool and what came of it."""
    line = Text(f"{one_line(use.written, _LONGEST_CALL)} ", QUIET).append(f"{ARROW} ", QUIET)
    if use.error:
        return line.append(one_line(use.error, _LONGEST_OUTPUT), BAD)
    return line.append(one_line(use.output, _LONGEST_OUTPUT), "default")


def found(step: StepTrace) -> str:
    """Say how many passages a step was given, and which of them its answer cites."""
    if not step.evidence:
        return ""
    passages = amount(len(step.evidence), "passage")
    cited = [item for item in step.evidence if item.cited]
    if not cited:
        return f"{passages}, none cited"
    titles = dict.fromkeys(place(item.passage.title, item.passage.source) for item in cited)
    return f"cites {len(cited)} of {passages}: {one_line('; '.join(titles))}"
