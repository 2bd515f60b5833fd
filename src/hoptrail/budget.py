"""What a run may spend, and the ledger that says no before it is spent."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict, Field

from hoptrail.errors import BudgetExceeded

SYNTHESIS_SHARE = 0.1
"""Share of the deadline kept back so that the answer can still be written."""
ENDING_SHARE = 0.05
ENDING_SECONDS = 0.25
"""What of the deadline is kept back so that the end itself can be written down, at most."""
MOST_OUTPUT_TOKENS = 4096
"""What one call may write where tokens are limited."""
LEAST_OUTPUT_TOKENS = 256
"""The last of the tokens: no call begins that may not write at least so much."""


class Budget(BaseModel):
    """Limits of one run; None means no limit. ``deadline`` is in seconds from its start."""

    model_config = ConfigDict(frozen=True)

    max_steps: int = Field(default=8, ge=1)
    max_llm_calls: int | None = Field(default=24, ge=1)
    max_tokens: int | None = Field(default=None, ge=1)
    deadline: float | None = Field(default=300.0, gt=0)


@dataclass(frozen=True, eq=False)
class Reservation:
    """One call that may be made: what it may send, and what it may write (None: any number)."""

    input_tokens: int
    output_tokens: int | None

    @property
    def tokens(self) -> int:
        """What it takes from a budget of tokens."""
        return self.input_tokens + (self.output_tokens or 0)


class Ledger:
    """Counts what a run spends. Reserve before a call, settle after it.

    What is reserved and what is spent never exceed a limit together, so calls at the same time
    cannot either. The deadline counts from when the run ``began``. One call and a share of the
    deadline are kept for the synthesis, so that steps which use up the budget still leave an
    answer.
    """

    def __init__(
        self, budget: Budget, clock: Callable[[], float], began: float | None = None
    ) -> None:
        self.budget = budget
        self.llm_calls = 0
        self.input_tokens = 0
        self.output_tokens = 0
        self.stopped_by: str | None = None
        self._clock = clock
        self._started = clock() if began is None else began
        self._open: set[Reservation] = set()
        self._settled = asyncio.Event()

    @property
    def reserved_tokens(self) -> int:
        """The tokens that calls under way may take."""
        return sum(each.tokens for each in self._open)

    async def reserved(self, input_tokens: int, *, final: bool = False) -> Reservation:
        """Reserve as `reserve` does, once calls under way have left enough for a whole answer.

        Raises:
            BudgetExceeded: as `reserve`; the wait has no limit of its own.
        """
        while self._is_worth_waiting(input_tokens, final):
            await self._settled.wait()
        return self.reserve(input_tokens, final=final)

    def reserve(self, input_tokens: int, *, final: bool = False) -> Reservation:
        """Take one call from the budget, its input and as much output as is left for it.

        ``input_tokens`` is the most that it can send.

        Raises:
            BudgetExceeded: the call would go over a limit; nothing is spent.
        """
        limit, why = self._first_limit(final) or self._lacking(input_tokens) or ("", "")
        if limit:
            self.stopped_by = self.stopped_by or limit
            raise BudgetExceeded(limit, why)
        left = self._tokens_left()
        reservation = Reservation(0, None)
        if left is not None:
            reservation = Reservation(input_tokens, min(MOST_OUTPUT_TOKENS, left - input_tokens))
        self.llm_calls += 1
        self._open.add(reservation)
        return reservation

    def settle(
        self,
        reservation: Reservation,
        input_tokens: int,
        output_tokens: int,
        *,
        called: bool = True,
    ) -> None:
        """Replace a reservation by what the call really took; once, however often it is told.

        A call for which no language model was asked (``called`` is false) is taken back.
        """
        if reservation not in self._open:
            return
        self._open.remove(reservation)
        self.charge(0 if called else -1, input_tokens, output_tokens)
        self._settled.set()
        self._settled = asyncio.Event()

    def charge(self, calls: int, input_tokens: int, output_tokens: int) -> None:
        """Count what an earlier part of a resumed run has spent."""
        self.llm_calls += calls
        self.input_tokens += input_tokens
        self.output_tokens += output_tokens

    def seconds_left(self, *, final: bool = False) -> float | None:
        """Give the seconds that calls may still take, or None without a deadline; never below 0."""
        whole = self.budget.deadline
        if whole is None:
            return None
        ending = min(ENDING_SHARE * whole, ENDING_SECONDS)
        kept = ending if final else SYNTHESIS_SHARE * whole
        return max(0.0, whole - kept - (self._clock() - self._started))

    def _is_worth_waiting(self, input_tokens: int, final: bool) -> bool:
        """Say whether a call would get more tokens when one under way has ended."""
        left = self._tokens_left()
        if left is None or not self._open or left >= input_tokens + MOST_OUTPUT_TOKENS:
            return False
        could_be_left = left + self.reserved_tokens
        enough = could_be_left >= input_tokens + LEAST_OUTPUT_TOKENS
        return enough and self._first_limit(final) is None

    def _tokens_left(self) -> int | None:
        if self.budget.max_tokens is None:
            return None
        spent = self.input_tokens + self.output_tokens
        return self.budget.max_tokens - spent - self.reserved_tokens

    def _first_limit(self, final: bool) -> tuple[str, str] | None:
        budget = self.budget
        calls = budget.max_llm_calls
        kept = 0 if final or calls is None or calls < 3 else 1
        if calls is not None and self.llm_calls + 1 + kept > calls:
            return "llm_calls", f"the budget of LLM calls ({calls}) is spent"
        if self.seconds_left(final=final) == 0.0:
            return "deadline", f"the deadline of {budget.deadline:g} s has passed"
        return None

    def _lacking(self, input_tokens: int) -> tuple[str, str] | None:
        left, needed = self._tokens_left(), input_tokens + LEAST_OUTPUT_TOKENS
        if left is None or needed <= left:
            return None
        return "tokens", (
            f"of the budget of {self.budget.max_tokens} tokens {max(0, left)} are left, and the "
            f"call may take {needed}"
        )
