"""Two runs side by side: what differs, what differs first, and what is the same."""

import math
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hoptrail.change import Change
from hoptrail.comparison import Comparison, StepComparison, compare
from hoptrail.evidence import Citation, Passage
from hoptrail.request import EarlierAnswer
from hoptrail.trace import Call, PlanTrace, StepTrace, ToolUse, Trace, TracedEvidence, Usage
from tests.long_trace import long_trace
from tests.sample_trace import KAFKA, NOVEL, PRAGUE, citation, evidence, sample_trace

NUMBERS = ("before", "after")

texts = st.text(st.characters(codec=None), max_size=12) | st.sampled_from(
    ["Who wrote #1?", "Who wrote #2?", "Where was #1 born?", "", "#1", "Prague", "\ud800", "a\0b"]
)
ids = st.integers(-2, 5)
floats = st.sampled_from([0.0, 12.5, -3.0, math.inf, math.nan, 1e308])
counts = st.sampled_from([0, 7, -1, 10**400])
passages = st.builds(Passage, id=texts, text=texts, title=texts, source=texts)
pieces = st.builds(
    TracedEvidence,
    passage=passages,
    rank=ids,
    score=floats,
    scores=st.just({}),
    cited=st.booleans(),
)
calls = st.builds(
    Call,
    purpose=st.just("step"),
    backend=texts,
    model=st.none() | texts,
    input_tokens=counts,
    output_tokens=counts,
    degraded=st.booleans(),
    from_journal=st.booleans(),
)
steps = st.builds(
    StepTrace,
    id=ids,
    question=texts,
    asked=texts,
    depends_on=st.lists(ids, max_size=3),
    round=st.integers(0, 1),
    status=st.sampled_from(["waiting", "answered", "abstained", "failed"]),
    from_run=st.sampled_from(["", "a", "b", "p"]),
    given=st.booleans(),
    started_ms=st.none() | floats,
    finished_ms=st.none() | floats,
    evidence=st.lists(pieces, max_size=3),
    earlier=st.lists(st.builds(EarlierAnswer, id=ids, question=texts, answer=texts), max_size=2),
    calls=st.lists(calls, max_size=2),
    tools=st.lists(st.builds(ToolUse, tool=texts, output=texts, error=texts), max_size=1),
    answer=texts,
    warnings=st.lists(texts, max_size=2),
    error=texts,
)
changes = st.builds(Change, step=st.integers(1, 3), model=st.just("ollama:x"))


def traces(run_id: str) -> st.SearchStrategy[Trace]:
    parents = st.sampled_from([None, "", "p"] + (["a"] if run_id == "b" else []))
    return st.builds(
        Trace,
        run_id=st.just(run_id),
        graph=st.sampled_from(["multi-hop", "iterative", "chat"]),
        parent_run_id=parents,
        change=st.none() | changes,
        question=texts,
        status=st.sampled_from(["running", "answered", "abstained", "failed", "interrupted"]),
        plan=st.builds(
            PlanTrace,
            source=st.sampled_from(["model", "journal", "gate"]),
            repairs=st.lists(texts, max_size=1),
            calls=st.lists(calls, max_size=1),
        ),
        steps=st.lists(steps, max_size=5),
        answer=texts,
        citations=st.lists(st.builds(Citation, passage_id=texts, source=texts), max_size=3),
        usage=st.builds(Usage, wall_ms=floats, llm_calls=counts),
        budget=st.dictionaries(texts, st.none() | floats, max_size=2),
    )


def differing(compared: Comparison) -> dict[str, tuple[str, str]]:
    return {each.name: (each.before, each.after) for each in compared.differences}


def in_step(compared: StepComparison) -> dict[str, tuple[str, str]]:
    return {each.name: (each.before, each.after) for each in compared.differences}


def measure(compared: Comparison, name: str) -> tuple[float, float]:
    return next((each.before, each.after) for each in compared.measures if each.name == name)


