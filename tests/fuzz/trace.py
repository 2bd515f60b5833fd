"""Trace documents, as somebody may have sent them."""

from __future__ import annotations

from hoptrail.errors import TraceUnreadable
from hoptrail.trace import TRACE_VERSION, Trace, read_trace
from tests.sample_trace import sample_trace

WORDS = (
    '"trace_version": 1', '"trace_version": 2', '"run_id": "r"', '"question": "q"', '"steps": [',
    '"calls": [', '"started_ms": ', '"ready_ms": ', '"ms": ', "1e999", "-1", "true", "null", "NaN",
    '"change": {"step": 1, "answer": "a"}', '"plan": {', "{", "}", "[", "]", ",", '"\\ud800"',
)  # fmt: skip
SEEDS = (
    sample_trace().model_dump_json(exclude_defaults=True).encode()[:4000],
    b'{"trace_version": 1, "run_id": "r", "question": "q", "plan": {"calls": [{"purpose": "plan",'
    b'"started_ms": 1, "ms": 2}]}, "steps": [{"id": 1, "question": "q", "ready_ms": 4,'
    b'"retrieved_ms": 5, "calls": [{"purpose": "step", "started_ms": 6.5}]}]}',
    b'{"trace_version": 2, "run_id": "r", "question": "q", "change": {"step": 1, "answer": "a"}}',
    b'{"trace_version": 3}',
)
_LONGEST_REASON = 2000


def check(data: bytes) -> None:
    """A document is a trace that comes back as it is written, or is refused in a sentence."""
    try:
        trace = read_trace(data, "it")
    except TraceUnreadable as error:
        told = str(error)
    else:
        told = ""
        _check_read(trace)
    assert len(told) < _LONGEST_REASON


def _check_read(trace: Trace) -> None:
    assert trace.trace_version == TRACE_VERSION
    assert read_trace(trace.model_dump_json()) == trace
    assert sum(1 for _ in trace.calls()) >= len(trace.synthesis)
    assert trace.critical_path_ms() == trace.critical_path_ms()
