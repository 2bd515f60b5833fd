"""One run's books: its trace, its budget, its journal, and every question put to a model."""

from __future__ import annotations

import asyncio
import json
import secrets
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Literal, cast

from langchain_core.language_models import LanguageModelInput
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage

from hoptrail.budget import Ledger
from hoptrail.characters import whole
from hoptrail.errors import (
    BackendRefused,
    BackendUnavailable,
    BudgetExceeded,
    HoptrailError,
    StorageFailed,
)
from hoptrail.events import Event, RunFinished
from hoptrail.expense import Expense, cost_of, most_input
from hoptrail.kept import kept_as
from hoptrail.lineage import Lineage
from hoptrail.parts import Parts
from hoptrail.prompts import PROMPT_VERSION, render
from hoptrail.reply import read_tool_calls
from hoptrail.request import Request, request_of, schema_of
from hoptrail.secrecy import HiddenStream
from hoptrail.span_export import Place
from hoptrail.tokens import estimated_tokens
from hoptrail.trace import Attempt, Call, Message, RunStatus, ToolCall, Trace

if TYPE_CHECKING:
    from filelock import FileLock
    from langchain_core.runnables import Runnable

RUN_ID = "hoptrail_run_id"
"""The key of ``config["configurable"]`` that names a run; one begun before is resumed."""

Key = Callable[..., str]
"""Names a piece of work by its kind and its content; see `work_key`."""
Purpose = Literal["plan", "revision", "next", "step", "synthesis", "chat"]
GraphName = Literal["multi-hop", "iterative", "chat"]

_FINAL = ("synthesis", "chat")
"""What the last of the budget is kept for."""

_SAVE_EVERY_SECONDS = 0.25


@dataclass(frozen=True)
class Restarted:
    """The text streamed so far is void: another attempt starts."""

    why: str


