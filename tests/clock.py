"""A clock that a test moves."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class Clock:
    """Tells the same time, in seconds, until a test changes ``now``."""

    now: float = 1000.0

    def __call__(self) -> float:
        return self.now
