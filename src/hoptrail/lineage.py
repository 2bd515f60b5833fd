"""The lineage of a fork: the run it comes from, and every change that led to it."""

from __future__ import annotations

from collections.abc import Iterator

from pydantic import BaseModel, ConfigDict

from hoptrail.change import Change
from hoptrail.evidence import Passage
from hoptrail.kept import kept_as

LINEAGE = "lineage"
"""The key of a fork's lineage among its journal's entries."""


class Lineage(BaseModel):
    """Where a fork comes from. It stands in the fork's journal, so that a resume goes on with it.

    ``changes`` are those of the run's ancestors, oldest first, and its own last: passages that
    were pinned or banned stay so, and so does the model. ``passages`` are those pinned, whole.
    ``documents`` are what the parent was answered from. ``entries`` is how many pieces of work
    the journal began with.
    """

    model_config = ConfigDict(frozen=True)

    parent_run_id: str
    changes: tuple[Change, ...]
    passages: tuple[Passage, ...] = ()
    documents: str = ""
    entries: int = 0

    @property
    def change(self) -> Change:
        """What the run has otherwise than its parent."""
        return self.changes[-1]

    @property
    def model(self) -> str | None:
        """The model that is asked in place of the settings', as ``BACKEND:MODEL``."""
        return next((each.model for each in reversed(self.changes) if each.model), None)

    def pinned(self, step_id: int) -> tuple[Passage, ...]:
        """Give the passages that come first in a step's evidence."""
        wishes, known = self._wishes(step_id), {each.id: each for each in self.passages}
        return tuple(known[name] for name, is_pinned in wishes.items() if is_pinned)

    def banned(self, step_id: int) -> frozenset[str]:
        """Give the ids of the passages that a step's evidence must not hold."""
        return frozenset(each for each, is_pinned in self._wishes(step_id).items() if not is_pinned)

    def _wishes(self, step_id: int) -> dict[str, bool]:
        """Give of each passage that was named whether it is pinned; what was said last counts."""
        wishes: dict[str, bool] = {}
        for change in self._standing():
            if change.step in (None, step_id):
                wishes |= dict.fromkeys(change.pinned, True) | dict.fromkeys(change.banned, False)
        return wishes

    def _standing(self) -> Iterator[Change]:
        """Give the changes that still hold: another question has other steps."""
        asked = [at for at, change in enumerate(self.changes) if change.is_new_question]
        since = asked[-1] if asked else 0
        for at, change in enumerate(self.changes):
            if at >= since or change.step is None:
                yield change


def lineage_in(entries: dict[str, str]) -> Lineage | None:
    """Give the lineage that a run's journal holds; None of a run that is no fork."""
    kept = entries.get(LINEAGE)
    return None if kept is None else kept_as(Lineage, kept)
