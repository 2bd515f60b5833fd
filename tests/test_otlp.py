"""Runs as OTLP: the lines of a file, what a collector gets, and `hoptrail trace otlp`."""

from __future__ import annotations

import json
import logging
import multiprocessing
import socket
import stat
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from hoptrail.cli import main
from hoptrail.errors import ExportFailed, SettingsError
from hoptrail.journal import Journal
from hoptrail.otlp import Sender, SpanWay, append_line, otlp_line, traces_address
from hoptrail.span_attributes import SpanAttributes
from hoptrail.spans import Span, spans_of
from hoptrail.trace import Trace
from tests.collector import Collector, Seen, check_tree, collecting, spans_in_file, spans_in_line
from tests.long_trace import long_trace
from tests.sample_trace import QUESTION, sample_trace
from tests.test_lightness import COMMAND, HEAVY, loaded_by
from tests.test_spans import planted

CONTENT = SpanAttributes(content=True)
REFUSED = "http://127.0.0.1:9"
"""A port that nobody listens on."""


@pytest.fixture
def collector() -> Iterator[Collector]:
    with collecting() as collector:
        yield collector


@pytest.fixture
def kept(tmp_path: Path) -> Trace:
    """A run in the journal."""
    journal, trace = Journal(tmp_path / "home"), sample_trace()
    journal.admit(trace.run_id, trace.question, {}).release()
    journal.finish(trace)
    journal.close()
    return trace


def trace_otlp(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["trace", "otlp", *arguments])


def same(seen: Seen, span: Span) -> bool:
    """Say whether a span arrived as it was."""
    assert seen.name == span.name
    assert seen.trace_id == f"{span.trace_id:032x}"
    assert seen.span_id == f"{span.span_id:016x}"
    assert (seen.start, seen.end) == (span.start_ns, span.end_ns)
    assert seen.attributes == span.attributes
    assert seen.events == [(each.name, each.at_ns, each.attributes) for each in span.events]
    assert [link[1] for link in seen.links] == [f"{link.span_id:016x}" for link in span.links]
    assert seen.kind == {"internal": 1, "client": 3}[span.kind]
    assert (seen.status == 2) == bool(span.error)
    return True


# Lines


def test_a_line_holds_every_span_as_it_is() -> None:
    for trace in (sample_trace(), long_trace()):
        spans = spans_of(trace, CONTENT)
        seen = spans_in_line(otlp_line(trace, SpanWay(told=CONTENT)))
        assert len(seen) == len(spans)
        assert all(map(same, seen, spans))
        check_tree(seen)


def test_sixty_steps_are_some_two_hundred_spans() -> None:
    trace = long_trace()
    seen = spans_in_line(otlp_line(trace, SpanWay()))
    assert len(trace.steps) >= 60
    assert len(seen) > 3 * len(trace.steps)


def test_ids_are_hexadecimal_and_numbers_are_as_the_format_has_them() -> None:
    document = json.loads(otlp_line(sample_trace(), SpanWay()))
    scope = document["resourceSpans"][0]["scopeSpans"][0]
    assert scope["schemaUrl"] == "https://opentelemetry.io/schemas/gen-ai/1.42.0"
    assert scope["scope"]["name"] == "hoptrail"
    root, *others = scope["spans"]
    assert len(root["traceId"]) == 32
    assert "parentSpanId" not in root
    assert {each["traceId"] for each in others} == {root["traceId"]}
    assert others[0]["parentSpanId"] == root["spanId"]
    assert root["kind"] == 1
    assert root["startTimeUnixNano"] == "1795338900000000000"


def test_hostile_texts_make_one_line_of_ascii_and_nothing_is_lost(
    caplog: pytest.LogCaptureFixture,
) -> None:
    trace = planted(lambda path: f"\ud800\0\r\n\x1b[2J\u2028__proto__</script>{path}")
    with caplog.at_level(logging.DEBUG, "opentelemetry"):
        line = otlp_line(trace, SpanWay(told=CONTENT))
    assert not caplog.records
    assert line.isascii()
    assert len(line.splitlines()) == 1
    spans = spans_of(trace, CONTENT)
    assert all(map(same, spans_in_line(line), spans))


def test_who_tells_is_the_service_that_was_set(monkeypatch: pytest.MonkeyPatch) -> None:
    def service(way: SpanWay) -> str:
        return spans_in_line(otlp_line(sample_trace(), way))[0].service

    assert service(SpanWay()) == "hoptrail"
    assert service(SpanWay(service="my-app")) == "my-app"
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "service.name=named-elsewhere")
    assert service(SpanWay()) == "named-elsewhere"


# Files


