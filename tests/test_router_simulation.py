"""Hours of weather over the real router, on virtual time: outages, limits, loading, silence."""

from __future__ import annotations

import asyncio
import math
import random
import sys
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Literal

import pytest

from hoptrail.errors import BackendBusy, BackendUnavailable, InvalidResponse
from tests.router_rules import Asked, Called, WatchedBackend, World
from tests.virtual_time import run_virtually

pytestmark = pytest.mark.timeout(300)

Weather = Literal["fine", "gone", "failing", "breaking", "silent", "limiting", "loading"]
BAD: tuple[Weather, ...] = ("gone", "failing", "breaking", "silent", "limiting", "loading")
MINUTES = 10


@dataclass(frozen=True)
class Spell:
    """Weather from one time to another."""

    begins: float
    ends: float
    weather: Weather


class Climate(WatchedBackend):
    """A backend with log-normal latency and a weather."""

    def __init__(self, name: str, world: World, chance: random.Random, *spells: Spell) -> None:
        super().__init__(name, world)
        self.chance = chance
        self.spells = spells

    @property
    def weather(self) -> Weather:
        now = self.clock()
        return next(
            (each.weather for each in self.spells if each.begins <= now < each.ends), "fine"
        )

    async def state(self) -> str:
        await asyncio.sleep(self.chance.uniform(0.002, 0.02))
        match self.weather:
            case "gone":
                return "down"
            case "loading":
                return self.chance.choice(["loading", "up"])
            case "silent":
                await asyncio.sleep(3600)
        return "up"

    async def behave(self, call: Called) -> AsyncGenerator[str, None]:
        match self.weather:
            case "gone":
                await asyncio.sleep(0.001)
                raise BackendUnavailable("refused", backend=self.name)
            case "failing":
                await asyncio.sleep(self.chance.uniform(0.02, 0.3))
                raise BackendUnavailable("500", backend=self.name, status=500)
            case "silent":
                await asyncio.sleep(3600)
            case "limiting" | "loading":
                seconds = round(self.chance.uniform(1, 30), 1)
                raise BackendBusy("later", backend=self.name, retry_after=seconds)
        await asyncio.sleep(self.chance.lognormvariate(math.log(0.6), 0.5))
        for word in range(4):
            if self.weather != "fine":
                raise InvalidResponse("broke off", backend=self.name)
            yield f"{self.name}-{call.asked.number}-{word} "
            await asyncio.sleep(self.chance.uniform(0.02, 0.2))


def spells(chance: random.Random, until: float) -> list[Spell]:
    """Give bad weather that comes by chance, three minutes apart, and lasts half a minute."""
    found: list[Spell] = []
    now = chance.expovariate(1 / 120)
    while now < until:
        ends = now + chance.expovariate(1 / 40) + 1
        found.append(Spell(now, ends, chance.choice(BAD)))
        now = ends + chance.expovariate(1 / 120)
    return found


async def load(world: World, chance: random.Random, seconds: float, rate: float) -> None:
    """Put requests to the router as they come by chance; some callers leave early."""
    loop = asyncio.get_running_loop()
    ends = loop.time() + seconds
    async with asyncio.TaskGroup() as group:
        while loop.time() < ends:
            await asyncio.sleep(chance.expovariate(rate))
            deadline = chance.choice([None, 1.0, 5.0, 20.0, 60.0, 200.0])
            asking = group.create_task(world.ask(deadline, slow_reader=chance.random() < 0.02))
            if chance.random() < 0.05:
                loop.call_later(chance.expovariate(1.0), asking.cancel)


def simulated(seed: int, minutes: float = MINUTES) -> World:
    """Give the world after some minutes under a seeded weather."""

    async def main() -> World:
        chance = random.Random(seed)
        world = World(asyncio.get_running_loop().time)
        for name in ("one", "two"):
            Climate(name, world, chance, *spells(chance, minutes * 60))
        world.router()
        await load(world, chance, minutes * 60, rate=1.0)
        await asyncio.sleep(400)
        async with asyncio.TaskGroup() as group:
            for _ in range(30):
                await asyncio.sleep(1)
                group.create_task(world.ask(deadline=60.0))
        return world

    return run_virtually(main(), seed)


def log(world: World) -> list[tuple[object, ...]]:
    return [(asked.number, asked.began, asked.ended, asked.answer) for asked in world.asked]


@pytest.fixture(scope="session")
def simulations(pytestconfig: pytest.Config) -> int:
    """How many seeds are run."""
    return int(pytestconfig.getoption("--simulations"))


