"""What every test gets: a clean environment, no way out of the machine, loopback providers.

Asynchronous tests need no plugin beyond the one that comes with anyio: mark them (or their
module, ``pytestmark = pytest.mark.anyio``) and write ``async def test_...``.

Tests marked ``live`` keep the developer's environment and may leave the machine; tests marked
``model`` keep the environment.
"""

from __future__ import annotations

import ipaddress
import os
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from tests.providers import LoopbackProvider

# How long an example takes says more about the machine's load than about the code.
PATIENT = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
# What `make test` finds is found again; what has not been tried yet is for `make explore`.
settings.register_profile("same", PATIENT, derandomize=True)
settings.register_profile("explore", PATIENT, max_examples=1000, print_blob=True)
settings.load_profile("same")

FOREIGN = (
    "HF_",
    "HUGGINGFACE",
    "HUGGING_FACE",
    "OLLAMA_",
    "HOPTRAIL_",
    "LANGSMITH",
    "LANGCHAIN",
    "OTEL_",
    "TRANSFORMERS_OFFLINE",
)
PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Take how hard `make api` and `make storm` ask."""
    parser.addoption(
        "--api-examples", default=0, type=int, help="Random requests per operation and mode."
    )
    parser.addoption("--disconnects", default=64, type=int, help="Clients that leave.")
    parser.addoption("--simulations", default=30, type=int, help="Seeded runs of the router.")
    parser.addoption("--ingest-kills", default=24, type=int, help="Ingestions killed at random.")
    parser.addoption("--index-writes", default=4, type=int, help="Ingestions of each of 8 writers.")


class OutsideConnection(OSError):
    """A test tried to leave the machine."""


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """The event loop of asynchronous tests."""
    return "asyncio"


@pytest.fixture(autouse=True)
def clean_environment(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No key, server, proxy or saved login of the developer's reaches a test."""
    if any(map(request.node.get_closest_marker, ("live", "model"))):
        return
    for name in list(os.environ):
        if name.startswith(FOREIGN) or name.upper() in PROXIES:
            monkeypatch.delenv(name)
    home = tmp_path / "user"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("HOPTRAIL_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    _redirect_hub_login(home, monkeypatch)


def _redirect_hub_login(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """huggingface_hub reads the environment once, at import: tell it again.

    It also asks huggingface.co once per process whether an agent is running it. Each test
    starts as a new process would, so that a test whose code does this fails on every run.
    """
    constants = sys.modules.get("huggingface_hub.constants")
    if constants is not None:
        token = home / ".cache" / "huggingface" / "token"
        monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(token))
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    detection = sys.modules.get("huggingface_hub.utils._detect_agent")
    if detection is not None:
        monkeypatch.setattr(detection, "_registry", None)


@pytest.fixture(autouse=True)
def outside_connections(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> Iterator[list[str]]:
    """Refuse every look-up and connection beyond this machine, and fail the test that tried.

    A test that means to try clears the list it gets from this fixture.
    """
    tried: list[str] = []
    if not request.node.get_closest_marker("live"):
        refuse = _refuse_outside(tried)
        for name in ("connect", "connect_ex"):
            monkeypatch.setattr(socket.socket, name, _guarded(name, refuse))
        look_up = socket.getaddrinfo

        def getaddrinfo(host: Any, *rest: Any, **named: Any) -> Any:
            refuse(host)
            return look_up(host, *rest, **named)

        monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    yield tried
    assert not tried, f"the test tried to leave the machine: {tried}"


def _guarded(name: str, refuse: Callable[[Any], None]) -> Callable[[socket.socket, Any], Any]:
    original = getattr(socket.socket, name)

    def connect(sock: socket.socket, address: Any) -> Any:
        if sock.family in (socket.AF_INET, socket.AF_INET6):
            refuse(address[0])
        return original(sock, address)

    return connect


def _refuse_outside(tried: list[str]) -> Callable[[Any], None]:
    def refuse(host: Any) -> None:
        if not _is_here(host):
            tried.append(str(host))
            raise OutsideConnection(f"a test tried to reach {host}")

    return refuse


def _is_here(host: Any) -> bool:
    name = host.decode() if isinstance(host, bytes) else str(host or "localhost")
    if name in ("localhost", socket.gethostname()) or name.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(name.partition("%")[0]).is_loopback
    except ValueError:
        return False


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


def pytest_configure() -> None:
    """Take Ctrl-C as at a terminal: what a shell starts in the background is deaf to it."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
