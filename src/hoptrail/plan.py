"""The plan: steps that refer to earlier answers as ``#1``."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Step(BaseModel):
    """One sub-question. ``depends_on`` are the ids of the steps whose answers it needs."""

    model_config = ConfigDict(frozen=True)

    id: int
    question: str
    depends_on: tuple[int, ...] = ()


class Plan(BaseModel):
    """Steps in an order in which each comes after those it depends on.

    ``repairs`` says, in sentences, what was wrong with the text the plan was read from.
    """

    model_config = ConfigDict(frozen=True)

    steps: tuple[Step, ...]
    repairs: tuple[str, ...] = ()