@pytest.mark.timeout(0)  # how long it takes is up to `--simulations`
@pytest.mark.promise("one-probe")
@pytest.mark.promise("cooldowns-hold")
@pytest.mark.promise("retries-are-bounded")
@pytest.mark.promise("recovery-is-noticed")
@pytest.mark.promise("cancelling-benches-nobody")
@pytest.mark.promise("waits-while-the-deadline-allows")
def test_under_any_weather_the_rules_are_kept(simulations: int) -> None:
    """`World` checks every call and every end; here is what only shows in the sum."""
    requests = calls = 0
    for seed in range(simulations):
        world = simulated(seed)
        requests += len(world.asked)
        calls += sum(len(asked.calls) for asked in world.asked)
        assert all(asked.ended is not None for asked in world.asked), seed
        assert all(asked.answer for asked in world.asked[-30:]), seed
        assert {asked.calls[-1].backend.name for asked in world.asked[-20:]} == {"one"}, seed
        assert world.model._standings[0].pause() is None, seed
    report(f"{simulations} seeds, {requests} requests, {calls / requests:.2f} calls a request")
    assert requests > 400 * simulations


def test_the_same_seed_gives_the_same_run() -> None:
    assert log(simulated(7, 2)) == log(simulated(7, 2))
    assert log(simulated(7, 2)) != log(simulated(8, 2))


def outage(weather: Weather, *, both: bool, seconds: float = 60.0, rate: float = 10.0) -> World:
    """Give the world after a minute of peace, an outage, and five more minutes."""

    async def main() -> World:
        chance = random.Random(f"{weather} {both}")
        world = World(asyncio.get_running_loop().time)
        spell = Spell(60.0, 60.0 + seconds, weather)
        Climate("one", world, chance, spell)
        Climate("two", world, chance, *([spell] if both else []))
        world.router()
        async with asyncio.TaskGroup() as group:
            while world.clock() < 420.0:
                await asyncio.sleep(chance.expovariate(rate))
                group.create_task(world.ask(deadline=120.0))
        return world

    return run_virtually(main())


def report(line: str) -> None:
    """Tell what was measured; `make simulate` shows it."""
    sys.stdout.write(f"{line}\n")


def begun(asked: Asked, spell: tuple[float, float]) -> bool:
    return spell[0] <= asked.began < spell[1]


@pytest.mark.promise("retries-are-bounded")
@pytest.mark.promise("waits-while-the-deadline-allows")
@pytest.mark.parametrize("weather", ["gone", "failing"])
def test_when_both_are_out_for_a_minute_nobody_hammers_them(weather: Weather) -> None:
    """At most one call in twenty requests reaches a dead backend; who can wait is answered."""
    world = outage(weather, both=True)
    during = [asked for asked in world.asked if begun(asked, (60.0, 120.0))]
    calls = [
        call for backend in world.backends for call in backend.calls if 60.0 <= call.began < 120.0
    ]
    probes = [when for backend in world.backends for when in backend.probes if 60 <= when < 120]
    failed = [asked for asked in during if asked.error]
    report(
        f"{weather}: {len(during)} requests, {len(calls) / len(during):.3f} calls and "
        f"{len(probes) / len(during):.3f} probes a request, {len(failed)} failed"
    )
    assert len(during) > 500
    assert len(calls) <= 0.05 * len(during)
    assert len(probes) <= 2 * (60 / 5 + 1)
    assert len(failed) <= 12
    later = [asked for asked in world.asked if asked.began >= 300.0]
    assert all(asked.answer for asked in later)


@pytest.mark.promise("recovery-is-noticed")
@pytest.mark.parametrize("weather", BAD)
def test_one_that_is_out_costs_no_request_and_is_back_by_one_trial(weather: Weather) -> None:
    """Its return is noticed after the pause that was running, by a single call."""
    world = outage(weather, both=False, rate=3.0)
    first, _ = world.backends
    ended = [asked for asked in world.asked if not asked.cancelled]
    assert sum(asked.answer is not None for asked in ended) >= 0.999 * len(ended)
    back = [call for call in first.calls if call.began >= 120.0]
    proven = next(call for call in back if call.over == "answered")
    assert proven.began <= 120.0 + 60.0 + 5.0 + 1.0
    if proven.is_trial:
        assert back[0] is proven
    report(f"{weather}: back after {proven.began - 120.0:.1f} s")
