"""The answer, as it is printed on stdout, and what is said about it on stderr."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.text import Text

from hoptrail.evidence import Citation
from hoptrail.terminal.marks import ACCENT, QUIET, WARN
from hoptrail.terminal.plain import duration, one_line, plain, spent

if TYPE_CHECKING:
    from hoptrail.answer import Answer


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


def print_degraded(err: Console) -> None:
    """Say that no language model stood behind all of the answer."""
    text = "degraded: not all of this answer is a language model's; `hoptrail doctor` says why"
    err.print(Text(text, WARN), soft_wrap=True)


def print_report(err: Console, answer: Answer, trace: Path) -> None:
    """Say what went less than well, what the answer took, and where its trace is."""
    for warning in answer.warnings:
        err.print(Text(one_line(warning), WARN), soft_wrap=True)
    err.print(Text(f"{duration(answer.usage.wall_ms)} · {spent(answer.usage)}", QUIET))
    line = f"trace: hoptrail trace show {answer.run_id}  ({trace})"
    err.print(Text(line, QUIET), soft_wrap=True)
