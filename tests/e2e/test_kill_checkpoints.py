"""With LangGraph's checkpoints in a file: a run is killed at any point, and goes on from them."""

import pytest

from tests.e2e.lives import Mortals, killed_at_each, undisturbed
from tests.e2e.mortal import Durability, Story

pytestmark = [
    pytest.mark.promise("killed-runs-resume"),
    pytest.mark.promise("finished-calls-are-kept"),
    pytest.mark.timeout(600),
]

SOME = [
    ("chain", ""),
    ("chain", "async"),
    ("chain", "exit"),
    ("diamond", "sync"),
    ("diamond", "exit"),
    ("iterative", "sync"),
    ("iterative", "async"),
    ("iterative", "exit"),
]
"""Killed at every twentieth point; `make torture` kills at each."""


@pytest.mark.parametrize(
    ("story", "durability", "every"),
    [("chain", "sync", 1), ("diamond", "async", 6), *[(*each, 20) for each in SOME]],
)
def test_killed_with_checkpoints_a_run_is_neither_lost_nor_wrong_nor_paid_twice(
    mortals: Mortals, story: Story, durability: Durability, every: int
) -> None:
    # The first run of all makes the databases, under fire too.
    told = undisturbed(mortals, story, durability, first=every == 1)
    outcome = killed_at_each(mortals, told, every)
    assert not outcome.faults, "\n".join([str(outcome), *outcome.faults])
    assert outcome.kills > len(told.points) * 0.9 / every
