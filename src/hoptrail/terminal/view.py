"""What watches a run. This view shows nothing; a live tree and lines build on it."""

from __future__ import annotations

from typing import Self

from hoptrail.events import Event


class View:
    """Is told what a run does, while its ``with`` block lasts."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.settle()

    def indexing(self, done: int, total: int, what: str) -> None:
        """Take in how far the documents are read."""

    def show(self, event: Event) -> None:
        """Take in an event."""

    def settle(self) -> None:
        """Leave what is shown standing: from now on the terminal is needed otherwise."""