def mirrored(compared: Comparison) -> dict[str, object]:
    """What must be the same from the other side, but for which side it is on."""

    def sides(part: object, other_way: bool) -> tuple[object, ...]:
        names = sorted(vars(part))
        swapped = {"before": "after", "after": "before"}
        told = {}
        for name in names:
            side, _, rest = name.partition("_")
            own = "_".join(filter(None, (swapped[side], rest))) if side in swapped else name
            told[own if other_way else name] = getattr(part, name)
        # They are told as the second run has them.
        for shown in ("question", "passage_id", "title", "source"):
            told.pop(shown, None)
        for name in ("differences", "evidence"):
            if name in told:
                told[name] = sorted((sides(each, other_way) for each in told[name]), key=repr)
        return tuple(sorted(told.items()))

    def both(parts: object, other_way: bool) -> list[tuple[object, ...]]:
        return sorted((sides(each, other_way) for each in parts), key=repr)  # type: ignore[attr-defined] # tuples of models

    return {
        str(other_way): [
            both(getattr(compared, name), other_way)
            for name in ("differences", "steps", "citations", "measures")
        ]
        for other_way in (False, True)
    }


class TestProperties:
    @given(traces("a"))
    def test_a_run_does_not_differ_from_itself(self, trace: Trace) -> None:
        compared = compare(trace, trace.model_copy(deep=True))
        assert not compared.differences
        assert not compared.citations
        assert compared.first == ""
        assert all(step.same for step in compared.steps)
        assert all(each.before == each.after for each in compared.measures)

    @given(traces("a"), traces("b"))
    def test_the_other_way_round_it_is_the_mirror(self, before: Trace, after: Trace) -> None:
        there, back = compare(before, after), compare(after, before)
        assert mirrored(there)["False"] == mirrored(back)["True"]
        other = {"child": "parent", "parent": "child"}
        assert back.related == other.get(there.related, there.related)
        assert bool(there.first) == bool(back.first)

    @given(traces("a"), traces("b"))
    def test_every_step_is_there_once_in_the_order_of_the_story(
        self, before: Trace, after: Trace
    ) -> None:
        compared = compare(before, after).steps
        ours = [each.before for each in compared if each.before is not None]
        theirs = [each.after for each in compared if each.after is not None]
        assert sorted(ours) == sorted(step.id for step in before.steps)
        assert theirs == [step.id for step in after.steps]

    @given(traces("a"), traces("b"))
    def test_whatever_differs_is_told_and_can_be_sent(self, before: Trace, after: Trace) -> None:
        compared = compare(before, after)
        same = all(step.same for step in compared.steps)
        nothing = same and not compared.differences and not compared.citations
        assert (compared.first == "") == nothing
        again = Comparison.model_validate_json(compared.model_dump_json())
        assert again == compared
        assert all(
            math.isfinite(getattr(each, side)) for each in again.measures for side in NUMBERS
        )

    def test_sixty_steps_beside_sixty_others_take_no_time(self) -> None:
        before, after = long_trace(), long_trace()
        for step in after.steps:
            step.question = step.asked = " ".join(reversed(step.question.split()))
        started = time.process_time()  # others may have the processor, too
        compared = compare(before, after)
        assert time.process_time() - started < 2
        assert sum(each.before is not None for each in compared.steps) == len(before.steps)


def child_of(trace: Trace, change: Change) -> Trace:
    return trace.model_copy(
        deep=True,
        update={"run_id": "child", "parent_run_id": trace.run_id, "change": change},
    )