def test_a_file_is_its_owners_alone_and_is_appended_to(tmp_path: Path) -> None:
    path = tmp_path / "runs.jsonl"
    for _ in range(2):
        append_line(path, otlp_line(sample_trace(), SpanWay()))
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    first, second = spans_in_file(path)
    assert first == second
    check_tree(first)


def append_many(path: Path, mark: str) -> None:
    for number in range(20):
        append_line(path, json.dumps({"mark": mark, "number": number, "long": mark * 100_000}))


@pytest.mark.timeout(300)
def test_lines_of_two_processes_stay_whole(tmp_path: Path) -> None:
    path = tmp_path / "runs.jsonl"
    context = multiprocessing.get_context("spawn")
    writers = [context.Process(target=append_many, args=(path, mark)) for mark in "ab"]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(120)
        assert writer.exitcode == 0
    read = [json.loads(line) for line in path.read_text().splitlines()]
    for mark in "ab":
        own = [each["number"] for each in read if each["mark"] == mark]
        assert own == list(range(20))
        assert {each["long"] for each in read if each["mark"] == mark} == {mark * 100_000}


# Endpoints


@pytest.mark.parametrize(
    ("endpoint", "address"),
    [
        ("http://h:4318", "http://h:4318/v1/traces"),
        ("http://h:4318/", "http://h:4318/v1/traces"),
        ("http://h:6006/v1/traces", "http://h:6006/v1/traces"),
        ("https://h/api/public/otel", "https://h/api/public/otel/v1/traces"),
    ],
)
def test_an_endpoint_may_have_the_path_or_not(endpoint: str, address: str) -> None:
    assert traces_address(endpoint) == address


def test_a_collector_gets_what_a_file_gets(collector: Collector) -> None:
    way = SpanWay(traces_address(collector.url), "authorization=Basic%20abc,x-project=7")
    sender = Sender(way)
    sender.send(sample_trace())
    sender.close()
    assert collector.spans == spans_in_line(otlp_line(sample_trace(), way))
    ((path, headers),) = collector.requests
    assert path == "/v1/traces"
    assert headers["content-type"] == "application/x-protobuf"
    assert (headers["authorization"], headers["x-project"]) == ("Basic abc", "7")
    assert "abc" not in repr(way)


def test_a_long_run_goes_in_several_requests(collector: Collector) -> None:
    sender = Sender(SpanWay(traces_address(collector.url)))
    sender.send(long_trace())
    sender.close()
    assert len(collector.requests) > 1
    check_tree(collector.spans)


@pytest.mark.parametrize("status", [401, 404, 503])
def test_a_collector_that_refuses_is_named_with_its_answer(
    status: int, collector: Collector, caplog: pytest.LogCaptureFixture
) -> None:
    collector.status = status
    sender = Sender(SpanWay(traces_address(collector.url).replace("//", "//me:pass-word@")))
    with pytest.raises(ExportFailed) as caught:
        sender.send(sample_trace())
    sender.close()
    assert len(collector.requests) == 1
    reason = {401: "Unauthorized", 404: "Not Found", 503: "Service Unavailable"}[status]
    assert reason in str(caught.value)
    assert f"…@{collector.url.removeprefix('http://')}/v1/traces" in str(caught.value)
    assert "pass-word" not in str(caught.value)
    assert not caplog.records


def test_where_nobody_listens_is_said_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    tries: list[object] = []
    connect = socket.socket.connect

    def noted(sock: socket.socket, address: Any) -> None:
        tries.append(address)
        connect(sock, address)

    monkeypatch.setattr(socket.socket, "connect", noted)
    sender = Sender(SpanWay(traces_address(REFUSED)))
    with pytest.raises(ExportFailed, match="refused") as caught:
        sender.send(sample_trace())
    sender.close()
    # The exporter tries again at once, and three times more over seven seconds: not here.
    assert 1 <= len(tries) <= 2
    assert "HTTPConnection" not in str(caught.value), "the cause, not what it is wrapped in"


def test_what_others_export_is_still_logged(
    collector: Collector, caplog: pytest.LogCaptureFixture
) -> None:
    logger = logging.getLogger("opentelemetry.exporter.otlp.proto.http.trace_exporter")
    collector.status = 401
    sender = Sender(SpanWay(traces_address(collector.url)))
    with pytest.raises(ExportFailed):
        sender.send(sample_trace())
    sender.close()
    logger.warning("theirs")
    assert [record.getMessage() for record in caplog.records] == ["theirs"]


# The command


def test_runs_are_printed_as_lines(kept: Trace) -> None:
    result = trace_otlp(kept.run_id, "last")
    assert result.exit_code == 0
    first, second = map(spans_in_line, result.stdout.splitlines())
    assert first == second
    root = check_tree(first)
    assert root.attributes["hoptrail.run_id"] == kept.run_id
    assert QUESTION not in result.stdout
    assert "Kafka" not in result.stdout


