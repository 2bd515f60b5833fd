"""Runs that are killed at random, once, twice and three times: ``python -m tests.torture 500``.

With ``--each`` it kills every story at each of its points instead, once.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import cast, get_args

from tests.e2e.lives import (
    Mortals,
    Outcome,
    Undisturbed,
    killed,
    killed_at_each,
    undisturbed,
)
from tests.e2e.mortal import Durability, Story

DEATHS = (1, 1, 1, 2, 2, 3)
"""How often a run is killed; chosen from by lot."""


def told_in_every_way(mortals: Mortals) -> list[Undisturbed]:
    """Give all stories, those of a question with each kind of checkpoints."""
    question: tuple[Story, ...] = ("chain", "diamond", "iterative")
    ways = [*product(question, get_args(Durability)), ("chat", ""), ("fork", "")]
    stories = [undisturbed(mortals, *cast("tuple[Story, Durability]", way)) for way in ways]
    return [*stories, undisturbed(mortals, "chain", "sync", first=True)]


def at_random(
    mortals: Mortals, stories: list[Undisturbed], kills: int, chance: random.Random
) -> Iterator[Outcome]:
    """Kill runs at random until there were so many kills."""
    total = 0
    while total < kills:
        story = chance.choice(stories)
        points = [chance.randint(1, len(story.points)) for _ in range(chance.choice(DEATHS))]
        outcome = killed(mortals, story, points)
        total += outcome.kills
        yield outcome


def main() -> int:
    """Torture runs, tell how that went; gives 1 when one was lost, wrong or corrupt."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kills", nargs="?", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=random.randrange(10**6))
    parser.add_argument("--each", action="store_true")
    wanted = parser.parse_args()
    total = Outcome()
    with tempfile.TemporaryDirectory() as folder, Mortals(Path(folder)) as mortals:
        stories = told_in_every_way(mortals)
        each = (killed_at_each(mortals, story) for story in stories)
        chosen = at_random(mortals, stories, wanted.kills, random.Random(wanted.seed))
        for outcome in each if wanted.each else chosen:
            total.add(outcome)
            _tell(total, outcome)
    print(f"\n{total}" + ("" if wanted.each else f" (seed {wanted.seed})"))  # noqa: T201 # as below
    return 1 if total.faults else 0


def _tell(total: Outcome, outcome: Outcome) -> None:
    for fault in outcome.faults:
        print(f"\n{fault}")  # noqa: T201 # whoever runs this waits for it
    print(f"\r{total}", end="", flush=True)  # noqa: T201 # so do they for this


if __name__ == "__main__":
    sys.exit(main())
