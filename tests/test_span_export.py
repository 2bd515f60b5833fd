"""Runs that end are exported: to a file, to a collector, into the trace of an application."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from opentelemetry import baggage, context
from opentelemetry import trace as api
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF

from hoptrail import Hoptrail, load_settings, span_export
from hoptrail.errors import HoptrailError
from hoptrail.events import StepStarted
from hoptrail.otlp import SpanWay
from hoptrail.span_export import SpanExport
from hoptrail.spans import span_id_of, spans_of, trace_id_of
from hoptrail.testing import Asked, ScriptedChatModel
from tests import two_hops
from tests.collector import Collector, Seen, check_tree, collecting, spans_in_file
from tests.moments import until_kept
from tests.sample_trace import sample_trace
from tests.serving import served
from tests.test_lightness import loaded_by

pytestmark = pytest.mark.anyio


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is on its way at the end arrives, however slow the machine is."""
    monkeypatch.setattr(span_export, "_CLOSING_SECONDS", 50.0)


@pytest.fixture
def collector() -> Iterator[Collector]:
    with collecting() as collector:
        yield collector


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where runs are exported to."""
    path = tmp_path / "spans.jsonl"
    monkeypatch.setenv("HOPTRAIL_OTEL_FILE", str(path))
    return path


@pytest.fixture
def application(monkeypatch: pytest.MonkeyPatch) -> tuple[TracerProvider, InMemorySpanExporter]:
    """An application that traces itself."""
    memory = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(memory))
    # `set_tracer_provider` sets it once, for the whole process.
    monkeypatch.setattr(api, "_TRACER_PROVIDER", provider)
    return provider, memory


def a_trail(tmp_path: Path, model: ScriptedChatModel | None = None) -> Hoptrail:
    return Hoptrail(
        docs=two_hops.write_documents(tmp_path / "docs"),
        model=model or two_hops.model(),
        settings=load_settings(embedders="hash"),
    )


def ask(tmp_path: Path, run_id: str = "the-run", **given: Any) -> None:
    trail = a_trail(tmp_path)
    trail.ask(two_hops.QUESTION, run_id=run_id, **given)
    trail.close()


# A file


def test_a_run_that_ends_is_a_line_of_the_file(file: Path, tmp_path: Path) -> None:
    ask(tmp_path, "first")
    ask(tmp_path, "second")
    for spans, run_id in zip(spans_in_file(file), ("first", "second"), strict=True):
        root = check_tree(spans)
        assert root.attributes["hoptrail.run_id"] == run_id
        assert root.attributes["hoptrail.status"] == "answered"
        names = [span.name for span in spans]
        assert {"plan hoptrail", "step 1", "step 2", "retrieval"} <= set(names)
    assert "Kafka" not in file.read_text(encoding="utf-8")


def test_the_times_are_those_of_the_clock(file: Path, tmp_path: Path) -> None:
    before = time.time_ns() - 1_000_000
    ask(tmp_path)
    root = check_tree(spans_in_file(file)[0])
    assert before <= root.start <= root.end <= time.time_ns() + 1_000_000


def test_iterative_runs_and_conversations_are_exported_too(file: Path, tmp_path: Path) -> None:
    trail = Hoptrail(
        docs=two_hops.write_documents(tmp_path / "docs"),
        settings=load_settings(backends="extractive", embedders="hash"),
    )
    trail.ask(two_hops.QUESTION, graph="iterative")
    trail.chat("Who wrote The Trial?", thread_id="monday")
    trail.chat("remember that I like tea", thread_id="monday")
    trail.close()
    iterative, first, second = map(check_tree, spans_in_file(file))
    assert iterative.name == "invoke_workflow iterative"
    assert first.name == second.name == "invoke_workflow chat"
    assert first.attributes["session.id"] == "monday"
    names = {span.name for span in spans_in_file(file)[2]}
    assert "execute_tool remember" in names
    assert "tea" not in file.read_text(encoding="utf-8")


def test_an_abstention_is_no_error(file: Path, tmp_path: Path) -> None:
    trail = Hoptrail(
        docs=two_hops.write_documents(tmp_path / "docs"),
        settings=load_settings(backends="extractive", embedders="hash"),
    )
    trail.ask("What is the boiling point of tungsten carbide?")
    trail.close()
    root = check_tree(spans_in_file(file)[0])
    assert root.attributes["hoptrail.status"] == "abstained"
    assert root.attributes["hoptrail.abstained"] is True
    assert root.status == 0


def test_a_failed_run_is_exported_with_its_error(file: Path, tmp_path: Path) -> None:
    def fail(_asked: object) -> str:
        raise ValueError("nobody is at home")

    trail = a_trail(tmp_path, ScriptedChatModel(respond=fail))
    with pytest.raises(HoptrailError):
        trail.ask(two_hops.QUESTION)
    trail.close()
    spans = spans_in_file(file)[0]
    root = check_tree(spans)
    assert root.status == 2
    assert root.attributes["error.type"] == "BackendUnavailable"
    assert root.attributes["hoptrail.status"] == "failed"
    assert "at home" not in file.read_text(encoding="utf-8")


async def test_an_interrupted_run_and_its_other_part_are_one_trace(
    file: Path, tmp_path: Path
) -> None:
    under_way = asyncio.Event()

    async def hang_once(asked: Asked) -> None:
        if asked.question == "Where was Franz Kafka born?" and not under_way.is_set():
            await until_kept(trail.assembly.journal, "twice", "plan", "step")
            under_way.set()
            await asyncio.Event().wait()

    trail = a_trail(tmp_path, two_hops.model().model_copy(update={"wait": hang_once}))
    events = trail.astream(two_hops.QUESTION, run_id="twice")
    async for event in events:
        if isinstance(event, StepStarted) and event.id == 2:
            break
    await under_way.wait()
    await events.aclose()
    await trail.aask(two_hops.QUESTION, run_id="twice")
    usage = trail.assembly.journal.trace("twice").usage
    trail.close()
    first, later = spans_in_file(file)
    assert check_tree(first).attributes["hoptrail.status"] == "interrupted"
    assert check_tree(later).attributes["hoptrail.status"] == "answered"
    assert first[0].trace_id == later[0].trace_id
    assert not {span.span_id for span in first} & {span.span_id for span in later}
    paid = [span.attributes.get("llm.token_count.total", 0) for span in [*first, *later]]
    # The call left under way has cost that part what was sent; it is asked again, as a new one.
    left = first[-1].attributes["llm.token_count.total"]
    assert first[-1].attributes["llm.token_count.completion"] == 0 < left
    assert sum(paid) - left == usage.input_tokens + usage.output_tokens


def test_a_run_resumed_before_anything_was_finished_is_told_apart(
    file: Path, tmp_path: Path
) -> None:
    def fail(_asked: object) -> str:
        raise ValueError("nobody is at home")

    for model in (ScriptedChatModel(respond=fail), two_hops.model()):
        trail = a_trail(tmp_path, model)
        with suppress(HoptrailError):
            trail.ask(two_hops.QUESTION, run_id="twice")
        trail.close()
    first, later = spans_in_file(file)
    assert check_tree(first).attributes["hoptrail.status"] == "failed"
    assert check_tree(later).attributes["hoptrail.status"] == "answered"
    assert first[0].trace_id == later[0].trace_id
    assert not {span.span_id for span in first} & {span.span_id for span in later}


async def test_a_run_that_waits_for_approval_is_told_in_two_parts(
    file: Path, tmp_path: Path
) -> None:
    trail = Hoptrail(
        docs=two_hops.write_documents(tmp_path / "docs"),
        model=two_hops.model(),
        approve=True,
        settings=load_settings(embedders="hash"),
    )
    _ = [event async for event in trail.astream(two_hops.QUESTION, run_id="approved")]
    _ = [event async for event in trail.decide("approved", True)]
    usage = trail.assembly.journal.trace("approved").usage
    trail.close()
    asked, done = spans_in_file(file)
    assert [span.name for span in asked[:3]] == [
        "invoke_workflow multi-hop",
        "plan hoptrail",
        "chat",
    ]
    assert check_tree(done).attributes["hoptrail.status"] == "answered"
    paid = [span.attributes.get("gen_ai.usage.input_tokens", 0) for span in [*asked, *done]]
    assert sum(paid) == usage.input_tokens > 0


def test_content_is_told_where_the_settings_say_so(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOPTRAIL_OTEL_CONTENT", "1")
    ask(tmp_path)
    assert check_tree(spans_in_file(file)[0]).attributes["input.value"] == two_hops.QUESTION


def test_spans_can_be_turned_off(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_SDK_DISABLED", "true")
    ask(tmp_path)
    assert not file.exists()


# A collector


def test_a_run_that_ends_is_sent(
    collector: Collector, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url)
    ask(tmp_path)
    assert [path for path, _ in collector.requests] == ["/v1/traces"]
    assert check_tree(collector.spans).attributes["hoptrail.run_id"] == "the-run"


def test_the_address_of_traces_is_taken_as_it_is(
    collector: Collector, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", f"{collector.url}/mine")
    ask(tmp_path)
    assert [path for path, _ in collector.requests] == ["/mine"]


def test_the_settings_may_stand_in_a_file(collector: Collector, tmp_path: Path) -> None:
    Path(".env").write_text(
        f"OTEL_EXPORTER_OTLP_ENDPOINT={collector.url}\nOTEL_EXPORTER_OTLP_HEADERS=x-key=abc\n",
        encoding="utf-8",
    )
    ask(tmp_path)
    assert collector.requests[0][1]["x-key"] == "abc"


def test_a_dead_collector_costs_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9")
    trail = a_trail(tmp_path)
    for _ in range(3):
        assert trail.ask(two_hops.QUESTION).short == "Prague"
    trail.close()
    (warning,) = [each for each in caplog.records if each.levelno >= logging.WARNING]
    assert warning.name == "hoptrail.spans"
    assert "http://127.0.0.1:9/v1/traces took no spans" in warning.getMessage()
    assert "refused" in warning.getMessage()


def test_a_collector_that_hangs_does_not_hold_up_the_end(
    collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(span_export, "_CLOSING_SECONDS", 1.0)
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "600")
    collector.delay = 600
    export = SpanExport(SpanWay(f"{collector.url}/v1/traces"))
    for _ in range(150):
        export.take(sample_trace(), None)
    started = time.monotonic()
    export.close()
    assert time.monotonic() - started < 30


def test_what_is_left_at_the_end_is_told(
    collector: Collector, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(span_export, "_CLOSING_SECONDS", 1.0)
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "600")
    collector.delay = 600
    export = SpanExport(SpanWay(f"{collector.url}/v1/traces"))
    for _ in range(5):
        export.take(sample_trace(), None)
    while not collector.requests:
        time.sleep(0.01)
    export.close()
    assert "not exported, for it took too long: 5 of the last runs" in caplog.text


LEFT_OPEN = """
from opentelemetry import trace as api
from hoptrail import Hoptrail, load_settings, span_export
span_export._CLOSING_SECONDS = {waits}
if {application}:
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor, ConsoleSpanExporter
    api.set_tracer_provider(TracerProvider())
    api.get_tracer_provider().add_span_processor(BatchSpanProcessor(ConsoleSpanExporter()))
