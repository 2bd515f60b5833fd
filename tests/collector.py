"""An OTLP collector on the loopback, and spans as whoever gets them reads them.

Protobuf and OTLP JSON are both read with OpenTelemetry's own schema.
"""

from __future__ import annotations

import json
import threading
from base64 import b64encode
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from google.protobuf.json_format import ParseDict
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest


@dataclass(frozen=True)
class Seen:
    """A span as it arrived; ids are in hexadecimal, times in nanoseconds."""

    name: str
    trace_id: str
    span_id: str
    parent: str
    kind: int
    start: int
    end: int
    attributes: dict[str, Any]
    events: list[tuple[str, int, dict[str, Any]]]
    links: list[tuple[str, str, dict[str, Any]]]
    status: int
    message: str
    service: str
    dropped: int

    @property
    def ms(self) -> float:
        """How long it took."""
        return (self.end - self.start) / 1e6


@dataclass
class Collector:
    """What came in; ``status`` is what is answered, after ``delay`` seconds or the end."""

    url: str = ""
    status: int = 200
    delay: float = 0.0
    ended: threading.Event = field(default_factory=threading.Event)
    requests: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    spans: list[Seen] = field(default_factory=list)


@contextmanager
def collecting() -> Iterator[Collector]:
    """Collect spans while the block runs."""
    collector = Collector()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            headers = {name.lower(): value for name, value in self.headers.items()}
            collector.requests.append((self.path, headers))
            collector.ended.wait(collector.delay)
            if collector.status == 200:
                request = ExportTraceServiceRequest()
                request.ParseFromString(body)
                collector.spans += _seen(request)
            self.send_response(collector.status)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    collector.url = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield collector
    finally:
        collector.ended.set()
        server.shutdown()
        server.server_close()
        thread.join(10)


def spans_in_file(path: Path) -> list[list[Seen]]:
    """Read a file of OTLP JSON: the spans of each line."""
    return [spans_in_line(line) for line in path.read_text(encoding="ascii").splitlines()]


def spans_in_line(line: str) -> list[Seen]:
    """Read a line of OTLP JSON, strictly: an unknown field or a wrong type raises."""
    document = json.loads(line)
    for resource in document["resourceSpans"]:
        for scope in resource["scopeSpans"]:
            for span in scope["spans"]:
                for each in (span, *span.get("links", ())):
                    for name in ("traceId", "spanId", "parentSpanId"):
                        if name in each:
                            each[name] = b64encode(bytes.fromhex(each[name])).decode()
    return _seen(ParseDict(document, ExportTraceServiceRequest()))


def check_tree(spans: Sequence[Seen], *, root: str = "") -> Seen:
    """Check that spans are one tree, each within the time of the one around it; give its root."""
    by_id = {span.span_id: span for span in spans}
    assert len(by_id) == len(spans)
    assert len({span.trace_id for span in spans}) == 1
    (top,) = [span for span in spans if span.parent == root]
    for span in spans:
        assert span.span_id != "0" * 16
        assert 0 <= span.start <= span.end
        assert not span.dropped
        assert len(span.attributes) <= 128
        if span is not top:
            around = by_id[span.parent]
            assert around.start <= span.start <= span.end <= around.end, (around, span)
    return top


def _seen(request: Any) -> list[Seen]:
    return [
        Seen(
            name=span.name,
            trace_id=span.trace_id.hex(),
            span_id=span.span_id.hex(),
            parent=span.parent_span_id.hex(),
            kind=span.kind,
            start=span.start_time_unix_nano,
            end=span.end_time_unix_nano,
            attributes=_attributes(span.attributes),
            events=[(e.name, e.time_unix_nano, _attributes(e.attributes)) for e in span.events],
            links=[
                (link.trace_id.hex(), link.span_id.hex(), _attributes(link.attributes))
                for link in span.links
            ],
            status=span.status.code,
            message=span.status.message,
            service=_attributes(resource.resource.attributes)["service.name"],
            dropped=span.dropped_attributes_count,
        )
        for resource in request.resource_spans
        for scope in resource.scope_spans
        for span in scope.spans
    ]


def _attributes(pairs: Any) -> dict[str, Any]:
    read = {pair.key: _value(pair.value) for pair in pairs}
    assert len(read) == len(pairs)
    return read


def _value(value: Any) -> Any:
    kind = value.WhichOneof("value")
    if kind == "array_value":
        return [_value(each) for each in value.array_value.values]
    return getattr(value, kind)
