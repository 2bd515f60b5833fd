"""The plan: references, order, tolerant reading, repairs, and reading while it streams."""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import pairwise
from random import Random

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from hoptrail.plan import (
    MAX_QUESTION,
    Plan,
    PlanReader,
    Step,
    fill,
    mentions,
    read_plan,
    ready,
    references,
)
from hoptrail.plan_text import ItemStream, tidy

untimed = settings(deadline=None)  # other tests may share the processor

MAIN = "Which river runs through the birthplace of the composer of Finlandia?"
QUESTIONS = ["Who composed Finlandia?", "Where was #1 born?", "Which river runs through #2?"]
STEPS = (
    Step(id=1, question=QUESTIONS[0]),
    Step(id=2, question=QUESTIONS[1], depends_on=(1,)),
    Step(id=3, question=QUESTIONS[2], depends_on=(2,)),
)
CANONICAL = json.dumps({"steps": QUESTIONS})


def questions(text: str, *, max_steps: int = 8) -> list[str]:
    return [step.question for step in read_plan(text, MAIN, max_steps=max_steps).steps]


def streamed(
    text: str, cuts: Sequence[int], first_id: int = 1, known: Sequence[int] = ()
) -> tuple[list[Step], Plan]:
    reader = PlanReader(MAIN, first_id=first_id, known=known)
    edges = sorted({0, len(text), *(cut % (len(text) + 1) for cut in cuts)})
    pieces = [text[start:end] for start, end in pairwise(edges)]
    return [step for piece in pieces for step in reader.feed(piece)], reader.finish()


# References


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Where was #1 born?", (1,)),
        ("#10 is not one", (10,)),
        ("#2 and #1 and #2", (1, 2)),
        ("#1's wife", (1,)),
        ("(#12), [#3].", (3, 12)),
        ("C#1 &#39; #1st #x # 1 #", ()),
        ("#1234567890", ()),
        ("#٣", ()),
    ],
)
def test_a_reference_is_found_only_as_a_whole_token(text: str, expected: tuple[int, ...]) -> None:
    assert expected == references(text)


@pytest.mark.parametrize(
    ("text", "answers", "expected"),
    [
        ("Where was #1 born?", {1: "Jean Sibelius"}, "Where was Jean Sibelius born?"),
        ("#1's wife", {1: "Jean Sibelius"}, "Jean Sibelius's wife"),
        ("#1's owner", {1: "McDonald's"}, "McDonald's owner"),
        ("#1 and #10", {1: "a", 10: "b"}, "a and b"),
        ("#1 and #2", {1: "#2", 2: "#1"}, "#2 and #1"),
        ("price of #1", {1: r"$1 \1 \g<0> {1}"}, r"price of $1 \1 \g<0> {1}"),
        ("#1 and #3", {1: "a"}, "a and #3"),
        ("C#1", {1: "a"}, "C#1"),
    ],
)
def test_answers_are_filled_in_literally(text: str, answers: dict[int, str], expected: str) -> None:
    assert expected == fill(text, answers)


@untimed
@given(st.lists(st.text(), min_size=1, max_size=5))
def test_filling_is_one_pass(answers: list[str]) -> None:
    """An answer is never searched for references, whatever it contains."""
    numbered = dict(enumerate(answers, 1))
    template = "|".join(f"<#{number}>" for number in numbered)
    assert "|".join(f"<{answer}>" for answer in answers) == fill(template, numbered)


# Every spelling models use


