"""Put a response on the wire, healthy or broken as a fault says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tests.providers.breakage import BEFORE_ANSWER, CUTS, TRANSFERS, cut_document
from tests.providers.fault import BODY, HTML, STREAM, Fault
from tests.providers.script import Reply
from tests.providers.stream import Stream, held, packed, wait
from tests.providers.wire import JSON, Exchange


async def fail_early(exchange: Exchange, fault: Fault | None) -> bool:
    """Emit a fault that needs no healthy answer; False when this is not such a fault."""
    if fault is None:
        return False
    if breaker := BEFORE_ANSWER.get(fault.kind):
        await breaker(exchange, fault)
        return True
    if row := fault.error(exchange.request.path):
        body, content_type = _error_body(row.body)
        headers = dict(row.headers)
        content_type = headers.pop("content-type", content_type)
        await exchange.send(row.status, fault.told(body, exchange.key), content_type, headers)
        return True
    return False


def _error_body(body: Any) -> tuple[bytes, str | None]:
    if isinstance(body, bytes):
        return body, "text/html" if body == HTML else None
    if isinstance(body, str):
        return body.encode(), "text/plain; charset=utf-8"
    return packed(body), JSON


async def send_document(
    exchange: Exchange,
    payload: bytes,
    fault: Fault | None = None,
    content_type: str = JSON,
    headers: Mapping[str, str] | None = None,
) -> None:
    """Send one JSON document, broken as the fault says."""
    kind = fault.kind if fault else ""
    if fault and (mutate := BODY.get(kind)):
        payload = fault.told(mutate(payload), exchange.key)
    if fault and (transfer := TRANSFERS.get(kind)):
        await transfer(exchange, payload, fault, content_type)
    elif fault and kind in STREAM:
        await cut_document(exchange, payload, fault, content_type)
    else:
        await exchange.send(200, payload, content_type, headers)


async def send_stream(
    exchange: Exchange, stream: Stream, reply: Reply, fault: Fault | None = None
) -> None:
    """Send a token stream at the reply's pace, broken as the fault says."""
    kind = fault.kind if fault else ""
    if fault and kind in ("error_body", "error_object_body", "error_list"):
        await exchange.send(200, fault.told(BODY[kind](b""), exchange.key))
        return
    if mutate := BODY.get(kind):
        stream.tokens = [mutate(token) for token in stream.tokens]
    if fault and (transfer := TRANSFERS.get(kind)):
        whole = b"".join(map(stream.frame, [*stream.opening, *stream.tokens, *stream.closing]))
        await transfer(exchange, whole + stream.done, fault, stream.content_type)
        return
    _vary(stream, kind)
    await _send_tokens(exchange, stream, reply, fault)


def _vary(stream: Stream, kind: str) -> None:
    frame, comment = stream.frame, stream.comment
    match kind:
        case "no_done":
            stream.done = b""
        case "done_glued":
            stream.done = stream.done.replace(b"data: ", b"data:")
        case "data_after_done":
            stream.done += b"".join(map(frame, stream.tokens[:1]))
        case "crlf":
            stream.frame = lambda payload: frame(payload).replace(b"\n", b"\r\n")
            stream.done = stream.done.replace(b"\n", b"\r\n")
        case "comments":
            stream.frame = lambda payload: comment + frame(payload)


async def _send_tokens(
    exchange: Exchange, stream: Stream, reply: Reply, fault: Fault | None
) -> None:
    kind = fault.kind if fault else ""
    cut = CUTS.get(kind)
    if stream.late_header:
        await wait(exchange, reply.first_token_delay)
    exchange.open(stream.content_type, stream.headers)
    if kind != "empty_stream":
        _send_payloads(exchange, stream, stream.opening)
    if not stream.late_header:
        await wait(exchange, reply.first_token_delay)
    for index, token in enumerate(stream.tokens):
        if fault and cut and index >= fault.after:
            break
        await wait(exchange, reply.pace if index else 0)
        await held(exchange, reply, index)
        await _send_token(exchange, stream.frame(token), split=kind == "split_utf8")
    if fault and cut:
        await cut(exchange, stream, fault)
        return
    _send_payloads(exchange, stream, stream.closing)
    if stream.done:
        exchange.chunk(stream.done)
    await exchange.finish()


def _send_payloads(exchange: Exchange, stream: Stream, payloads: Sequence[bytes]) -> None:
    for payload in payloads:
        exchange.chunk(stream.frame(payload))


async def _send_token(exchange: Exchange, framed: bytes, *, split: bool) -> None:
    """Queue one token; ``split`` puts a chunk border into every character wider than a byte."""
    if not split:
        exchange.chunk(framed)
        return
    start = 0
    for position, byte in enumerate(framed):
        if byte & 0xC0 == 0x80:
            exchange.chunk(framed[start:position])
            await wait(exchange, 0.001)
            start = position
    exchange.chunk(framed[start:])
