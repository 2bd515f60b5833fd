"""The runs under way in this server. A run belongs to the server, not to who asked for it.

Its task writes a log and never waits for a reader; whoever follows reads the log at their own
pace, from any point. When the last one has left, the run is cancelled, and its calls with it.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import OrderedDict
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from hoptrail.errors import HoptrailError, RunBusy, RunCancelled, ShuttingDown, TooManyRuns
from hoptrail.events import Event, RunFinished, RunStarted
from hoptrail.trace import Trace

UNFOLLOWED_SECONDS = 5.0
"""How long what was begun waits for its first follower, who may have gone before."""
KEPT_SECONDS = 300.0
KEPT_RUNS = 64
"""How long, and of how many finished runs, the log is kept: their traces hold more."""

_CLOSING_SECONDS = 2.0

T = TypeVar("T")

_log = logging.getLogger("hoptrail.server")


@dataclass(frozen=True, slots=True)
class RunFailed:
    """The run ended with an error; this is the last of its events."""

    error: Exception
    type: str = "RUN_ERROR"


class Live(Generic[T]):
    """A stream under way: a task of the server's reads it into a log that anybody may follow."""

    def __init__(self, stream: AsyncGenerator[T, None], *, detach: bool = False) -> None:
        self.log: list[T] = []
        self.detach = detach
        self.error: Exception | None = None
        self.ended_at: float | None = None
        self._stream = stream
        self._followers: set[asyncio.Event] = set()
        self._task: asyncio.Task[None] | None = None
        self._stopped = False
        self._expiry: asyncio.TimerHandle | None = None

    @property
    def ended(self) -> bool:
        """Whether nothing more comes."""
        return self.ended_at is not None

    def begin(self, tasks: asyncio.TaskGroup) -> asyncio.Task[None]:
        """Start reading."""
        self._task = tasks.create_task(self._read())
        self._task.add_done_callback(self._end)
        if not self.detach:
            loop = asyncio.get_running_loop()
            self._expiry = loop.call_later(UNFOLLOWED_SECONDS, self._leave_if_unfollowed)
        return self._task

    def cancel(self) -> None:
        """Stop it, and every call it is making."""
        # Once: another cancellation would break off what it writes down at its end. The task's own
        # count is no help: before Python 3.13 a TaskGroup of which one failed leaves it at 1.
        if self._task is not None and not self._stopped:
            self._stopped = True
            self._task.cancel()

    async def follow(self, after: int = 0) -> AsyncGenerator[tuple[int, T], None]:
        """Give the log from after the entry ``after`` on, each with its number, until it ends.

        Entries are numbered from 1. When the last follower leaves, it is cancelled.
        """
        at, news = after, asyncio.Event()
        self._followers.add(news)
        try:
            while True:
                while at < len(self.log):
                    at += 1
                    yield at, self.log[at - 1]
                if self.ended:
                    return
                news.clear()
                await news.wait()
        finally:
            self._followers.discard(news)
            self._leave_if_unfollowed()

    def _leave_if_unfollowed(self) -> None:
        if not (self._followers or self.detach or self.ended):
            self.cancel()

    async def _read(self) -> None:
        try:
            async with aclosing(self._stream) as stream:
                async for entry in stream:
                    self.log.append(entry)
                    self._wake()
        except HoptrailError as error:
            self.error = error
        except Exception as error:  # noqa: BLE001 # its followers raise it; the others go on
            _log.exception("a run ended with an error of Hoptrail's own")
            self.error = error

    def _end(self, task: asyncio.Task[None]) -> None:
        if task.cancelled():
            self.error = RunCancelled("it was stopped before its end")
        if self._expiry is not None:
            self._expiry.cancel()
        self.ended_at = time.monotonic()
        self._wake()

    def _wake(self) -> None:
        for news in self._followers:
            news.set()


class LiveRun(Live[Event | RunFailed]):
    """A run under way, or one that ended a short while ago."""

    def __init__(
        self, run_id: str, events: AsyncGenerator[Event, None], *, detach: bool = False
    ) -> None:
        super().__init__(events, detach=detach)
        self.run_id = run_id

    @property
    def trace(self) -> Trace | None:
        """The record as far as it is written; None before the run is admitted."""
        first = self.log[0] if self.log else None
        return first.trace if isinstance(first, RunStarted) else None

    async def result(self) -> Trace:
        """Wait for the run's end and give its trace; whoever waits follows it.

        Raises:
            HoptrailError: what the run failed with.
        """
        async with aclosing(self.follow()) as events:
            async for _ in events:
                pass
        if self.error is not None:
            raise self.error
        last = self.log[-1] if self.log else None
        if not isinstance(last, RunFinished):
            raise HoptrailError(f"run {self.run_id} waits for its plan to be approved")
        return last.trace

    def _end(self, task: asyncio.Task[None]) -> None:
        super()._end(task)
        if self.error is not None:
            self.log.append(RunFailed(self.error))


