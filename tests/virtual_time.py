"""An event loop on virtual time: nobody waits, and the same seed gives the same run.

When no task can go on, the clock jumps to the next timer. What waits for a socket or a thread
has no place here: once nothing is left that could ever happen, the loop says so.
"""

from __future__ import annotations

import asyncio
import random
import selectors
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


class NothingWillHappen(RuntimeError):
    """Every task waits, and no timer is set."""


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """An event loop whose clock, ``time``, stands still while a task can go on."""

    def __init__(self) -> None:
        self._selector_of_time = _SelectorOfTime()
        super().__init__(self._selector_of_time)

    def time(self) -> float:
        """Give the virtual seconds since the loop was made."""
        return self._selector_of_time.now


def run_virtually(main: Coroutine[Any, Any, T], seed: int = 0) -> T:
    """Run a coroutine to its end on virtual time, with chance seeded."""
    before = random.getstate()
    random.seed(seed)
    try:
        with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
            return runner.run(main)
    finally:
        random.setstate(before)


class _SelectorOfTime(selectors.SelectSelector):
    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if not ready and timeout is None:
            raise NothingWillHappen
        if not ready and timeout is not None:
            self.now += timeout
        return ready
