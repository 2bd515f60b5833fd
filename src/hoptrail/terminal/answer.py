"""The answer, as it is printed on stdout, and what is said about it on stderr."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.text import Text

from hoptrail.evidence import Citation
from hoptrail.terminal.marks import ACCENT, QUIET, WARN
from hoptrail.terminal.plain import duration, one_line, plain, spent

if TYPE_CHECKING:
    from hoptrail.answer import Answer


_RAISED_BY = {
    "steps": "--max-steps",
    "llm_calls": "--max-llm-calls",
    "tokens": "HOPTRAIL_MAX_TOKENS",
    "deadline": "--deadline",
}


def print_answer(out: Console, text: str, citations: Sequence[Citation]) -> None:
    """Print the text and the list of what it cites."""
    out.print(Text(plain(text)), soft_wrap=not out.is_terminal)
    print_citations(out, citations)


def print_citations(out: Console, citations: Sequence[Citation]) -> None:
    """Print ``[1] title (source) “quote”`` for each citation, below an empty line."""
    if citations:
        out.print()
    for number, citation in enumerate(citations, start=1):
        out.print(citation_line(number, citation), soft_wrap=not out.is_terminal)


def citation_line(number: int, citation: Citation) -> Text:
    """Give one citation as a line."""
    line = Text.assemble((f"[{number}]", ACCENT), " ", place(citation.title, citation.source))
    if quote := one_line(citation.quote):
        line.append(f" “{quote}”", QUIET)
    return line


def place(title: str, source: str) -> str:
    """Give where a passage is from: its title, and its source when that says more."""
    title, source = one_line(title), one_line(source)
    return f"{title} ({source})" if title and source and title != source else title or source


def print_skipped(err: Console, skipped: Iterable[tuple[str, str]]) -> None:
    """Say why some documents are not answered from; ``skipped`` holds paths with reasons."""
    reasons = Counter(one_line(reason) for _, reason in skipped)
    told = ", ".join(f"{reason} ({number})" for reason, number in reasons.items())
    line = f"left out of the documents: {told}; `hoptrail ingest` names them"
    err.print(Text(line, QUIET), soft_wrap=True)


def print_plan(err: Console, questions: Sequence[str]) -> None:
    """Print the questions of a plan, numbered as they refer to each other."""
    for number, question in enumerate(questions, start=1):
        err.print(Text(f"{number}. {one_line(question)}"), soft_wrap=True)


def print_hints(err: Console, answer: Answer) -> None:
    """Say what would have made a better answer: a language model, documents, a larger budget."""
    for hint in _hints(answer):
        err.print(Text(hint, WARN), soft_wrap=True)


def _hints(answer: Answer) -> Iterator[str]:
    if answer.degraded:
        yield "degraded: not all of this answer is a language model's; `hoptrail doctor` helps"
    if answer.abstained and not answer.trace.documents:
        yield "there were no documents to answer from: `--docs PATH` names some"
    spent_out = answer.stop_reason.removeprefix("budget:")
    if spent_out in _RAISED_BY:
        raised = f"{_RAISED_BY[spent_out]} with `hoptrail ask --resume {answer.run_id}`"
        yield f"the budget ran out: to go on, raise {raised}"


def print_report(err: Console, answer: Answer, trace: Path) -> None:
    """Say what went less than well, what the answer took, and where its trace is."""
    for warning in answer.warnings:
        err.print(Text(one_line(warning), WARN), soft_wrap=True)
    err.print(Text(f"{duration(answer.usage.wall_ms)} · {spent(answer.usage)}", QUIET))
    line = f"trace: hoptrail trace show {answer.run_id}  ({trace})"
    err.print(Text(line, QUIET), soft_wrap=True)
