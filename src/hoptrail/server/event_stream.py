"""Server-sent events: frames to a client that may be slow, or leave.

Not sse-starlette: it begins to read the frames only after it has sent the headers, so that a
client that leaves before leaves everything behind the frames running; it cannot answer a failure
before the first frame with a status; and on SIGTERM it ends every stream at once, where runs are
to be given their time.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import aclosing

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from hoptrail.answer import answer_of, step_json
from hoptrail.errors import HoptrailError
from hoptrail.events import Event, RunFinished, RunStarted, StepFinished
from hoptrail.server.gone import ClientGone, until_gone
from hoptrail.server.live_runs import RunFailed
from hoptrail.server.problems import Refusal, problem_of
from hoptrail.time_limit import TimeLimit

SEND_SECONDS = 1.0
"""How long a client may take to make room for the next frame."""
FIRST_SECONDS = 1.0
"""How long a failure may still become a status; then the headers are sent."""
PING_SECONDS = 10.0

_PING = b": ping\n\n"

Frame = bytes
Frames = AsyncGenerator[Frame, None]


class SlowReader(Exception):
    """The client does not read: its connection is cut."""


def frame(data: Mapping[str, object] | str, event: str = "", event_id: str = "") -> Frame:
    """Give one server-sent event; what is no text is sent as JSON."""
    text = data if isinstance(data, str) else compact_json(data)
    lines = [f"event: {event}"] if event else []
    lines += [f"id: {event_id}"] if event_id else []
    lines += [f"data: {line}" for line in text.split("\n")]
    return ("\n".join(lines) + "\n\n").encode("utf-8", "replace")


def compact_json(value: object) -> str:
    """Give JSON on one line, without spaces."""
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))


def event_json(event: Event | RunFailed) -> dict[str, object]:
    """Give an event of a run as JSON. The end carries the answer, but no prompts."""
    match event:
        case RunFinished():
            answer = answer_of(event.trace).as_json()
            return {"type": event.type, "status": event.trace.status, "answer": answer}
        case StepFinished():
            return {"type": event.type, "step": step_json(event.step)}
        case RunStarted():
            # The record that fills up is at /runs/{id}/trace.json at any time.
            return _fields(event, without="trace")
        case RunFailed():
            return {"type": event.type, **failure_json(event.error)}
        case _:
            return _fields(event)


def failure_json(error: Exception) -> dict[str, object]:
    """Give an error as JSON, as every route tells it."""
    if isinstance(error, HoptrailError):
        return problem_of(error).model_dump()
    return Refusal(500, "an error of the server's own; its log says more").problem.model_dump()


def failure_frame(error: Exception) -> Frame:
    """Give an error as a server-sent event."""
    return frame(failure_json(error), "error")


class EventStream(Response):
    """A stream of server-sent events.

    ``frames`` is begun before anything is sent, and closed when the client leaves or stops
    reading. An error that rises before the first frame becomes a status like any endpoint's;
    one that comes later becomes a last frame, by ``on_error``.
    """

    media_type = "text/event-stream"

    def __init__(
        self,
        frames: Frames,
        *,
        headers: Mapping[str, str] | None = None,
        on_error: Callable[[Exception], Frame] = failure_frame,
    ) -> None:
        self.status_code = 200
        self.background = None
        # Proxies such as nginx must not gather what is to be read as it comes.
        self.init_headers({"X-Accel-Buffering": "no", **(headers or {})})
        self._frames = frames
        self._on_error = on_error
        self._begun = False
        self._failure: Exception | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send everything there is to send."""
        try:
            async with asyncio.TaskGroup() as group:
                beside = [
                    group.create_task(until_gone(receive)),
                    group.create_task(self._ping(send)),
                ]
                await self._pump(send)
                for task in beside:
                    task.cancel()
        except* ClientGone:
            pass
        except* SlowReader:
            _cut(scope)
        if self._failure is not None and not (self._begun and _is_told(self._failure)):
            raise self._failure

    async def _pump(self, send: Send) -> None:
        async with aclosing(self._frames) as frames:
            try:
                async for each in frames:
                    await self._send(send, each)
            except (ClientGone, SlowReader):
                raise
            except Exception as error:  # noqa: BLE001 # raised below, out of the group's wrapping
                self._failure = error
                if not self._begun:
                    return
                await self._send(send, self._on_error(error))
        await self._send(send, b"", more=False)

    async def _ping(self, send: Send) -> None:
        await asyncio.sleep(FIRST_SECONDS)
        while True:
            await self._send(send, _PING)
            await asyncio.sleep(PING_SECONDS)

    async def _send(self, send: Send, body: bytes, *, more: bool = True) -> None:
        try:
            async with TimeLimit(SEND_SECONDS):
                if not self._begun:
                    self._begun = True
                    start = {"type": "http.response.start", "status": 200}
                    await send({**start, "headers": self.raw_headers})
                await send({"type": "http.response.body", "body": body, "more_body": more})
        except TimeoutError as error:
            raise SlowReader from error


def _is_told(error: Exception) -> bool:
    """Say whether a frame told all there is; an error of our own belongs into the log, too."""
    return isinstance(error, HoptrailError)


def _cut(scope: Scope) -> None:
    """Cut the connection: closing it would wait for the very reader who does not read."""
    abort = scope.get("extensions", {}).get("hoptrail.abort")
    if abort is not None:
        abort()


def _fields(event: Event, without: str = "") -> dict[str, object]:
    return {name: _plain(getattr(event, name)) for name in event.__slots__ if name != without}


def _plain(value: object) -> object:
    dump = getattr(value, "model_dump", None)
    return value if dump is None else dump(mode="json")
