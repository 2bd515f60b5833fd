"""A run is killed on its whole way, at each point or every second or third; `make torture` at all.

The same run id then gives the same answer.
"""

import pytest

from tests.e2e.lives import Mortals, killed_at_each, undisturbed
from tests.e2e.mortal import Story

pytestmark = [
    pytest.mark.promise("killed-runs-resume"),
    pytest.mark.promise("finished-calls-are-kept"),
    pytest.mark.timeout(600),
]


@pytest.mark.parametrize(
    ("story", "every"), [("diamond", 3), ("iterative", 1), ("chat", 1), ("fork", 2)]
)
def test_killed_anywhere_a_run_is_neither_lost_nor_wrong_nor_paid_twice(
    mortals: Mortals, story: Story, every: int
) -> None:
    # The first conversation of all makes its databases under fire, too.
    told = undisturbed(mortals, story, first=story == "chat")
    outcome = killed_at_each(mortals, told, every)
    assert not outcome.faults, "\n".join([str(outcome), *outcome.faults])
    assert outcome.kills > len(told.points) * 0.9 / every
    # Some had been answered and not yet committed: else no death came between the two.
    assert outcome.repeated