@pytest.mark.parametrize(
    "text",
    [
        CANONICAL,
        json.dumps(QUESTIONS),
        json.dumps({"plan": {"steps": QUESTIONS}}),
        json.dumps({"Sub-Questions": QUESTIONS}),
        json.dumps([{"id": n, "question": q} for n, q in enumerate(QUESTIONS, 1)]),
        json.dumps([{"id": f"{n}", "sub_question": q} for n, q in enumerate(QUESTIONS, 1)]),
        json.dumps([{"id": f"#{n}", "text": q} for n, q in enumerate(QUESTIONS, 1)]),
        json.dumps({"steps": [{"id": f"S{n}", "query": q} for n, q in enumerate(QUESTIONS, 1)]}),
        json.dumps([{"step": n, "question": q} for n, q in enumerate(QUESTIONS, 1)]),
        json.dumps([{"step": q} for q in QUESTIONS]),
        json.dumps({f"{n}": q for n, q in enumerate(QUESTIONS, 1)}),
        json.dumps({f"step{n}": {"question": q} for n, q in enumerate(QUESTIONS, 1)}),
        json.dumps([f"{n}. {q}" for n, q in enumerate(QUESTIONS, 1)]),
        "\n".join(json.dumps({"question": q}) for q in QUESTIONS),
        f"```json\n{CANONICAL}\n```",
        f"Sure! Here is the plan:\n\n```\n{CANONICAL}\n```\nGood luck [with it]!",
        f"The plan: {CANONICAL} I hope it helps.",
        f"<think>1. Who?\n2. {{}} hmm</think>\n{CANONICAL}",
        f"No opening tag. [1]</think>{CANONICAL}",
        CANONICAL.replace('?"]', '?",]'),
        CANONICAL.replace('?", "', '?"\n"'),
        str(QUESTIONS),
        CANONICAL[:-2],
        CANONICAL[:-1] + ', "and so on',
        "\n".join(f"{n}. {q}" for n, q in enumerate(QUESTIONS, 1)),
        "\r\n".join(f"{n}) {q}" for n, q in enumerate(QUESTIONS, 1)),
        "\n\n".join(f"Step {n}: {q}" for n, q in enumerate(QUESTIONS, 1)),
        "\n".join(f"**Step {n}:** {q}" for n, q in enumerate(QUESTIONS, 1)),
        "\n".join(f"### Step {n}\n".replace("\n", ":\n") + q for n, q in enumerate(QUESTIONS, 1)),
        "\n".join(f"#{n}: {q}" for n, q in enumerate(QUESTIONS, 1)),
        "\n".join(f"[{n}] **{q}**" for n, q in enumerate(QUESTIONS, 1)),
        "\n".join(f"{n}. {q}\n   - because" for n, q in enumerate(QUESTIONS, 1)),
        "Plan\n" + "\n".join(f"- {q}" for q in QUESTIONS),
        "\n".join(f"• {q}" for q in QUESTIONS),
        "I would ask\n" + "\n".join(QUESTIONS),
    ],
)
def test_every_form_of_a_plan_is_read(text: str) -> None:
    assert read_plan(text, MAIN).steps == STEPS


@pytest.mark.parametrize(
    "spelling",
    [
        "#1", "$1", "${1}", "#E1", "{{1.output}}", "{{1}}", "{1}", "{{ step1.answer }}", "[#1]",
        "the answer of step 1", "answer to #1", "[answer from step 1]", "the result of question 1",
        "step 1's answer", "the composer from step 1", "the person identified in step 1",
    ],
)  # fmt: skip
def test_every_spelling_of_a_reference_is_read(spelling: str) -> None:
    steps = read_plan(json.dumps(["Who composed Finlandia?", f"Where was {spelling} born?"]), MAIN)
    assert STEPS[:2] == steps.steps
    assert steps.repairs == ()


@pytest.mark.parametrize(
    "question",
    [
        "How much is $5 worth?",
        "Is $1.50 more than $1,000 or $1 million?",
        "What happens in step 7 of the method?",
        "What was the result of C#1?",
    ],
)
def test_what_only_looks_like_a_reference_stays(question: str) -> None:
    assert ["What is it about?", question] == questions(json.dumps(["What is it about?", question]))


def test_explicit_dependencies_are_kept_in_every_spelling() -> None:
    entries: list[object] = [{"id": n, "question": f"Question {n}?"} for n in range(1, 5)]
    entries.append({"id": 5, "question": "All?", "depends_on": [1, "2", "#3", None, True]})
    entries.append({"id": 6, "question": "Of #5?", "needs": "1 and step 4"})
    steps = read_plan(json.dumps(entries), MAIN).steps
    assert (steps[4].depends_on, steps[5].depends_on) == ((1, 2, 3), (1, 4, 5))


