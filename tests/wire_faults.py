"""What can go wrong on the wire, and what it has to mean: the matrix, as data.

A `Row` is one fault and, for each path, the name of a `Verdict`. A verdict is what the router and
the embedders owe to a whole class of errors, whatever caused it, so that this table is short.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from email.utils import formatdate
from typing import Any

from hoptrail.embeddings.endpoint import TooSlow
from hoptrail.errors import (
    AnswerTooLarge,
    BackendBusy,
    BackendError,
    BackendRefused,
    BackendUnavailable,
    InvalidResponse,
    RequestRefused,
    RequestTooLarge,
)
from tests.providers import Fault

SAID = "alpha beta gamma delta epsilon žluťoučký"
"""What a provider answers: six tokens, and some characters wider than a byte."""


@dataclass(frozen=True)
class Verdict:
    """What one class of errors means to a call, and to the calls after it."""

    error: type[BackendError] | None
    """None: it is an answer."""
    asks: int = 1
    """How often one call asks the backend that fails so."""
    next: bool = True
    """Whether the next backend is asked."""
    breaker: bool = False
    """Whether five in a row open the breaker, for 30 s."""
    bench: float = 0.0
    """Seconds for which one of them keeps calls away."""


VERDICTS: dict[str, Verdict] = {
    "answer": Verdict(None),
    "broken": Verdict(BackendUnavailable, asks=2, breaker=True),
    "invalid": Verdict(InvalidResponse, asks=2, breaker=True),
    "invalid, once": Verdict(InvalidResponse, breaker=True),
    "too much": Verdict(AnswerTooLarge, breaker=True),
    "slow": Verdict(BackendUnavailable, asks=2, breaker=True),
    "too slow": Verdict(TooSlow, breaker=True),
    "busy": Verdict(BackendBusy, bench=10.0),
    "refused": Verdict(BackendRefused, bench=300.0),
    "request": Verdict(RequestRefused, next=False),
    "too long": Verdict(RequestTooLarge),
}

PROBED = {
    "answer": "up",
    "broken": "down",
    "invalid": "down",
    "too much": "down",
    "slow": "down",
    "busy": "loading",
    "refused": "misconfigured",
    "request": "down",
    "too long": "down",
}
"""What a probe says of a backend whose list of models fails so."""

CHATS = ("huggingface", "ollama")
EMBEDDERS = ("huggingface embedder", "ollama embedder")
PROBES = ("huggingface probe", "ollama probe")


@dataclass(frozen=True)
class Row:
    """One fault: what it means, and on which paths it means something else."""

    name: str
    fault: Fault
    verdict: str
    but: Mapping[str, str] = field(default_factory=dict)
    bench: float | None = None
    """Where the server itself says for how long it is to be left alone."""
    text: str = SAID
    """What an answer says, where the fault is in its text."""
    input_tokens: int | None = None
    """What the server says it has read, where it lies."""

    @property
    def hangs(self) -> bool:
        """Whether only a limit of time ends it."""
        return "slow" in (self.verdict, *self.but.values())

    def on(self, path: str) -> Verdict:
        """Give what the fault means on a path."""
        verdict = VERDICTS[self.named(path)]
        if self.bench is None or not verdict.bench:
            return verdict
        return Verdict(verdict.error, verdict.asks, verdict.next, verdict.breaker, self.bench)

    def named(self, path: str) -> str:
        """Give the name of the verdict on a path, or on all paths of its kind."""
        kind = path.rpartition(" ")[2] if " " in path else "chat"
        verdict = self.but.get(path, self.but.get(kind, self.verdict))
        # An embedder knows that it only waited, and does not wait again.
        return "too slow" if (kind, verdict) == ("embedder", "slow") else verdict

    def sends(self, path: str) -> int:
        """Give the requests of one attempt: Ollama is asked anew in the words of older servers."""
        old = path == "ollama" and self.fault.kind == "status" and self.fault.status in (400, 422)
        return 2 if old else 1

    def concerns(self, path: str) -> bool:
        """Say whether the fault can be put on a path at all."""
        return self.named(path) != ""


def _row(name: str, verdict: str, **more: Any) -> Row:
    """Give the row of a fault that goes by its own name; options of it go to the fault."""
    own = {key: more.pop(key) for key in ("after", "seconds", "size", "body") if key in more}
    return Row(name, Fault(more.pop("kind", name), echo=True, **own), verdict, **more)


def _status(status: int, verdict: str, envelope: str = "object", **more: Any) -> Row:
    fault = Fault("status", status=status, envelope=envelope, echo=True)
    return Row(f"{status} ({envelope})", fault, verdict, **more)


def _retry_after(name: str, value: str, bench: float) -> Row:
    fault = Fault("status", status=429, headers={"retry-after": value}, echo=True)
    return Row(f"429 in {name}", fault, "busy", bench=bench)


def _loading(name: str, estimate: object, bench: float) -> Row:
    body = {"error": "Model X is loading", "estimated_time": estimate}
    return Row(f"503 for {name}", Fault("status", status=503, body=body), "busy", bench=bench)


# The Ollama server answers 400 to whatever has no status of its own, a dead runner too.
_OLLAMAS_400 = {"ollama embedder": "broken"}

CONNECTION = (
    _row("reset", "broken"),
    _row("close", "broken"),
    _row("hang", "slow"),
    _row("half_header", "slow"),
    _row("half_header_reset", "broken"),
    _row("garbage", "broken"),
    _row("http_9", "broken"),
    _row("huge_header", "broken"),
    _row("many_headers", "broken"),
    _row("length_and_chunked", "broken"),
    _row("negative_length", "broken"),
)

STATUS = (
    _status(400, "request", but=_OLLAMAS_400),
    _status(401, "refused"),
    _status(403, "refused"),
    _status(404, "refused", but={"huggingface probe": "answer"}),
    _status(405, "request", but=_OLLAMAS_400 | {"huggingface probe": "answer"}),
    _status(408, "busy"),
    _status(409, "request", but=_OLLAMAS_400),
    _status(413, "too long", but=_OLLAMAS_400),
    _status(415, "request", but=_OLLAMAS_400),
    _status(422, "request", but=_OLLAMAS_400),
    _status(451, "refused"),
    _status(500, "broken"),
    _status(501, "broken", but={"embedder": "refused"}),
    _status(502, "broken", "html"),
    _status(504, "broken", "html"),
    _status(520, "broken", "text"),
    _status(529, "broken"),
    _status(599, "broken", "empty"),
)

RATE = (
    _retry_after("a second", "1", 1.0),
    _status(429, "busy"),
    _retry_after("no time", "0", 1.0),
    _retry_after("a century, as a date", formatdate(4e9, usegmt=True), 120.0),
    _retry_after("a time long past", formatdate(1e9, usegmt=True), 1.0),
    _retry_after("a year", "31536000", 120.0),
    _retry_after("-5 s", "-5", 10.0),
    _retry_after("soon", "soon", 10.0),
    _retry_after("NaN", "NaN", 10.0),
    _retry_after("400 digits", "9" * 400, 10.0),
    _loading("20 s", 20.0, 20.0),
    _loading("a day", 86400, 60.0),
    _loading("-3 s", -3, 10.0),
    _loading("soon", "soon", 10.0),
    _loading("400 digits", 10**400, 10.0),
    _row("server_error_html", "broken"),
    _row("redirect_off_host", "refused"),
    _row("redirect_loop", "refused"),
    _row("redirect_file", "refused"),
    _row("no_content", "invalid"),
    _row("switching_protocols", "invalid"),
)

DISGUISED = (
    _row("error_body", "invalid"),
    _row("error_object_body", "broken", but={"ollama": "invalid", "embedder": "invalid"}),
    _row("error_list", "invalid"),
    _row("empty_body", "invalid"),
    Row(
        "200 and loading",
        Fault("status", status=200, body={"error": "loading", "estimated_time": 20.0}),
        "busy",
        but={"ollama": "invalid", "ollama probe": "invalid"},
        bench=20.0,
    ),
)

BODY = (
    _row("truncated_json", "invalid"),
    _row("trailing_garbage", "invalid"),
    _row("nan", "invalid"),
    _row("null", "invalid"),
    _row("wrong_type", "invalid"),
    _row("no_choices", "invalid"),
    _row("content_null", "invalid", but={"probe": ""}),
    _row("content_number", "invalid", but={"probe": ""}),
    _row("nested_content", "too much", but={"probe": ""}),
    _row("deep_json", "too much"),
    _row("huge_int", "invalid"),
    _row("duplicate_keys", "invalid", but={"probe": ""}),
    _row("lone_surrogate", "answer", but={"embedder": "invalid", "probe": ""}, text="a?z" * 6),
    _row("nul", "answer", but={"embedder": "invalid", "probe": ""}, text="az" * 6),
    _row("lc_envelope", "invalid"),
    _row("bad_utf8", "invalid", but={"probe": ""}),
    _row("utf16", "invalid"),
    _row("bom", "answer"),
    _row("html_200", "invalid"),
    _row("no_content_type", "answer"),
    _row("corrupt_gzip", "invalid"),
    Row("read -1e9 tokens", Fault("comments"), "answer", input_tokens=-(10**9)),
    Row("read 1e60 tokens", Fault("comments"), "answer", input_tokens=10**60),
)

SIZE = (
    _row("gzip_bomb", "invalid"),
    _row("length_too_long", "broken", but={"huggingface": "answer"}),
    _row("reset_in_body", "broken"),
    _row("infinite_body", "too much", but={"chat": "invalid"}),
    _row("dribble", "slow", but={"huggingface probe": "answer"}),
    _row("first byte after 0.5 s", "answer", kind="slow_first_byte", seconds=0.5),
    _row("first byte after 60 s", "slow", kind="slow_first_byte"),
)

STREAM = (
    *(
        _row(f"{kind} after {after}", verdict, kind=kind, after=after)
        for kind, verdict in (
            ("stream_reset", "broken"),
            ("stream_close", "broken"),
            ("stream_stall", "slow"),
            ("stream_end", "invalid"),
            ("line_reset", "broken"),
        )
        for after in (0, 1, 5)
    ),
    _row("empty_stream", "invalid"),
    _row("no_done", "answer"),
    *(
        _row(
            f"error_event after {after}",
            "broken",
            kind="error_event",
            after=after,
            but={"ollama": "invalid"},
        )
        for after in (0, 1, 5)
    ),
    _row("bad_line", "invalid", after=1),
    _row("data_after_done", "answer"),
    _row("done_glued", "answer"),
    _row("crlf", "answer"),
    _row("role_only", "invalid"),
    _row("bad_chunk_size", "broken", after=1),
    _row("split_utf8", "answer"),
    _row("giant_line", "too much", after=1),
    _row("endless_tokens", "too much", after=1),
    _row("endless_comments", "slow", after=1),
)

VECTORS = (
    _row("too_few", "invalid"),
    _row("too_many", "invalid"),
    _row("zero", "invalid"),
    _row("nan_vectors", "invalid", but={"ollama embedder": "broken"}),
    _row("null_vectors", "invalid"),
    _row("null_numbers", "invalid"),
    _row("wrong_width", "invalid, once"),
    _row("mixed_width", "invalid"),
    _row("strings", "invalid"),
    _row("huge_numbers", "invalid"),
    _row("empty", "invalid"),
    _row("empty_vectors", "invalid"),
)

CONTROL = (Row("nothing at all", Fault("comments"), "answer"),)

GROUPS: dict[str, tuple[Row, ...]] = {
    "connection": CONNECTION,
    "status": STATUS,
    "rate": RATE,
    "disguised": DISGUISED,
    "body": BODY,
    "size": SIZE,
    "stream": STREAM,
    "vectors": VECTORS,
    "control": CONTROL,
}
CHAT_GROUPS = tuple(name for name in GROUPS if name != "vectors")
EMBEDDING_GROUPS = tuple(name for name in GROUPS if name != "stream")
PROBE_GROUPS = ("connection", "status", "rate", "disguised", "body", "size", "control")
