"""Two runs side by side: what differs first, step by step, in evidence, answers, time, tokens."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Difference(BaseModel):
    """One thing that is told as ``before`` in the first run and as ``after`` in the second."""

    model_config = ConfigDict(frozen=True)

    name: str
    before: str
    after: str


class EvidenceDifference(BaseModel):
    """A passage that only one of two steps was given, or that only one of them cited.

    A ``rank`` is None where the passage was not given.
    """

    model_config = ConfigDict(frozen=True)

    passage_id: str
    title: str
    source: str
    before_rank: int | None
    after_rank: int | None
    before_cited: bool
    after_cited: bool


class StepComparison(BaseModel):
    """A step of the one run beside that of the other; one of the ids is None if it has no match.

    ``question`` is as it was planned (in the second run, if that has the step). ``kept`` says
    that the second run took the step over from the first, unchanged.
    """

    model_config = ConfigDict(frozen=True)

    before: int | None
    after: int | None
    question: str
    kept: bool = False
    differences: tuple[Difference, ...] = ()
    evidence: tuple[EvidenceDifference, ...] = ()

    @property
    def same(self) -> bool:
        """Whether both runs have it, and nothing differs."""
        both = self.before is not None and self.after is not None
        return both and not (self.differences or self.evidence)


class Measure(BaseModel):
    """A number of both runs: milliseconds, calls or tokens, as its ``name`` says."""

    model_config = ConfigDict(frozen=True)

    name: str
    before: float
    after: float


class Comparison(BaseModel):
    """The run ``before`` beside the run ``after``.

    ``related`` is ``child`` when the second was forked from the first, ``parent`` the other way
    round, ``sibling`` when both have one parent, else empty. ``first`` says in a sentence what
    differs first, in the order in which a run goes; it is empty when nothing does.
    """

    model_config = ConfigDict(frozen=True, title="Hoptrail comparison")

    before: str
    after: str
    related: str = ""
    first: str = ""
    differences: tuple[Difference, ...] = ()
    steps: tuple[StepComparison, ...] = ()
    citations: tuple[EvidenceDifference, ...] = ()
    measures: tuple[Measure, ...] = ()