@pytest.mark.parametrize(
    "text",
    ["", "  \n", "I cannot help with that.", "[]", '{"steps": []}', "[1, 2]", "null", "{", '"x"',
     "<think>1. Who?\n2. Where?", "Shall I go on?", '{"steps": ["", null]}', "[" * 100_000],
)  # fmt: skip
def test_without_a_plan_the_question_is_the_only_step(text: str) -> None:
    plan = read_plan(text, f" {MAIN}\n", first_id=4, known=(1, 2))
    assert (Step(id=4, question=MAIN),) == plan.steps
    assert "holds no plan" in plan.repairs[-1]


def test_the_question_itself_never_reads_as_a_reference() -> None:
    plan = read_plan("", "Who sang the #1 hit of 1984?")
    assert (Step(id=1, question="Who sang the number 1 hit of 1984?"),) == plan.steps


# Repairs


Written = list[tuple[str, list[int]]]


def repaired(entries: Sequence[object], max_steps: int = 8) -> tuple[Written, str]:
    plan = read_plan(json.dumps(entries), MAIN, max_steps=max_steps)
    return [(step.question, list(step.depends_on)) for step in plan.steps], " ".join(plan.repairs)


def test_entries_without_a_usable_question_are_left_out() -> None:
    steps, repairs = repaired(["Who is A?", "", None, 7, {"id": 5}, "x" * 2000, "Where is #1?"])
    assert steps == [("Who is A?", []), ("Where is #1?", [1])]
    assert (repairs.count("has no question"), repairs.count("is too long")) == (4, 1)


def test_the_first_of_two_equal_ids_keeps_it() -> None:
    steps, repairs = repaired(
        [{"id": 1, "question": "A?"}, {"id": 1, "question": "B?"}, {"question": "C of #1?"}]
    )
    assert steps == [("A?", []), ("B?", []), ("C of #1?", [1])]
    assert "have the number 1" in repairs
    steps, _ = repaired([{"id": 2, "question": "A?"}, {"question": "B?"}, {"question": "C of #2?"}])
    assert steps[2] == ("C of #1?", [1])


def test_ids_that_are_not_positions_are_renumbered() -> None:
    steps, _ = repaired([{"id": 0, "question": "A?"}, {"id": 10, "question": "B of #0?"},
                         {"id": 20, "question": "C of #10?"}])  # fmt: skip
    assert steps == [("A?", []), ("B of #1?", [1]), ("C of #2?", [2])]


def test_repeated_questions_become_one_step_and_references_follow() -> None:
    steps, repairs = repaired(
        ["Who is A?", "who  is a?", "Where is #2?", "Where is #1?", "Why #4?", "Who are #1, #3?"]
    )
    expected: Written = [
        ("Who is A?", []),
        ("Where is #1?", [1]),
        ("Why #2?", [2]),
        ("Who are #1, #2?", [1, 2]),
    ]
    assert expected == steps
    assert repairs.count("became one step") == 2


def test_the_same_pronoun_question_twice_is_two_questions() -> None:
    steps, _ = repaired(["Who is A?", "Where was he born?", "Who is B?", "Where was he born?"])
    assert [needs for _, needs in steps] == [[], [1], [], [3]]


def test_a_reference_to_nothing_becomes_words_and_waits_for_the_step_before() -> None:
    steps, repairs = repaired(["Who is A?", "Where was #9 born?", "When was #1 with #8's wife?"])
    assert steps[1] == ("Where was the answer born?", [1])
    assert steps[2] == ("When was #1 with the answer's wife?", [1])
    assert "referred to #9" in repairs
    assert "waits for step 1" in repairs


