"""What was asked for, and how: kept with the run, so that it can be resumed alike."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict, cast

import click

from hoptrail.cli.choice import settings_for

if TYPE_CHECKING:
    from hoptrail.journal import Journal, RunRow
    from hoptrail.settings import Settings
    from hoptrail.trail import QuestionGraph

_ENTRY = "command-line"


class Shape(TypedDict):
    """The flags that shape a run, and are kept with it."""

    docs: tuple[str, ...]
    index: str | None
    graph: QuestionGraph | None
    model: tuple[str, str] | None
    backend: str | None
    tools: tuple[str, ...]
    max_steps: int | None
    max_llm_calls: int | None
    deadline: float | None


class Flags(Shape):
    """All flags of ``hoptrail ask``."""

    as_json: bool
    stream: bool
    approve: bool
    resume: str | None
    trace_html: str | None
    quiet: bool


_UNSAID: Flags = {
    "docs": (),
    "index": None,
    "graph": None,
    "model": None,
    "backend": None,
    "tools": (),
    "max_steps": None,
    "max_llm_calls": None,
    "deadline": None,
    "as_json": False,
    "stream": False,
    "approve": False,
    "resume": None,
    "trace_html": None,
    "quiet": False,
}


@dataclass(frozen=True)
class Wish:
    """A question, the flags it is asked with, and the settings they lead to.

    ``parent`` is the run that is asked again, with something changed.
    """

    question: str
    flags: Flags
    settings: Settings
    parent: str = ""

    @property
    def docs(self) -> tuple[Path, ...]:
        """The documents to answer from."""
        return tuple(Path(path) for path in self.flags["docs"])

    def record(self, journal: Journal, run_id: str) -> None:
        """Keep with the run what shapes it."""
        kept = {name: self.flags.get(name) for name in Shape.__annotations__}
        journal.write(run_id, _ENTRY, json.dumps(kept))


def wish_of(question: str, flags: Flags) -> Wish:
    """Give what is asked for; of a run to be resumed, what is not said anew is as it was.

    Raises:
        RunNotFound: there is no run to resume.
    """
    _make_absolute(flags)
    row = _as_before(flags, flags["resume"]) if flags["resume"] else None
    if row is not None:
        if question not in ("", row.question):
            raise click.UsageError(f"run {row.run_id} was asked another question: {row.question}")
        question = row.question
    if not question:
        raise click.UsageError('there is no question: hoptrail ask "Who ...?"')
    settings = _settings(flags)
    if row is not None:
        _check_documents(row, flags, settings)
    return Wish(question, flags, settings)


def wish_like(
    named: str, said: Mapping[str, object], *, also: tuple[str, str] | None = None
) -> Wish:
    """Give the wish of a run that was, for it to be asked again; ``last`` names the newest.

    ``said`` are flags that are otherwise than that run's; ``also`` is a backend and a model that
    may be asked besides those of the run.

    Raises:
        RunNotFound: there is no such run.
    """
    flags = cast("Flags", {**_UNSAID, **said})
    _make_absolute(flags)
    row = _as_before(flags, named)
    settings = _settings(flags)
    _check_documents(row, flags, settings)
    if also is not None:
        backends = dict.fromkeys((*settings.backends, also[0]))
        settings = settings.model_copy(update={"backends": tuple(backends)})
        settings = settings.with_model(*also) if also[0] == "local" else settings
    return Wish(row.question, flags, settings, row.run_id)


def _settings(flags: Flags) -> Settings:
    return settings_for(
        flags["backend"],
        flags["model"],
        tools=flags["tools"] or None,
        max_steps=flags["max_steps"],
        max_llm_calls=flags["max_llm_calls"],
        deadline=flags["deadline"],
    )


def _check_documents(row: RunRow, flags: Flags, settings: Settings) -> None:
    """Have the documents of a run named, where nothing tells them: none are not the same."""
    documents = row.options.get("documents")
    # A conversation's turn is neither resumed nor forked here, whichever documents it is given.
    if documents and row.graph != "chat" and not (flags["docs"] or flags["index"] or settings.docs):
        raise click.UsageError(
            f"run {row.run_id} was answered from {documents}: name that with --docs or --index"
        )


def _make_absolute(flags: Flags) -> None:
    flags["docs"] = tuple(str(Path(path).absolute()) for path in flags["docs"])
    flags["index"] = flags["index"] and str(Path(flags["index"]).absolute())


def _as_before(flags: Flags, named: str) -> RunRow:
    """Have what the flags leave open as it was in a run; gives that run."""
    from hoptrail.cli.past_runs import open_journal, run_id_of

    with closing(open_journal()) as journal:
        run_id = run_id_of(journal, named)
        row = journal.run(run_id)
        # A process that was killed at once has kept no flags, but the graph is known all the same.
        own = {"graph": row.graph} if row.graph in ("multi-hop", "iterative") else {}
        kept: Shape = own | json.loads(journal.entries(run_id).get(_ENTRY, "{}"))
    given = {name: value for name, value in flags.items() if value not in (None, ())}
    # A TypedDict cannot be merged key by key; both sides have its keys and types.
    flags.update(cast("Flags", {**kept, **given}))
    return row
