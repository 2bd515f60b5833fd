"""What the page makes of a trace before it draws anything, run by Node."""

from __future__ import annotations

import json
import math
import os
import shutil
import subprocess
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hoptrail.evidence import Citation
from hoptrail.request import EarlierAnswer
from hoptrail.trace import Attempt, Call, PlanTrace, StepTrace, ToolUse, Trace, Usage
from tests.long_trace import long_trace
from tests.sample_trace import QUESTION, sample_trace
from tests.viewer.states import STATES

NODE = shutil.which("node")
SCRIPT = Path(__file__).with_name("record.mjs")
pytestmark = pytest.mark.skipif(NODE is None, reason="there is no Node.js on this machine")


def ordered(orders: list[dict[str, Any]]) -> list[Any]:
    """Let the page's code do several things, and give what came of each."""
    done = subprocess.run(
        [NODE or "node", str(SCRIPT)],
        input=json.dumps(orders),
        env=os.environ | {"HOPTRAIL_VIEWER": str(files("hoptrail").joinpath("viewer"))},
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    outcomes: list[Any] = json.loads(done.stdout)
    return outcomes


def does(name: str, *arguments: object) -> Any:
    """Call one function of the page."""
    return ordered([{"work": "call", "name": name, "given": arguments}])[0]


def told(trace: Trace | Call) -> Any:
    return json.loads(trace.model_dump_json())


def facts(trace: Trace, elapsed: float | None = None) -> Any:
    return ordered([{"work": "facts", "trace": told(trace), "elapsed": elapsed}])[0]


def bars(trace: Trace, key: str, elapsed: float | None = None) -> list[tuple[str, float, float]]:
    row = next(each for each in facts(trace, elapsed)["rows"] if each["key"] == key)
    return [(bar["kind"], bar["from"], bar["to"]) for bar in row["bars"]]


def step(number: int, start: float, end: float, *needs: int, **more: Any) -> StepTrace:
    return StepTrace.model_validate(
        {
            "id": number,
            "question": f"question {number}?",
            "depends_on": needs,
            "status": "answered",
            "planned_ms": 100.0,
            "ready_ms": start,
            "started_ms": start,
            "finished_ms": end,
            **more,
        }
    )


def run_of(*steps: StepTrace, **more: Any) -> Trace:
    plan = PlanTrace(calls=[Call(purpose="plan", started_ms=0, ms=200)])
    fields = {"run_id": "r1", "question": QUESTION, "status": "answered", "plan": plan}
    return Trace.model_validate({**fields, "steps": list(steps), **more})


def chain(trace: Trace) -> tuple[list[tuple[str, float]], float]:
    found = facts(trace)["chain"]
    return [(link["label"], link["ms"]) for link in found["links"]], found["ms"]


# ------------------------------------------------------------------ the longest chain


def test_the_longest_chain_goes_from_the_plan_to_the_answer() -> None:
    links, ms = chain(sample_trace())
    assert links == [("plan", 598), ("1", 850), ("2", 550), ("answer", 600)]
    assert ms == 2598


def test_of_two_branches_the_longer_one_counts() -> None:
    trace = run_of(step(1, 100, 400), step(2, 100, 900), step(3, 900, 1000, 1, 2))
    assert chain(trace) == ([("plan", 100), ("2", 800), ("3", 100)], 1000)


def test_a_step_that_was_planned_late_waited_for_the_plan() -> None:
    trace = run_of(step(1, 100, 120), step(2, 180, 300, 1, planned_ms=180.0))
    assert chain(trace) == ([("plan", 180), ("2", 120)], 300)


def test_what_is_asked_differently_follows_the_steps_that_found_nothing() -> None:
    again = Call(purpose="revision", started_ms=500, ms=100)
    trace = run_of(step(1, 100, 500), step(2, 600, 700, round=1, planned_ms=600.0))
    trace.plan.calls.append(again)
    expected = [("plan", 100), ("1", 400), ("plan again", 100), ("2", 100)]
    assert chain(trace) == (expected, 700)


def test_what_was_kept_took_no_time() -> None:
    kept = Call(purpose="step", started_ms=5000, ms=5000, from_run="r0")
    trace = run_of(step(1, 100, 4000, calls=[kept], from_run="r0"), step(2, 200, 300, 1))
    links, ms = chain(trace)
    assert ms == 200
    assert links[-1] == ("2", 100)


def test_the_whole_chain_is_never_longer_than_the_run() -> None:
    for make in STATES.values():
        trace = make()
        assert chain(trace)[1] <= max(trace.usage.wall_ms, facts(trace)["now"]) + 0.01


# ------------------------------------------------------------------ bars


def test_each_attempt_has_a_bar_of_its_own() -> None:
    attempts = [
        Attempt(backend="ollama", outcome="BackendUnavailable", started_ms=20, ms=100),
        Attempt(backend="ollama", outcome="BackendBusy", started_ms=260, ms=40),
        Attempt(backend="huggingface", model="m", started_ms=310, first_token_ms=450, ms=290),
    ]
    call = Call(purpose="step", queued_ms=60, started_ms=500, ms=605, attempts=attempts)
    more = {"retrieved_ms": 440.0, "calls": [call], "ready_ms": 380.0}
    trace = run_of(step(1, 400, 1105, **more))
    assert bars(trace, "step-0") == [
        ("waiting", 100, 380),
        ("queue", 380, 400),
        ("retrieval", 400, 440),
        ("queue", 440, 500),
        ("pause", 500, 520),
        ("failed", 520, 620),
        ("pause", 620, 760),
        ("failed", 760, 800),
        ("pause", 800, 810),
        ("first", 810, 950),
        ("generation", 950, 1100),
    ]
    notes = [bar["note"] for bar in facts(trace)["rows"][1]["bars"]]
    assert notes[5] == "ollama, BackendUnavailable"
    assert notes[7] == "retry on ollama, BackendBusy"
    assert notes[9] == "failover to huggingface:m"


def test_a_failure_that_took_no_time_is_seen_all_the_same() -> None:
    call = Call(purpose="step", started_ms=400, ms=0.2)
    call.attempts = [Attempt(backend="ollama", outcome="BackendUnavailable")]
    assert bars(run_of(step(1, 400, 401, calls=[call])), "step-0")[-1] == ("failed", 400, 400)


def test_a_model_without_attempts_has_its_first_token_from_the_call() -> None:
    call = Call(purpose="plan", started_ms=10, first_token_ms=60, ms=100)
    trace = run_of()
    trace.plan.calls = [call]
    assert bars(trace, "plan") == [("first", 10, 60), ("generation", 60, 110)]


def test_tools_have_bars_and_what_came_from_the_journal_has_none() -> None:
    uses = [
        ToolUse(tool="calculator", started_ms=500, ms=20),
        ToolUse(tool="calculator", started_ms=600, ms=20, from_journal=True),
    ]
    kept = Call(purpose="step", started_ms=9, ms=9, from_journal=True)
    trace = run_of(step(1, 400, 700, tools=uses), step(2, 700, 700, 1, calls=[kept]))
    assert bars(trace, "step-0")[-1] == ("tool", 500, 520)
    assert bars(trace, "step-1") == []
    assert facts(trace)["rows"][2]["kept"] == "from the journal"


def test_what_is_under_way_goes_on_until_now() -> None:
    call = Call(purpose="step", started_ms=400)
    call.attempts = [Attempt(backend="ollama", outcome="running", started_ms=5)]
    going = step(1, 300, 0, finished_ms=None, status="running", retrieved_ms=400.0, calls=[call])
    waiting = StepTrace(id=2, question="then?", depends_on=[1], planned_ms=150)
    trace = run_of(going, waiting, status="running", budget={"deadline": 2})
    assert bars(trace, "step-0", 900)[-1] == ("first", 405, 900)
    assert bars(trace, "step-1", 900) == [("waiting", 150, 900)]
    assert facts(trace, 1e9)["now"] == 2000  # a run does not outlive its deadline
    assert facts(trace, -5)["now"] == 405  # a clock may be wrong
    assert facts(trace)["now"] == 405  # a file does not go on


@given(total=st.floats(min_value=1e-3, max_value=1e9))
@settings(max_examples=10)
def test_the_axis_has_few_round_marks(total: float) -> None:
    ticks = does("timeTicks", total)
    assert ticks[0] == 0
    assert 2 <= len(ticks) <= 6
    assert ticks == sorted(set(ticks))
    assert ticks[-1] <= total * 1.000001


# ------------------------------------------------------------------ claims and what they rest on

ANSWER = (
    "Vltava\nKafka [1] was born in Prague. [2] Mr. J. K. Rowling was not. It flows there [1, 2]."
)


def test_a_sentence_with_marks_is_a_claim() -> None:
    lines = does("claimsOf", ANSWER, 2)
    sentences = [sentence for line in lines for sentence in line]
    assert [each["claim"] for each in sentences] == [None, 0, None, 1]
    assert [each["cites"] for each in sentences] == [[], [1, 2], [], [1, 2]]
    assert sentences[2]["pieces"] == [{"text": "Mr. J. K. Rowling was not. "}]
    assert sentences[3]["pieces"][-1] == {"mark": 2, "end": "."}


def test_a_number_of_no_citation_stays_text() -> None:
    (line,) = does("claimsOf", "Take a[0] and a[3] of it [1].", 2)
    assert line[0]["pieces"] == [{"text": "Take a[0] and a[3] of it "}, {"mark": 1, "end": "."}]


@given(st.lists(st.text("ab [1]2.!,\n Ž。", max_size=60), min_size=20, max_size=40))
@settings(max_examples=5)
def test_nothing_of_an_answer_is_lost(answers: list[str]) -> None:
    orders = [{"work": "call", "name": "claimsOf", "given": [each, 2]} for each in answers]
    for answer, lines in zip(answers, ordered(orders), strict=True):
        shown = "".join(
            piece.get("text") or f"[{piece['mark']}]{piece.get('end') or ''}"
            for line in lines
            for sentence in line
            for piece in sentence["pieces"]
        )
        assert _letters(shown) == _letters(answer)


def _letters(text: str) -> str:
    """A mark of two numbers is shown as two marks, and empty lines are not shown."""
    return "".join(each for each in text if each not in "[], \n")


def test_the_short_answer_is_told_apart_only_where_it_differs() -> None:
    def parts(answer: str, short: str) -> dict[str, str]:
        found: dict[str, str] = does("shortAndLong", {"answer": answer, "shortAnswer": short})
        return found

    assert parts("Vltava [1]\nIt is so.", "Vltava") == {"short": "Vltava [1]", "long": "It is so."}
    assert parts("Vltava [1].", "Vltava") == {"short": "", "long": "Vltava [1]."}
    assert parts("It is so.", "yes") == {"short": "yes", "long": "It is so."}


def test_what_hangs_together_is_lit_together() -> None:
    trace = told(sample_trace())
    foci: list[dict[str, Any] | None] = [
        {"claim": 0},
        {"citation": 2},
        {"passage": "n1"},
        {"step": "step-0"},
        {"passage": "k1"},
        None,
    ]
    claim, citation, passage, of_step, uncited, nothing = ordered(
        [{"work": "lit", "trace": trace, "focus": focus} for focus in foci]
    )
    assert claim["citations"] == [1, 2]
    assert claim["passages"] == ["n1", "p1"]
    assert claim["steps"] == ["step-0", "step-1"]
    prague = {"citations": [2], "claims": [0], "passages": ["p1"], "steps": ["step-1"]}
    assert citation == prague
    trial = {"citations": [1], "claims": [0], "passages": ["n1"], "steps": ["step-0"]}
    assert passage == of_step == trial
    assert uncited == nothing == {"citations": [], "claims": [], "passages": [], "steps": []}


def test_a_quote_is_found_whatever_its_white_space() -> None:
    passage = "# Prague\nThe Vltava (Moldau)\n  flows  through Prague. It is long."
    pieces = does(
        "quotedPieces", passage, ["The Vltava (Moldau) flows through Prague.", "(not] in it"]
    )
    quoted = [piece["text"] for piece in pieces if piece["quoted"]]
    assert quoted == ["The Vltava (Moldau)\n  flows  through Prague."]
    assert "".join(piece["text"] for piece in pieces) == passage


# ------------------------------------------------------------------ the plan


def edges(trace: Trace) -> list[tuple[str, str, str]]:
    return [(edge["from"], edge["to"], edge["kind"]) for edge in facts(trace)["shape"]["edges"]]


def test_the_plan_has_an_edge_for_each_need() -> None:
    trace = run_of(step(1, 1, 2), step(2, 1, 2), step(3, 2, 3, 1, 2, 1, 7))
    assert edges(trace) == [
        ("plan", "step-0", "planned"),
        ("plan", "step-1", "planned"),
        ("step-0", "step-2", "needs"),
        ("step-1", "step-2", "needs"),
        ("step-2", "answer", "needs"),
    ]


def test_a_round_stands_behind_what_found_nothing() -> None:
    missing = step(1, 1, 2, status="abstained")
    trace = run_of(missing, step(2, 1, 2), step(3, 5, 6, round=1))
    assert ("step-0", "again-1", "planned") in edges(trace)
    assert ("again-1", "step-2", "planned") in edges(trace)
    assert ("step-0", "answer", "needs") not in edges(trace)


def test_one_step_at_a_time_is_a_chain() -> None:
    trace = run_of(step(1, 1, 2), step(2, 3, 4), graph="iterative")
    assert ("step-0", "step-1", "after") in edges(trace)


def test_similar_context_is_told_apart_from_needs() -> None:
    known = EarlierAnswer(id=1, question="q", answer="a", reason="similar", similarity=0.7)
    trace = run_of(step(1, 1, 2), step(2, 1, 2, earlier=[known]))
    (similar,) = facts(trace)["shape"]["told"]
    assert (similar["from"], similar["to"], similar["similarity"]) == ("step-0", "step-1", 0.7)
    assert ("step-0", "step-1", "needs") not in edges(trace)


def test_the_first_steps_stand_first() -> None:
    found = ordered([{"work": "layouts", "trace": told(long_trace())}])[0]
    for layout in found["layouts"]:
        across = "x" if layout["down"] else "y"
        places = {node["key"]: node[across] for node in layout["nodes"]}
        assert places["step-0"] < places["step-52"]


# ------------------------------------------------------------------ forged traces


def test_what_is_looked_at_first_went_wrong_or_goes_on() -> None:
    selected = {name: facts(make())["selected"] for name, make in STATES.items()}
    assert selected["failed"] == selected["abstained"] == "step-1"
    assert selected["just begun"] == "plan"
    assert selected["answered"] == "step-0"


@pytest.mark.parametrize(
    "address",
    ["javascript:alert(1)", " https://a", "data:text/html,x", "//a", "https:", "http://[", "x"],
)
def test_only_addresses_of_the_web_are_followed(address: str) -> None:
    assert does("safeAddress", address) is None


def test_an_address_of_the_web_is_followed() -> None:
    assert does("safeAddress", "HTTPS://example.org/a b?c=<d>") == (
        "https://example.org/a%20b?c=%3Cd%3E"
    )


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**18), 10**18)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.sampled_from(["", "__proto__", "constructor", "toString", "running", "similar", "[1]"])
    | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["__proto__", "type", "props", "id"]), inner, max_size=3)
    ),
    max_leaves=6,
)


