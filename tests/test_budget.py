import pytest
from hypothesis import given
from hypothesis import strategies as st

from hoptrail.budget import SYNTHESIS_SHARE, Budget, Ledger
from hoptrail.errors import BudgetExceeded


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


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
    ledger = Ledger(Budget(max_tokens=100), Clock())
    ledger.reserve(60)
    with pytest.raises(BudgetExceeded, match="100 tokens"):
        ledger.reserve(60)
    ledger.settle(60, 20, 5)
    ledger.reserve(60)
    assert (ledger.input_tokens, ledger.output_tokens) == (20, 5)


def test_the_deadline_leaves_time_to_write_the_answer() -> None:
    clock = Clock()
    ledger = Ledger(Budget(deadline=10.0), clock)
    clock.now += 10.0 * (1 - SYNTHESIS_SHARE)
    assert ledger.seconds_left() == 0.0
    with pytest.raises(BudgetExceeded, match="10 s"):
        ledger.reserve(1)
    assert ledger.seconds_left(final=True) == pytest.approx(1.0)
    ledger.reserve(1, final=True)


def test_without_a_deadline_no_time_runs_out() -> None:
    assert Ledger(Budget(deadline=None), Clock()).seconds_left() is None


def test_what_an_earlier_process_spent_counts() -> None:
    ledger = Ledger(Budget(max_llm_calls=3), Clock())
    ledger.charge(2, 30, 10)
    with pytest.raises(BudgetExceeded):
        ledger.reserve(1)


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


@given(
    cap=st.integers(min_value=1, max_value=200),
    calls=st.lists(st.tuples(st.integers(0, 80), st.booleans()), max_size=40),
)
def test_reserved_tokens_never_go_over_the_cap(cap: int, calls: list[tuple[int, bool]]) -> None:
    ledger = Ledger(Budget(max_llm_calls=None, max_tokens=cap, deadline=None), Clock())
    open_, spent = 0, 0
    for tokens, settle_at_once in calls:
        try:
            ledger.reserve(tokens)
        except BudgetExceeded:
            continue
        if settle_at_once:
            ledger.settle(tokens, tokens, 0)
            spent += tokens
        else:
            open_ += tokens
        assert open_ + spent <= cap
