"""``hoptrail trace rerun``: a fork from the shell."""

import json
import os
import re
import signal
import subprocess
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from hoptrail.cli import main
from hoptrail.journal import Journal, RunRow
from hoptrail.settings import load_settings
from hoptrail.trace import Trace
from tests import four_hops
from tests.four_hops import CHAIN, QUESTION, asked
from tests.providers import Fault, LoopbackProvider
from tests.test_server_clients import wait_for
from tests.two_hops import command, environment, process_environment

NOTES = {
    "finlandia.md": "# Finlandia\nFinlandia is a tone poem by the composer Jean Sibelius.\n",
    "sibelius.md": "# Jean Sibelius\nJean Sibelius was born in Hämeenlinna in 1865.\n",
    "nielsen.md": "# Carl Nielsen\nCarl Nielsen was born in Sortelung in 1865.\n",
}


@pytest.fixture
def model(provider: LoopbackProvider, monkeypatch: pytest.MonkeyPatch) -> LoopbackProvider:
    four_hops.serve(provider, CHAIN)
    for name, value in environment(provider).items():
        monkeypatch.setenv(name, value)
    return provider


@pytest.fixture
def docs(tmp_path: Path) -> str:
    return str(four_hops.write_documents(tmp_path / "notes"))


def hoptrail(*arguments: str) -> Result:
    return CliRunner().invoke(main, arguments)


def rows() -> list[RunRow]:
    journal = Journal(load_settings().home)
    try:
        return journal.runs()
    finally:
        journal.close()


def trace_of(run_id: str) -> Trace:
    journal = Journal(load_settings().home)
    try:
        return journal.trace(run_id)
    finally:
        journal.close()


def ask(provider: LoopbackProvider, *arguments: str) -> str:
    assert hoptrail("ask", "-q", *arguments, QUESTION).exit_code == 0
    asked(provider)
    return rows()[0].run_id


def test_a_fork_is_told_like_any_run_and_says_what_it_kept(
    model: LoopbackProvider, docs: str
) -> None:
    parent = ask(model, "--docs", docs)
    result = hoptrail("trace", "rerun", "last", "--step", "4", "--answer", "1 mile")
    assert result.exit_code == 0, result.stderr
    assert "1 mile" in result.stdout
    assert asked(model) == ["synthesis"]
    child = rows()[0]
    assert child.parent_run_id == parent
    # Nothing of it was begun before.
    assert f"run      {child.run_id}\n" in result.stderr
    assert result.stderr.endswith(
        f"kept 4 of the 6 calls of {parent}, made 1; "
        f"compare: hoptrail trace diff {parent} {child.run_id}\n"
    )


def test_documents_and_limits_are_those_of_the_run(model: LoopbackProvider, docs: str) -> None:
    ask(model, "--docs", docs, "--max-steps", "7", "--deadline", "100")
    again = hoptrail("trace", "rerun", "last", "-q", "--step", "2", "--question", "Where is #1?")
    assert again.exit_code == 0, again.stderr
    trace = trace_of(rows()[0].run_id)
    assert trace.documents == docs
    assert trace.budget["max_steps"] == 7
    assert trace.budget["deadline"] == 100
    assert trace.steps[1].evidence
    # A fork of the fork knows them, too.
    assert hoptrail("trace", "rerun", "last", "-q", "--step", "1", "--answer", "x").exit_code == 0
    assert trace_of(rows()[0].run_id).budget["max_steps"] == 7


def test_another_model_is_asked_whichever_backends_the_run_had(
    model: LoopbackProvider, docs: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    ask(model, "--docs", docs, "-m", "ollama:qwen3:8b")
    monkeypatch.setenv("HOPTRAIL_BACKENDS", "extractive")
    result = hoptrail("trace", "rerun", "last", "--json", "--step", "4", "-m", "ollama:llama3.2:3b")
    assert result.exit_code == 0, result.stderr
    told = json.loads(result.stdout)
    assert told["steps"][3]["model"] == "llama3.2:3b"
    assert told["change"]["model"] == "ollama:llama3.2:3b"
    assert told["parent_run_id"]
    assert {chat.model for chat in model.ollama.chats} == {"llama3.2:3b"}


def test_passages_are_banned_and_pinned_by_their_ids(model: LoopbackProvider, docs: str) -> None:
    parent = trace_of(ask(model, "--docs", docs))
    first, second = [item.passage.id for item in parent.steps[0].evidence][:2]
    arguments = ["trace", "rerun", "last", "-q", "--step", "1", "--ban", first, "--pin", second]
    assert hoptrail(*arguments).exit_code == 0
    held = [item.passage.id for item in trace_of(rows()[0].run_id).steps[0].evidence]
    assert held[0] == second
    assert first not in held


def test_the_new_run_is_written_as_a_page_and_its_answer_streamed(
    model: LoopbackProvider, docs: str, tmp_path: Path
) -> None:
    ask(model, "--docs", docs)
    page = tmp_path / "fork.html"
    arguments = ["--step", "4", "--answer", "1 mile", "--stream", "--trace-html", str(page)]
    result = hoptrail("trace", "rerun", "last", *arguments)
    assert result.exit_code == 0, result.stderr
    assert "1 mile" in result.stdout
    assert rows()[0].run_id in page.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        ([], "nothing is changed"),
        (["--answer", "x"], "say which with `step`"),
        (["--step", "1", "--answer", "x", "--question", "y?"], "leave out question and passages"),
        (["--step", "1", "--answer", " "], "the answer that is given is empty"),
        (["--question", ""], "the question that is given is empty"),
        (["--step", "0", "--answer", "x"], "0 is not in the range"),
        (["-m", "qwen3"], "write it as BACKEND:MODEL"),
        (["--step", "1", "--answer", "x", "--json", "--stream"], "leave out --stream"),
    ],
)
def test_what_is_no_change_is_a_mistake_of_usage(
    model: LoopbackProvider, arguments: list[str], why: str
) -> None:
    result = hoptrail("trace", "rerun", "last", *arguments)
    assert result.exit_code == 2
    assert why in result.stderr