class TestFirst:
    """The cause is told, not what came of it."""

    def test_a_given_answer(self) -> None:
        before = sample_trace()
        after = child_of(before, Change(step=2, answer="Danube"))
        after.steps[0].from_run = before.run_id
        step = after.steps[1]
        step.given, step.answer, step.calls, step.evidence = True, "Danube", [], []
        after.answer = "Danube"
        compared = compare(before, after)
        assert compared.first == "Step 2 was given another answer: “Danube” instead of “Vltava”."
        back = compare(after, before).first
        assert back == "Step 2 was not given its answer: “Vltava” instead of “Danube”."
        assert compared.related == "child"
        assert [step.kept for step in compared.steps] == [True, False]
        assert compare(after, before).related == "parent"
        assert differing(compared)["change"] == ("", "step 2, answer: Danube")

    def test_other_passages_come_before_another_answer(self) -> None:
        before, after = sample_trace(), sample_trace()
        step = after.steps[1]
        step.evidence, step.citations, step.answer = step.evidence[:1], step.citations[:1], "Elbe"
        after.answer, after.citations = "Elbe", after.citations[1:]
        compared = compare(before, after)
        assert compared.first == "Step 2 found other passages: lost k1."
        (lost,) = compared.steps[1].evidence
        assert (lost.passage_id, lost.before_rank, lost.after_rank) == ("k1", 2, None)
        assert [each.passage_id for each in compared.citations] == ["n1"]

    def test_an_answer_comes_before_the_question_that_it_is_put_into(self) -> None:
        before, after = sample_trace(), sample_trace()
        after.steps[0].answer = "Max Brod"
        after.steps[1].asked = "Which river flows through the birthplace of Max Brod?"
        told = compare(before, after).first
        assert told == "Step 1 was answered differently: “Max Brod” instead of “Franz Kafka”."

    def test_a_question_changed_in_a_fork(self) -> None:
        before = sample_trace()
        after = child_of(before, Change(step=1, question="Whose book is called Der Prozess?"))
        after.steps[0].question = after.steps[0].asked = "Whose book is called Der Prozess?"
        compared = compare(before, after)
        assert compared.first == (
            "The plans differ: step 1 asks “Whose book is called Der Prozess?” instead of "
            "“Who wrote The Trial?”."
        )
        assert [(step.before, step.after) for step in compared.steps] == [(1, 1), (2, 2)]

    def test_a_step_that_only_one_plan_has(self) -> None:
        before, after = sample_trace(), sample_trace()
        after.steps.pop()
        told = compare(before, after).first
        assert told.startswith("The plans differ: only the first run asks “Which river flows")

    def test_what_a_run_has_not_come_to_is_no_difference_of_the_plan(self) -> None:
        before, after = sample_trace(), sample_trace()
        after.steps.pop()
        after.status, after.stop_reason, after.answer = "running", "", ""
        after.synthesis, after.citations = [], []
        told = compare(before, after).first
        assert told == "The runs stopped for different reasons: nothing instead of “answered”."

    def test_one_step_at_a_time_an_answer_comes_before_the_next_step(self) -> None:
        before, after = sample_trace(), sample_trace()
        before.graph = after.graph = "iterative"
        after.steps[0].answer = "Max Brod"
        after.steps[1].question = "Which river flows through the birthplace of Max Brod?"
        assert compare(before, after).first.startswith("Step 1 was answered differently")

    def test_another_backend(self) -> None:
        before, after = sample_trace(), sample_trace()
        after.steps[0].calls[0].backend, after.steps[0].calls[0].model = "huggingface", "gpt"
        after.steps[0].answer = "Kafka"
        told = compare(before, after).first
        assert told == "Step 1 was answered by “huggingface:gpt” instead of “ollama:qwen3:8b”."

    def test_a_failure_comes_before_who_would_have_answered(self) -> None:
        before, after = sample_trace(), sample_trace()
        step = after.steps[1]
        step.status, step.error, step.answer, step.calls = "failed", "NoBackend: down", "", []
        step.citations, step.evidence = [], before.steps[1].evidence
        told = compare(before, after).first
        assert told == "Step 2 failed in the second run: “NoBackend: down”."
        assert compare(after, before).first == "Step 2 failed in the first run: “NoBackend: down”."

    def test_a_run_that_never_had_a_plan(self) -> None:
        after = Trace(
            run_id="x", question=sample_trace().question, status="failed", error="NoBackend"
        )
        after.model_policy, after.documents = "huggingface, ollama", "notes/"
        after.budget = sample_trace().budget
        assert compare(sample_trace(), after).first == "The second run failed: “NoBackend”."

    @pytest.mark.parametrize(
        ("field", "value", "told"),
        [
            ("question", "Who?", "Another question was asked: “Who?” instead of “Which river"),
            ("graph", "chat", "Another graph answered: “chat” instead of “multi-hop”."),
            ("documents", "", "Other documents were searched: nothing instead of “notes/”."),
            ("model_policy", "ollama", "Other models were to be asked: “ollama” instead of"),
            ("budget", {"max_steps": 2.0}, "Other limits were set: “max_steps 2.0” instead of"),
            ("answer", "Elbe", "The answers differ: “Elbe” instead of “Vltava Kafka, who"),
            ("stop_reason", "budget:steps", "The runs stopped for different reasons: “budget:s"),
            ("warnings", ["slow"], "They differ in their warnings: “slow” instead of nothing."),
        ],
    )
    def test_of_the_whole_run(self, field: str, value: object, told: str) -> None:
        after = sample_trace().model_copy(update={field: value})
        after.steps[1].answer = "Elbe" if field in ("question", "graph") else after.steps[1].answer
        assert compare(sample_trace(), after).first.startswith(told)

    def test_who_planned_and_who_wrote(self) -> None:
        after = sample_trace()
        after.synthesis[0].backend = after.plan.calls[0].backend = "huggingface"
        compared = compare(sample_trace(), after)
        assert compared.first.startswith("The plan was made by “huggingface:qwen3:8b” instead of")
        assert {"planned by", "written by"} <= set(differing(compared))