def test_a_number_in_a_name_stays_a_number() -> None:
    steps, _ = repaired(["Who wrote the #1 hit of 1984?", "Who conducted Symphony #9?"])
    expected: Written = [
        ("Who wrote the number 1 hit of 1984?", []),
        ("Who conducted Symphony number 9?", []),
    ]
    assert expected == steps


def test_forward_references_are_put_in_order() -> None:
    steps, repairs = repaired(["Which river runs through #3?", "Who made A?", "Where was #2 born?"])
    expected: Written = [
        ("Who made A?", []),
        ("Where was #1 born?", [1]),
        ("Which river runs through #2?", [2]),
    ]
    assert expected == steps
    assert "put in order" in repairs


def test_a_step_never_needs_itself() -> None:
    steps, _ = repaired(
        ["Who is A?", "Where was #2 born?", {"question": "Why #1?", "depends_on": [3]}]
    )
    assert [needs for _, needs in steps] == [[], [1], [1]]


def test_cycles_are_broken_the_same_way_each_time() -> None:
    entries = ["Who is A?", "Son of #4?", "Son of #2?", "Son of #3?", "Age of #4?"]
    steps, repairs = repaired(entries)
    assert [needs for _, needs in steps] == [[], [1], [2], [3], [3]]
    assert steps[1][0] == "Son of the answer?"
    assert (steps, repairs) == repaired(entries)


def test_of_too_many_steps_the_first_are_kept() -> None:
    steps, repairs = repaired([f"What is {n}?" for n in range(10)] + ["Sum of #1?"], max_steps=3)
    assert [question for question, _ in steps] == ["What is 0?", "What is 1?", "What is 2?"]
    assert "has 11 steps: only 3" in repairs


@pytest.mark.parametrize(
    "question",
    ["When was he born?", "Where is it located?", "Who are their parents?", "Who was born there?",
     "What did this composer write?", "Where in Finland was she born?", "In New York, did he act?"],
)  # fmt: skip
def test_a_bare_pronoun_waits_for_the_step_before(question: str) -> None:
    steps, repairs = repaired(["Who is A?", "Who is B?", question])
    assert (question, [2]) == steps[2]
    assert "waits for step 2" in repairs


@pytest.mark.parametrize(
    "question",
    ["Did Einstein say when he was born?", "Who is her son, #1?", "How long does it take to fly?",
     "Who wrote the film that won?", "Is there a river in Oslo?", "Who shot the Hitler of Oslo?"],
)  # fmt: skip
def test_a_pronoun_with_something_to_stand_for_waits_for_nothing(question: str) -> None:
    steps, repairs = repaired(["Who is A?", "Who is B?", question])
    assert [list(references(question)), ""] == [steps[2][1], repairs]


def test_many_repairs_are_counted_not_listed() -> None:
    plan = read_plan(json.dumps(["Who?", *[None] * 500]), MAIN)
    assert len(plan.repairs) == 21
    assert plan.repairs[-1] == "... and 480 more repairs."


# Revisions


def test_a_revision_counts_on_and_may_use_known_answers() -> None:
    plan = read_plan('["Who led #1?", "Where was #4 and #2 born?"]', MAIN, first_id=4, known=(1, 2))
    assert (
        Step(id=4, question="Who led #1?", depends_on=(1,)),
        Step(id=5, question="Where was #4 and #2 born?", depends_on=(2, 4)),
    ) == plan.steps
    assert plan.repairs == ()


def test_in_a_revision_a_known_id_always_means_the_answered_step() -> None:
    """Numbering that starts over does not hide what is known; an unanswered id is dangling."""
    text = "1. Who led A?\n2. Who led #1, unlike #3 and #4?"
    plan = read_plan(text, MAIN, first_id=4, known=(1, 2))
    assert plan.steps == (
        Step(id=4, question="Who led A?"),
        Step(id=5, question="Who led #1, unlike the answer and #4?", depends_on=(1, 4)),
    )


