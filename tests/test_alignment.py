"""Which step of one run is which of another's."""

from hypothesis import given
from hypothesis import strategies as st

from hoptrail.alignment import aligned_steps
from hoptrail.change import Change
from hoptrail.trace import StepTrace, Trace


def run(*questions: str, run_id: str = "a", needs: dict[int, list[int]] | None = None) -> Trace:
    steps = [
        StepTrace(id=number, question=question, depends_on=(needs or {}).get(number, []))
        for number, question in enumerate(questions, start=1)
    ]
    return Trace(run_id=run_id, question="?", steps=steps)


def pairs(before: Trace, after: Trace) -> list[tuple[int | None, int | None]]:
    """Give the ids side by side."""
    return [
        (None if a is None else before.steps[a].id, None if b is None else after.steps[b].id)
        for a, b in aligned_steps(before, after)
    ]


words = st.sampled_from(["who", "wrote", "where", "born", "river", "#1", "#2", "#3"])
plans = st.lists(st.lists(words, min_size=2, max_size=4).map(" ".join), max_size=6)
needs = st.dictionaries(st.integers(1, 6), st.lists(st.integers(1, 6), max_size=2))


@given(plans, needs, plans, needs)
def test_the_other_way_round_the_same_are_paired(
    ours: list[str],
    our_needs: dict[int, list[int]],
    theirs: list[str],
    their_needs: dict[int, list[int]],
) -> None:
    before, after = run(*ours, needs=our_needs), run(*theirs, run_id="b", needs=their_needs)
    there, back = aligned_steps(before, after), aligned_steps(after, before)
    assert {(b, a) for a, b in there} == set(back)
    assert sorted(a for a, _ in there if a is not None) == list(range(len(ours)))
    assert [b for _, b in there if b is not None] == list(range(len(theirs)))


def test_case_spaces_and_marks_do_not_matter() -> None:
    assert pairs(run("Who  wrote It?"), run("who wrote it")) == [(1, 1)]


def test_a_reference_is_to_a_question_whatever_its_number() -> None:
    before = run(
        "Who wrote Emma?", "Who wrote Ulysses?", "Where was #1 born?", "Where was #2 born?"
    )
    after = run("Who wrote Ulysses?", "Where was #1 born?", "Who wrote Emma?", "Where was #3 born?")
    assert pairs(before, after) == [(2, 1), (4, 2), (1, 3), (3, 4)]


def test_only_the_one_that_asks_about_the_same_is_paired() -> None:
    before = run(
        "Who wrote Emma?", "Who wrote Ulysses?", "Where was #1 born?", "Where was #2 born?"
    )
    after = run("Who wrote Emma?", "Who wrote Ulysses?", "Where was #2 born?")
    assert (4, 3) in pairs(before, after)
    assert (3, None) in pairs(before, after)


def test_the_most_alike_are_paired() -> None:
    before = run("In which city was the composer born?", "Which river flows through #1?")
    after = run("What river flows through #1?", "In which town was the composer born?")
    assert pairs(before, after) == [(2, 1), (1, 2)]


def test_what_asks_the_same_twice_is_paired_in_order() -> None:
    assert pairs(run("Who?", "Who?"), run("Who?", "Who?")) == [(1, 1), (2, 2)]
    assert pairs(run("Who?"), run("Who?", "Who?")) == [(1, 1), (None, 2)]


def test_what_has_no_like_stands_alone_where_it_came() -> None:
    before = run("Who wrote Emma?", "Quand est mort Napoléon?", "How tall is the tower?")
    after = run("Who wrote Emma?", "Which metal melts first?", "How tall is the tower?")
    assert pairs(before, after) == [(1, 1), (2, None), (None, 2), (3, 3)]


def test_one_step_at_a_time_asks_as_a_plan_does_when_it_is_filled_in() -> None:
    before = run("Who wrote Emma?", "Where was #1 born?")
    before.steps[1].asked = "Where was Jane Austen born?"
    assert pairs(before, run("Who wrote Emma?", "Where was Jane Austen born?")) == [(1, 1), (2, 2)]


def test_what_the_same_question_waits_for_plays_the_same_part() -> None:
    before = run("Who composed Messiah?", "Which river flows through #1?", needs={2: [1]})
    after = run("Name the capital of Peru", "Which river flows through #1?", needs={2: [1]})
    assert pairs(before, after) == [(1, 1), (2, 2)]


def test_a_changed_step_of_a_fork_is_the_same_step() -> None:
    before, after = run("Who wrote Emma?"), run("What is the capital of Peru?", run_id="b")
    assert pairs(before, after) == [(1, None), (None, 1)]
    after.parent_run_id = "a"
    after.change = Change(step=1, question="What is the capital of Peru?")
    assert pairs(before, after) == [(1, 1)]
    after.change = Change(question="What is the capital of Peru?")
    assert pairs(before, after) == [(1, None), (None, 1)]


def test_many_steps_are_compared_where_they_stand_near() -> None:
    before = run(*(f"What did number {number} say of it?" for number in range(400)))
    after = run(*(f"What did number {number} think of it?" for number in range(400)))
    assert pairs(before, after) == [(number, number) for number in range(1, 401)]


def test_of_equally_alike_ones_those_at_the_same_place_are_paired() -> None:
    before = run("How tall is the tower?", "Where was Anna born?")
    after = run("Where was Olga born?", "Where was Elsa born?")
    assert pairs(before, after) == [(1, None), (None, 1), (2, 2)]


def test_what_could_play_two_parts_plays_none() -> None:
    ending = ("Where was #1 born?", "When did #1 die?")
    before = run("Who composed Messiah?", *ending, needs={2: [1], 3: [1]})
    after = run("Name the capital of Peru", "Which metal melts?", *ending, needs={3: [1], 4: [2]})
    assert pairs(before, after) == [(1, None), (None, 1), (None, 2), (2, 3), (3, 4)]
