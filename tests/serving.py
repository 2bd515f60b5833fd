"""A server over the loopback provider, in a thread of its own: what tests of routes need.

::

    with served(provider, docs=folder) as server:
        httpx.get(f"{server.url}/healthz")
        server.app.state.served.runs
"""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import httpx
from fastapi import FastAPI

from hoptrail import Hoptrail, load_settings
from hoptrail.server import launch
from hoptrail.server.app import create_app
from hoptrail.server.launch import listener, server_of
from tests.providers import LoopbackProvider

T = TypeVar("T")


@dataclass
class Server:
    """A running server: its base ``url``, its ``app``, its ``trail``; ``http`` asks it."""

    url: str
    port: int
    app: FastAPI
    trail: Hoptrail
    loop: asyncio.AbstractEventLoop
    http: httpx.Client

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine on the server's event loop."""
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(30)

    @contextmanager
    def held(self) -> Iterator[None]:
        """Keep the server from looking while the block runs: what is sent in it comes at once."""
        go_on = threading.Event()
        self.loop.call_soon_threadsafe(go_on.wait)
        try:
            yield
        finally:
            go_on.set()

    @property
    def live(self) -> int:
        """How many runs and streams are under way."""
        return len(self.app.state.served.runs)


@contextmanager
def served(
    provider: LoopbackProvider | None = None,
    *,
    docs: Path | None = None,
    host: str = "127.0.0.1",
    build: Callable[[], Hoptrail] | None = None,
    **flags: object,
) -> Iterator[Server]:
    """Serve a trail while the block runs.

    Over a provider only its Ollama is asked, with hash embeddings, unless ``flags`` (settings)
    say otherwise; without one the built-in reader answers. ``build`` makes another trail.
    """
    own = {**_flags(provider), **flags}
    trail = build() if build else Hoptrail(docs=docs, settings=load_settings(**own))
    app = create_app(trail, host=host)
    with listener("127.0.0.1", 0) as bound, _running(server_of(app), bound) as loop:
        port = bound.getsockname()[1]
        url = f"http://127.0.0.1:{port}"
        with httpx.Client(base_url=url, timeout=30, trust_env=False) as http:
            yield Server(url, port, app, trail, loop, http)
    trail.close()


@contextmanager
def _running(server: launch.Server, bound: socket.socket) -> Iterator[asyncio.AbstractEventLoop]:
    loop = asyncio.new_event_loop()

    def main() -> None:
        with asyncio.Runner(loop_factory=lambda: loop) as runner:
            runner.run(server.serve(sockets=[bound]))

    thread = threading.Thread(target=main, name="server", daemon=True)
    thread.start()
    while not server.started:
        if not thread.is_alive():
            raise RuntimeError("the server did not start")
        time.sleep(0.005)
    try:
        yield loop
    finally:
        server.should_exit = server.hurry = True
        thread.join(20)


def _flags(provider: LoopbackProvider | None) -> dict[str, object]:
    if provider is None:
        return {"backends": "extractive", "embedders": "hash"}
    return {
        "ollama_host": provider.ollama_url,
        "huggingface_base_url": provider.huggingface_url,
        "backends": "ollama",
        "embedders": "hash",
    }
