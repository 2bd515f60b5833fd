import asyncio

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from hoptrail.budget import (
    ENDING_SECONDS,
    ENDING_SHARE,
    LEAST_OUTPUT_TOKENS,
    MOST_OUTPUT_TOKENS,
    SYNTHESIS_SHARE,
    Budget,
    Ledger,
    Reservation,
)
from hoptrail.errors import BudgetExceeded
from tests.clock import Clock

pytestmark = pytest.mark.promise("budgets-hold")


def test_a_call_is_kept_back_for_the_synthesis() -> None:
    ledger = Ledger(Budget(max_llm_calls=3), Clock())
    ledger.reserve(10)
    ledger.reserve(10)
    with pytest.raises(BudgetExceeded) as refused:
        ledger.reserve(10)
    assert refused.value.limit == "llm_calls"
    assert ledger.stopped_by == "llm_calls"
    ledger.reserve(10, final=True)
    assert ledger.llm_calls == 3


def test_tokens_under_way_count_until_they_are_settled() -> None:
    ledger = Ledger(Budget(max_tokens=10_000), Clock())
    first = ledger.reserve(5_000)
    assert first.output_tokens == MOST_OUTPUT_TOKENS
    with pytest.raises(BudgetExceeded, match=r"10000 tokens 904 are left.* may take 1256"):
        ledger.reserve(1_000)
    ledger.settle(first, 20, 5)
    ledger.reserve(1_000)
    assert (ledger.input_tokens, ledger.output_tokens) == (20, 5)


def test_the_last_call_may_write_what_is_left_if_that_is_worth_it() -> None:
    ledger = Ledger(Budget(max_tokens=1_000), Clock())
    last = ledger.reserve(1_000 - LEAST_OUTPUT_TOKENS)
    assert last.output_tokens == LEAST_OUTPUT_TOKENS
    ledger.settle(last, 0, 0, called=False)
    with pytest.raises(BudgetExceeded):
        ledger.reserve(1_001 - LEAST_OUTPUT_TOKENS)


def test_without_a_limit_on_tokens_none_is_set_on_what_is_written() -> None:
    assert Ledger(Budget(), Clock()).reserve(1_000_000).output_tokens is None


def test_a_reservation_is_settled_once() -> None:
    ledger = Ledger(Budget(max_tokens=10_000), Clock())
    first = ledger.reserve(100)
    ledger.settle(first, 10, 1)
    ledger.settle(first, 10, 1)
    assert (ledger.llm_calls, ledger.input_tokens, ledger.reserved_tokens) == (1, 10, 0)


def test_the_deadline_leaves_time_to_write_the_answer() -> None:
    clock = Clock()
    ledger = Ledger(Budget(deadline=10.0), clock)
    clock.now += 10.0 * (1 - SYNTHESIS_SHARE)
    assert ledger.seconds_left() == 0.0
    with pytest.raises(BudgetExceeded, match="10 s"):
        ledger.reserve(1)
    assert ledger.seconds_left(final=True) == pytest.approx(1.0 - ENDING_SECONDS)
    ledger.reserve(1, final=True)


def test_of_a_short_deadline_little_is_kept_for_the_end_itself() -> None:
    ledger = Ledger(Budget(deadline=1.0), Clock())
    assert ledger.seconds_left(final=True) == pytest.approx(1.0 - ENDING_SHARE)


def test_the_deadline_counts_from_when_the_run_was_asked_for() -> None:
    clock = Clock()
    assert Ledger(Budget(deadline=10.0), clock, clock.now - 4).seconds_left() == pytest.approx(5.0)


def test_without_a_deadline_no_time_runs_out() -> None:
    assert Ledger(Budget(deadline=None), Clock()).seconds_left() is None


def test_what_an_earlier_process_spent_counts() -> None:
    ledger = Ledger(Budget(max_llm_calls=3), Clock())
    ledger.charge(2, 30, 10)
    with pytest.raises(BudgetExceeded):
        ledger.reserve(1)


@pytest.mark.anyio
async def test_a_call_waits_for_tokens_that_come_back() -> None:
    """Rather than failing, or answering in few words, while another holds what it will not use."""
    ledger = Ledger(Budget(max_tokens=10_000), Clock())
    first = ledger.reserve(5_000)
    waiting = asyncio.ensure_future(ledger.reserved(3_000))
    await asyncio.sleep(0)
    assert not waiting.done()
    ledger.settle(first, 800, 100)
    assert (await waiting).output_tokens == MOST_OUTPUT_TOKENS


@pytest.mark.anyio
async def test_a_call_that_can_never_be_paid_does_not_wait() -> None:
    ledger = Ledger(Budget(max_tokens=10_000), Clock())
    ledger.reserve(5_000)
    with pytest.raises(BudgetExceeded):
        await ledger.reserved(9_900)


