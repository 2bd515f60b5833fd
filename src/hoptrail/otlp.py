"""OTLP: runs in the form in which OpenTelemetry's spans travel, to a file and to an endpoint."""

from __future__ import annotations

import json
import logging
import os
import re
import threading
from base64 import b64decode
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hoptrail.addresses import server_of, without_user
from hoptrail.errors import ExportFailed, SettingsError
from hoptrail.span_attributes import SCHEMA_URL, SpanAttributes
from hoptrail.spans import Span, spans_of
from hoptrail.trace import Trace

if TYPE_CHECKING:
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import ReadableSpan
    from opentelemetry.sdk.trace.export import SpanExporter
    from opentelemetry.trace import SpanContext, Status

SCOPE = "hoptrail"
"""Whom spans say they come from; the name of the service where none is set."""

_TRACES_PATH = "/v1/traces"
_AT_ONCE = 100
"""Spans of one request: with their content more would be too much for some collectors."""
_EXPORTERS_LOGGER = "opentelemetry.exporter.otlp.proto.http.trace_exporter"
_IDS = ("traceId", "spanId", "parentSpanId")
_RETRIED = re.compile(r"Transient error (.*) encountered while exporting .*")
_CAUSED = re.compile(r".*\(Caused by \w+\([\"'](?:<.*?>: |\w+\(.*?\): )?(.*)[\"']\)\)", re.DOTALL)
"""How an HTTP client wraps the cause of what it could not do."""
_REFUSED = re.compile(r"Failed to export spans batch code: (\w+), reason: ")
_CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f]+")


@dataclass(frozen=True)
class SpanWay:
    """Where runs are exported to, and what of them.

    ``address`` is that of the traces of an OTLP endpoint, ``headers`` what goes with them, as
    OpenTelemetry's variables hold it. ``file`` gets a line of OTLP JSON for each run.
    """

    address: str = ""
    headers: str = field(default="", repr=False)
    file: Path | None = None
    service: str = ""
    told: SpanAttributes = field(default_factory=SpanAttributes)


def traces_address(endpoint: str) -> str:
    """Give the address that spans are posted to, of an endpoint with or without that path."""
    stripped = endpoint.rstrip("/")
    return stripped if stripped.endswith(_TRACES_PATH) else stripped + _TRACES_PATH


def otlp_line(trace: Trace, way: SpanWay) -> str:
    """Give a run as a line of OTLP JSON, all of it ASCII, without the line's end.

    Raises:
        SettingsError: the extra that it takes is not installed.
    """
    with _installed():
        from google.protobuf.json_format import MessageToDict
        from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans

        request = encode_spans(_readable(spans_of(trace, way.told), way.service))
        document: dict[str, Any] = MessageToDict(request, use_integers_for_enums=True)
    for span in document["resourceSpans"][0]["scopeSpans"][0]["spans"]:
        for each in (span, *span.get("links", ())):
            _write_ids(each)
    return json.dumps(document, separators=(",", ":"))


def _write_ids(document: dict[str, str]) -> None:
    """Write ids as OTLP JSON has them, in hexadecimal; protobuf's own JSON says base64."""
    for name in _IDS:
        if name in document:
            document[name] = b64decode(document[name]).hex()


def append_line(path: Path, line: str) -> None:
    """Append a line to a file that is its owner's alone, whole even where others append too."""
    data = f"{line}\n".encode()
    handle = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        # One write, which nothing comes between; it takes a second one only on a full disk.
        while data:
            data = data[os.write(handle, data) :]
    finally:
        os.close(handle)


class Sender:
    """Sends runs to an OTLP endpoint. Without ``patient`` the first failure is the last.

    Raises:
        SettingsError: the extra that it takes is not installed, or the address is none.
    """

    def __init__(self, way: SpanWay, *, patient: bool = False) -> None:
        if way.address and not server_of(way.address):
            shown = without_user(way.address)
            raise SettingsError(
                f"{shown} is no address to send spans to: write it as http://127.0.0.1:4318"
            )
        with _installed():
            from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
            from opentelemetry.util.re import parse_env_headers

            headers = parse_env_headers(way.headers, liberal=True)
            self._exporter: SpanExporter = OTLPSpanExporter(way.address, headers=headers)
        self._way, self._patient, self._closed = way, patient, False
        self._in_trouble = False

    def send(self, trace: Trace) -> None:
        """Send a run.

        Raises:
            ExportFailed: nobody took it.
        """
        spans = _readable(spans_of(trace, self._way.told), self._way.service)
        for start in range(0, len(spans), _AT_ONCE):
            if problem := self._problem(spans[start : start + _AT_ONCE]):
                address = without_user(self._way.address)
                raise ExportFailed(f"{address} took no spans of run {trace.run_id}: {problem}")

    def hurry(self) -> None:
        """Be patient no more: somebody waits."""
        self._patient = False
        if self._in_trouble:
            self.close()

    def close(self) -> None:
        """Give up what is under way."""
        if not self._closed:
            self._closed = True
            self._exporter.shutdown()

    def _problem(self, spans: Sequence[ReadableSpan]) -> str:
        from opentelemetry.sdk.trace.export import SpanExportResult

        with _overhearing(self._on_trouble) as heard:
            try:
                result = self._exporter.export(spans)
            except OSError as error:  # what its earlier versions let through
                return _cause(str(error))
            finally:
                self._in_trouble = False
        if result is SpanExportResult.SUCCESS:
            return ""
        # The first thing said is the cause; what follows are the attempts to get over it.
        said = next(iter(heard), "it did not say why")
        return _cause(_RETRIED.sub(r"\1", said))

    def _on_trouble(self) -> None:
        self._in_trouble = True
        if not self._patient:
            self.close()


