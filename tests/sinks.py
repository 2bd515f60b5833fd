"""Everything that a process writes down, says or sends on: where a key would be found."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hoptrail import Hoptrail
from hoptrail.assembly import span_way
from hoptrail.events import Event, RunFinished
from hoptrail.otlp import otlp_line
from hoptrail.server.event_stream import compact_json, event_json, failure_json
from hoptrail.trace import Trace
from hoptrail.viewer import trace_page
from tests.canaries import CANARIES, leaks


def keys() -> dict[str, object]:
    """Give the settings that hold keys, each with its canary."""
    return {
        "token": CANARIES["token"],
        "api_token": CANARIES["api_token"],
        "otlp_headers": f"authorization=Bearer {CANARIES['otlp_headers']},x-tenant=hoptrail",
    }


class Sinks:
    """What was said in each place, and the leaks in it."""

    def __init__(self) -> None:
        self.seen: dict[str, int] = {}
        self.found: dict[str, list[str]] = {}

    def take(self, name: str, said: str | bytes) -> None:
        """Look for keys in what was said somewhere."""
        self.seen[name] = self.seen.get(name, 0) + len(said)
        if found := leaks(said):
            self.found.setdefault(name, []).extend(found)

    def take_error(self, error: BaseException) -> None:
        """Look for keys in an error: its words, its causes', its traceback, and as JSON."""
        each: BaseException | None = error
        while each is not None:
            self.take("error", f"{each} {each!r} {getattr(each, '__notes__', '')}")
            for made in getattr(each, "attempts", ()):
                self.take("attempt", repr(made))
            each = each.__cause__ or each.__context__
        self.take("traceback", "".join(traceback.format_exception(error)))
        if isinstance(error, Exception):
            self.take("error as JSON", compact_json(failure_json(error)))

    def take_events(self, events: list[Event], trail: Hoptrail) -> None:
        """Look for keys in what a run told, as it told it, and in all that is made of it."""
        for event in events:
            self.take("event", compact_json(event_json(event)))
            if isinstance(event, RunFinished):
                self.take_trace(event.trace, trail)

    def take_trace(self, trace: Trace, trail: Hoptrail) -> None:
        """Look for keys in a record: as it is, as a page, and as spans."""
        told = trace.model_dump_json()
        self.take("trace", told)
        settings = trail.assembly.settings
        self.take("trace page", trace_page(settings.secrets.masked_in(told)))
        way = span_way(settings.model_copy(update={"otel_content": True}))
        self.take("spans", otlp_line(trace, way))

    def take_files(self, *folders: Path) -> None:
        """Look for keys in every byte of every file."""
        for folder in folders:
            for path in folder.rglob("*"):
                place = path.relative_to(folder)
                self.take("file names", str(place))
                if path.is_file():
                    self.take(f"files {place.parts[0]}", path.read_bytes())

    @contextmanager
    def logs(self) -> Iterator[None]:
        """Look for keys in all that is logged in the block, by whomever, at any level."""
        root, listener = logging.getLogger(), _Listener(self)
        loggers = list(logging.Logger.manager.loggerDict.values())
        named = [each for each in loggers if isinstance(each, logging.Logger)]
        before = [(each, each.level, each.propagate, each.disabled) for each in [root, *named]]
        for each, *_ in before:
            each.setLevel(logging.DEBUG)
            each.propagate, each.disabled = True, False
        root.addHandler(listener)
        try:
            yield
        finally:
            root.removeHandler(listener)
            for each, level, propagate, disabled in before:
                each.setLevel(level)
                each.propagate, each.disabled = propagate, disabled


class _Listener(logging.Handler):
    def __init__(self, sinks: Sinks) -> None:
        super().__init__(logging.DEBUG)
        self._sinks = sinks
        self._format = logging.Formatter("%(name)s %(levelname)s %(message)s")

    def emit(self, record: logging.LogRecord) -> None:
        self._sinks.take("log", f"{self._format.format(record)} {record.args!r}")
