"""The answer, as it is printed on stdout."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.text import Text

from hoptrail.evidence import Citation
from hoptrail.terminal.marks import ACCENT, QUIET
from hoptrail.terminal.plain import one_line, plain


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