@pytest.mark.parametrize("first", [1, 4])
def test_a_number_in_front_of_a_string_goes_when_it_is_the_position(first: int) -> None:
    text = json.dumps([f"{first}. Who is A?", f"#{first + 1}: Who is #4?", "300: who won?"])
    plan = read_plan(text, MAIN, first_id=4)
    assert [step.question for step in plan.steps] == [
        "Who is A?",
        "Who is #4?",
        "300: who won?",
    ]


@pytest.mark.parametrize(("first_id", "known", "max_steps"), [(0, [], 8), (2, [2], 8), (1, [], 0)])
def test_impossible_numbering_is_refused(first_id: int, known: list[int], max_steps: int) -> None:
    with pytest.raises(ValueError, match="ids count from 1"):
        read_plan("", MAIN, first_id=first_id, known=known, max_steps=max_steps)


# Whatever the text


def assert_sound(
    plan: Plan, *, first_id: int = 1, known: Sequence[int] = (), limit: int = 8
) -> None:
    assert 1 <= len(plan.steps) <= limit
    assert list(range(first_id, first_id + len(plan.steps))) == [step.id for step in plan.steps]
    for step in plan.steps:
        assert step.question.strip()
        assert len(step.question) <= 5 * MAX_QUESTION
        assert set(references(step.question)) <= set(step.depends_on)
        assert list(step.depends_on) == sorted(set(step.depends_on))
        assert all(need in known or first_id <= need < step.id for need in step.depends_on)
        assert Step.model_validate_json(step.model_dump_json()) == step


PIECES = st.sampled_from(
    ['{"steps": [', "[", "]", "}", '"', "\\", "\n", "1. ", "2) ", "3", "Step 2: ", "#1", "#2", "#9",
     "$1", "{{1}}", "Who is A?", "who is a?", "Where was he born?", ", ", " ", "?", "```json\n",
     "<think>", "</think>", "- ", '{"id": 1, "question": "', '"depends_on": [2]', "\ud800",
     "\x00", "answer to step 1", "x" * 900]
)  # fmt: skip
TEXTS = st.one_of(st.text(), st.lists(PIECES, max_size=30).map("".join))
QUESTION_TEXTS = st.sampled_from(
    ["Who is A?", "who is  A?", "Where was #1 born?", "Son of #2?", "Age of #3?", "", "Was it #2?",
     "When did she die?", "$1 of $2?", "#4 or #9?", "1. Who is B?", "Who is C"]
)  # fmt: skip
JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | QUESTION_TEXTS,
    lambda inner: (
        st.lists(inner, max_size=6)
        | st.dictionaries(
            st.sampled_from(["steps", "plan", "id", "question", "depends_on", "1", "step 2", "x"]),
            inner,
            max_size=5,
        )
    ),
    max_leaves=20,
)
LISTS = st.lists(QUESTION_TEXTS | st.none(), max_size=10)
PLANS = st.one_of(
    LISTS.map(lambda entries: json.dumps({"steps": entries})),
    LISTS.map(lambda entries: "\n".join(f"{n}. {q}" for n, q in enumerate(entries, 1))),
)


@untimed
@given(TEXTS | PLANS)
@example('{"steps": ["Who is A?", "\\ud800"]}')
@example('{"steps": ["Who is A?", \ud800')
@example('["A?", ' + "9" * 5000)
def test_any_text_gives_a_sound_plan(text: str) -> None:
    assert_sound(read_plan(text, MAIN))
    assert_sound(read_plan(text, MAIN, first_id=4, known=(1, 3), max_steps=2),
                 first_id=4, known=(1, 3), limit=2)  # fmt: skip


@untimed
@given(JSON_VALUES)
def test_any_json_gives_a_sound_plan(value: object) -> None:
    assert_sound(read_plan(json.dumps(value), MAIN))


