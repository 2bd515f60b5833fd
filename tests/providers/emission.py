"""Put a response on the wire, healthy or broken as a fault says."""

from __future__ import annotations

import asyncio
import gzip
import json
import zlib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tests.providers.fault import BODY, HTML, STREAM, Fault
from tests.providers.script import Reply
from tests.providers.wire import JSON, Exchange

MEBIBYTE = 1 << 20


@dataclass
class Stream:
    """A token stream, before it is framed: each payload is one JSON document."""

    content_type: str
    frame: Callable[[bytes], bytes]
    opening: list[bytes]
    tokens: list[bytes]
    closing: list[bytes]
    error: bytes
    """Framed: how this server tells of an error in mid-stream."""
    done: bytes = b""
    """Framed: what comes after the last payload."""
    comment: bytes = b"\n"
    """Framed: something that means nothing."""
    headers: Mapping[str, str] = field(default_factory=dict)
    late_header: bool = False
    """The header is sent with the first token, not before it."""


def packed(document: Any) -> bytes:
    """Compact JSON in raw UTF-8."""
    return json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode()


async def pause(seconds: float) -> None:
    """Sleep, if there is anything to sleep."""
    if seconds > 0:
        await asyncio.sleep(seconds)


async def fail_early(exchange: Exchange, fault: Fault | None) -> bool:
    """Emit a fault that needs no healthy answer; False when this is not such a fault."""
    if fault is None:
        return False
    if breaker := _BEFORE_ANSWER.get(fault.kind):
        await breaker(exchange, fault)
        return True
    if row := fault.error(exchange.request.path):
        body, content_type = _error_body(row.body)
        headers = dict(row.headers)
        content_type = headers.pop("content-type", content_type)
        await exchange.send(row.status, body, content_type, headers)
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
    if mutate := BODY.get(kind):
        payload = mutate(payload)
    if fault and (transfer := _TRANSFERS.get(kind)):
        await transfer(exchange, payload, fault, content_type)
    elif fault and kind in STREAM:
        await _cut_document(exchange, payload, fault, content_type)
    else:
        await exchange.send(200, payload, content_type, headers)


async def send_stream(
    exchange: Exchange, stream: Stream, reply: Reply, fault: Fault | None = None
) -> None:
    """Send a token stream at the reply's pace, broken as the fault says."""
    kind = fault.kind if fault else ""
    if kind in ("error_body", "error_object_body", "error_list"):
        await exchange.send(200, BODY[kind](b""))
        return
    if mutate := BODY.get(kind):
        stream.tokens = [mutate(token) for token in stream.tokens]
    if fault and (transfer := _TRANSFERS.get(kind)):
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
    cut = _CUTS.get(kind)
    if stream.late_header:
        await _wait(exchange, reply.first_token_delay)
    exchange.open(stream.content_type, stream.headers)
    if kind != "empty_stream":
        _send_payloads(exchange, stream, stream.opening)
    if not stream.late_header:
        await _wait(exchange, reply.first_token_delay)
    for index, token in enumerate(stream.tokens):
        if fault and cut and index >= fault.after:
            break
        await _wait(exchange, reply.pace if index else 0)
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
            await _wait(exchange, 0.001)
            start = position
    exchange.chunk(framed[start:])


async def _wait(exchange: Exchange, seconds: float) -> None:
    """Let the client have what is queued, then pause."""
    if seconds > 0:
        await exchange.flush()
        await asyncio.sleep(seconds)


async def _hang(exchange: Exchange, fault: Fault) -> None:
    await exchange.flush()
    await asyncio.sleep(3600 if fault.seconds is None else fault.seconds)
    await exchange.close()


async def _reset(exchange: Exchange, _: Fault) -> None:
    await exchange.reset()


async def _close(exchange: Exchange, _: Fault) -> None:
    await exchange.close()


async def _half_header(exchange: Exchange, fault: Fault) -> None:
    exchange.raw(b"HTTP/1.1 200 OK\r\ncontent-type: applic")
    await _hang(exchange, fault)


