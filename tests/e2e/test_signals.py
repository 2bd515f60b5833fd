"""Ctrl-C and SIGTERM, from a shell: what is finished is kept, and the exit tells."""

import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path

import httpx
import pytest

from hoptrail.journal import Journal
from hoptrail.settings import load_settings
from tests.e2e.waiting import PATIENCE, kept_calls, until
from tests.providers import Fault, LoopbackProvider, Reply
from tests.two_hops import (
    QUESTION,
    command,
    kind_of,
    process_environment,
    respond,
    serve,
    write_documents,
)

pytestmark = [pytest.mark.promise("signals-leave-runs-resumable"), pytest.mark.timeout(300)]

SIGNALS = pytest.mark.parametrize("sign", [signal.SIGINT, signal.SIGTERM])


@contextmanager
def under_way(
    provider: LoopbackProvider, *arguments: str, **variables: str
) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        command(*arguments),
        env=process_environment(provider) | variables,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def end(process: subprocess.Popen[str], *codes: int) -> str:
    """Wait for a process to end with one of these codes; gives what it said on stderr."""
    _, told = process.communicate(timeout=PATIENCE)
    assert process.returncode in codes, told
    assert "Traceback" not in told, told
    return told


def resumed(provider: LoopbackProvider, run_id: str) -> str:
    """Have a run resumed by a process of its own; gives the short answer."""
    done = subprocess.run(
        command("ask", "--json", "--resume", run_id),
        env=process_environment(provider),
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=True,
    )
    return str(json.loads(done.stdout)["short_answer"])


def the_run() -> tuple[str, str]:
    """Give the one run there is, and how it stands."""
    with closing(Journal(load_settings().home)) as journal:
        (run,) = journal.runs()
    return run.run_id, run.status


@pytest.mark.parametrize("gap", [0.0, 0.05])
def test_ctrl_c_twice_ends_a_run_that_goes_on_when_it_is_resumed(
    provider: LoopbackProvider, tmp_path: Path, gap: float
) -> None:
    serve(provider)
    provider.ollama.faults.extend([None, None, Fault("hang", seconds=600)])
    docs = str(write_documents(tmp_path / "docs"))
    with under_way(provider, "ask", "--docs", docs, QUESTION) as process:
        until(lambda: len(provider.ollama.chats) == 3 and kept_calls() == 2)
        process.send_signal(signal.SIGINT)
        time.sleep(gap)
        process.send_signal(signal.SIGINT)
        # A process that a second Ctrl-C ends is told by a shell as 130, too.
        end(process, 130, -signal.SIGINT)
    provider.ollama.faults.clear()
    run_id, status = the_run()
    assert status == "interrupted"
    assert resumed(provider, run_id) == "Prague"
    asked = [kind_of(chat) for chat in provider.ollama.chats]
    assert (asked.count("plan"), asked.count("Who wrote The Trial?")) == (1, 1)


@SIGNALS
def test_an_ingestion_that_is_interrupted_leaves_no_half_index(
    provider: LoopbackProvider, tmp_path: Path, sign: signal.Signals
) -> None:
    serve(provider)
    provider.ollama.embed_fault = Fault("hang", seconds=600)
    docs, index = str(write_documents(tmp_path / "docs")), str(tmp_path / "index")
    arguments = ("ingest", docs, "--index", index)
    with under_way(provider, *arguments, HOPTRAIL_EMBEDDERS="ollama") as process:
        until(lambda: bool(provider.ollama.embeddings))
        process.send_signal(sign)
        assert "interrupted" in end(process, 130)
    provider.ollama.embed_fault = None
    again = subprocess.run(
        command(*arguments),
        env=process_environment(provider),
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=True,
    )
    assert again.stdout.startswith("2 added, 0 changed, 0 unchanged")


@SIGNALS
def test_a_conversation_over_a_pipe_that_is_interrupted_goes_on(
    provider: LoopbackProvider, sign: signal.Signals
) -> None:
    provider.ollama.models = ["qwen3:8b"]
    provider.ollama.answer("Short enough.")
    provider.ollama.faults.append(Fault("hang", seconds=600))
    with under_way(provider, "chat", "--thread", "t") as process:
        assert process.stdin is not None
        process.stdin.write("A long one, please?\n")
        process.stdin.flush()
        until(lambda: bool(provider.ollama.chats))
        process.send_signal(sign)
        assert "interrupted" in end(process, 130)
    provider.ollama.faults.clear()
    assert the_run()[1] == "interrupted"
    with under_way(provider, "chat", "--thread", "t") as process:
        stdout, told = process.communicate("A brief one?\n", timeout=PATIENCE)
        assert (process.returncode, stdout.strip()) == (0, "Short enough."), told


def test_a_server_told_to_stop_lets_runs_end_and_its_exit_tells_ctrl_c(
    provider: LoopbackProvider, tmp_path: Path
) -> None:
    serve(provider)
    provider.ollama.respond = lambda request: Reply(respond(request).text, delay=0.5)
    docs = str(write_documents(tmp_path / "docs"))
    body = {"question": QUESTION, "run_id": "mine"}
    with (
        under_way(provider, "serve", "--port", "0", "--docs", docs) as process,
        ThreadPoolExecutor() as pool,
    ):
        assert process.stderr is not None
        url = process.stderr.readline().partition(" at ")[2].split()[0]
        asked = pool.submit(httpx.post, f"{url}/reasoning/multi-hop", json=body, timeout=PATIENCE)
        until(lambda: bool(provider.ollama.chats))
        process.send_signal(signal.SIGINT)
        end(process, 130)
        assert asked.result(PATIENCE).json()["short_answer"] == "Prague"
    assert the_run() == ("mine", "answered")


@pytest.mark.promise("one-owner-per-run")
def test_a_run_that_another_process_has_is_busy_for_a_shell(
    provider: LoopbackProvider, tmp_path: Path
) -> None:
    serve(provider)
    home = Path(os.environ["HOPTRAIL_HOME"])
    with closing(Journal(home)) as journal:
        lock = journal.admit("mine", QUESTION, {})
        done = subprocess.run(
            command("ask", "--resume", "mine"),
            env=process_environment(provider),
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
        lock.release()
    assert (done.returncode, done.stdout) == (1, "")
    assert "run mine is being worked on by another process" in done.stderr
    assert not provider.ollama.chats
