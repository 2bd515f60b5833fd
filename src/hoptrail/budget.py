"""What a run may spend, and the ledger that says no before it is spent."""

from __future__ import annotations

from collections.abc import Callable

from pydantic import BaseModel, ConfigDict, Field

from hoptrail.errors import BudgetExceeded

SYNTHESIS_SHARE = 0.1
"""Share of the deadline kept back so that the answer can still be written."""


class Budget(BaseModel):
    """Limits of one run; None means no limit. ``deadline`` is in seconds from its start."""

    model_config = ConfigDict(frozen=True)

    max_steps: int = Field(default=8, ge=1)
    max_llm_calls: int | None = Field(default=24, ge=1)
    max_tokens: int | None = Field(default=None, ge=1)
    deadline: float | None = Field(default=300.0, gt=0)


class Ledger:
    """Counts what a run spends. Reserve before a call, settle after it.

    One call and a share of the deadline are kept for the synthesis, so that steps which use up
    the budget still leave an answer.
    """

    def __init__(self, budget: Budget, clock: Callable[[], float]) -> None:
        self.budget = budget
        self.llm_calls = 0
        self.input_tokens = 0
        self.output_tokens = 0
        self.stopped_by: str | None = None
        self._clock = clock
        self._started = clock()
        self._reserved_tokens = 0

    def reserve(self, tokens: int, *, final: bool = False) -> None:
        """Take one call and about ``tokens`` tokens from the budget.

        Raises:
            BudgetExceeded: the call would go over a limit; nothing is spent.
        """
        limit, why = self._first_limit(tokens, final)
        if limit:
            self.stopped_by = self.stopped_by or limit
            raise BudgetExceeded(limit, why)
        self.llm_calls += 1
        self._reserved_tokens += tokens

    def give_back(self) -> None:
        """Take back a call that no language model answered."""
        self.llm_calls -= 1

    def settle(self, reserved: int, input_tokens: int, output_tokens: int) -> None:
        """Replace a reservation by what the call really took."""
        self._reserved_tokens -= reserved
        self.input_tokens += input_tokens
        self.output_tokens += output_tokens

    def charge(self, calls: int, input_tokens: int, output_tokens: int) -> None:
        """Count what an earlier part of a resumed run has spent."""
        self.llm_calls += calls
        self.input_tokens += input_tokens
        self.output_tokens += output_tokens

    def seconds_left(self, *, final: bool = False) -> float | None:
        """Give the seconds until the deadline, or None without one; never below zero."""
        if self.budget.deadline is None:
            return None
        kept = 0.0 if final else SYNTHESIS_SHARE * self.budget.deadline
        return max(0.0, self.budget.deadline - kept - (self._clock() - self._started))

    def _first_limit(self, tokens: int, final: bool) -> tuple[str, str]:
        budget = self.budget
        calls = budget.max_llm_calls
        kept = 0 if final or calls is None or calls < 3 else 1
        if calls is not None and self.llm_calls + 1 + kept > calls:
            return "llm_calls", f"the budget of LLM calls ({calls}) is spent"
        spent = self.input_tokens + self.output_tokens + self._reserved_tokens
        if budget.max_tokens is not None and spent + tokens > budget.max_tokens:
            return "tokens", f"the budget of {budget.max_tokens} tokens is spent"
        if self.seconds_left(final=final) == 0.0:
            return "deadline", f"the deadline of {budget.deadline:g} s has passed"
        return "", ""
