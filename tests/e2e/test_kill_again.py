"""A resume is killed, too; and two processes that take up one run at once do not mix."""

import shutil
import time
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from hoptrail.journal import Journal
from tests.e2e.ledger import noted
from tests.e2e.lives import (
    DEAD,
    Mortals,
    calls_in,
    killed,
    killed_again_at_each,
    told_of,
    undisturbed,
)
from tests.e2e.mortal import RUN, Durability, Story

pytestmark = pytest.mark.timeout(600)


@pytest.mark.promise("killed-runs-resume")
@pytest.mark.promise("finished-calls-are-kept")
class TestKilledAgain:
    def test_a_resume_killed_anywhere_is_resumed(self, mortals: Mortals) -> None:
        told = undisturbed(mortals, "chain", "sync")
        # By then the plan and a step are kept, and there is as much to do again.
        outcome = killed_again_at_each(mortals, told, len(told.points) * 2 // 3)
        assert not outcome.faults, "\n".join([str(outcome), *outcome.faults])
        assert outcome.kills > len(told.points) / 2

    def test_ten_deaths_are_survived(self, mortals: Mortals) -> None:
        told = undisturbed(mortals, "chain")
        outcome = killed(mortals, told, [12] * 10)
        assert not outcome.faults, "\n".join(outcome.faults)
        assert outcome.kills == 10


def until_one_ends(results: list[Path], home: Path) -> Path:
    """Wait for the first of the lives to end; meanwhile somebody looks at the runs."""
    deadline = time.monotonic() + 60
    while True:
        for result in results:
            if result.exists():
                return result
        assert time.monotonic() < deadline, "nobody gave way"
        with closing(Journal(home)) as journal:
            journal.runs()


@pytest.mark.promise("one-owner-per-run")
@pytest.mark.parametrize(
    ("story", "durability", "races"),
    [("chain", "", 15), ("iterative", "sync", 5), ("chat", "", 10)],
)
def test_of_two_processes_on_one_run_one_wins_and_one_is_told_that_it_is_busy(
    mortals: Mortals, story: Story, durability: Durability, races: int
) -> None:
    told = undisturbed(mortals, story, durability)
    for race in range(races):
        home = mortals.home()
        shutil.copytree(told.template, home)
        job = replace(told.job, home=str(home), result=str(home / "dead.json"))
        committed = 0
        if race % 2:  # a killed process leaves a lock that is nobody's
            assert mortals.live(replace(job, die_at=30 + race)) == DEAD
            committed = len(noted(home))
        open_gate = home / "gate"
        one, other = (
            replace(job, result=str(home / f"{name}.json"), hold=str(open_gate)) for name in "ab"
        )
        mortals.begin(one, other)
        results = [Path(one.result), Path(other.result)]
        loser = until_one_ends(results, home)
        open_gate.touch()
        assert mortals.ended() == [0, 0]
        (winner,) = (each for each in results if each != loser)
        outcome = {each: told_of(each) for each in results}
        assert outcome[loser].get("error") == "RunBusy", outcome
        assert outcome[winner] == told.told
        begun = calls_in(noted(home, committed), "begun")
        assert begun <= told.calls, "both have asked"
        with closing(Journal(home)) as journal:
            assert journal.run(RUN).status == "answered"
        shutil.rmtree(home)