def test_a_change_that_makes_no_sense_is_an_error(model: LoopbackProvider, docs: str) -> None:
    ask(model, "--docs", docs)
    result = hoptrail("trace", "rerun", "last", "-q", "--step", "9", "--answer", "x")
    assert result.exit_code == 1
    assert "has no step 9: its steps are 1, 2, 3, 4" in result.stderr
    assert "ask --resume" not in result.stderr
    assert hoptrail("trace", "rerun", "none", "--step", "1", "--answer", "x").exit_code == 1


def test_a_run_of_other_doors_needs_its_documents_named(model: LoopbackProvider, docs: str) -> None:
    settings = load_settings(backends="ollama", embedders="hash")
    trail = four_hops.trail(model, Path(docs), **settings.model_dump(include={"backends"}))
    run_id = trail.ask(QUESTION).run_id
    trail.close()
    change = ["--step", "4", "--answer", "x"]
    result = hoptrail("trace", "rerun", run_id, *change)
    assert result.exit_code == 2
    assert f"answered from {docs}: name that with --docs or --index" in result.stderr
    assert hoptrail("trace", "rerun", run_id, *change, "--docs", docs).exit_code == 0


def test_a_turn_of_a_conversation_is_refused_before_documents_are_asked_for(
    model: LoopbackProvider, docs: str
) -> None:
    trail = four_hops.trail(model, Path(docs))
    run_id = trail.chat("Hello.", thread_id="t").run_id
    trail.close()
    result = hoptrail("trace", "rerun", run_id, "--step", "1", "--answer", "x")
    assert result.exit_code == 1
    assert "turn of a conversation" in result.stderr


@pytest.mark.timeout(300)
@pytest.mark.promise("signals-leave-runs-resumable")
def test_an_interrupted_fork_says_how_to_go_on_and_asks_nothing_twice(
    model: LoopbackProvider, docs: str
) -> None:
    ask(model, "--docs", docs)
    river, length = "Which river flows through Ulm?", "How long is the Danube?"
    model.ollama.respond = four_hops.Knowing(CHAIN, {river: "Danube", length: "2850 km"})
    model.ollama.faults.extend([None, Fault("hang", seconds=600)])
    arguments = ["trace", "rerun", "last", "--step", "2", "--answer", "Ulm"]
    with subprocess.Popen(
        command(*arguments),
        env=process_environment(model),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            wait_for(lambda: len(model.ollama.chats) == 2, 100)
            process.send_signal(signal.SIGINT)
            _, stderr = process.communicate(timeout=100)
        finally:
            process.kill()
    model.ollama.faults.clear()
    assert process.returncode == 130
    told = re.search(r"hoptrail ask --resume (\S+)", stderr)
    assert told, stderr
    asked(model)
    resumed = hoptrail("ask", "--json", "--resume", told[1])
    assert resumed.exit_code == 0, resumed.stderr
    assert asked(model) == [length, "synthesis"]
    steps = json.loads(resumed.stdout)["steps"]
    assert [step["answer"] for step in steps] == ["Franz Kafka", "Ulm", "Danube", "2850 km"]
    assert json.loads(resumed.stdout)["change"]["answer"] == "Ulm"


@pytest.mark.timeout(300)
def test_without_any_model_a_fork_answers_from_the_shell(tmp_path: Path) -> None:
    docs = tmp_path / "notes"
    docs.mkdir()
    for name, text in NOTES.items():
        (docs / name).write_text(text, encoding="utf-8")
    base = {"HOPTRAIL_BACKENDS": "extractive", "HOPTRAIL_EMBEDDERS": "hash"}

    def shell(*arguments: str) -> str:
        done = subprocess.run(
            command(*arguments),
            env=os.environ | base,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert "Hämeenlinna" in shell(
        "ask", "--docs", str(docs), "Where was the composer of Finlandia born?"
    )
    told = shell("trace", "rerun", "last", "--step", "1", "--answer", "Carl Nielsen")
    assert "Sortelung" in told
    assert "Hämeenlinna" not in told