class LiveRuns:
    """All that is under way. Usable while `open` is.

    ``limit`` is how many may be at a time.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.stopping = False
        self._tasks: asyncio.TaskGroup | None = None
        self._live: dict[Live[Any], asyncio.Task[None]] = {}
        self._runs: OrderedDict[str, LiveRun] = OrderedDict()

    def __len__(self) -> int:
        return len(self._live)

    @asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        """Take runs in the block; at its end those under way are cancelled."""
        async with asyncio.TaskGroup() as tasks:
            self._tasks = tasks
            try:
                yield
            finally:
                self.refuse()
                await self.cancel_all()

    def start(
        self, run_id: str, events: AsyncGenerator[Event, None], *, detach: bool = False
    ) -> LiveRun:
        """Take a run in. Detached, it goes on when nobody follows.

        Raises:
            TooManyRuns: as many as may are under way.
            ShuttingDown: the server takes no more.
            RunBusy: this very run is under way.
        """
        known = self._runs.get(run_id)
        if known is not None and not known.ended:
            raise RunBusy(f"run {run_id} is under way: follow it at /runs/{run_id}/events")
        run = LiveRun(run_id, events, detach=detach)
        task = self._begin(run)
        self._runs[run_id] = run
        self._runs.move_to_end(run_id)
        task.add_done_callback(lambda _task: self._forget_unbegun(run, known))
        self._forget()
        return run

    def own(self, stream: AsyncGenerator[T, None]) -> AsyncGenerator[T, None]:
        """Take a stream in that is no run, and give what it gives; raises as `start`.

        It is cancelled when the generator that this gives is closed, or never begun.
        """
        live = Live(stream)
        self._begin(live)
        return _followed(live)

    def get(self, run_id: str) -> LiveRun | None:
        """Give the run of this id if it is under way, or its log is still kept."""
        self._forget()
        return self._runs.get(run_id)

    def refuse(self) -> None:
        """Take no more runs."""
        self.stopping = True

    async def wait(self, seconds: float) -> None:
        """Wait until nothing is under way, but no longer than so many seconds."""
        if self._live:
            await asyncio.wait(list(self._live.values()), timeout=seconds)

    async def cancel_all(self) -> None:
        """Cancel what is under way, and wait a moment while it writes down how far it came."""
        for live in self._live:
            live.cancel()
        await self.wait(_CLOSING_SECONDS)

    def _begin(self, live: Live[T]) -> asyncio.Task[None]:
        if self.stopping:
            raise ShuttingDown("this server is being stopped and takes no more runs")
        if len(self._live) >= self.limit:
            raise TooManyRuns(self.limit)
        if self._tasks is None:
            raise RuntimeError("the app is not started: its lifespan opens what holds the runs")
        self._live[live] = task = live.begin(self._tasks)
        task.add_done_callback(lambda _task: self._live.pop(live))
        return task

    def _forget_unbegun(self, run: LiveRun, before: LiveRun | None) -> None:
        """Leave a run as it was known before when it could not even be taken up."""
        unbegun = not run.log or isinstance(run.log[0], RunFailed)
        if unbegun and self._runs.get(run.run_id) is run:
            del self._runs[run.run_id]
            if before is not None:
                self._runs[run.run_id] = before

    def _forget(self) -> None:
        ended = [run for run in self._runs.values() if run.ended_at is not None]
        oldest = time.monotonic() - KEPT_SECONDS
        for at, run in enumerate(ended):
            assert run.ended_at is not None  # those that ended were picked
            if run.ended_at < oldest or len(ended) - at > KEPT_RUNS:
                del self._runs[run.run_id]


async def _followed(live: Live[T]) -> AsyncGenerator[T, None]:
    async with aclosing(live.follow()) as entries:
        async for _, entry in entries:
            yield entry
    if live.error is not None:
        raise live.error