trail = Hoptrail(settings=load_settings(backends="extractive", embedders="hash"))
trail.ask("Who wrote The Trial?")
trail.ask("Who wrote The Castle?")
"""
"""A program that ends without closing anything."""


@pytest.mark.timeout(300)
@pytest.mark.parametrize("to", ["file", "collector", "application", "a collector that hangs"])
def test_a_program_that_ends_loses_no_run_and_does_not_hang(
    to: str, collector: Collector, tmp_path: Path
) -> None:
    hangs = to == "a collector that hangs"
    collector.delay = 600 if hangs else 0
    file, application = tmp_path / "spans.jsonl", to == "application"
    if not application:
        name = "HOPTRAIL_OTEL_FILE" if to == "file" else "OTEL_EXPORTER_OTLP_ENDPOINT"
        setting = {name: str(file) if to == "file" else collector.url}
    else:
        setting = {}
    ended = subprocess.run(
        [sys.executable, "-c", LEFT_OPEN.format(application=application, waits=2 if hangs else 90)],
        env={**os.environ, **setting, "OTEL_EXPORTER_OTLP_TIMEOUT": "600" if hangs else "90"},
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert ended.returncode == 0, ended.stderr
    match to:
        case "file":
            assert len(spans_in_file(file)) == 2
        case "collector":
            assert len(collector.requests) == 2
        case "application":
            assert ended.stdout.count('"name": "invoke_workflow multi-hop"') == 2
        case _:
            assert "not exported, for it took too long: 2 of the last runs" in ended.stderr


def test_a_collector_that_comes_back_gets_what_comes_then(
    collector: Collector, caplog: pytest.LogCaptureFixture
) -> None:
    export = SpanExport(SpanWay(f"{collector.url}/v1/traces"))
    collector.status = 400
    export.take(sample_trace(), None)
    wait_for_thread()
    collector.status = 200
    export.take(sample_trace().model_copy(update={"run_id": "later"}), None)
    export.close()
    assert check_tree(collector.spans).attributes["hoptrail.run_id"] == "later"
    assert len(caplog.records) == 1


def wait_for_thread() -> None:
    for thread in threading.enumerate():
        if thread.name == "hoptrail-spans":
            thread.join(20)


def test_without_the_extra_it_is_named_once(
    tmp_path: Path, file: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.exporter.otlp.proto.common.trace_encoder", None)
    trail = a_trail(tmp_path)
    for _ in range(2):
        assert trail.ask(two_hops.QUESTION).short == "Prague"
    trail.close()
    (warning,) = [each for each in caplog.records if each.levelno >= logging.WARNING]
    assert 'pip install "hoptrail[otel]"' in warning.getMessage()


def test_a_file_that_cannot_be_written_is_named_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("HOPTRAIL_OTEL_FILE", str(tmp_path / "nowhere" / "spans.jsonl"))
    ask(tmp_path)
    (warning,) = [each for each in caplog.records if each.levelno >= logging.WARNING]
    assert "nowhere" in warning.getMessage()


def test_no_thread_is_left_when_there_is_nothing_to_do(file: Path) -> None:
    export = SpanExport(SpanWay(file=file))
    export.take(sample_trace(), None)
    wait_for_thread()
    assert "hoptrail-spans" not in {thread.name for thread in threading.enumerate()}
    assert len(spans_in_file(file)) == 1


def test_a_run_takes_no_opentelemetry() -> None:
    loaded = loaded_by(
        """