class TestSteps:
    def test_a_step_that_moved_is_the_same_step(self) -> None:
        before, after = sample_trace(), sample_trace()
        after.steps.insert(0, StepTrace(id=1, question="When was The Trial written?"))
        after.steps[1].id, after.steps[2].id = 2, 3
        after.steps[2].question = "Which river flows through the birthplace of #2?"
        after.steps[2].depends_on = [2]
        after.steps[2].earlier = [EarlierAnswer(id=2, question="Who?", answer="Franz Kafka")]
        compared = compare(before, after)
        assert [(each.before, each.after) for each in compared.steps] == [(None, 1), (1, 2), (2, 3)]
        assert [each.same for each in compared.steps] == [False, True, True]

    def test_everything_that_can_differ_has_a_name(self) -> None:
        before, after = sample_trace(), sample_trace()
        step = after.steps[1]
        step.question = "Which river runs through the birthplace of #1?"
        step.asked = "Which river runs through the birthplace of Kafka?"
        step.status, step.answer, step.error = "failed", "", "it broke"
        step.retrieval_mode, step.embedding_space = "hybrid", "hash"
        step.depends_on, step.warnings, step.degraded = [], [], True
        step.earlier = [EarlierAnswer(id=0, question="?", answer="in Prague", reason="memory")]
        step.tools = [ToolUse(tool="calculator", arguments={"expression": "3*4"}, output="12")]
        step.calls[0].model = "llama"
        told = in_step(compare(before, after).steps[1])
        assert list(told) == [
            "question",
            "needs",
            "context",
            "asked",
            "retrieval",
            "embedding space",
            "answered by",
            "tools",
            "answer",
            "status",
            "degraded",
            "error",
            "warnings",
        ]
        assert told["needs"] == ("1", "")
        assert told["context"] == ("step 1: Franz Kafka", "memory: in Prague")
        assert told["answered by"] == ("ollama:qwen3:8b", "ollama:llama")
        assert told["tools"] == ("", "calculator(expression='3*4') → 12")

    def test_what_was_asked_is_not_told_twice(self) -> None:
        before, after = sample_trace(), sample_trace()
        after.steps[0].question = after.steps[0].asked = "Who wrote the novel The Trial?"
        assert list(in_step(compare(before, after).steps[0])) == ["question"]

    def test_a_step_that_was_never_asked_lacks_nothing(self) -> None:
        before, after = sample_trace(), sample_trace()
        after.steps[1] = StepTrace(
            id=2, question=before.steps[1].question, depends_on=[1], status="abstained"
        )
        told = in_step(compare(before, after).steps[1])
        assert list(told) == ["answer", "status", "warnings"]

    def test_another_rank_alone_is_no_difference(self) -> None:
        before, after = sample_trace(), sample_trace()
        after.steps[1].evidence = [evidence(KAFKA, 1, cited=True), evidence(PRAGUE, 2, cited=True)]
        assert compare(before, after).steps[1].same

    def test_passages_no_longer_cited_and_rewritten(self) -> None:
        before, after = sample_trace(), sample_trace()
        other = NOVEL.model_copy(update={"text": "The Trial is by Max Brod."})
        after.steps[0].evidence = [evidence(other, 1, cited=True), evidence(PRAGUE, 2, cited=True)]
        compared = compare(before, after)
        novel, prague = compared.steps[0].evidence
        assert (novel.rewritten, novel.before_cited, novel.after_cited) == (True, True, True)
        assert (prague.before_cited, prague.after_cited) == (False, True)
        assert compared.first == "Step 1 found other passages: another text of n1."

    def test_passages_of_a_copied_folder_are_the_same(self) -> None:
        before, after = sample_trace(), sample_trace()
        for step in after.steps:
            step.evidence = [
                item.model_copy(
                    update={
                        "passage": item.passage.model_copy(update={"id": f"new/{item.passage.id}"})
                    }
                )
                for item in step.evidence
            ]
        after.citations = [
            citation(NOVEL.model_copy(update={"id": "new/n1"}), 1),
            citation(PRAGUE.model_copy(update={"id": "new/p1"}), 2),
        ]
        compared = compare(before, after)
        assert all(step.same for step in compared.steps)
        assert not compared.citations


