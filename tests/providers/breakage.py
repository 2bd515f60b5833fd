"""The ways to break a response: before its header, in its body, in its stream."""

from __future__ import annotations

import asyncio
import gzip
import zlib
from collections.abc import Awaitable, Callable
from functools import cache

from tests.providers.fault import HTML, Fault
from tests.providers.stream import Stream, wait
from tests.providers.wire import JSON, Exchange

MEBIBYTE = 1 << 20


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
    async def send(exchange: Exchange, fault: Fault) -> None:
        exchange.raw(fault.told(data(), exchange.key))
        await exchange.close()

    return send


def _header_block(lines: str) -> bytes:
    return f"HTTP/1.1 200 OK\r\n{lines}\r\n\r\n{{}}".encode()


async def _empty_body(exchange: Exchange, _: Fault) -> None:
    await exchange.send(200, b"")


async def _html_200(exchange: Exchange, _: Fault) -> None:
    await exchange.send(200, HTML, "text/html; charset=utf-8")


BEFORE_ANSWER: dict[str, Callable[[Exchange, Fault], Awaitable[None]]] = {
    "reset": _reset,
    "close": _close,
    "hang": _hang,
    "half_header": _half_header,
    "half_header_reset": _half_header_reset,
    "garbage": _raw(lambda: b"\x16\x03\x01 this is not HTTP {key}\r\n\r\n"),
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


@cache
def _bomb(size: int) -> bytes:
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    block = b" " * MEBIBYTE
    parts = [packer.compress(block) for _ in range(max(size // MEBIBYTE, 1))]
    return b"".join([*parts, packer.flush()])


async def _gzip_bomb(exchange: Exchange, _: bytes, fault: Fault, content_type: str) -> None:
    bomb = _bomb(fault.size)
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
        await wait(exchange, seconds)
    await exchange.end()


async def _slow_first_byte(
    exchange: Exchange, data: bytes, fault: Fault, content_type: str
) -> None:
    await asyncio.sleep(60 if fault.seconds is None else fault.seconds)
    await exchange.send(200, data, content_type)


TRANSFERS: dict[str, Callable[[Exchange, bytes, Fault, str], Awaitable[None]]] = {
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


async def cut_document(exchange: Exchange, payload: bytes, fault: Fault, kind: str) -> None:
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


async def _error_event(exchange: Exchange, stream: Stream, fault: Fault) -> None:
    exchange.chunk(fault.told(stream.error, exchange.key))
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
        await wait(exchange, seconds)


async def _giant_line(exchange: Exchange, stream: Stream, fault: Fault) -> None:
    start, _, end = stream.frame(b"{\0}").partition(b"\0")
    exchange.chunk(start + b'"filler":"')
    for _ in range(max(fault.size // MEBIBYTE, 1)):
        exchange.chunk(b"a" * MEBIBYTE)
        await exchange.flush()
        await asyncio.sleep(0)
    exchange.chunk(b'"' + end)
    await exchange.finish()


async def _endless_tokens(exchange: Exchange, stream: Stream, _: Fault) -> None:
    """The first token again and again, as fast as the client reads."""
    some = stream.frame(stream.tokens[0]) * 500
    while True:
        exchange.chunk(some)
        await exchange.flush()
        await asyncio.sleep(0)


CUTS: dict[str, Callable[[Exchange, Stream, Fault], Awaitable[None]]] = {
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
    "endless_tokens": _endless_tokens,
}