@st.composite
def bent(draw: st.DrawFn) -> Any:
    """A trace some of whose values have been replaced by anything."""
    trace = told(draw(st.sampled_from([make() for make in SMALL]))) | {"change": draw(json_values)}
    for place, key in draw(st.lists(st.sampled_from(list(places(trace))), max_size=12)):
        place[key] = draw(json_values)
    return trace


def places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Every place in a document that a value can be put at."""
    inner = value.items() if isinstance(value, dict) else enumerate(value)
    for key, each in list(inner):
        yield value, key
        if isinstance(each, dict | list):
            yield from places(each)


SMALL = [make for name, make in STATES.items() if name not in ("60 steps", "running")]


# Traces are long: told as an error, that they are would hide what is wrong with one.
@pytest.mark.filterwarnings("ignore:Generating overly large repr")
@given(st.lists(bent(), min_size=10, max_size=20))
@settings(max_examples=25)
def test_a_forged_trace_breaks_nothing(traces: list[Any]) -> None:
    for found in ordered([{"work": "layouts", "trace": each, "elapsed": 5} for each in traces]):
        bar_times = [
            time
            for row in found["rows"]
            for bar in row["bars"]
            for time in (bar["from"], bar["to"])
        ]
        assert all(time is not None and math.isfinite(time) for time in bar_times)
        assert found["chain"]["ms"] is not None
        assert found["selected"] in found["parts"]
        for layout in found["layouts"]:
            assert all(math.isfinite(node["x"] + node["y"]) for node in layout["nodes"])
            assert all("NaN" not in edge["path"] for edge in layout["edges"])


def test_a_trace_of_nothing_is_read() -> None:
    traces: tuple[Any, ...] = (None, 5, [], "x", {}, {"steps": {}, "plan": [], "usage": None})
    for trace in traces:
        found = ordered([{"work": "facts", "trace": trace}])[0]
        assert found["parts"] == ["plan", "answer"]


@pytest.mark.parametrize("status", ["running", "answered", "failed"])
@pytest.mark.parametrize("ends", [True, False])
def test_a_chat_that_looked_nothing_up_has_its_answer_to_look_at(status: str, ends: bool) -> None:
    trace = told(run_of(graph="chat", status=status, plan=PlanTrace()))
    trace["synthesis"] = [told(Call(purpose="chat"))] if ends else []
    found = ordered([{"work": "facts", "trace": trace}])[0]
    assert (found["selected"], found["parts"]) == ("answer", ["answer"])


def test_names_of_every_object_are_only_names() -> None:
    trace = told(run_of(step(1, 1, 2), usage=Usage(wall_ms=3)))
    trace["steps"][0]["id"] = "__proto__"
    trace["citations"] = [told_citation("constructor"), told_citation("__proto__")]
    trace["answer"] = "So it is [1] [2]."
    links = ordered([{"work": "facts", "trace": trace}])[0]["links"]
    assert [link["passage"] for link in links] == ["constructor", "__proto__"]
    assert [link["steps"] for link in links] == [[], []]


def told_citation(passage: str) -> Any:
    return Citation(passage_id=passage, source="s").model_dump(mode="json")