class TestMeasures:
    def test_what_is_kept_is_not_paid(self) -> None:
        before = sample_trace()
        after = child_of(before, Change(step=2, model="ollama:llama"))
        for call in (*after.plan.calls, *after.steps[0].calls):
            call.from_journal, call.from_run = True, before.run_id
        compared = compare(before, after)
        assert measure(compared, "LLM calls paid") == (4, 2)
        assert measure(compared, "calls kept") == (0, 2)
        assert measure(compared, "input tokens") == (400, 0)
        assert measure(compared, "wall time ms") == (2600, 2600)
        assert measure(compared, "passages given") == (4, 4)
        assert measure(compared, "passages cited") == (2, 2)

    def test_a_run_under_way_has_taken_what_its_steps_took(self) -> None:
        after = sample_trace()
        after.usage = Usage()
        assert measure(compare(sample_trace(), after), "wall time ms") == (2600, 2000)


class TestRun:
    def test_siblings(self) -> None:
        parent = sample_trace()
        one, other = (child_of(parent, Change(step=2, answer=text)) for text in ("Elbe", "Oder"))
        other.run_id = "other"
        for fork, answer in ((one, "Elbe"), (other, "Oder")):
            fork.steps[0].from_run = parent.run_id
            fork.steps[1].given, fork.steps[1].answer = True, answer
        compared = compare(one, other)
        assert compared.related == "sibling"
        assert compared.steps[0].kept
        assert compared.first == "Step 2 was given another answer: “Oder” instead of “Elbe”."

    def test_a_plan_from_the_journal_came_about_in_any_way(self) -> None:
        after = sample_trace()
        after.plan.source = "journal"
        assert compare(sample_trace(), after).first == ""
        after.plan.source = "given"
        assert differing(compare(sample_trace(), after))["plan"] == ("model", "given")
        after.parent_run_id = "another"
        assert compare(sample_trace(), after).first == "", "a fork is given its parent's plan"
