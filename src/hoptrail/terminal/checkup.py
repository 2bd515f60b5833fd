"""The check-up, as a person reads it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from rich.console import Console, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from hoptrail.terminal.marks import ACCENT, BAD, QUIET, WARN
from hoptrail.terminal.plain import amount, duration, model_name, one_line

if TYPE_CHECKING:
    from hoptrail.backend import Availability
    from hoptrail.doctor import Checkup, IndexState, LoadedModel

_MARKS = {"up": ("✓", "green"), "loading": ("…", ACCENT), "unconfigured": ("○", QUIET)}
_WRONG = ("✗", BAD)
_MOST_MODELS = 6

Row = tuple[Text, Text, RenderableType]


def print_checkup(out: Console, checkup: Checkup) -> None:
    """Print what is up, what is not, and what to do about it."""
    _section(out, "language models, in the order they are asked", _backends(checkup))
    _section(out, "embedders, in the order they are asked", map(_standing, checkup.embedders))
    if checkup.index:
        _section(out, "index", _index(checkup.index))
    _section(out, "here", _here(checkup))
    for note in checkup.notes:
        out.print(Text(one_line(note), QUIET))
    for warning in checkup.warnings:
        out.print(Text(f"warning: {one_line(warning)}", WARN))
    out.print(_verdict(checkup))


def _section(out: Console, title: str, rows: Iterator[Row]) -> None:
    grid = Table.grid(padding=(0, 1))
    grid.add_column(no_wrap=True)
    grid.add_column(no_wrap=True)
    for row in rows:
        grid.add_row(*row)
    out.print(Text(title, QUIET))
    out.print(Padding(grid, (0, 0, 1, 2)))


def _backends(checkup: Checkup) -> Iterator[Row]:
    for found in checkup.backends:
        yield _standing(found)
        if found.backend == "ollama":
            yield from map(_loaded, checkup.loaded)


def _standing(found: Availability) -> Row:
    mark, name = Text(*_MARKS.get(found.state, _WRONG)), Text(found.backend)
    line = Text(one_line(found.model or ""))
    facts = [
        "" if found.up else found.state.replace("_", " "),
        one_line(found.detail),
        duration(found.ms) if found.up and found.ms else "",
        _models(found),
    ]
    for fact in filter(None, facts):
        line.append("  " if line else "", QUIET).append(fact, QUIET)
    if found.fix:
        line.append("\n→ ", ACCENT).append(one_line(found.fix))
    return mark, name, line


def _models(found: Availability) -> str:
    if not found.models:
        return ""
    shown = ", ".join(one_line(name) for name in found.models[:_MOST_MODELS])
    more = len(found.models) - _MOST_MODELS
    return f"has {shown}" + (f" and {more} more" if more > 0 else "")


def _loaded(model: LoadedModel) -> Row:
    facts = [
        f"context {model.context:,} tokens" if model.context else "",
        f"{model.gpu_share:.0%} on GPU" if model.gpu_share is not None else "",
    ]
    told = ", ".join(filter(None, facts))
    return Text(), Text(), Text(f"in memory: {one_line(model.name)}  {told}", QUIET)


def _index(index: IndexState) -> Iterator[Row]:
    mark = Text("!", WARN) if index.problem else Text("✓", "green")
    yield mark, Text("folder"), Text(one_line(str(index.path)))
    if index.passages:
        holds = f"{amount(index.passages, 'passage')} of {amount(index.sources, 'document')}"
        yield Text(), Text("holds"), Text(holds)
        yield Text(), Text("space"), Text(one_line(index.space or "none: words only"))
        yield Text(), Text("search"), Text(index.search)
    if index.problem:
        yield Text(), Text(), Text(one_line(index.problem), WARN)


def _here(checkup: Checkup) -> Iterator[Row]:
    versions = ", ".join(f"{name} {number}" for name, number in checkup.versions.items())
    yield Text(), Text("home"), Text(one_line(str(checkup.home)))
    yield Text(), Text("versions"), Text(versions)


def _verdict(checkup: Checkup) -> Text:
    if model := checkup.language_model:
        name = model_name(model.backend, model.model)
        return Text.assemble(("✓ ", "green"), f"questions are answered by {name}")
    if checkup.can_answer:
        return Text("! no language model is up: the built-in answers, and labels it degraded", WARN)
    return Text("✗ nothing that could answer is up", BAD)