@untimed
@given(
    TEXTS | PLANS | JSON_VALUES.map(json.dumps),
    st.lists(st.integers(min_value=0), max_size=8),
    st.booleans(),
)
@example('1. Who is A?\n{"steps": ["Who is B?"]}', [13], False)
@example('["Who is A?", "Who is B?"]\n["Other?"]', [14], False)
@example('{"steps": ["Who is A?"], "steps": ["Who is B?"]}', [30], False)
@example("1. Who is A?</think>\n1. Who is B?\n", [13], False)
@example('["Who is A?", {"id": 1, "question": "Who is B?"}, "Age of #1?"]', [30], False)
@example('["Who is A?",' + " " * 5000 + '"Who is B?"]', [], False)
@example('["Who is A?", "Who is' + " " * 5000 + 'B?"]', [], False)
@example("1. Who is A?\n2. Who is" + " " * 5000 + "B?\n", [], False)
@example("1. Who is A?\n1. Who is B?\n2. Age of #2?\n3. Age of #3?\n", [], False)
@example('["Age of #4 and #3?", "Age of #1 and #4?"]', [30], True)
def test_early_steps_are_the_first_steps_however_the_text_is_cut(
    text: str, cuts: list[int], revision: bool
) -> None:
    first_id, known = (4, (1, 3)) if revision else (1, ())
    early, plan = streamed(text, cuts, first_id, known)
    assert early == list(plan.steps[: len(early)])
    assert plan == read_plan(text, MAIN, first_id=first_id, known=known)
    assert early == streamed(text, range(len(text)), first_id, known)[0]


@st.composite
def acyclic_plans(draw: st.DrawFn) -> list[Step]:
    steps: list[Step] = []
    for id_ in range(1, draw(st.integers(1, 8)) + 1):
        needs = sorted(draw(st.sets(st.integers(1, id_ - 1), max_size=3))) if id_ > 1 else []
        about = " and ".join(f"#{need}" for need in needs) or "the world"
        question = f"What is fact {id_}0 about {about}?"
        steps.append(Step(id=id_, question=question, depends_on=tuple(needs)))
    return steps


@untimed
@given(acyclic_plans(), st.sampled_from(["#{}", "${{{}}}", "#E{}", "{{{{{}.output}}}}", "step {}"]),
       st.sampled_from(["object", "list", "objects", "lines", "bullets"]))  # fmt: skip
def test_a_good_plan_is_read_unchanged_in_each_notation(
    steps: list[Step], spelling: str, form: str
) -> None:
    names = {step.id: spelling.format(step.id) for step in steps}
    written = [fill(step.question, names) for step in steps]
    forms = {
        "object": json.dumps({"steps": written}),
        "list": json.dumps(written),
        "objects": json.dumps([{"id": n, "question": q} for n, q in enumerate(written, 1)]),
        "lines": "\n".join(f"{n}. {q}" for n, q in enumerate(written, 1)),
        "bullets": "\n".join(f"- {q}" for q in written),
    }
    assert Plan(steps=tuple(steps)) == read_plan(forms[form], MAIN)


@untimed
@given(acyclic_plans(), st.randoms(use_true_random=False))
def test_ready_offers_each_step_once_and_never_before_its_needs(
    steps: list[Step], random: Random
) -> None:
    done: set[int] = set()
    started: list[int] = []
    while len(done) < len(steps):
        offered = ready(steps, done, started)
        assert [step.id for step in offered] == sorted(step.id for step in offered)
        assert all(set(step.depends_on) <= done for step in offered)
        started += [step.id for step in offered]
        running = [id_ for id_ in started if id_ not in done]
        done.add(random.choice(running))
    assert sorted(started) == [step.id for step in steps]
    assert ready(steps, done, started) == []


# Streaming


def test_each_step_is_given_with_the_character_that_closes_it() -> None:
    reader = PlanReader(MAIN)
    given_at = {step.id: at for at, mark in enumerate(CANONICAL) for step in reader.feed(mark)}
    closings = [CANONICAL.index(question) + len(question) for question in QUESTIONS]
    assert dict(enumerate(closings, 1)) == given_at
    assert reader.certain


