"""What was asked for, and how: kept with the run, so that it can be resumed alike."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from hoptrail.cli.choice import settings_for

if TYPE_CHECKING:
    from hoptrail.cli.ask import Flags
    from hoptrail.journal import Journal
    from hoptrail.settings import Settings

_ENTRY = "command-line"
_KEPT = ("docs", "index", "model", "backend", "max_steps", "max_llm_calls", "deadline")


@dataclass(frozen=True)
class Wish:
    """A question with everything that shapes its run."""

    question: str
    run_id: str
    flags: Flags
    settings: Settings

    def record(self, journal: Journal) -> None:
        """Keep the flags with the run."""
        from hoptrail.background import background

        kept = json.dumps({name: self.flags[name] for name in _KEPT})
        background().run(journal.off_loop(journal.write, self.run_id, _ENTRY, kept))