async def _half_header_reset(exchange: Exchange, _: Fault) -> None:
    exchange.raw(b"HTTP/1.1 200 OK\r\ncontent-type: applic")
    await exchange.reset()


def _raw(data: Callable[[], bytes]) -> Callable[[Exchange, Fault], Awaitable[None]]:
    async def send(exchange: Exchange, _: Fault) -> None:
        exchange.raw(data())
        await exchange.close()

    return send


def _header_block(lines: str) -> bytes:
    return f"HTTP/1.1 200 OK\r\n{lines}\r\n\r\n{{}}".encode()


async def _empty_body(exchange: Exchange, _: Fault) -> None:
    await exchange.send(200, b"")


async def _html_200(exchange: Exchange, _: Fault) -> None:
    await exchange.send(200, HTML, "text/html; charset=utf-8")


_BEFORE_ANSWER: dict[str, Callable[[Exchange, Fault], Awaitable[None]]] = {
    "reset": _reset,
    "close": _close,
    "hang": _hang,
    "half_header": _half_header,
    "half_header_reset": _half_header_reset,
    "garbage": _raw(lambda: b"\x16\x03\x01 this is not HTTP\r\n\r\n"),
    "http_9": _raw(lambda: b"HTTP/9.9 200 OK\r\ncontent-length: 2\r\n\r\n{}"),
    "huge_header": _raw(lambda: _header_block("content-length: 2\r\nx-filler: " + "a" * MEBIBYTE)),
    "many_headers": _raw(
        lambda: _header_block("\r\n".join(["content-length: 2"] + ["x-filler: a"] * 20_000))
    ),
    "length_and_chunked": _raw(
        lambda: _header_block("content-length: 2\r\ntransfer-encoding: chunked")
    ),
    "negative_length": _raw(lambda: _header_block("content-length: -5")),
    "empty_body": _empty_body,
    "html_200": _html_200,
}


async def _no_content_type(exchange: Exchange, data: bytes, _: Fault, __: str) -> None:
    await exchange.send(200, data, None)


async def _corrupt_gzip(exchange: Exchange, data: bytes, _: Fault, content_type: str) -> None:
    broken = gzip.compress(data)[:10] + b"\xff" * 32
    await exchange.send(200, broken, content_type, {"content-encoding": "gzip"})