@pytest.mark.parametrize(
    ("text", "early"),
    [
        (CANONICAL, 3),
        (f"<think>\n1. Hm?\n</think>\n```json\n{CANONICAL}\n```", 3),
        ("1. Who is A?\n\n2. Who is #1?\n3. Age of #2?", 2),
        ('["Who is A?", "Where was she born?", "Why #2?"]', 3),
        ('["Who is A?", "Why #3?", "Who is B?"]', 1),
        ('["Who is A?", "who is a?", "Who is B?"]', 1),
        ('["Who is A?", {"question": "Who is B?"}]', 1),
        ('["Who is A?", "", "Who is B?"]', 1),
        ("1. Who is A?\n3. Who is B?\n", 1),
        ("1. Who is A?\n1. Who is B?\n", 2),
        ("1. Analyse the question\n2. Who is A?\n", 0),
        ("Plan:\n1. Who is A?\n", 0),
        ('[{"question": "Who is A?"}]', 0),
        (json.dumps([f"Who is {n}?" for n in range(20)]), 8),
    ],
)
def test_only_certain_steps_are_given_early(text: str, early: int) -> None:
    steps, plan = streamed(text, range(len(text)))
    assert (early, list(plan.steps[:early])) == (len(steps), steps)


def test_a_reader_knows_when_the_end_must_settle_the_rest() -> None:
    reader = PlanReader(MAIN)
    reader.feed('["Who is A?", ')
    assert reader.certain
    reader.feed('"Age of #3?"')
    assert not reader.certain


def test_a_revision_is_read_early_too() -> None:
    reader = PlanReader(MAIN, first_id=4, known=(1, 2))
    text = '{"steps": ["Who led #2?", "Where was #4 born?"]}'
    assert list(reader.finish().steps) != reader.feed(text) == list(reader.finish().steps)


@pytest.mark.parametrize(
    "text",
    [
        json.dumps([f"What is {n}?" for n in range(10_000)]),
        json.dumps([f"What is {n} of #{n + 2}?" for n in range(10_000)]),
        "\n".join(f"{n}. What is {n}?" for n in range(10_000)),
        "[" * 10**6,
        '{"a":' * 200_000,
        '"' * 10**6,
        "\n[a" * 300_000,
        "<think>" * 150_000,
        '["' + "#1 " * 300_000,
        "1. " + "the answer of " * 70_000,
        "1" + "*" * 10**6,
        " " * 10**6,
        "\n" * 10**6,
    ],
    ids=lambda text: text[:12],
)
def test_huge_texts_are_read_in_bounded_time(text: str) -> None:
    """A smoke test: quadratic reading of a megabyte would run into the test's time limit."""
    reader = PlanReader(MAIN)
    steps = [step for at in range(0, len(text), 7) for step in reader.feed(text[at : at + 7])]
    plan = reader.finish()
    assert_sound(plan)
    assert steps == list(plan.steps[: len(steps)])


@pytest.mark.parametrize(
    ("question", "answer", "named"),
    [
        ("Who is the mother of Goethe?", "Goethe", True),
        ("Who is GOETHE's mother?", "Goethe.", True),
        ("Who is the mother of Goethels?", "Goethe", False),
        ("李白的妻子是谁", "李白", True),
        ("Is there no river?", "no", False),
        ("Which C (language) came first?", "C", False),
        ("What is a+b in 1749?", "1749", True),
        ("Who?", "", False),
    ],
)
def test_a_question_names_an_answer_in_whole_words(question: str, answer: str, named: bool) -> None:
    assert mentions(question, answer) is named


# Small print: each of these is a place where the reader could be wrong and nothing else would say


def test_a_possessive_is_not_doubled_in_either_typography() -> None:
    assert fill("#1's owner, #1’s owner", {1: "Macy’s"}) == "Macy’s owner, Macy’s owner"


def test_a_name_is_not_robbed_of_its_letters() -> None:
    assert mentions("Who sang for XTC?", "XTC")