@pytest.mark.anyio
async def test_who_is_cancelled_while_waiting_has_reserved_nothing() -> None:
    ledger = Ledger(Budget(max_tokens=10_000), Clock())
    first = ledger.reserve(5_000)
    waiting = asyncio.ensure_future(ledger.reserved(3_000))
    await asyncio.sleep(0)
    waiting.cancel()
    ledger.settle(first, 1, 1)
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert (ledger.llm_calls, ledger.reserved_tokens) == (1, 0)


@given(
    limit=st.integers(min_value=1, max_value=20),
    wishes=st.lists(st.booleans(), max_size=60),
)
def test_calls_never_go_over_the_limit(limit: int, wishes: list[bool]) -> None:
    ledger = Ledger(Budget(max_llm_calls=limit, deadline=None), Clock())
    for final in wishes:
        try:
            ledger.reserve(1, final=final)
        except BudgetExceeded:
            continue
    assert ledger.llm_calls <= limit


LIMITS = st.one_of(st.none(), st.integers(1, 12))
TOKENS = st.one_of(st.none(), st.integers(1, 30_000))


class Spending(RuleBasedStateMachine):
    """Calls of one run: they wait, begin, end, fail and are cancelled in any order."""

    @initialize(calls=LIMITS, tokens=TOKENS, deadline=st.sampled_from([None, 60.0]))
    def begin(self, calls: int | None, tokens: int | None, deadline: float | None) -> None:
        self.clock = Clock()
        self.budget = Budget(max_llm_calls=calls, max_tokens=tokens, deadline=deadline)
        self.ledger = Ledger(self.budget, self.clock)
        self.runner = asyncio.Runner()
        self.waiting: list[asyncio.Task[Reservation]] = []
        self.open: list[Reservation] = []
        self.ended: list[Reservation] = []

    @rule(tokens=st.integers(0, 12_000), final=st.booleans())
    def ask(self, tokens: int, final: bool) -> None:
        loop = self.runner.get_loop()
        self.waiting.append(loop.create_task(self.ledger.reserved(tokens, final=final)))

    @rule(tokens=st.integers(0, 12_000), final=st.booleans())
    def ask_again_after_a_failure(self, tokens: int, final: bool) -> None:
        try:
            self.open.append(self.ledger.reserve(tokens, final=final))
        except BudgetExceeded:
            return

    @rule()
    def let_others_run(self) -> None:
        async def turn() -> None:
            for _ in range(5):
                await asyncio.sleep(0)

        self.runner.run(turn())
        for task in [each for each in self.waiting if each.done()]:
            self.waiting.remove(task)
            if not (task.cancelled() or isinstance(task.exception(), BudgetExceeded)):
                self.open.append(task.result())

    @precondition(lambda self: self.open)
    @rule(data=st.data(), called=st.booleans())
    def end(self, data: st.DataObject, called: bool) -> None:
        one = self.open.pop(data.draw(st.integers(0, len(self.open) - 1)))
        most = 12_000 if one.output_tokens is None else one.output_tokens
        written = data.draw(st.integers(0, most)) if called else 0
        read = data.draw(st.integers(0, one.input_tokens)) if called else 0
        self.ledger.settle(one, read, written, called=called)
        self.ended.append(one)

    @precondition(lambda self: self.ended)
    @rule(data=st.data())
    def be_told_twice(self, data: st.DataObject) -> None:
        self.ledger.settle(data.draw(st.sampled_from(self.ended)), 9_999, 9_999, called=False)

    @precondition(lambda self: self.waiting)
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        data.draw(st.sampled_from(self.waiting)).cancel()

    @rule(seconds=st.floats(0, 30))
    def time_passes(self, seconds: float) -> None:
        self.clock.now += seconds

    @invariant()
    def no_limit_is_exceeded(self) -> None:
        ledger, budget = self.ledger, self.budget
        assert ledger.llm_calls <= (budget.max_llm_calls or ledger.llm_calls)
        taken = ledger.input_tokens + ledger.output_tokens + ledger.reserved_tokens
        assert taken <= (budget.max_tokens or taken)

    @invariant()
    def nothing_is_below_zero(self) -> None:
        ledger = self.ledger
        counts = (ledger.llm_calls, ledger.input_tokens, ledger.output_tokens)
        assert min(*counts, ledger.reserved_tokens, ledger.seconds_left() or 0) >= 0
        assert all((each.output_tokens or 0) >= 0 for each in self.open)

    def teardown(self) -> None:
        """Whatever happened: when all calls have ended, nobody waits and nothing is held."""
        if not hasattr(self, "ledger"):
            return
        for _ in range(100):
            self.let_others_run()
            if not (self.open or self.waiting):
                break
            for each in self.open:
                self.ledger.settle(each, 0, 0)
            self.open.clear()
        self.runner.close()
        assert not self.waiting
        assert self.ledger.reserved_tokens == 0


TestSpending = Spending.TestCase
TestSpending.settings = settings(max_examples=100, stateful_step_count=30, deadline=None)
