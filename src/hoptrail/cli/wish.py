"""What was asked for, and how: kept with the run, so that it can be resumed alike."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict, cast

import click

from hoptrail.cli.choice import settings_for

if TYPE_CHECKING:
    from hoptrail.journal import Journal
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
    quiet: bool


@dataclass(frozen=True)
class Wish:
    """A question, the flags it is asked with, and the settings they lead to."""

    question: str
    flags: Flags
    settings: Settings

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
    flags["docs"] = tuple(str(Path(path).absolute()) for path in flags["docs"])
    flags["index"] = flags["index"] and str(Path(flags["index"]).absolute())
    if flags["resume"]:
        question = _resumed(question, flags, flags["resume"])
    if not question:
        raise click.UsageError('there is no question: hoptrail ask "Who ...?"')
    return Wish(question, flags, _settings(flags))


def _settings(flags: Flags) -> Settings:
    return settings_for(
        flags["backend"],
        flags["model"],
        tools=flags["tools"] or None,
        max_steps=flags["max_steps"],
        max_llm_calls=flags["max_llm_calls"],
        deadline=flags["deadline"],
    )


def _resumed(question: str, flags: Flags, run_id: str) -> str:
    from hoptrail.journal import Journal
    from hoptrail.settings import load_settings

    journal = Journal(load_settings().home)
    asked = journal.run(run_id).question
    kept: Shape = json.loads(journal.entries(run_id).get(_ENTRY, "{}"))
    journal.close()
    if question not in ("", asked):
        raise click.UsageError(f"run {run_id} was asked another question: {asked}")
    given = {name: value for name, value in flags.items() if value not in (None, ())}
    # A TypedDict cannot be merged key by key; both sides have its keys and types.
    flags.update(cast("Flags", {**kept, **given}))
    return asked