async def _gzip_bomb(exchange: Exchange, _: bytes, fault: Fault, content_type: str) -> None:
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    block = b" " * MEBIBYTE
    parts = [packer.compress(block) for _ in range(max(fault.size // MEBIBYTE, 1))]
    bomb = b"".join([*parts, packer.flush()])
    await exchange.send(200, bomb, content_type, {"content-encoding": "gzip"})


async def _utf16(exchange: Exchange, data: bytes, _: Fault, content_type: str) -> None:
    await exchange.send(200, data.decode("utf-8", "replace").encode("utf-16"), content_type)


async def _bom(exchange: Exchange, data: bytes, _: Fault, content_type: str) -> None:
    await exchange.send(200, b"\xef\xbb\xbf" + data, content_type)


async def _length_too_long(exchange: Exchange, data: bytes, _: Fault, content_type: str) -> None:
    exchange.head(200, content_type, {"content-length": str(len(data) + 100)})
    exchange.raw(data)
    await exchange.close()


async def _reset_in_body(exchange: Exchange, data: bytes, _: Fault, content_type: str) -> None:
    exchange.head(200, content_type, {"content-length": str(len(data))})
    exchange.raw(data[: len(data) // 2])
    await exchange.reset()


async def _infinite_body(exchange: Exchange, data: bytes, _: Fault, content_type: str) -> None:
    """The first half of the answer, then letters without end (or: the stream, again and again)."""
    streaming = content_type != JSON and "json;" not in content_type
    exchange.open(content_type)
    exchange.chunk(data[: len(data) // 2])
    filler = data * (65536 // len(data) + 1) if streaming else b"a" * 65536
    while True:
        exchange.chunk(filler)
        await exchange.flush()
        await asyncio.sleep(0)


async def _dribble(exchange: Exchange, data: bytes, fault: Fault, content_type: str) -> None:
    seconds = 1.0 if fault.seconds is None else fault.seconds
    exchange.head(200, content_type, {"content-length": str(len(data))})
    for byte in data:
        exchange.raw(bytes([byte]))
        await _wait(exchange, seconds)
    exchange.complete = True


async def _slow_first_byte(
    exchange: Exchange, data: bytes, fault: Fault, content_type: str
) -> None:
    await asyncio.sleep(60 if fault.seconds is None else fault.seconds)
    await exchange.send(200, data, content_type)


_TRANSFERS: dict[str, Callable[[Exchange, bytes, Fault, str], Awaitable[None]]] = {
    "no_content_type": _no_content_type,
    "corrupt_gzip": _corrupt_gzip,
    "gzip_bomb": _gzip_bomb,
    "utf16": _utf16,
    "bom": _bom,
    "length_too_long": _length_too_long,
    "reset_in_body": _reset_in_body,
    "infinite_body": _infinite_body,
    "dribble": _dribble,
    "slow_first_byte": _slow_first_byte,
}


async def _cut_document(exchange: Exchange, payload: bytes, fault: Fault, kind: str) -> None:
    """A stream fault on an answer in one piece: half of it, then what the fault does."""
    exchange.head(200, kind, {"content-length": str(len(payload))})
    exchange.raw(payload[: len(payload) // 2])
    match fault.kind:
        case "stream_reset" | "line_reset":
            await exchange.reset()
        case "stream_stall" | "endless_comments":
            await _hang(exchange, fault)
        case _:
            await exchange.close()


async def _stream_end(exchange: Exchange, _: Stream, __: Fault) -> None:
    await exchange.finish()


async def _stream_close(exchange: Exchange, _: Stream, __: Fault) -> None:
    await exchange.close()


async def _stream_reset(exchange: Exchange, _: Stream, __: Fault) -> None:
    await exchange.reset()


async def _stream_stall(exchange: Exchange, _: Stream, fault: Fault) -> None:
    await _hang(exchange, fault)


async def _error_event(exchange: Exchange, stream: Stream, _: Fault) -> None:
    exchange.chunk(stream.error)
    await exchange.finish()


async def _bad_line(exchange: Exchange, stream: Stream, _: Fault) -> None:
    exchange.chunk(stream.frame(b'{"choices": [{"delta": @@@ not json'))
    await exchange.finish()


async def _line_reset(exchange: Exchange, stream: Stream, _: Fault) -> None:
    framed = stream.frame((stream.tokens or stream.closing)[0])
    exchange.chunk(framed[: len(framed) // 2])
    await exchange.reset()


async def _bad_chunk_size(exchange: Exchange, stream: Stream, _: Fault) -> None:
    exchange.raw(b"zz\r\n" + stream.frame(b"{}") + b"\r\n")
    await exchange.close()


async def _endless_comments(exchange: Exchange, stream: Stream, fault: Fault) -> None:
    """A sign of life every 10 ms (or ``seconds``), and never a token."""
    seconds = 0.01 if fault.seconds is None else fault.seconds
    while True:
        exchange.chunk(stream.comment)
        await _wait(exchange, seconds)


async def _giant_line(exchange: Exchange, stream: Stream, fault: Fault) -> None:
    start, _, end = stream.frame(b"{\0}").partition(b"\0")
    exchange.chunk(start + b'"filler":"')
    for _ in range(max(fault.size // MEBIBYTE, 1)):
        exchange.chunk(b"a" * MEBIBYTE)
        await exchange.flush()
        await asyncio.sleep(0)
    exchange.chunk(b'"' + end)
    await exchange.finish()


_CUTS: dict[str, Callable[[Exchange, Stream, Fault], Awaitable[None]]] = {
    "stream_reset": _stream_reset,
    "stream_close": _stream_close,
    "stream_end": _stream_end,
    "stream_stall": _stream_stall,
    "empty_stream": _stream_end,
    "role_only": _stream_end,
    "error_event": _error_event,
    "bad_line": _bad_line,
    "line_reset": _line_reset,
    "bad_chunk_size": _bad_chunk_size,
    "endless_comments": _endless_comments,
    "giant_line": _giant_line,
}