def _cause(said: str) -> str:
    """Give in one line what went wrong, without what it is wrapped in."""
    told = _CONTROLS.sub(" ", _CAUSED.sub(r"\1", said))
    return _REFUSED.sub(r"\1 ", told)


@contextmanager
def _installed() -> Iterator[None]:
    """Say what to install where OpenTelemetry is not."""
    try:
        yield
    except ImportError as error:
        raise SettingsError(
            'exporting spans takes OpenTelemetry: install it with pip install "hoptrail[otel]"'
        ) from error


@contextmanager
def _overhearing(on_trouble: Callable[[], None]) -> Iterator[list[str]]:
    """Give what the exporter says in this thread: it logs why it failed, and tells nobody."""
    listener = _Listener(on_trouble)
    logger = logging.getLogger(_EXPORTERS_LOGGER)
    logger.addFilter(listener)
    try:
        yield listener.heard
    finally:
        logger.removeFilter(listener)


class _Listener(logging.Filter):
    """Takes what its own thread logs out of the log."""

    def __init__(self, on_trouble: Callable[[], None]) -> None:
        super().__init__()
        self.heard: list[str] = []
        self._on_trouble = on_trouble
        self._thread = threading.get_ident()

    def filter(self, record: logging.LogRecord) -> bool:
        if record.thread != self._thread:
            return True
        self.heard.append(record.getMessage())
        self._on_trouble()
        return False


def _readable(spans: Sequence[Span], service: str) -> list[ReadableSpan]:
    """Give spans as OpenTelemetry's own, with the ids they have."""
    from opentelemetry import trace as api
    from opentelemetry.sdk.trace import Event, ReadableSpan
    from opentelemetry.sdk.util.instrumentation import InstrumentationScope

    resource = _resource(service)
    scope = InstrumentationScope(SCOPE, version("hoptrail"), SCHEMA_URL)
    contexts = {span.path: _context(span.trace_id, span.span_id) for span in spans}
    return [
        ReadableSpan(
            name=span.name,
            context=contexts[span.path],
            parent=None if span.parent is None else contexts[span.parent],
            resource=resource,
            attributes=span.attributes,
            events=[Event(each.name, each.attributes, each.at_ns) for each in span.events],
            links=[
                api.Link(_context(link.trace_id, link.span_id), link.attributes)
                for link in span.links
            ],
            kind=api.SpanKind[span.kind.upper()],
            status=status_of(span),
            start_time=span.start_ns,
            end_time=span.end_ns,
            instrumentation_scope=scope,
        )
        for span in spans
    ]


def status_of(span: Span) -> Status:
    """Give the status of a span; only a failure has one."""
    from opentelemetry.trace import Status, StatusCode

    if not span.error:
        return Status()
    return Status(StatusCode.ERROR, span.error_message or span.error)


def _context(trace_id: int, span_id: int) -> SpanContext:
    from opentelemetry.trace import SpanContext, TraceFlags

    return SpanContext(trace_id, span_id, is_remote=False, trace_flags=TraceFlags(1))


def _resource(service: str) -> Resource:
    """Give who is telling; what `OTEL_RESOURCE_ATTRIBUTES` says of it holds."""
    from opentelemetry.sdk.resources import OTELResourceDetector, Resource

    # Not `Resource.create`: it begins threads, which cannot be done once a program ends.
    told = {
        "service.name": SCOPE,
        "telemetry.sdk.language": "python",
        "telemetry.sdk.name": "opentelemetry",
        "telemetry.sdk.version": version("opentelemetry-sdk"),
    }
    set_here = Resource({"service.name": service} if service else {})
    return Resource(told).merge(OTELResourceDetector().detect()).merge(set_here)
