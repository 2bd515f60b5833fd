"""An expense: what one question to a model may spend, and what it has spent when it ends."""

from __future__ import annotations

from collections.abc import Sequence

from hoptrail.budget import Ledger, Reservation
from hoptrail.tokens import WEIGHT_OF_TOKEN, estimated_tokens, most_tokens, weight
from hoptrail.trace import Attempt, Call

RUNNING = "running"
"""The outcome of an attempt that has none yet."""
_OF_MESSAGE = 16
"""Tokens that a chat template puts around a message."""
_OF_TEMPLATE = 256
"""Tokens that a chat template says on its own: the date, how to call a tool."""


def most_input(texts: Sequence[str], others: Sequence[str] = ()) -> int:
    """Give the most tokens that a prompt of some messages takes; ``others`` go along with it."""
    said = sum(most_tokens(text) + _OF_MESSAGE for text in texts)
    return said + sum(map(most_tokens, others)) + _OF_TEMPLATE


def cost_of(call: Call) -> tuple[int, int, int]:
    """Give what an answered question has cost with all its attempts: calls, input, output."""
    lost = [each for each in call.attempts if each.input_tokens]
    return (
        int(not call.degraded) + len(lost),
        call.input_tokens + sum(each.input_tokens for each in lost),
        call.output_tokens + sum(each.output_tokens for each in lost),
    )


class Expense:
    """Reserves each attempt at a question before it is made, and pays it when it has ended.

    An attempt that failed is paid for too, unless no model can have worked on it. What it has
    cost is an estimate: nobody tells. ``tells_attempts`` is false of a caller's own model, which
    keeps its attempts to itself and counts as one.
    """

    def __init__(
        self, ledger: Ledger, prompt: Sequence[str], most: int, *, final: bool, tells_attempts: bool
    ) -> None:
        self._ledger, self._most, self._final = ledger, most, final
        self._prompt = prompt
        self._tells_attempts = tells_attempts
        self._reservation: Reservation | None = None
        self._under_way: Attempt | None = None
        self._written = 0

    async def reserve(self) -> None:
        """Reserve the first attempt, once calls under way have left enough for it.

        Raises:
            BudgetExceeded: it would go over a limit.
        """
        self._reservation = await self._ledger.reserved(self._most, final=self._final)

    def limit(self, attempts: Sequence[Attempt], *, free: bool) -> int | None:
        """Give how much the newest attempt may write (None: any number), once it is reserved.

        A ``free`` one asks no language model, and costs nothing.

        Raises:
            BudgetExceeded: another attempt would go over a limit.
        """
        if free:
            return None
        if self._under_way is not None:
            self._pay(self._under_way)
            self._under_way = None
            self._reservation = self._ledger.reserve(self._most, final=self._final)
        self._under_way, self._written = attempts[-1], 0
        return None if self._reservation is None else self._reservation.output_tokens

    def wrote(self, text: str) -> None:
        """Note what has been written so far, for a question that is left before its end."""
        self._written += weight(text)

    def settle(self, call: Call) -> None:
        """Pay for the attempt that the question ended with."""
        if self._reservation is None:
            return
        if call.backend and not call.degraded:
            self._ledger.settle(self._reservation, call.input_tokens, call.output_tokens)
        elif self._tells_attempts:
            self._pay(self._under_way)
        else:
            call.tokens_estimated = True
            call.input_tokens, call.output_tokens = self._left_so_far()
            self._ledger.settle(self._reservation, call.input_tokens, call.output_tokens)

    def _pay(self, attempt: Attempt | None) -> None:
        """Pay for an attempt without an answer; none at all costs nothing."""
        if self._reservation is None:
            return
        if attempt is None:
            cost = 0, 0
        elif attempt.outcome == RUNNING:
            cost = self._left_so_far()
        else:
            cost = attempt.input_tokens, attempt.output_tokens
        self._ledger.settle(self._reservation, *cost, called=cost[0] > 0)

    def _left_so_far(self) -> tuple[int, int]:
        """Give what an attempt has cost that was left under way."""
        return estimated_tokens(*self._prompt) + 1, self._written // WEIGHT_OF_TOKEN