def test_a_reader_counts_and_limits_as_it_was_told() -> None:
    reader = PlanReader(MAIN, first_id=4, known=(1,), max_steps=2)
    early = reader.feed('["4. Who is A?", "5. Who led #4?", "Why #1?"]')
    assert [step.question for step in early] == ["Who is A?", "Who led #4?"]
    assert (list(reader.finish().steps), reader.finish().left_out) == (early, 1)


def test_in_a_revision_even_the_first_step_comes_after_answers() -> None:
    text = json.dumps(["Where was #9 born?"])
    assert read_plan(text, MAIN, first_id=4, known=(1,)).steps[0].question == (
        "Where was the answer born?"
    )
    assert read_plan(text, MAIN).steps[0].question == "Where was number 9 born?"


@pytest.mark.parametrize(
    "question",
    ['Did "Einstein" say when he was born?', "Did Xavier say when he was born?",
     "In Finland, did Kekkonen say when he left?"],
)  # fmt: skip
def test_a_name_is_seen_behind_quotes_and_after_a_place(question: str) -> None:
    steps, repairs = repaired(["Who is A?", "Who is B?", question])
    assert (steps[2][1], repairs) == ([], "")


def test_only_a_capital_after_the_first_word_makes_a_number_of_a_reference() -> None:
    steps, _ = repaired(["Who is A?", "Symphony #9 is by whom?", "Is Apollo #9 a mission?"])
    assert [question for question, _ in steps[1:]] == [
        "Symphony the answer is by whom?",
        "Is Apollo number 9 a mission?",
    ]


def test_thinking_ends_where_it_first_ends() -> None:
    text = '<think>x</think>["Who is A?", "Who is </think> B?"]'
    early, plan = streamed(text, range(len(text)))
    assert [step.question for step in early] == ["Who is A?", "Who is </think> B?"]
    assert read_plan(text, MAIN) == plan
    assert list(plan.steps) == early


def test_many_short_lines_are_no_long_one() -> None:
    text = "".join(f"{n}. Who is number {n}?\n" for n in range(1, 400))
    assert len(ItemStream().feed(text)) == 399


def test_numbers_as_keys_are_numbers_of_steps_wherever_they_stand() -> None:
    plan = {
        "note": "x",
        "5": "Who is A?",
        "9": {"question": "Where was #5 born?"},
        "12": "Age of #9?",
    }
    assert read_plan(json.dumps(plan), MAIN).steps == (
        Step(id=1, question="Who is A?"),
        Step(id=2, question="Where was #1 born?", depends_on=(1,)),
        Step(id=3, question="Age of #2?", depends_on=(2,)),
    )


@pytest.mark.parametrize(("label", "needs"), [(100, (1,)), (999_999, (1,)), (1_000_000, (2,))])
def test_a_step_is_called_by_a_number_of_up_to_six_digits(
    label: int, needs: tuple[int, ...]
) -> None:
    entries = [{"id": label, "question": "Who is A?"}, {"question": "Who is B?"}]
    asks = {"question": f"Is it #{label}?"}
    assert read_plan(json.dumps([*entries, asks]), MAIN).steps[2].depends_on == needs


def test_two_bare_questions_are_a_plan_and_nothing_is_wrong_with_it() -> None:
    plan = read_plan("I would ask\nWho is A?\nWhere was #1 born?", MAIN)
    assert [step.question for step in plan.steps] == ["Who is A?", "Where was #1 born?"]
    assert plan.repairs == ()


@pytest.mark.parametrize(
    ("written", "read"),
    [('"Who?",', "Who?"), ("'Who?'", "Who?"), ('""', ""), ("**MaXX**,", "MaXX"),
     ("MaXX,", "MaXX"), ("a,b ,", "a,b"),
     ('"Who?', '"Who?'), ("WhoW", "WhoW")],
)  # fmt: skip
def test_quotes_emphasis_and_a_last_comma_are_not_part_of_a_question(
    written: str, read: str
) -> None:
    assert tidy(written) == read


def test_a_reader_says_at_once_when_it_reads_a_list_of_objects() -> None:
    reader = PlanReader(MAIN)
    reader.feed('["Who is A?", {')
    assert not reader.certain
