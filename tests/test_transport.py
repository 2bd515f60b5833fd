"""The transport under httpx: its exceptions, its connections, and the pieces it gives."""

import asyncio
import errno
import os
import socket
import ssl
import time
from collections.abc import AsyncIterator
from contextlib import ExitStack

import httpx
import pytest
import trustme

from hoptrail.transport import AiohttpTransport
from tests.providers import Fault, LoopbackProvider

pytestmark = pytest.mark.anyio

BODY = {"model": "qwen3:8b", "messages": [{"role": "user", "content": "Q"}]}


@pytest.fixture
async def client(provider: LoopbackProvider) -> AsyncIterator[httpx.AsyncClient]:
    transport = AiohttpTransport(ssl.create_default_context())
    async with httpx.AsyncClient(transport=transport, base_url=provider.ollama_url) as client:
        yield client


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("reset", httpx.RemoteProtocolError),
        ("close", httpx.RemoteProtocolError),
        ("garbage", httpx.RemoteProtocolError),
        ("hang", httpx.ReadTimeout),
        ("stream_reset", httpx.RemoteProtocolError),
    ],
)
async def test_failures_are_httpx_exceptions(
    provider: LoopbackProvider,
    client: httpx.AsyncClient,
    kind: str,
    expected: type[httpx.HTTPError],
) -> None:
    """Whoever catches httpx's errors need not know what is under it."""
    provider.ollama.answer("one two three")
    provider.ollama.fault = Fault(kind, after=1)
    limits = httpx.Timeout(30, read=0.2 if kind == "hang" else 30)
    with pytest.raises(expected):
        await client.post("/api/chat", json=BODY, timeout=limits)
    async with asyncio.timeout(30):  # who gave up soon may have done so before it was heard
        while not provider.ollama.chats:  # noqa: ASYNC110 # its loop is another
            await asyncio.sleep(0.005)
    assert len(provider.ollama.chats) == 1


async def test_nobody_there_is_a_connect_error(
    provider: LoopbackProvider, client: httpx.AsyncClient
) -> None:
    """A refused connection is told apart from one that broke."""
    provider.ollama.stop()
    with pytest.raises(httpx.ConnectError, match=rf":\d+: {os.strerror(errno.ECONNREFUSED)}$"):
        await client.post("/api/chat", json=BODY)


async def test_a_connection_that_nobody_takes_is_a_time_out() -> None:
    """A full queue is how a server that is overloaded shows."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as full:
        address = full.getsockname()[:2]
        with ExitStack() as queue:
            for _ in range(2):
                waiting = queue.enter_context(socket.socket())
                waiting.setblocking(False)
                waiting.connect_ex(address)
            transport = AiohttpTransport(ssl.create_default_context())
            async with httpx.AsyncClient(transport=transport) as client:
                with pytest.raises(httpx.ConnectTimeout):
                    await client.get(f"http://127.0.0.1:{address[1]}/", timeout=0.3)


async def test_a_loop_that_was_held_up_is_not_the_servers_fault(client: httpx.AsyncClient) -> None:
    """The server answered long ago; it is this side that could not look."""
    limits = httpx.Timeout(30, connect=1.0)
    async with asyncio.TaskGroup() as group:
        calls = [
            group.create_task(client.post("/api/chat", json=BODY, timeout=limits)) for _ in range(4)
        ]
        for _ in range(3):
            await asyncio.sleep(0)
            time.sleep(0.5)  # noqa: ASYNC251 # holding up the loop is the point
    assert [call.result().status_code for call in calls] == [200] * 4


async def test_a_request_is_made_once(
    provider: LoopbackProvider, client: httpx.AsyncClient
) -> None:
    """Only the router asks again: a GET that was reset stays failed."""
    provider.ollama.probe_faults.append(Fault("reset"))
    with pytest.raises(httpx.RemoteProtocolError):
        await client.get("/api/tags")
    assert (await client.get("/api/tags")).status_code == 200


async def test_a_connection_is_used_again_after_a_whole_body_only(
    provider: LoopbackProvider, client: httpx.AsyncClient
) -> None:
    """What is left of an answer must not be read as the next one."""
    for _ in range(3):
        assert (await client.post("/api/chat", json=BODY)).status_code == 200
    assert provider.ollama.connections == 1
    async with client.stream("POST", "/api/chat", json=BODY) as response:
        assert response.status_code == 200
    whole = await client.post("/api/chat", json=BODY)
    assert whole.text.startswith('{"model"')


async def asked_over_tls(trusted: trustme.CA, presented: trustme.CA, host: str) -> int:
    """Ask a server whose certificate ``presented`` signed, trusting ``trusted``."""
    server_side = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    presented.issue_cert("localhost").configure_cert(server_side)
    client_side = ssl.create_default_context()
    trusted.configure_trust(client_side)

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0, ssl=server_side) as server:
        port = server.sockets[0].getsockname()[1]
        async with httpx.AsyncClient(transport=AiohttpTransport(client_side)) as client:
            return (await client.get(f"https://{host}:{port}/")).status_code


async def test_tls_is_spoken_with_whom_the_context_trusts() -> None:
    """Hugging Face is reached over TLS, so its certificate decides."""
    authority = trustme.CA()
    assert await asked_over_tls(authority, authority, "localhost") == 200


async def test_a_certificate_nobody_vouches_for_is_refused() -> None:
    """A token is never sent to whoever happens to answer."""
    with pytest.raises(httpx.ConnectError, match="certificate"):
        await asked_over_tls(trustme.CA(), trustme.CA(), "localhost")


async def test_a_certificate_for_another_name_is_refused() -> None:
    """Not even when its authority is trusted."""
    authority = trustme.CA()
    with pytest.raises(httpx.ConnectError, match="certificate"):
        await asked_over_tls(authority, authority, "127.0.0.1")
