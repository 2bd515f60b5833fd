"""The breaker and the retry budget, on a clock of their own."""

import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hoptrail.breaker import Breaker, RetryBudget, Ticket
from hoptrail.errors import BackendBusy
from hoptrail.standing import Standing
from hoptrail.testing import FakeClock, ScriptedBackend


def admitted(breaker: Breaker) -> Ticket:
    ticket = breaker.admit()
    assert ticket is not None
    return ticket


def fail(breaker: Breaker, times: int = 1) -> None:
    for _ in range(times):
        breaker.failed(admitted(breaker))


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def breaker(clock: FakeClock) -> Breaker:
    return Breaker(clock)


def test_it_opens_at_the_fifth_failure_in_a_row(breaker: Breaker) -> None:
    """Four failures pass, a success starts the count anew."""
    fail(breaker, 4)
    breaker.succeeded(admitted(breaker))
    fail(breaker, 4)
    assert not breaker.is_open
    fail(breaker)
    assert breaker.is_open
    assert breaker.wait() == 30.0
    assert breaker.admit() is None


def test_it_opens_when_half_of_ten_calls_fail(breaker: Breaker) -> None:
    """Failures with successes between them count too, within a minute."""
    for _ in range(4):
        breaker.succeeded(admitted(breaker))
        fail(breaker)
    breaker.succeeded(admitted(breaker))
    assert not breaker.is_open
    fail(breaker)
    assert breaker.is_open


def test_old_results_are_forgotten(breaker: Breaker, clock: FakeClock) -> None:
    """What is more than a minute ago does not open it."""
    for _ in range(8):
        breaker.succeeded(admitted(breaker))
        clock.advance(30)
        fail(breaker)
        clock.advance(31)
    assert not breaker.is_open


def test_pauses_double_up_to_five_minutes(breaker: Breaker, clock: FakeClock) -> None:
    """Each trial that fails doubles the pause; one that succeeds ends them."""
    fail(breaker, 5)
    pauses = []
    for _ in range(6):
        pauses.append(breaker.wait())
        clock.advance(breaker.wait())
        fail(breaker)
    assert pauses == [30, 60, 120, 240, 300, 300]
    clock.advance(300)
    breaker.succeeded(admitted(breaker))
    assert not breaker.is_open
    fail(breaker, 5)
    assert breaker.wait() == 30


def test_one_trial_at_a_time(breaker: Breaker, clock: FakeClock) -> None:
    """While a trial is out nobody else passes; a cancelled one makes room."""
    fail(breaker, 5)
    clock.advance(30)
    trial = admitted(breaker)
    assert trial.is_trial
    assert [breaker.admit() for _ in range(100)] == [None] * 100
    breaker.release(trial)
    assert admitted(breaker).is_trial


@pytest.mark.promise("one-probe")
def test_one_trial_whichever_threads_ask() -> None:
    """One thread looks at the clock while another does: only one of them is admitted."""
    others: list[Ticket | None] = []

    class Slow(FakeClock):
        looks = 0

        def __call__(self) -> float:
            self.looks -= 1
            if self.looks == 0:
                threads.append(threading.Thread(target=lambda: others.append(breaker.admit())))
                threads[0].start()
                threads[0].join(timeout=0.3)
            return super().__call__()

    threads: list[threading.Thread] = []
    slow = Slow()
    breaker = Breaker(slow)
    fail(breaker, 5)
    slow.advance(30)
    slow.looks = 2  # the second is for when the trial began
    mine = breaker.admit()
    threads[0].join()
    assert [ticket is None for ticket in (mine, others[0])].count(False) == 1


@pytest.mark.promise("cooldowns-hold")
def test_of_two_pauses_at_once_the_longer_one_holds() -> None:
    """One thread is told off just when another has found that nobody was."""
    others: list[threading.Thread] = []

    class Late(float):
        def __add__(self, seconds: float) -> float:
            return Late(float(self) + seconds)

        def __gt__(self, other: float) -> bool:
            later = float(self) > other
            if not others:
                others.append(threading.Thread(target=tell_off, args=(300.0,)))
                others[0].start()
                others[0].join(timeout=0.3)
            return later

    standing = Standing(ScriptedBackend("one"), lambda: Late(1000.0))

    def tell_off(seconds: float) -> None:
        busy = BackendBusy("later", backend="one", retry_after=seconds)
        standing.failed(Ticket(0, is_trial=False), busy)

    tell_off(10.0)
    others[0].join()
    pause = standing.pause()
    assert pause is not None
    assert pause.seconds == 300.0


def test_a_trial_that_hangs_loses_its_place(breaker: Breaker, clock: FakeClock) -> None:
    """After a minute another trial starts, and the late verdict is not heard."""
    fail(breaker, 5)
    clock.advance(30)
    hanging = admitted(breaker)
    clock.advance(61)
    second = admitted(breaker)
    breaker.failed(hanging)
    assert breaker.admit() is None
    breaker.succeeded(second)
    assert not breaker.is_open


def test_results_of_an_earlier_period_are_ignored(breaker: Breaker) -> None:
    """Calls that were out when it opened neither close it nor lengthen the pause."""
    early = [admitted(breaker) for _ in range(10)]
    fail(breaker, 5)
    for ticket in early:
        breaker.failed(ticket)
    breaker.succeeded(early[0])
    assert breaker.is_open
    assert breaker.wait() == 30.0


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["admit", "succeed", "fail", "release", "wait"]), st.integers(0, 90)
        ),
        max_size=200,
    )
)
def test_whatever_happens_there_is_one_trial_and_a_way_back(steps: list[tuple[str, int]]) -> None:
    """Never two live trials; however it stands, time alone lets a call pass again."""
    clock = FakeClock()
    breaker = Breaker(clock)
    out: list[Ticket] = []
    trials: list[tuple[Ticket, float]] = []
    for step, number in steps:
        if step == "wait":
            clock.advance(number)
        elif step == "admit":
            if ticket := breaker.admit():
                if ticket.is_trial:
                    live = [t for t, since in trials if clock() - since < 60]
                    assert not live
                    trials.append((ticket, clock()))
                out.append(ticket)
        elif out:
            ticket = out.pop(number % len(out))
            trials = [(t, since) for t, since in trials if t is not ticket]
            end = {"succeed": breaker.succeeded, "fail": breaker.failed}
            end.get(step, breaker.release)(ticket)
    clock.advance(300)
    assert breaker.admit() is not None


def test_retries_are_a_tenth_of_the_requests() -> None:
    """Ten are saved up; then each takes ten requests to earn."""
    budget = RetryBudget()
    assert [budget.spend() for _ in range(11)] == [True] * 10 + [False]
    for _ in range(9):
        budget.earn()
    assert not budget.spend()
    budget.earn()
    assert [budget.spend(), budget.spend()] == [True, False]
