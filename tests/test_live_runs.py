"""Runs that belong to the server: logs, followers, admission, ends."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager, suppress

import pytest

from hoptrail import HoptrailError, RunBusy
from hoptrail.errors import RunCancelled, ShuttingDown, TooManyRuns
from hoptrail.events import AnswerText, Event, RunFinished
from hoptrail.server import live_runs
from hoptrail.server.live_runs import LiveRun, LiveRuns, RunFailed
from tests.sample_trace import sample_trace

pytestmark = pytest.mark.anyio


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """What nobody follows stays, however slow the machine is."""
    monkeypatch.setattr(live_runs, "UNFOLLOWED_SECONDS", 600.0)


class Script:
    """Events that come when the test says so; remembers whether it was closed."""

    def __init__(self) -> None:
        self.go: asyncio.Queue[Event | Exception | None] = asyncio.Queue()
        self.closed = False

    async def events(self) -> AsyncGenerator[Event, None]:
        try:
            while (event := await self.go.get()) is not None:
                if isinstance(event, Exception):
                    raise event
                yield event
        finally:
            self.closed = True


@asynccontextmanager
async def opened(limit: int = 8) -> AsyncIterator[LiveRuns]:
    runs = LiveRuns(limit)
    async with runs.open():
        yield runs


async def settled() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


async def followed(run: LiveRun, after: int = 0) -> list[tuple[int, Event | RunFailed]]:
    return [each async for each in run.follow(after)]


async def test_every_follower_gets_all_events_numbered_whenever_they_come() -> None:
    script = Script()
    async with opened() as runs:
        run = runs.start("r", script.events())
        first = AnswerText("a")
        script.go.put_nowait(first)
        async with asyncio.TaskGroup() as group:
            early = group.create_task(followed(run))
            await settled()
            late = group.create_task(followed(run, 1))
            end = RunFinished(sample_trace())
            script.go.put_nowait(end)
            script.go.put_nowait(None)
        assert early.result() == [(1, first), (2, end)]
        assert late.result() == [(2, end)]
        assert await followed(run) == early.result()
        assert await run.result() is end.trace


async def test_when_the_last_follower_leaves_the_run_is_cancelled() -> None:
    script = Script()
    async with opened() as runs:
        run = runs.start("r", script.events())
        script.go.put_nowait(AnswerText("a"))
        async with aclosing(run.follow()) as one, aclosing(run.follow()) as two:
            await anext(one)
            await anext(two)
            await one.aclose()
            await settled()
            assert len(runs) == 1
        await settled()
        assert (len(runs), script.closed) == (0, True)
        assert isinstance(run.error, RunCancelled)
        with pytest.raises(RunCancelled):
            await run.result()


async def test_a_detached_run_needs_no_follower() -> None:
    script = Script()
    async with opened() as runs:
        run = runs.start("r", script.events(), detach=True)
        script.go.put_nowait(AnswerText("a"))
        async with aclosing(run.follow()) as events:
            await anext(events)
        await settled()
        assert len(runs) == 1


async def test_a_run_that_nobody_comes_to_follow_is_cancelled(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(live_runs, "UNFOLLOWED_SECONDS", 0.01)
    script = Script()
    async with opened() as runs:
        run = runs.start("r", script.events())
        await runs.wait(30)
        assert run.ended
        assert script.closed


async def test_a_run_cancelled_before_its_first_step_ends_too() -> None:
    script = Script()
    async with opened() as runs:
        run = runs.start("r", script.events())
        run.cancel()
        with pytest.raises(RunCancelled):
            await run.result()
        assert runs.get("r") is None


async def test_an_error_reaches_its_followers_and_nobody_else() -> None:
    bad, good = Script(), Script()
    async with opened() as runs:
        failing, going = runs.start("bad", bad.events()), runs.start("good", good.events())
        for error in (AnswerText("a"), ValueError("a bug")):
            bad.go.put_nowait(error)
        with pytest.raises(ValueError, match="a bug"):
            await failing.result()
        assert isinstance(failing.log[-1], RunFailed)
        assert not going.ended


async def test_a_run_is_admitted_once_and_no_more_than_may_be() -> None:
    async with opened(limit=2) as runs:
        first = runs.start("a", Script().events())
        with pytest.raises(RunBusy, match="/runs/a/events"):
            runs.start("a", Script().events())
        runs.start("b", Script().events())
        with pytest.raises(TooManyRuns) as refused:
            runs.start("c", Script().events())
        assert refused.value.retry_after > 0
        with pytest.raises(TooManyRuns):
            runs.own(Script().events())
        first.cancel()
        await settled()
        runs.start("c", Script().events())


async def test_the_end_of_the_server_cancels_and_refuses() -> None:
    script = Script()
    async with opened() as runs:
        run = runs.start("a", script.events())
        await settled()
    assert isinstance(run.error, RunCancelled)
    assert script.closed
    with pytest.raises(ShuttingDown):
        runs.start("b", Script().events())


async def test_a_run_that_could_not_be_taken_up_leaves_the_earlier_one_known() -> None:
    async with opened() as runs:
        script = Script()
        earlier = runs.start("a", script.events())
        script.go.put_nowait(RunFinished(sample_trace()))
        script.go.put_nowait(None)
        await earlier.result()
        refused = Script()
        refused.go.put_nowait(HoptrailError("another question"))
        with pytest.raises(HoptrailError, match="another question"):
            await runs.start("a", refused.events()).result()
        assert runs.get("a") is earlier


async def test_finished_runs_are_kept_for_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live_runs, "KEPT_RUNS", 2)
    async with opened() as runs:
        for name in "abc":
            script = Script()
            script.go.put_nowait(RunFinished(sample_trace()))
            script.go.put_nowait(None)
            await runs.start(name, script.events()).result()
        assert [runs.get(name) is not None for name in "abc"] == [False, True, True]
        monkeypatch.setattr(live_runs, "KEPT_SECONDS", 0.0)
        await asyncio.sleep(0.01)
        assert runs.get("c") is None


async def test_an_owned_stream_gives_what_it_is_given_and_ends_with_its_reader() -> None:
    script = Script()
    async with opened() as runs:
        async with aclosing(runs.own(script.events())) as stream:
            script.go.put_nowait(AnswerText("a"))
            assert await anext(stream) == AnswerText("a")
            assert len(runs) == 1
        await settled()
        assert (len(runs), script.closed) == (0, True)


async def test_an_owned_stream_passes_its_error_on() -> None:
    script = Script()
    script.go.put_nowait(HoptrailError("broken"))
    async with opened() as runs:
        with pytest.raises(HoptrailError, match="broken"):
            await anext(runs.own(script.events()))


async def test_a_run_in_which_something_failed_earlier_can_be_stopped() -> None:
    async def failing() -> None:
        raise ValueError

    async def events() -> AsyncGenerator[Event, None]:
        with suppress(ExceptionGroup):
            async with asyncio.TaskGroup() as group:
                group.create_task(failing())
        yield AnswerText("a")
        await asyncio.sleep(3600)

    async with opened() as runs:
        async with aclosing(runs.start("r", events()).follow()) as told:
            assert await anext(told)
        await settled()
        assert not len(runs)
