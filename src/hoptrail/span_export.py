"""Span export: each run that ends, on its way to where OpenTelemetry's spans are collected."""

from __future__ import annotations

import atexit
import logging
import sys
import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import TYPE_CHECKING, TypeVar

from hoptrail.otlp import SCOPE, Sender, SpanWay, append_line, otlp_line, status_of
from hoptrail.span_attributes import SCHEMA_URL
from hoptrail.spans import Span, spans_of
from hoptrail.trace import Trace

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.trace import Span as LiveSpan
    from opentelemetry.trace import TracerProvider

_log = logging.getLogger("hoptrail.spans")

_T = TypeVar("_T")
_APPLICATION = "the application's tracer"
_MOST_WAITING = 256
"""As many as a server has under way at a time; a collector that is down costs no more memory."""
_CLOSING_SECONDS = 5.0


@dataclass(frozen=True)
class Place:
    """Where a run was begun in an application that traces itself: its spans go there."""

    provider: TracerProvider
    context: Context

    def tell(self, spans: Sequence[Span]) -> None:
        """Tell a run as a part of what the application was doing."""
        from opentelemetry import trace as api

        tracer = self.provider.get_tracer(SCOPE, version("hoptrail"), SCHEMA_URL)
        live: dict[str, LiveSpan] = {}
        for span in spans:
            around = self.context
            if span.parent is not None:
                around = api.set_span_in_context(live[span.parent], around)
            live[span.path] = tracer.start_span(
                span.name,
                around,
                api.SpanKind[span.kind.upper()],
                span.attributes,
                # Who is not of this trace has another id here, if it was told here at all.
                [
                    api.Link(live[link.path].get_span_context(), link.attributes)
                    for link in span.links
                    if link.path in live
                ],
                span.start_ns,
            )
        for span in reversed(spans):
            _end(live[span.path], span)


def _here() -> Place | None:
    from opentelemetry import trace as api
    from opentelemetry.context import get_current

    provider = api.get_tracer_provider()
    if isinstance(provider, api.ProxyTracerProvider | api.NoOpTracerProvider):
        return None
    return Place(provider, get_current())


def _end(live: LiveSpan, span: Span) -> None:
    for event in span.events:
        live.add_event(event.name, event.attributes, event.at_ns)
    if span.error:
        live.set_status(status_of(span))
    live.end(span.end_ns)


class SpanExport:
    """Takes each run that ends to where its spans are collected; no run waits for that, or fails.

    In an application that has set a tracer provider the spans go there, as a part of what it was
    doing when it began the run. Only otherwise they go to the endpoint of the settings: it is
    most likely the same, and would be told twice. The file gets them either way.
    """

    def __init__(self, way: SpanWay) -> None:
        self._way = way
        self._waiting: deque[tuple[Trace, Place | None]] = deque()
        self._lock = threading.Lock()
        self._worker: threading.Thread | None = None
        self._sender: Sender | None = None
        self._closing = False
        self._warned: set[str] = set()

    def place(self) -> Place | None:
        """Give where the caller stands, in an application that traces itself."""
        if "opentelemetry.trace" not in sys.modules:
            return None
        return self._guarded(_APPLICATION, _here)

    def take(self, trace: Trace, place: Place | None) -> None:
        """Take a run that has ended, begun at a place; the work is done in a thread."""
        if place is None and self._way.file is None and not self._way.address:
            return
        with self._lock:
            if len(self._waiting) >= _MOST_WAITING:
                self._warn("the queue", f"a run was not exported: {_MOST_WAITING} others wait")
                return
            self._waiting.append((trace, place))
            if self._worker is None or not self._worker.is_alive():
                self._start()

    def close(self) -> None:
        """Wait a moment for what is on its way; what is left then is given up."""
        atexit.unregister(self.close)
        self._closing = True
        with self._lock:
            worker = self._worker
        if self._sender is not None:
            self._sender.hurry()
        if worker is not None:
            worker.join(_CLOSING_SECONDS)
        if left := len(self._waiting) + (worker is not None and worker.is_alive()):
            self._waiting.clear()
            self._warn("the end", f"not exported, for it took too long: {left} of the last runs")
        if self._sender is not None:
            self._sender.close()
            self._sender = None
        self._closing = False

    def _start(self) -> None:
        # It ends when nothing is left to do: a trail that is not closed leaves no thread.
        worker = threading.Thread(target=self._work, name="hoptrail-spans", daemon=True)
        try:
            worker.start()
        except RuntimeError:  # the interpreter is being shut down
            self._waiting.clear()
            self._warn("the end", "a run was not exported: Python is shutting down")
        else:
            self._worker = worker
            atexit.register(self.close)

    def _work(self) -> None:
        while (work := self._next()) is not None:
            self._export(*work)

    def _next(self) -> tuple[Trace, Place | None] | None:
        with self._lock:
            if self._waiting:
                return self._waiting.popleft()
            self._worker = None
            atexit.unregister(self.close)
            return None

    def _export(self, trace: Trace, place: Place | None) -> None:
        way = self._way
        if (path := way.file) is not None:
            self._guarded("the file", lambda: append_line(path, otlp_line(trace, way)))
        if place is not None:
            self._guarded(_APPLICATION, lambda: place.tell(spans_of(trace, way.told)))
        elif way.address:
            self._guarded("the endpoint", lambda: self._sending().send(trace))

    def _sending(self) -> Sender:
        if self._sender is None:
            self._sender = Sender(self._way, patient=not self._closing)
        return self._sender

    def _guarded(self, to: str, work: Callable[[], _T]) -> _T | None:
        try:
            return work()
        except Exception as error:  # noqa: BLE001 # what an application hooks in may raise anything
            self._warn(to, f"a run was not exported to {to}: {error}")
            return None

    def _warn(self, about: str, message: str) -> None:
        """Warn of each thing once: a collector that is down is down for many runs."""
        level = logging.DEBUG if about in self._warned else logging.WARNING
        self._warned.add(about)
        _log.log(level, message)