def test_content_is_asked_for_by_flag_or_setting(
    kept: Trace, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert QUESTION in trace_otlp("last", "--content").stdout
    monkeypatch.setenv("HOPTRAIL_OTEL_CONTENT", "true")
    assert QUESTION in trace_otlp("last").stdout
    assert QUESTION not in trace_otlp("last", "--no-content").stdout
    monkeypatch.delenv("HOPTRAIL_OTEL_CONTENT")
    monkeypatch.setenv("OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT", "SPAN_AND_EVENT")
    assert QUESTION in trace_otlp("last").stdout


def test_runs_are_appended_to_a_file(kept: Trace, tmp_path: Path) -> None:
    for _ in range(2):
        result = trace_otlp("last", "--file", "runs.jsonl")
        assert (result.exit_code, result.stdout) == (0, "")
    assert len(spans_in_file(tmp_path / "runs.jsonl")) == 2


def test_a_file_that_cannot_be_is_named_with_a_way_out(kept: Trace, tmp_path: Path) -> None:
    assert trace_otlp("last", "--file", "-").exit_code == 2
    assert not (tmp_path / "-").exists()
    result = trace_otlp("last", "--file", "nowhere/runs.jsonl")
    assert result.exit_code == 1
    assert "error: nowhere/runs.jsonl: no such file or directory" in result.stderr
    assert "name another file with --file" in result.stderr
    assert "doctor" not in result.stderr


@pytest.mark.parametrize("endpoint", ["", "127.0.0.1:4318", "ftp://127.0.0.1", "nonsense"])
def test_what_is_no_address_is_told_with_one_that_is(kept: Trace, endpoint: str) -> None:
    result = trace_otlp("last", "--endpoint", endpoint)
    assert result.exit_code == 1
    assert "write it as http://127.0.0.1:4318" in result.stderr


def test_runs_are_sent_to_an_endpoint(
    kept: Trace, collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "authorization=Bearer%20key")
    monkeypatch.setenv("OTEL_SERVICE_NAME", "mine")
    result = trace_otlp("last", "--endpoint", collector.url)
    assert result.exit_code == 0, result.output
    assert result.stderr == f"sent run {kept.run_id} to {collector.url}\n"
    assert check_tree(collector.spans).service == "mine"
    assert collector.requests[0][1]["authorization"] == "Bearer key"


def test_a_password_in_an_endpoint_is_not_shown(kept: Trace, collector: Collector) -> None:
    result = trace_otlp("last", "--endpoint", collector.url.replace("//", "//me:pass/word@"))
    assert "word" not in result.output
    result = trace_otlp("last", "--endpoint", collector.url.replace("//", "//me:password@"))
    assert result.exit_code == 0
    assert result.stderr.endswith(f"to {collector.url.replace('//', '//…@')}\n")
    collector.status = 401
    result = trace_otlp("last", "--endpoint", collector.url.replace("//", "//me:password@"))
    assert result.exit_code == 1
    assert "password" not in result.output


@pytest.mark.parametrize("endpoint", ["localhost:4318", "ftp://h", "http://", "http://h:99999"])
def test_what_is_no_address_is_refused(kept: Trace, endpoint: str) -> None:
    result = trace_otlp("last", "--endpoint", endpoint)
    assert result.exit_code == 1
    assert "is no address to send spans to: write it as http://127.0.0.1:4318" in result.stderr


def test_an_endpoint_that_takes_nothing_is_an_error(kept: Trace, collector: Collector) -> None:
    collector.status = 401
    result = trace_otlp("last", "--endpoint", collector.url)
    assert result.exit_code == 1
    assert f"error: {collector.url}/v1/traces took no spans" in result.stderr
    assert "Unauthorized" in result.stderr


def test_a_run_that_is_not_there_is_an_error() -> None:
    assert trace_otlp("nothing").exit_code == 1
    assert trace_otlp().exit_code == 2


def test_without_the_extra_it_is_named(kept: Trace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.exporter.otlp.proto.common.trace_encoder", None)
    monkeypatch.setitem(sys.modules, "opentelemetry.exporter.otlp.proto.http.trace_exporter", None)
    for arguments in (["last"], ["last", "--endpoint", REFUSED]):
        result = trace_otlp(*arguments)
        assert result.exit_code == 1
        assert 'pip install "hoptrail[otel]"' in result.stderr
    with pytest.raises(SettingsError):
        Sender(SpanWay())


def test_the_command_loads_no_graph_and_no_model(kept: Trace) -> None:
    loaded = loaded_by(COMMAND.format(arguments=["trace", "otlp", "last"]))
    assert "opentelemetry" in loaded
    assert not loaded.intersection(HEAVY)