class Run:
    """A run under way. Opened by `open_run`, ended by `finish`, `pause` or `stop`."""

    def __init__(
        self,
        parts: Parts,
        trace: Trace,
        lock: FileLock,
        lineage: Lineage | None = None,
        began: float | None = None,
    ) -> None:
        self.parts = parts
        self.lineage = lineage
        self.trace = trace
        self.ledger = Ledger(parts.budget, time.monotonic, began)
        self.kept: dict[str, str] = {}
        self._kept_here: set[str] = set()
        self.failures: list[HoptrailError] = []
        self.tools_refused = False
        self.tell: Callable[[Event], None] = lambda _event: None
        self._lock = lock
        self._place: Place | None = parts.spans.place() if parts.spans else None
        self._over = False
        self._calls_at_once = asyncio.Semaphore(parts.concurrency)
        self._started = time.perf_counter()
        self._saved = self._started

    def now(self) -> float:
        """Give the milliseconds since the run started."""
        return round((time.perf_counter() - self._started) * 1000, 3)

    def key(self, kind: str, *content: object) -> str:
        """Name a piece of work of this run; see `work_key`."""
        return work_key(self.trace.question, self.parts.policy, kind, *content)

    async def keep(self, key: str, value: str) -> None:
        """Commit a finished piece of work before anything builds on it."""
        self.kept[key] = value
        self._kept_here.add(key)
        await self.parts.journal.off_loop(self.parts.journal.write, self.trace.run_id, key, value)
        await self._save_now_and_then()

    def recalled(self, key: str, calls: list[Call]) -> Call | None:
        """Give the finished call that was made before; it is not paid again.

        An earlier part of this run made it, or a step that is void since its plan began anew.
        """
        if key not in self.kept:
            return None
        call = kept_as(Call, self.kept[key])
        if key not in self._kept_here:
            self.recount(call)
        calls.append(call)
        return call

    def recount(self, call: Call) -> None:
        """Count what a call of an earlier part of this run has cost; a kept one cost its parent."""
        call.from_journal = True
        if not call.from_run:
            self.ledger.charge(*cost_of(call))
        self._note_degraded(call)

    async def ask(
        self,
        purpose: Purpose,
        request: Request,
        calls: list[Call],
        *,
        model: Runnable[LanguageModelInput, AIMessage] | None = None,
    ) -> str:
        """Put a request to the model and give its whole reply; the call is recorded in ``calls``.

        ``model`` stands in for the run's own: it is that one with tools bound to it. What it
        asks to be called stands in the call's ``tool_calls``.

        Raises:
            BackendError, AllBackendsFailed: nobody answered.
            BudgetExceeded: a limit forbids the call, or the deadline passed during it.
        """
        messages = render(request)
        asked = model or self.parts.model
        async with self._call(purpose, messages, calls, asked) as (call, expense):
            async with self.until_deadline(purpose) as options:
                options |= self._watching(call, expense)
                message = await asked.ainvoke(messages, **options)
            self._record(call, message)
        return call.output

    async def stream(
        self, purpose: Purpose, request: Request, calls: list[Call]
    ) -> AsyncIterator[str | Restarted]:
        """Put a request to the model and give its reply piece by piece; raises as `ask`."""
        messages = render(request)
        async with self._call(purpose, messages, calls, self.parts.model) as (call, expense):
            chunks: list[AIMessageChunk] = []
            text: list[str] = []
            hidden = HiddenStream(self.parts.secrets)
            watching = self._watching(call, expense)
            async for chunk in self._chunks(purpose, messages, watching):
                chunks.append(chunk)
                if restart := chunk.response_metadata.get("attempt_restarted"):
                    text.clear()
                    hidden = HiddenStream(self.parts.secrets)
                    yield Restarted(_why(restart))
                elif piece := whole(str(chunk.text)):
                    expense.wrote(piece)
                    call.first_token_ms = call.first_token_ms or self.now()
                    if shown := hidden.feed(piece):
                        text.append(shown)
                        yield shown
            if rest := hidden.rest():
                text.append(rest)
                yield rest
            self._record(call, _joined(chunks), "".join(text))

    async def finish(self, status: RunStatus, stop_reason: str) -> None:
        """End the run and commit how it ended."""
        trace = self.trace
        trace.status, trace.stop_reason = status, stop_reason
        trace.usage.llm_calls = self.ledger.llm_calls
        trace.usage.input_tokens = self.ledger.input_tokens
        trace.usage.output_tokens = self.ledger.output_tokens
        trace.usage.wall_ms = self.now()
        await self._let_go()
        self.tell(RunFinished(trace))

    async def stop(self, error: BaseException) -> None:
        """End the run after an error or a cancellation; what is finished stays for a resume.

        A run that has ended stays as it ended.
        """
        if self._over:
            return
        interrupted = not isinstance(error, Exception)
        self.trace.error = "" if interrupted else whole(f"{type(error).__name__}: {error}")
        for step in self.trace.steps:
            if step.status == "running":
                step.status = "waiting"
        status: RunStatus = "interrupted" if interrupted else "failed"
        await self.finish(status, "interrupted" if interrupted else "error")

    async def leave(self) -> None:
        """Let go of a run that nobody sees through; one that has ended is left as it is."""
        self.tell = lambda _event: None  # the graph that told has been left
        await self.stop(asyncio.CancelledError())

    async def pause(self) -> None:
        """Let go of the run while somebody looks at its plan."""
        self.trace.status = "interrupted"
        await self._let_go()

    async def _let_go(self) -> None:
        self._over = True
        journal = self.parts.journal
        try:
            await journal.off_loop(journal.let_go, self.trace, self._lock)
        finally:
            if self.parts.spans is not None:
                self.parts.spans.take(self.trace, self._place)

    @asynccontextmanager
    async def guarded(self) -> AsyncIterator[None]:
        """End the run when the block fails or is cancelled."""
        try:
            yield
        except BaseException as error:
            await self.stop(error)
            raise

    async def _chunks(
        self, purpose: Purpose, messages: Sequence[BaseMessage], options: Mapping[str, Any]
    ) -> AsyncIterator[AIMessageChunk]:
        # One time limit per chunk, not one around them all: a plan's stream is opened by one
        # node and read on by the next, and a limit belongs to the task that entered it.
        async with self.until_deadline(purpose) as limits:
            stream = self.parts.model.astream(messages, **limits, **options)
        while True:
            async with self.until_deadline(purpose):
                chunk = await anext(stream, None)
            if chunk is None:
                return
            yield chunk

    @asynccontextmanager
    async def until_deadline(self, purpose: Purpose) -> AsyncIterator[dict[str, Any]]:
        """Limit what is awaited in the block to the run's time; gives the call's options.

        Raises:
            BudgetExceeded: the deadline passed.
        """
        left = self.ledger.seconds_left(final=purpose in _FINAL)
        try:
            async with asyncio.timeout(left) as limit:
                yield {"deadline": left} if self.parts.routed else {}
        except TimeoutError as error:
            if not limit.expired():
                raise
            self.ledger.stopped_by = "deadline"
            seconds = self.parts.budget.deadline
            raise BudgetExceeded("deadline", f"the deadline of {seconds:g} s passed") from error

    @asynccontextmanager
    async def _call(
        self,
        purpose: Purpose,
        messages: Sequence[BaseMessage],
        calls: list[Call],
        model: Runnable[LanguageModelInput, AIMessage],
    ) -> AsyncIterator[tuple[Call, Expense]]:
        prompt = [Message(role=message.type, content=str(message.text)) for message in messages]
        expense = self._expense(purpose, prompt, messages, model)
        asked_ms = self.now()
        async with self._turn_for(purpose, expense):
            started_ms = self.now()
            call = Call(purpose=purpose, prompt=prompt, started_ms=started_ms)
            call.queued_ms = round(started_ms - asked_ms, 3)
            calls.append(call)
            try:
                yield call, expense
            except HoptrailError as error:
                _note_failure(call, error)
                raise
            except Exception as error:
                # A caller's model may raise anything; it is the failure of this one call.
                _note_failure(call, error)
                call.error = self.parts.secrets.hide(call.error)
                name, why = self.parts.model._llm_type, call.error
                raise BackendUnavailable(why, backend=name) from error
            finally:
                call.ms = round(self.now() - call.started_ms, 3)
                expense.settle(call)

    @asynccontextmanager
    async def _turn_for(self, purpose: Purpose, expense: Expense) -> AsyncIterator[None]:
        """Wait for one of the calls at a time, and for what it may spend; neither beyond the time.

        Raises:
            BudgetExceeded: it would go over a limit, or the deadline passed.
        """
        async with self.until_deadline(purpose):
            await self._calls_at_once.acquire()
        try:
            async with self.until_deadline(purpose):
                await expense.reserve()
            yield
        finally:
            self._calls_at_once.release()

    def _expense(
        self,
        purpose: Purpose,
        prompt: Sequence[Message],
        messages: Sequence[BaseMessage],
        model: Runnable[LanguageModelInput, AIMessage],
    ) -> Expense:
        texts = [message.content for message in prompt]
        bound = getattr(model, "kwargs", {})  # a model with tools bound to it is sent with them
        request = request_of(messages)
        others = [json.dumps(bound.get("tools", [])), json.dumps(request and schema_of(request))]
        return Expense(
            self.ledger,
            texts,
            most_input(texts, others),
            final=purpose in _FINAL,
            tells_attempts=self.parts.routed,
        )

    def _watching(self, call: Call, expense: Expense) -> dict[str, Any]:
        """Have the attempts traced and paid for while they are made, where that is possible."""
        return {"attempts": call.attempts, "expense": expense} if self.parts.routed else {}

    def _record(self, call: Call, message: BaseMessage, text: str | None = None) -> None:
        told = message.response_metadata.get("hoptrail", {})
        hide = self.parts.secrets.hide
        call.output = hide(whole(str(message.text))) if text is None else text
        call.tool_calls = [self._without_keys(each) for each in read_tool_calls(message)]
        call.backend = told.get("backend") or self.parts.model._llm_type
        call.model = told.get("model") or message.response_metadata.get("model_name")
        call.reason = told.get("reason", "passed in by the caller")
        call.finish_reason = hide(_finish_reason(message.response_metadata))
        call.degraded = bool(told.get("degraded"))
        call.attempts = [Attempt.model_validate(attempt) for attempt in told.get("attempts", ())]
        self._count(call, message)
        self.warn(*told.get("warnings", ()), *_refusals(call))
        self._note_degraded(call)

    def _without_keys(self, wanted: ToolCall) -> ToolCall:
        """Give a call that a model asks for: no tool is ever told a key of ours."""
        return ToolCall.model_validate(self.parts.secrets.hide_each(wanted.model_dump()))

    def _note_degraded(self, call: Call) -> None:
        if call.degraded and not self.trace.degraded:
            self.trace.degraded = True
            self.warn(f"no language model answered: {call.reason}")

    def warn(self, *warnings: str) -> None:
        """Note what went less than well, each thing once."""
        self.trace.warnings += [each for each in warnings if each not in self.trace.warnings]

    def _count(self, call: Call, message: BaseMessage) -> None:
        if call.degraded:  # the built-in reader spends nothing
            return
        usage = getattr(message, "usage_metadata", None) or {}
        prompt = estimated_tokens(*(part.content for part in call.prompt))
        call.tokens_estimated = not usage
        call.input_tokens = usage.get("input_tokens", prompt)
        call.output_tokens = usage.get("output_tokens", estimated_tokens(call.output))

    async def _save_now_and_then(self) -> None:
        if time.perf_counter() - self._saved > _SAVE_EVERY_SECONDS:
            self._saved = time.perf_counter()
            try:
                await self.parts.journal.off_loop(self.parts.journal.save_trace, self.trace)
            except StorageFailed as error:
                self.warn(f"the trace could not be written while the run went on: {error}")


