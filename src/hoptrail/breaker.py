"""A circuit breaker for one backend, and the retry budget they all share."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

_TURNS = threading.RLock()
"""One for all, for each does little and nothing that holds one could be copied or pickled. It may
be taken twice: a stream that is collected meanwhile gives its ticket back in the same thread."""


@dataclass(eq=False)
class Ticket:
    """The right to make one call; given back by `Breaker.succeeded`, `failed` or `release`."""

    period: int
    is_trial: bool


class Breaker:
    """Keeps calls away from a backend that keeps failing.

    *Closed*, all calls pass; five failures in a row, or half of at least ten calls within a
    minute, *open* it: for 30 s, and twice as long each time (at most 300 s) that the single
    trial call, which then decides, fails. A trial that is cancelled gives its place back, one
    that hangs loses it after ``trial_seconds``. Results of calls from before the last change
    of state are ignored. ``clock`` gives monotonic seconds. Threads may share it: each event
    loop of a process asks the same backends.
    """

    failures_in_a_row = 5
    calls_to_judge = 10
    window_seconds = 60.0
    first_pause = 30.0
    longest_pause = 300.0
    trial_seconds = 60.0
    look_again = 1.0

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._period = 0
        self._results: deque[tuple[float, bool]] = deque()
        self._in_a_row = 0
        self._opened_for = 0.0
        self._pause_ends = 0.0
        self._trial: Ticket | None = None
        self._trial_ends = 0.0

    @property
    def is_open(self) -> bool:
        """Whether calls are kept away, but for a trial."""
        return self._opened_for > 0

    def wait(self) -> float:
        """Give the seconds until it is worth asking again whether a call may pass: 0 now."""
        if not self.is_open:
            return 0.0
        now = self._clock()
        under_trial = self._trial is not None and now < self._trial_ends
        return max(self._pause_ends - now, self.look_again if under_trial else 0.0, 0.0)

    def admit(self) -> Ticket | None:
        """Take a ticket for one call, or None when it must not be made now."""
        with _TURNS:
            if self.wait() > 0:
                return None
            ticket = Ticket(self._period, is_trial=self.is_open)
            if ticket.is_trial:
                self._trial = ticket
                self._trial_ends = self._clock() + self.trial_seconds
            return ticket

    def succeeded(self, ticket: Ticket) -> None:
        """Record that the call was answered."""
        with _TURNS:
            if ticket is self._trial:
                self._close()
            elif self._counts(ticket):
                self._in_a_row = 0
                self._remember(True)

    def failed(self, ticket: Ticket) -> None:
        """Record that the call failed through the backend's fault."""
        with _TURNS:
            if ticket is self._trial:
                self._open()
            elif self._counts(ticket):
                self._in_a_row += 1
                self._remember(False)
                if self._is_failing():
                    self._open()

    def release(self, ticket: Ticket) -> None:
        """Give a ticket back without a verdict: cancelled, or not the backend's fault."""
        with _TURNS:
            if ticket is self._trial:
                self._trial = None

    def _counts(self, ticket: Ticket) -> bool:
        return not ticket.is_trial and ticket.period == self._period

    def _remember(self, ok: bool) -> None:
        now = self._clock()
        self._results.append((now, ok))
        while self._results[0][0] < now - self.window_seconds:
            self._results.popleft()

    def _is_failing(self) -> bool:
        failures = sum(not ok for _, ok in self._results)
        enough = len(self._results) >= self.calls_to_judge
        return self._in_a_row >= self.failures_in_a_row or (
            enough and 2 * failures >= len(self._results)
        )

    def _open(self) -> None:
        self._opened_for = min(max(2 * self._opened_for, self.first_pause), self.longest_pause)
        self._pause_ends = self._clock() + self._opened_for
        self._start_period()

    def _close(self) -> None:
        self._opened_for = 0.0
        self._start_period()

    def _start_period(self) -> None:
        self._period += 1
        self._results.clear()
        self._in_a_row = 0
        self._trial = None


class RetryBudget:
    """A share of retries: ten requests earn one, at most ten are saved up."""

    requests_a_retry = 10
    most = 10

    def __init__(self) -> None:
        self._requests = self.most * self.requests_a_retry

    @property
    def left(self) -> int:
        """The retries that are left."""
        return self._requests // self.requests_a_retry

    def earn(self) -> None:
        """Count a request."""
        with _TURNS:
            self._requests = min(self._requests + 1, self.most * self.requests_a_retry)

    def spend(self) -> bool:
        """Take one retry, or say that none is left."""
        with _TURNS:
            if not self.left:
                return False
            self._requests -= self.requests_a_retry
            return True
