"""``hoptrail serve`` as a process: what it says, what it refuses, how it ends."""

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from threading import Event

import httpx
import pytest

from hoptrail.journal import Journal
from tests import two_hops
from tests.providers import ChatRequest, LoopbackProvider, Reply
from tests.raw import connected, post

pytestmark = pytest.mark.timeout(240)

ASK = "/reasoning/multi-hop"
BODY = {"question": two_hops.QUESTION, "run_id": "mine"}
PATIENT = """
from hoptrail.cli import main
from hoptrail.server import launch

launch.DRAIN_SECONDS = 3600.0
main()
"""
TIMEOUT = 60.0
"""How long a process of its own may take for anything, on a machine with much else to do."""


@contextmanager
def serving(
    provider: LoopbackProvider, *arguments: str, patient: bool = False, **variables: str
) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Start a server; give its process and its address. A patient one drains for ever."""
    command = ["serve", "--port", "0", *arguments]
    process = subprocess.Popen(
        [sys.executable, "-c", PATIENT, *command] if patient else two_hops.command(*command),
        env={**two_hops.process_environment(provider), **variables},
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    try:
        line = process.stderr.readline()
        found = re.search(r"http://\S+", line)
        assert found, line
        yield process, found.group()
    finally:
        process.kill()
        process.wait()
        process.stderr.close()


def test_it_says_where_it_listens_and_what_is_up(
    provider: LoopbackProvider, tmp_path: Path
) -> None:
    two_hops.serve(provider)
    docs = two_hops.write_documents(tmp_path / "docs")
    with serving(provider, "--docs", str(docs)) as (process, url):
        assert process.stderr is not None
        assert "ollama:qwen3:8b: up" in process.stderr.readline()
        told = iter(process.stderr.readline, "")
        assert next(line for line in told if "documents:" in line) == f"  documents: {docs}\n"
        assert httpx.get(f"{url}/healthz", timeout=TIMEOUT).status_code == 200
        assert (
            httpx.post(f"{url}{ASK}", json=BODY, timeout=TIMEOUT).json()["short_answer"] == "Prague"
        )
        process.send_signal(signal.SIGTERM)
        assert process.wait(TIMEOUT) == 0


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "example.org"])
def test_an_address_of_others_needs_a_token(host: str) -> None:
    done = subprocess.run(
        two_hops.command("serve", "--host", host), capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert "HOPTRAIL_API_TOKEN" in done.stderr


def test_with_a_token_it_may_be_reached_by_others(provider: LoopbackProvider) -> None:
    with serving(provider, "--host", "0.0.0.0", HOPTRAIL_API_TOKEN="secret") as (_, url):
        url = url.replace("0.0.0.0", "127.0.0.1")
        assert httpx.get(f"{url}/runs", timeout=TIMEOUT).status_code == 401
        headers = {"Authorization": "Bearer secret"}
        assert httpx.get(f"{url}/runs", headers=headers, timeout=TIMEOUT).status_code == 200
        named = {**headers, "Host": "rebound.example"}
        assert httpx.get(f"{url}/runs", headers=named, timeout=TIMEOUT).status_code == 421


def test_names_and_origins_can_be_added(provider: LoopbackProvider) -> None:
    added = ("--allow-host", "trail.example", "--allow-origin", "https://app.example")
    with serving(provider, *added) as (_, url):
        headers = {"Host": "trail.example", "Origin": "https://app.example"}
        assert httpx.get(f"{url}/healthz", headers=headers, timeout=TIMEOUT).status_code == 200


def test_a_port_in_use_is_said() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        done = subprocess.run(
            two_hops.command("serve", "--port", port), capture_output=True, text=True, check=False
        )
    assert done.returncode == 1
    assert f"port {port}" in done.stderr
    assert "in use" in done.stderr
    assert "Traceback" not in done.stderr


def test_documents_that_are_not_there_are_said(tmp_path: Path) -> None:
    done = subprocess.run(
        two_hops.command("serve", "--port", "0", "--index", str(tmp_path / "none")),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "hoptrail ingest" in done.stderr


def hold_up(provider: LoopbackProvider, go_on: Event) -> None:
    """Let no call answer before the test says so."""

    def respond(request: ChatRequest) -> Reply:
        return Reply(two_hops.respond(request).text, hold=go_on.is_set)

    provider.ollama.respond = respond


def wait_for_a_call(provider: LoopbackProvider) -> None:
    wait_until(lambda: provider.in_flight > 0)


def wait_until_it_stops(url: str) -> None:
    """Wait until a server has noticed that it is to stop."""
    wait_until(lambda: httpx.get(f"{url}/readyz", timeout=TIMEOUT).status_code == 503)


def wait_until(true: Callable[[], bool]) -> None:
    until = time.monotonic() + TIMEOUT
    while not true():
        assert time.monotonic() < until
        time.sleep(0.01)


@pytest.mark.promise("signals-leave-runs-resumable")
def test_told_to_stop_it_lets_runs_end_and_takes_no_more(
    provider: LoopbackProvider, tmp_path: Path
) -> None:
    go_on = Event()
    two_hops.serve(provider)
    hold_up(provider, go_on)
    docs = two_hops.write_documents(tmp_path / "docs")
    with (
        serving(provider, "--docs", str(docs), patient=True) as (process, url),
        ThreadPoolExecutor() as pool,
    ):
        asked = pool.submit(httpx.post, f"{url}{ASK}", json=BODY, timeout=TIMEOUT)
        wait_for_a_call(provider)
        assert httpx.get(f"{url}/readyz", timeout=TIMEOUT).status_code == 200
        process.send_signal(signal.SIGTERM)
        wait_until_it_stops(url)
        refused = httpx.post(f"{url}{ASK}", json={"question": "Who?"}, timeout=TIMEOUT)
        assert refused.status_code == 503
        assert refused.json()["error"]["type"] == "shutting_down"
        go_on.set()
        assert asked.result(TIMEOUT).status_code == 200
        assert process.wait(TIMEOUT) == 0


@pytest.mark.promise("signals-leave-runs-resumable")
def test_a_second_interrupt_ends_runs_at_once_and_they_can_be_resumed(
    provider: LoopbackProvider,
) -> None:
    two_hops.serve(provider)
    hold_up(provider, Event())
    with serving(provider, patient=True) as (process, url), ThreadPoolExecutor() as pool:
        asked = pool.submit(httpx.post, f"{url}{ASK}", json=BODY, timeout=TIMEOUT)
        wait_for_a_call(provider)
        assert httpx.get(f"{url}/readyz", timeout=TIMEOUT).status_code == 200
        process.send_signal(signal.SIGINT)
        wait_until_it_stops(url)
        assert process.poll() is None
        process.send_signal(signal.SIGINT)
        assert process.wait(TIMEOUT) == 130
        answer = asked.result(TIMEOUT)
        assert answer.status_code == 409
        assert answer.json()["error"]["type"] == "run_cancelled"
    journal = Journal(Path(os.environ["HOPTRAIL_HOME"]))
    assert journal.run("mine").status == "interrupted"
    journal.close()


def test_requests_are_told_only_when_asked_for(provider: LoopbackProvider) -> None:
    for arguments in ((), ("--access-log",)):
        with serving(provider, *arguments) as (process, url):
            httpx.get(f"{url}/healthz", headers={"Authorization": "Bearer canary"}, timeout=TIMEOUT)
            process.send_signal(signal.SIGTERM)
            process.wait(TIMEOUT)
            assert process.stderr is not None
            told = process.stderr.read()
            assert ("/healthz" in told) == bool(arguments)
            assert "canary" not in told


def test_a_client_that_leaves_is_no_error_in_the_log(
    provider: LoopbackProvider, tmp_path: Path
) -> None:
    two_hops.serve(provider)
    hold_up(provider, Event())
    docs = two_hops.write_documents(tmp_path / "docs")
    with serving(provider, "--docs", str(docs)) as (process, url):
        for stream in (False, True):
            body = {"question": two_hops.QUESTION, "stream": stream}
            with connected(int(url.rpartition(":")[2])) as client:
                client.sendall(post(ASK, body))
                wait_for_a_call(provider)
            provider.settle(TIMEOUT)
        process.send_signal(signal.SIGTERM)
        assert process.wait(TIMEOUT) == 0
        assert process.stderr is not None
        assert "Traceback" not in process.stderr.read()


@pytest.mark.timeout(300)
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the system tells no sizes")
def test_fifty_clients_that_read_nothing_cost_little_memory(
    provider: LoopbackProvider, tmp_path: Path
) -> None:
    """Six megabytes are on their way to each, and are not kept for who does not take them."""
    # So slowly that a machine with much else to do cuts these clients before it has kept much.
    long = Reply(("x" * 16_000 + " ") * 400, token_delay=0.5)
    two_hops.serve(provider)
    docs = two_hops.write_documents(tmp_path / "docs")
    with serving(provider, "--docs", str(docs)) as (process, url), ExitStack() as clients:
        assert httpx.post(f"{url}{ASK}", json=BODY, timeout=TIMEOUT).status_code == 200
        before = most = resident_megabytes(process)
        provider.ollama.respond = lambda call: (
            long if two_hops.kind_of(call) == "synthesis" else two_hops.respond(call)
        )
        for _ in range(50):
            client = connected(int(url.rpartition(":")[2]), receive_buffer=4096)
            clients.enter_context(client)
            client.sendall(post(ASK, {"question": two_hops.QUESTION, "stream": True}))
        asked = 4 * 51
        until = time.monotonic() + 180  # it takes 200 to send it all
        while len(provider.ollama.chats) < asked or provider.in_flight:
            assert time.monotonic() < until
            most = max(most, resident_megabytes(process))
            time.sleep(0.02)
        assert most - before < 200
        answers = [call for call in provider.ollama.chats if two_hops.kind_of(call) == "synthesis"]
        assert all(call.cancelled for call in answers[1:])


def resident_megabytes(process: subprocess.Popen[str]) -> float:
    """Give the memory of a process."""
    told = Path(f"/proc/{process.pid}/status").read_text("ascii")
    return int(told.partition("VmRSS:")[2].split()[0]) / 1024
