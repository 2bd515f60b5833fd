"""Trace documents: of this version, of an earlier one, of a later one, and what is none."""

import json
import re
from html import unescape
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hoptrail.answer import answer_of
from hoptrail.errors import TraceUnreadable
from hoptrail.terminal.waterfall import bars
from hoptrail.trace import TRACE_VERSION, Trace, read_trace, trace_schema
from tests.sample_trace import sample_trace

FIRST = (Path(__file__).parent / "data" / "trace-1.json").read_text(encoding="utf-8")
"""What Hoptrail wrote before there was a version 2."""
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda each: st.lists(each) | st.dictionaries(st.text(), each),
    max_leaves=8,
)


def places(value: object, place: tuple[object, ...] = ()) -> list[tuple[object, ...]]:
    """Give where in a document there is something."""
    inside = value.items() if isinstance(value, dict) else enumerate(value)  # type: ignore[arg-type] # a list
    found = [place] if place else []
    for name, each in inside:
        here = (*place, name)
        found += places(each, here) if isinstance(each, dict | list) else [here]
    return found


PLACES = places(json.loads(FIRST))


def test_what_is_written_is_read() -> None:
    trace = sample_trace()
    assert read_trace(trace.model_dump_json()) == trace
    assert read_trace(trace.model_dump_json(indent=1).encode()) == trace


def test_a_trace_of_the_first_version_is_brought_up() -> None:
    assert '"trace_version":1' in FIRST
    assert "planned_ms" not in FIRST
    trace = read_trace(FIRST)
    assert trace.trace_version == TRACE_VERSION
    first, second = trace.steps
    assert first.planned_ms is not None
    assert second.planned_ms is not None
    # The first was known and ready at once; the second waited for the first one's answer.
    assert first.planned_ms == first.ready_ms or trace.plan.calls[0].ms <= first.planned_ms
    assert second.ready_ms is not None
    assert second.planned_ms < second.ready_ms
    kinds = [[stretch.kind for stretch in bar.stretches] for bar in bars(trace)]
    assert kinds[2][0] == "waiting for answers"
    assert trace.answer
    assert read_trace(trace.model_dump_json()) == trace


def test_calls_of_the_first_version_tell_how_long_they_queued() -> None:
    document = json.loads(FIRST)
    step = document["steps"][0]
    step["calls"][0]["started_ms"] = step["retrieved_ms"] + 40.5
    assert read_trace(json.dumps(document)).steps[0].calls[0].queued_ms == 40.5


def test_a_newer_version_is_refused_whatever_its_fields_are() -> None:
    newer = {"trace_version": TRACE_VERSION + 1, "question": ["an", "other", "shape"]}
    with pytest.raises(TraceUnreadable) as refusal:
        read_trace(json.dumps(newer), "runs/r1.json")
    told = str(refusal.value)
    assert f"runs/r1.json has version {TRACE_VERSION + 1}" in told
    assert f"up to {TRACE_VERSION}" in told
    assert "pip install -U hoptrail" in told


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "null",
        "[]",
        "{}",
        '"a"',
        "1e999",
        b"\xff\xfe",
        '{"trace_version": true}',
        '{"trace_version": 0}',
        '{"trace_version": "2"}',
        '{"trace_version": 2.5}',
        '{"trace_version": 2}',
        '{"trace_version": 2, "run_id": "r", "question": 5}',
        '{"trace_version": 1, "run_id": "r", "question": "q", "steps": [1, {"ready_ms": "x"}]}',
        '{"trace_version": 2, "run_id": "r", "question": "q", "usage": {"wall_ms": 1e999}}',
        '{"trace_version": 2, "run_id": "r", "question": "q", "usage": {"wall_ms": NaN}}',
        '{"trace_version": ' + "9" * 5000 + "}",
        "[" * 100_000,
        '{"a":' * 100_000,
        '{"trace_version": 2, "question": "\\ud800"}',
    ],
    ids=range(21),
)
def test_what_is_no_trace_is_refused_by_name(text: str | bytes) -> None:
    with pytest.raises(TraceUnreadable, match=r"^runs/r1\.json ") as refusal:
        read_trace(text, "runs/r1.json")
    assert len(str(refusal.value)) < 1000


@given(st.binary(max_size=200) | st.text(max_size=200) | VALUES.map(json.dumps))
def test_nothing_but_a_refusal_rises(text: str | bytes) -> None:
    with pytest.raises(TraceUnreadable):
        read_trace(text)


@given(st.sampled_from(PLACES), VALUES | st.integers(10**300, 10**400), st.sampled_from([1, 2]))
def test_a_document_with_anything_anywhere_is_read_or_refused(
    place: tuple[Any, ...], value: object, version: int
) -> None:
    document = {**json.loads(FIRST), "trace_version": version}
    *way, last = place
    inside = document
    for name in way:
        inside = inside[name]
    inside[last] = value
    try:
        trace = read_trace(json.dumps(document))
    except TraceUnreadable:
        return
    assert read_trace(trace.model_dump_json()) == trace


def test_the_schema_follows_the_version() -> None:
    assert trace_schema()["$id"] == f"urn:hoptrail:trace:{TRACE_VERSION}"


class TestNotebook:
    HOSTILE = "</iframe><script>alert(1)</script>\"' onload=x &quot; hf_aB3dE6gH9jK2mN5pQ8sT1vW4"

    def hostile(self) -> Trace:
        trace = sample_trace()
        trace.question = trace.answer = trace.steps[0].answer = self.HOSTILE
        return trace

    def test_a_run_is_one_frame_that_reaches_nothing_outside(self) -> None:
        frame = self.hostile()._repr_html_()
        whole = re.fullmatch(r'<iframe((?: [a-z]+="[^"<>]*")+)></iframe>', frame)
        assert whole, "there is nothing but the frame and its attributes"
        attributes = dict(re.findall(r' ([a-z]+)="([^"]*)"', whole[1]))
        assert set(attributes) == {"title", "sandbox", "srcdoc", "style"}
        assert attributes["sandbox"] == "allow-scripts allow-popups"
        page = unescape(attributes["srcdoc"])
        assert page.startswith("<!doctype html>")
        assert "<script>alert" not in page
        assert "default-src 'none'" in page.replace("&#x27;", "'")
        data = re.search(r'<script type="application/json" id="hoptrail">(.*?)</script>', page)
        assert data
        (held,) = json.loads(data[1])["traces"]
        assert held["question"] == self.HOSTILE.replace("hf_aB3dE6gH9jK2mN5pQ8sT1vW4", "hf_…")

    def test_an_answer_is_its_text_with_the_run_under_a_fold(self) -> None:
        trace = self.hostile()
        told = answer_of(trace)._repr_html_()
        text, fold = told.split("<details>")
        assert "&lt;script&gt;alert(1)" in text
        assert "[1] The Trial (novels.md)" in text
        assert "hf_aB3" not in told
        assert "<script" not in text
        assert trace._repr_html_() in fold
