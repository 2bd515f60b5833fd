"""HTTP by hand: clients that send what no library would, or leave as none would."""

from __future__ import annotations

import json
import socket
import struct
from contextlib import suppress


def connected(port: int, *, receive_buffer: int | None = None) -> socket.socket:
    """Give a connection to a server on this machine."""
    client = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    if receive_buffer is not None:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    client.settimeout(20)
    client.connect(("127.0.0.1", port))
    return client


def post(path: str, body: object, **headers: str) -> bytes:
    """Give the bytes of a request."""
    data = json.dumps(body).encode()
    told = {"Host": "localhost", "Content-Type": "application/json", **headers}
    lines = [f"POST {path} HTTP/1.1", *(f"{name}: {value}" for name, value in told.items())]
    return "\r\n".join([*lines, f"Content-Length: {len(data)}", "", ""]).encode() + data


def ask_raw(port: int, request: bytes | str) -> bytes:
    """Send bytes, and give what is answered until the answer's end, or the connection's."""
    with connected(port) as client:
        client.sendall(request.encode() if isinstance(request, str) else request)
        return until_answered(client)


def until_answered(client: socket.socket) -> bytes:
    """Give one answer with its body, as long as it tells its length."""
    answer = b""
    with suppress(ConnectionError):
        while not _complete(answer):
            part = client.recv(65536)
            if not part:
                break
            answer += part
    return answer


def until_seen(client: socket.socket, text: bytes) -> bytes:
    """Read until a text was seen."""
    seen = b""
    while text not in seen:
        part = client.recv(65536)
        assert part, f"the connection ended before {text!r}: {seen!r}"
        seen += part
    return seen


def status_of(answer: bytes) -> int:
    """Give the status of an answer; 0 when there was none."""
    return int(answer.split(b" ", 2)[1]) if answer.startswith(b"HTTP/") else 0


def reset(client: socket.socket) -> None:
    """Leave with a reset rather than a goodbye."""
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()


def _complete(answer: bytes) -> bool:
    head, separator, body = answer.partition(b"\r\n\r\n")
    for line in head.split(b"\r\n"):
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            return bool(separator) and len(body) >= int(value)
    return False
