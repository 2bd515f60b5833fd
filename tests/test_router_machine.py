"""The breaker, the standing and the router as state machines, held to rules said plainly."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import ClassVar, Literal

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from hoptrail.errors import (
    BackendBusy,
    BackendError,
    BackendRefused,
    BackendUnavailable,
    InvalidResponse,
    RequestRefused,
)
from tests.router_rules import Asked, Called, WatchedBackend, World
from tests.virtual_time import VirtualTimeLoop

pytestmark = [
    pytest.mark.promise("one-probe"),
    pytest.mark.promise("cooldowns-hold"),
    pytest.mark.promise("retries-are-bounded"),
    pytest.mark.promise("recovery-is-noticed"),
    pytest.mark.promise("cancelling-benches-nobody"),
    pytest.mark.promise("waits-while-the-deadline-allows"),
]

STEPS = 20_000
Mood = Literal["waits for orders", "answers", "refuses", "is busy"]


class Puppet(WatchedBackend):
    """A backend that does as it is told."""

    mood: Mood = "waits for orders"
    probed: str = "up"

    def __init__(self, name: str, world: World) -> None:
        super().__init__(name, world)
        self.orders: dict[Called, asyncio.Queue[str | BackendError | None]] = {}

    async def state(self) -> str:
        probed = self.probed
        await asyncio.sleep(3600 if probed == "silent" else 0.01)
        return probed

    async def behave(self, call: Called) -> AsyncGenerator[str, None]:
        match self.mood:
            case "answers":
                yield f"{self.name} {id(call)} "
                return
            case "refuses":
                raise BackendUnavailable("refused", backend=self.name)
            case "is busy":
                raise BackendBusy("later", backend=self.name, retry_after=7.0)
        orders = self.orders[call] = asyncio.Queue()
        try:
            while (order := await orders.get()) is not None:
                if isinstance(order, BackendError):
                    raise order
                yield order
        finally:
            del self.orders[call]


class RouterMachine(RuleBasedStateMachine):
    """Anything may happen, in any order; `World` checks every call and every end."""

    steps: ClassVar[int] = 0

    def __init__(self) -> None:
        super().__init__()
        self.loop = VirtualTimeLoop()
        self.world = World(self.loop.time)
        self.puppets = [Puppet(name, self.world) for name in ("one", "two")]
        self.model = self.world.router()
        self.tasks: list[asyncio.Task[Asked]] = []

    def pass_time(self, seconds: float) -> None:
        self.loop.run_until_complete(asyncio.sleep(seconds))

    @property
    def waiting(self) -> list[tuple[Puppet, Called]]:
        return [(puppet, call) for puppet in self.puppets for call in puppet.orders]

    @rule(
        deadline=st.sampled_from([None, None, 0.7, 4.0, 25.0, 90.0, 400.0]),
        slow_reader=st.sampled_from([False, False, False, True]),
        times=st.sampled_from([1, 1, 1, 3, 8]),
    )
    def ask(self, deadline: float | None, slow_reader: bool, times: int) -> None:
        for _ in range(times):
            work = self.world.ask(deadline, slow_reader=slow_reader)
            self.tasks.append(self.loop.create_task(work))

    @rule(seconds=st.sampled_from([0.05, 0.3, 1.1, 3.0, 7.0, 16.0, 31.0, 61.0, 121.0, 310.0]))
    def wait(self, seconds: float) -> None:
        self.pass_time(seconds)

    @rule(
        which=st.integers(0, 1),
        mood=st.sampled_from(["waits for orders", "answers", "refuses", "refuses", "is busy"]),
    )
    def change_mood(self, which: int, mood: Mood) -> None:
        self.puppets[which].mood = mood

    @rule(which=st.integers(0, 1), found=st.sampled_from(["up", "up", "down", "loading", "silent"]))
    def change_probe(self, which: int, found: str) -> None:
        self.puppets[which].probed = found

    @precondition(lambda self: self.waiting)
    @rule(which=st.integers(0, 100), order=st.sampled_from(["a ", "b ", None, None]))
    def tell(self, which: int, order: str | None) -> None:
        puppet, call = self.waiting[which % len(self.waiting)]
        puppet.orders[call].put_nowait(order)

    @precondition(lambda self: self.waiting)
    @rule(
        which=st.integers(0, 100),
        kind=st.sampled_from([BackendUnavailable, InvalidResponse, RequestRefused]),
        all_of_them=st.booleans(),
    )
    def fail(self, which: int, kind: type[BackendError], all_of_them: bool) -> None:
        chosen = self.waiting if all_of_them else [self.waiting[which % len(self.waiting)]]
        for puppet, call in chosen:
            puppet.orders[call].put_nowait(kind("no", backend=puppet.name))

    @precondition(lambda self: self.waiting)
    @rule(
        which=st.integers(0, 100),
        seconds=st.sampled_from([None, 0.0, 1.0, 20.0, 120.0]),
        refused=st.booleans(),
    )
    def send_away(self, which: int, seconds: float | None, refused: bool) -> None:
        puppet, call = self.waiting[which % len(self.waiting)]
        error = BackendBusy("later", backend=puppet.name, retry_after=seconds)
        refusal = BackendRefused("no key", backend=puppet.name)
        puppet.orders[call].put_nowait(refusal if refused and seconds is None else error)

    @precondition(lambda self: self.tasks)
    @rule(which=st.integers(0, 100), everybody=st.sampled_from([False, False, False, True]))
    def cancel(self, which: int, everybody: bool) -> None:
        chosen = self.tasks if everybody else [self.tasks[which % len(self.tasks)]]
        for task in chosen:
            task.cancel()

    @precondition(lambda self: self.waiting and self.tasks)
    @rule(which=st.integers(0, 100), error=st.booleans())
    def cancel_as_it_ends(self, which: int, error: bool) -> None:
        """Both in one turn of the loop."""
        puppet, call = self.waiting[which % len(self.waiting)]
        order = BackendUnavailable("no", backend=puppet.name) if error else None
        puppet.orders[call].put_nowait(order)
        self.tasks[which % len(self.tasks)].cancel()

    @invariant()
    def each_stands_as_the_rules_say(self) -> None:
        type(self).steps += 1
        self.pass_time(0.0005)
        for task in [task for task in self.tasks if task.done()]:
            self.tasks.remove(task)
            if not task.cancelled():
                task.result()
        for puppet, standing in zip(self.puppets, self.model._standings, strict=True):
            pause = standing.pause()
            seconds = pause.seconds if pause else 0.0
            assert seconds == pytest.approx(puppet.rules.wait(), abs=1e-6)

    def teardown(self) -> None:
        """Whatever happened, a backend that is well again is asked again."""
        try:
            for task in self.tasks:
                task.cancel()
            self.pass_time(400.0)
            for puppet in self.puppets:
                puppet.mood, puppet.probed = "answers", "up"
            began = len(self.puppets[0].calls)
            asked = self.loop.run_until_complete(self.world.ask(deadline=30.0))
            assert asked.answer == asked.calls[-1].text
            assert len(self.puppets[0].calls) == began + 1
            assert self.model._standings[0].pause() is None
            assert asyncio.all_tasks(self.loop) == set()
        finally:
            self.loop.run_until_complete(self.loop.shutdown_asyncgens())
            self.loop.close()


@pytest.mark.timeout(300)
def test_whatever_happens_the_router_keeps_the_rules() -> None:
    """Two backends, any number of callers, every kind of end, on virtual time."""
    RouterMachine.steps = 0
    run_state_machine_as_test(
        RouterMachine,
        settings=settings(max_examples=STEPS // 84, stateful_step_count=100, print_blob=True),
    )
    assert RouterMachine.steps >= STEPS
