"""Every error Hoptrail raises, in one tree.

HoptrailError
├── SettingsError            a setting is missing or wrong: names it, and the fix
├── PlanError                a text is not a plan
├── BackendError             one backend could not answer (.backend, .model)
│   ├── BackendUnavailable   refused, reset, timed out, 5xx: another may answer
│   ├── BackendBusy          asked to come back later (.retry_after seconds)
│   ├── BackendRefused       key, credit or model: wrong until someone changes it
│   ├── RequestRefused       this very request is wrong: asking again cannot help
│   │   └── RequestTooLarge  too much for this backend: another may take it
│   └── InvalidResponse      it answered, but not with a complete, readable answer
│       └── AnswerTooLarge   more, or deeper, than any answer is
├── AllBackendsFailed        every backend that was asked failed (.causes, in order)
├── NoBackend                nothing is configured that could answer what was asked
├── BudgetExceeded           steps, calls, tokens or the deadline are spent (.limit)
├── RetrievalError           documents or index cannot be read
│   ├── SpaceMismatch        vectors of two embedding spaces must not be compared
│   └── IndexDamaged         the index on disk is not what was written
├── AnswerTorn               text that was sent on became void (.answer: the whole one)
├── ModelNotFound            no model goes by this id (.known: those that do)
├── FactNotFound             nothing is remembered under this id
├── FactRefused              a text that says nothing cannot be remembered
├── RunNotFound              no run of this id was ever admitted
├── RunBusy                  another process is working on this run
├── RunOfAnother             the run of this id asks another question
├── RunCancelled             somebody stopped the run before its end
├── ChangeImpossible         a run cannot be forked with this change
├── TooManyRuns              as many runs as may are under way (.retry_after seconds)
├── ShuttingDown             this server takes no more runs
├── TraceUnreadable          the trace is damaged or of a newer version
├── StorageFailed            a file that Hoptrail keeps could not be read or written
└── ExportFailed             nobody took the spans of a run

Errors rise. None of them ever travels as the text of an answer.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar


class HoptrailError(Exception):
    """The root of the tree; catch it to catch everything Hoptrail raises on purpose.

    ``attempts`` are the calls that were made before it was raised, each as
    `hoptrail.trace.Attempt` dumps it; empty when it was no failure of a routed call.
    """

    attempts: tuple[dict[str, object], ...] = ()


class SettingsError(HoptrailError):
    """A setting is missing or wrong."""


class PlanError(HoptrailError):
    """A text cannot be read as a plan."""


class BackendError(HoptrailError):
    """One backend could not answer; ``fix`` says what to do about it, where that is known.

    The class attributes are the router's policy for the failure: whether the same backend may
    be asked once more, whether the next one may be asked, whether it counts towards the
    breaker, and for how many seconds the backend is benched at once.
    """

    retry_same: ClassVar[bool] = False
    fail_over: ClassVar[bool] = True
    counts_for_breaker: ClassVar[bool] = True
    bench_seconds: ClassVar[float] = 0.0

    def __init__(
        self,
        message: str,
        *,
        backend: str,
        model: str | None = None,
        status: int | None = None,
        retry_after: float | None = None,
        fix: str = "",
    ) -> None:
        super().__init__(message)
        self.fix = fix
        self.backend = backend
        self.model = model
        self.status = status
        self.retry_after = retry_after

    def __reduce__(self) -> tuple[object, ...]:
        return (_rebuild_backend_error, (type(self), str(self), dict(self.__dict__)))


def _rebuild_backend_error(
    kind: type[BackendError], message: str, fields: dict[str, object]
) -> BackendError:
    error = kind(message, backend=str(fields["backend"]))
    error.__dict__.update(fields)
    return error


class BackendUnavailable(BackendError):
    """Refused, reset, timed out or broken: the next backend may answer."""

    retry_same = True


class BackendBusy(BackendError):
    """The backend asked to come back later (429, or 503 while a model loads)."""

    counts_for_breaker = False
    bench_seconds = 10.0


class BackendRefused(BackendError):
    """Key, credit, permission or model: wrong until someone changes it."""

    counts_for_breaker = False
    bench_seconds = 300.0


class RequestRefused(BackendError):
    """This very request is wrong; asking anyone again cannot help."""

    fail_over = False
    counts_for_breaker = False


class RequestTooLarge(RequestRefused):
    """The request is too much for this backend; another may have room for it."""

    fail_over = True


class InvalidResponse(BackendError):
    """The backend answered, but not with a complete, readable answer."""

    retry_same = True


class AnswerTooLarge(InvalidResponse):
    """More, or more deeply nested, than any answer is; to ask again would bring as much."""

    retry_same = False


class AllBackendsFailed(HoptrailError):
    """Every backend that was asked failed; ``causes`` holds each failure, first one first."""

    def __init__(self, causes: Sequence[BackendError]) -> None:
        self.causes = tuple(causes)
        lines = "; ".join(f"{cause.backend}: {cause}" for cause in self.causes)
        super().__init__(f"no backend answered ({lines})" if lines else "no backend answered")

    def __reduce__(self) -> tuple[object, ...]:
        return (type(self), (self.causes,), {"attempts": self.attempts})


class NoBackend(HoptrailError):
    """Nothing is configured that could answer what was asked."""


class BudgetExceeded(HoptrailError):
    """A budget of the run is spent; ``limit`` names which one."""

    def __init__(self, limit: str, message: str) -> None:
        super().__init__(message)
        self.limit = limit

    def __reduce__(self) -> tuple[object, ...]:
        return (type(self), (self.limit, str(self)))


class RetrievalError(HoptrailError):
    """Documents or index cannot be read."""


class SpaceMismatch(RetrievalError):
    """Vectors of two embedding spaces must not be compared."""


class IndexDamaged(RetrievalError):
    """The index on disk is not what was written."""


class AnswerTorn(HoptrailError):
    """An answer broke off after some of its text had been sent where none can be taken back.

    Text of two models is never joined; ``answer`` is the whole one of who took over.
    """

    def __init__(self, why: str, run_id: str, answer: str) -> None:
        super().__init__(
            f"{why}: the text sent so far is void. The whole answer stands in this error, "
            f"and in the trace of run {run_id}"
        )
        self.why, self.run_id, self.answer = why, run_id, answer

    def __reduce__(self) -> tuple[object, ...]:
        return (type(self), (self.why, self.run_id, self.answer))


class ModelNotFound(HoptrailError):
    """No model goes by this id; ``known`` are those that do, where they can be counted."""

    def __init__(self, model: str, known: Sequence[str] = ()) -> None:
        choice = f": choose one of {', '.join(known)}" if known else ""
        super().__init__(f"there is no model {model!r}{choice}")
        self.model, self.known = model, tuple(known)

    def __reduce__(self) -> tuple[object, ...]:
        return (type(self), (self.model, self.known))


class FactNotFound(HoptrailError):
    """Nothing is remembered under this id."""


class FactRefused(HoptrailError):
    """A text that says nothing cannot be remembered."""


class RunNotFound(HoptrailError):
    """No run of this id was ever admitted."""


class RunBusy(HoptrailError):
    """Another process is working on this run."""


class RunOfAnother(HoptrailError):
    """The run of this id asks another question."""


class RunCancelled(HoptrailError):
    """Somebody stopped the run before its end; what is finished stays for a resume."""


class ChangeImpossible(HoptrailError):
    """A run cannot be forked with this change: it has no such step, or nothing would differ."""


class TooManyRuns(HoptrailError):
    """As many runs as may are under way; ``retry_after`` is in seconds."""

    def __init__(self, limit: int, retry_after: float = 1.0) -> None:
        super().__init__(f"{limit} runs are under way, and no more may be: ask again shortly")
        self.limit, self.retry_after = limit, retry_after

    def __reduce__(self) -> tuple[object, ...]:
        return (type(self), (self.limit, self.retry_after))


class ShuttingDown(HoptrailError):
    """This server takes no more runs: it is being stopped."""


class TraceUnreadable(HoptrailError):
    """The trace is damaged, or was written by a newer version."""


class StorageFailed(HoptrailError):
    """A file that Hoptrail keeps could not be read or written: names it, and what is wrong."""


class ExportFailed(HoptrailError):
    """Nobody took the spans of a run, where they were sent or written to."""
