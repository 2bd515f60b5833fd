"""A time limit counts what others take, and not what holds up our own loop."""

import asyncio
import time

import pytest

from hoptrail.time_limit import TimeLimit

pytestmark = pytest.mark.anyio


async def test_what_takes_longer_is_broken_off() -> None:
    began = time.monotonic()
    with pytest.raises(TimeoutError):
        async with TimeLimit(0.2):
            await asyncio.sleep(30)
    assert 0.2 <= time.monotonic() - began < 10


async def test_a_loop_that_was_held_up_is_nobody_elses_fault() -> None:
    """The other side was done in time; several turns of the loop are needed to learn it."""
    async with TimeLimit(0.2):
        time.sleep(0.5)  # noqa: ASYNC251 # holding up the loop is the point
        for _ in range(5):
            await asyncio.sleep(0)


async def test_a_loop_that_is_held_up_again_and_again_gets_there() -> None:
    async with TimeLimit(0.2):
        for _ in range(5):
            time.sleep(0.1)  # noqa: ASYNC251 # holding up the loop is the point
            await asyncio.sleep(0)


async def test_held_up_or_not_what_never_ends_is_broken_off() -> None:
    async def hold_up() -> None:
        async with TimeLimit(0.2):
            while True:
                time.sleep(0.05)  # noqa: ASYNC251 # holding up the loop is the point
                await asyncio.sleep(0)

    with pytest.raises(TimeoutError):
        await hold_up()


async def test_a_block_that_ends_in_time_is_not_cancelled_later() -> None:
    async with TimeLimit(0.05):
        pass
    await asyncio.sleep(0.1)


async def test_a_cancellation_from_outside_is_no_time_out() -> None:
    async def wait() -> None:
        async with TimeLimit(30):
            await asyncio.sleep(30)

    async with asyncio.TaskGroup() as group:
        task = group.create_task(wait())
        await asyncio.sleep(0)
        task.cancel()
    assert task.cancelled()


async def test_a_time_out_inside_is_not_taken_for_the_limit() -> None:
    """Only the limit that ran out says so."""
    with pytest.raises(TimeoutError, match="inside"):
        async with TimeLimit(30):
            raise TimeoutError("inside")