import sys
sys.modules["opentelemetry"] = None
from hoptrail import Hoptrail, load_settings
trail = Hoptrail(settings=load_settings(backends="extractive", embedders="hash"))
trail.ask("Who wrote The Trial?")
trail.close()
"""
    )
    assert "langgraph" in loaded
    assert "google" not in loaded


# An application that traces itself


def root_of(spans: tuple[ReadableSpan, ...]) -> ReadableSpan:
    (root,) = [span for span in spans if span.name.startswith("invoke_workflow")]
    return root


def test_a_run_is_a_part_of_what_the_application_does(
    application: tuple[TracerProvider, InMemorySpanExporter],
    collector: Collector,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    provider, memory = application
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url)
    with provider.get_tracer("app").start_as_current_span("their work") as theirs:
        # The run goes through a thread and an event loop that are not the caller's.
        ask(tmp_path)
    spans = memory.get_finished_spans()
    root = root_of(spans)
    assert root.parent == theirs.get_span_context()
    assert {span.context.trace_id for span in spans if span.context} == {
        theirs.get_span_context().trace_id
    }
    by_id = {span.context.span_id: span for span in spans if span.context}
    for span in spans:
        if span.parent is not None:
            around = by_id[span.parent.span_id]
            assert within(around, span)
    step = next(span for span in spans if span.name == "step 2")
    assert [by_id[link.context.span_id].name for link in step.links] == ["step 1"]
    assert root.instrumentation_scope is not None
    assert root.instrumentation_scope.name == "hoptrail"
    assert not collector.requests  # the application's exporter reads the same variable


def within(around: ReadableSpan, span: ReadableSpan) -> bool:
    assert None not in (around.start_time, around.end_time, span.start_time, span.end_time)
    # The clock that tells when a run began has whole milliseconds.
    return (around.start_time or 0) - 1_000_000 <= (span.start_time or 0)


def test_without_an_active_span_a_run_is_a_trace_of_its_own(
    application: tuple[TracerProvider, InMemorySpanExporter], file: Path, tmp_path: Path
) -> None:
    _, memory = application
    ask(tmp_path)
    assert root_of(memory.get_finished_spans()).parent is None
    told = spans_in_file(file)[0]
    assert [span.name for span in told] == [
        span.name for span in sorted(memory.get_finished_spans(), key=lambda s: order(told, s))
    ]
    assert check_tree(told).trace_id == f"{trace_id_of('the-run'):032x}"


def order(told: list[Seen], span: ReadableSpan) -> int:
    """Give the place of a span among those told, by name and time."""
    alike = [
        at
        for at, each in enumerate(told)
        if (each.name, each.start, each.end) == (span.name, span.start_time, span.end_time)
    ]
    return alike[0]


async def test_runs_at_once_are_each_in_the_span_they_were_begun_in(
    application: tuple[TracerProvider, InMemorySpanExporter], tmp_path: Path
) -> None:
    provider, memory = application
    trail = a_trail(tmp_path)

    async def one(number: int) -> tuple[int, str]:
        with provider.get_tracer("app").start_as_current_span(f"work {number}") as theirs:
            answer = await trail.aask(two_hops.QUESTION)
            return theirs.get_span_context().span_id, answer.trace.run_id

    pairs = await asyncio.gather(*map(one, range(4)))
    trail.close()
    found = {
        (span.parent.span_id, str((span.attributes or {})["hoptrail.run_id"]))
        for span in memory.get_finished_spans()
        if span.name == "invoke_workflow multi-hop" and span.parent
    }
    assert found == set(pairs)


async def test_the_event_loop_is_left_alone(
    application: tuple[TracerProvider, InMemorySpanExporter], tmp_path: Path
) -> None:
    class Noting(SpanProcessor):
        """Notes where spans are told."""

        def on_start(self, span: object, parent_context: object = None) -> None:
            threads.add(threading.current_thread())

    threads = set[threading.Thread]()
    application[0].add_span_processor(Noting())
    trail = a_trail(tmp_path)
    await trail.aask(two_hops.QUESTION)
    trail.close()
    assert threads
    assert threading.current_thread() not in threads


def test_an_application_that_samples_nothing_gets_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory = InMemorySpanExporter()
    provider = TracerProvider(sampler=ALWAYS_OFF)
    provider.add_span_processor(SimpleSpanProcessor(memory))
    monkeypatch.setattr(api, "_TRACER_PROVIDER", provider)
    ask(tmp_path)
    assert not memory.get_finished_spans()


class Raising(SpanProcessor):
    """A processor with a mistake in it."""

    def on_end(self, span: ReadableSpan) -> None:
        raise ZeroDivisionError("their mistake")


def test_a_mistake_of_the_application_fails_no_run(
    application: tuple[TracerProvider, InMemorySpanExporter],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    provider, _ = application
    provider.add_span_processor(Raising())
    ask(tmp_path)
    assert "their mistake" in caplog.text


def test_a_tracer_that_cannot_be_made_fails_no_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("OTEL_PYTHON_TRACER_PROVIDER", "nonsense")
    ask(tmp_path)
    assert "a run was not exported to the application's tracer" in caplog.text


# What comes with a request


TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def test_what_a_request_says_of_traces_changes_nothing(file: Path, tmp_path: Path) -> None:
    headers = {"traceparent": TRACEPARENT, "tracestate": "a=b", "baggage": "session.id=theirs"}
    with served(
        docs=two_hops.write_documents(tmp_path / "docs"), backends="extractive", embedders="hash"
    ) as server:
        answer = server.http.post(
            "/reasoning/multi-hop", json={"question": two_hops.QUESTION}, headers=headers
        )
    run_id = answer.json()["run_id"]
    root = check_tree(spans_in_file(file)[0])
    assert root.trace_id == f"{trace_id_of(run_id):032x}"
    assert root.span_id == f"{span_id_of(run_id):016x}"
    assert "0af7651916cd43dd8448eb211c80319c" not in file.read_text(encoding="utf-8")
    assert "theirs" not in file.read_text(encoding="utf-8")


def test_a_remote_context_without_a_tracer_changes_nothing(file: Path, tmp_path: Path) -> None:
    remote = api.SpanContext(1, 2, is_remote=True, trace_flags=api.TraceFlags(1))
    given = api.set_span_in_context(api.NonRecordingSpan(remote))
    token = context.attach(baggage.set_baggage("session.id", "theirs", given))
    try:
        ask(tmp_path)
    finally:
        context.detach(token)
    assert check_tree(spans_in_file(file)[0]).trace_id == f"{trace_id_of('the-run'):032x}"
    assert "theirs" not in file.read_text(encoding="utf-8")


def test_the_file_and_a_later_export_are_the_same(file: Path, tmp_path: Path) -> None:
    from click.testing import CliRunner

    from hoptrail.cli import main

    ask(tmp_path)
    result = CliRunner().invoke(main, ["trace", "otlp", "last"])
    (line,) = file.read_text(encoding="utf-8").splitlines()
    assert spans_only(result.stdout) == spans_only(line)
    trail = a_trail(tmp_path)
    assert len(spans_of(trail.assembly.journal.trace("the-run"))) == len(spans_only(line))
    trail.close()


def spans_only(line: str) -> Any:
    return json.loads(line)["resourceSpans"][0]["scopeSpans"][0]["spans"]
