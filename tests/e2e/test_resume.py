"""A run that was killed goes on where it stopped, and pays for nothing twice."""

import json
import subprocess
from collections import Counter
from pathlib import Path

import pytest

from hoptrail.journal import Journal
from hoptrail.settings import load_settings
from tests.e2e.waiting import PATIENCE, kept_calls, until
from tests.providers import Fault, LoopbackProvider
from tests.two_hops import (
    QUESTION,
    command,
    kind_of,
    process_environment,
    serve,
    write_documents,
)

pytestmark = pytest.mark.timeout(300)

FIRST, SECOND = "Who wrote The Trial?", "Where was Franz Kafka born?"
CALLS = {
    "multi-hop": ("plan", FIRST, SECOND, "synthesis"),
    "iterative": ("next 1", FIRST, "next 2", SECOND, "next 3", "synthesis"),
}
"""Every call of a run of each graph, in the order they are made."""
DEATHS = [(graph, call) for graph, calls in CALLS.items() for call in range(len(calls))]


def asked(provider: LoopbackProvider) -> Counter[str]:
    """How often each call was made."""
    return Counter(kind_of(chat) for chat in provider.ollama.chats)


def kill_during(provider: LoopbackProvider, call: int, arguments: list[str]) -> None:
    """Run a command and kill it, as with ``kill -9``, while its ``call``-th call is under way.

    Those before it are finished by then.
    """
    provider.ollama.faults.extend([*[None] * call, Fault("hang", seconds=600)])
    with subprocess.Popen(
        command(*arguments),
        env=process_environment(provider),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as process:
        try:
            until(lambda: len(provider.ollama.chats) == call + 1 and kept_calls() == call)
        finally:
            process.kill()
    provider.ollama.faults.clear()


def the_run() -> str:
    journal = Journal(load_settings().home)
    (run,) = journal.runs()
    journal.close()
    return run.run_id


@pytest.mark.promise("killed-runs-resume")
@pytest.mark.promise("finished-calls-are-kept")
@pytest.mark.parametrize(("graph", "call"), DEATHS)
def test_after_kill_9_only_what_was_not_finished_is_asked(
    provider: LoopbackProvider, tmp_path: Path, graph: str, call: int
) -> None:
    serve(provider)
    docs = str(write_documents(tmp_path / "notes"))
    kill_during(provider, call, ["ask", "--graph", graph, "--docs", docs, QUESTION])
    resumed = subprocess.run(
        command("ask", "--json", "--resume", the_run()),
        env=process_environment(provider),
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert resumed.returncode == 0, resumed.stderr
    answer = json.loads(resumed.stdout)
    assert answer["short_answer"] == "Prague"
    assert all(step["evidence"] for step in answer["steps"])
    # The call under way when the process died is the only one that is made again.
    assert asked(provider) == Counter([*CALLS[graph], CALLS[graph][call]])