def work_key(question: str, policy: str, kind: str, *content: object) -> str:
    """Name a piece of work by what it is made from, so that only the same is reused."""
    made_from = repr((content, question, policy, PROMPT_VERSION))
    return f"{kind}:{sha256(made_from.encode('utf-8', 'replace')).hexdigest()[:32]}"


def new_run_id() -> str:
    """Give an id that sorts by time: ``20261122-091500-4f2a9c``."""
    return f"{datetime.now(UTC):%Y%m%d-%H%M%S}-{secrets.token_hex(3)}"


def _joined(chunks: Sequence[BaseMessage]) -> BaseMessage:
    """Add a stream's chunks up, once: after each it would cost the square of their number."""
    first, *others = chunks or [AIMessage("")]
    # A model that does not stream gives one message, which cannot be added to.
    return cast("BaseMessage", first + others) if others else first


def _finish_reason(metadata: Mapping[str, Any]) -> str:
    """Give why a model stopped; Ollama has another name for it than everybody else."""
    return whole(str(metadata.get("finish_reason") or metadata.get("done_reason") or ""))


def _why(restart: object) -> str:
    """Say why a stream starts anew; the router tells ``from``, ``to`` and ``why``."""
    if isinstance(restart, dict):
        return f"{restart['from']} broke off ({restart['why']}), {restart['to']} goes on"
    return str(restart)


def _refusals(call: Call) -> list[str]:
    """Say which backends have to be seen to: another answered, and nobody would notice."""
    refused = BackendRefused.__name__
    made = [attempt for attempt in call.attempts if attempt.outcome == refused]
    return [f"{attempt.backend}: {attempt.detail}" for attempt in made]


def _note_failure(call: Call, error: Exception) -> None:
    call.error = whole(f"{type(error).__name__}: {error}")
    call.attempts = [Attempt.model_validate(made) for made in getattr(error, "attempts", ())]
