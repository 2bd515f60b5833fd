"""What every test gets: a clean environment, no way out of the machine, loopback providers.

Asynchronous tests need no plugin beyond the one that comes with anyio: mark them (or their
module, ``pytestmark = pytest.mark.anyio``) and write ``async def test_...``.
"""

from __future__ import annotations

import ipaddress
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.providers import LoopbackProvider

FOREIGN = ("HF_", "HUGGINGFACE", "HUGGING_FACE", "OLLAMA_", "HOPTRAIL_", "LANGSMITH", "LANGCHAIN")
PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")


class OutsideConnection(OSError):
    """A test tried to leave the machine."""


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """The event loop of asynchronous tests."""
    return "asyncio"


@pytest.fixture(autouse=True)
def clean_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No key, no server and no saved login of the developer's reaches a test."""
    for name in list(os.environ):
        if name.startswith(FOREIGN) or name.upper() in PROXIES:
            monkeypatch.delenv(name)
    home = tmp_path / "user"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("HOPTRAIL_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)


@pytest.fixture(autouse=True)
def loopback_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """Refuse every connection to another machine."""

    def guarded(original: Any) -> Any:
        def connect(sock: socket.socket, address: Any) -> Any:
            _refuse_outside(sock, address)
            return original(sock, address)

        return connect

    monkeypatch.setattr(socket.socket, "connect", guarded(socket.socket.connect))
    monkeypatch.setattr(socket.socket, "connect_ex", guarded(socket.socket.connect_ex))


def _refuse_outside(sock: socket.socket, address: Any) -> None:
    if sock.family not in (socket.AF_INET, socket.AF_INET6):
        return
    host = str(address[0])
    if host != "localhost" and not ipaddress.ip_address(host.partition("%")[0]).is_loopback:
        raise OutsideConnection(f"a test tried to connect to {address}")


@pytest.fixture(scope="session")
def _running_provider() -> Iterator[LoopbackProvider]:
    with LoopbackProvider() as provider:
        yield provider


@pytest.fixture
def provider(_running_provider: LoopbackProvider) -> Iterator[LoopbackProvider]:
    """A loopback Hugging Face and Ollama as new; fails the test on an unscripted request."""
    _running_provider.reset()
    yield _running_provider
    assert not _running_provider.unexpected
