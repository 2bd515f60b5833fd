"""The command line: streams, exit codes, and what it says when something is wrong."""

import json
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import pytest
from click.testing import CliRunner, Result

from hoptrail.answer import answer_of
from hoptrail.backend import Availability
from hoptrail.cli import main
from hoptrail.cli.choice import BACKENDS, TOOLS
from hoptrail.doctor import token_checked
from hoptrail.journal import Journal
from hoptrail.settings import BackendName, ToolName, load_settings
from hoptrail.trace import TRACE_VERSION, Trace
from hoptrail.trail import QuestionGraph
from tests.providers import Fault, LoopbackProvider, Reply
from tests.two_hops import (
    QUESTION,
    command,
    environment,
    kind_of,
    process_environment,
    respond,
    serve,
    write_documents,
)

NOBODY = "http://127.0.0.1:9"


@pytest.fixture
def model(provider: LoopbackProvider, monkeypatch: pytest.MonkeyPatch) -> LoopbackProvider:
    serve(provider)
    for name, value in environment(provider).items():
        monkeypatch.setenv(name, value)
    return provider


@pytest.fixture
def docs(tmp_path: Path) -> str:
    return str(write_documents(tmp_path / "notes"))


@pytest.fixture
def home() -> Path:
    return load_settings().home


def hoptrail(*arguments: str, stdin: str | None = None) -> Result:
    return CliRunner().invoke(main, arguments, input=stdin)


def newest_run(home: Path) -> str:
    journal = Journal(home)
    try:
        return journal.runs()[0].run_id
    finally:
        journal.close()


class TestAsk:
    def test_the_answer_is_on_stdout_and_everything_else_on_stderr(
        self, model: LoopbackProvider, docs: str, home: Path
    ) -> None:
        result = hoptrail("ask", "--docs", docs, QUESTION)
        assert result.exit_code == 0, result.stderr
        first, *_, trial, kafka = result.stdout.splitlines()
        assert first == "Prague [1]"
        assert trial.startswith("[1] Franz Kafka (")
        assert "“" in trial
        assert kafka.startswith("[2] The Trial (")
        told = result.stderr.splitlines()
        assert "plan     1. Who wrote The Trial?" in told
        assert "plan     2. Where was #1 born?  needs 1" in told
        assert "step 2   asked: Where was Franz Kafka born?" in told
        answered = next(line for line in told if line.startswith("step 1   ✓ Franz Kafka"))
        assert "ollama:qwen3:8b" in answered
        assert "cites 1 of 2 passages: The Trial" in answered
        run_id = newest_run(home)
        assert told[0] == f"run      {run_id}"
        assert told[-1].startswith(f"trace: hoptrail trace show {run_id}  (")
        assert str(home / "traces" / f"{run_id}.json") in told[-1]

    def test_json_is_the_answers_own_object_and_nothing_else(
        self, model: LoopbackProvider, docs: str, home: Path
    ) -> None:
        result = hoptrail("ask", "--json", "--docs", docs, QUESTION)
        answer = json.loads(result.stdout)
        journal = Journal(home)
        assert answer == json.loads(
            json.dumps(answer_of(journal.trace(answer["run_id"])).as_json())
        )
        journal.close()
        assert answer["short_answer"] == "Prague"
        assert [step["backend"] for step in answer["steps"]] == ["ollama", "ollama"]
        assert [step["model"] for step in answer["steps"]] == ["qwen3:8b", "qwen3:8b"]

    def test_a_streamed_answer_is_the_answer(self, model: LoopbackProvider, docs: str) -> None:
        whole = hoptrail("ask", "--docs", docs, QUESTION)
        streamed = hoptrail("ask", "--stream", "--docs", docs, QUESTION)
        assert streamed.stdout == whole.stdout

    def test_a_restarted_answer_is_told_and_begins_anew(
        self, model: LoopbackProvider, docs: str
    ) -> None:
        # A reset may lose what was sent before it.
        model.ollama.faults.extend([None, None, None, Fault("stream_close", after=3)])
        result = hoptrail("ask", "--stream", "--docs", docs, QUESTION)
        assert result.exit_code == 0
        assert "the answer begins anew" in result.stderr
        whole = hoptrail("ask", "--docs", docs, QUESTION).stdout
        void = result.stdout.removesuffix(whole)
        assert void.startswith("Prague")
        assert void.endswith("\n\n")
        assert result.stdout.endswith(whole)

    def test_quiet_says_nothing_on_stderr(self, model: LoopbackProvider, docs: str) -> None:
        result = hoptrail("ask", "-q", "--docs", docs, QUESTION)
        assert result.stdout.startswith("Prague [1]\n")
        assert result.stderr == ""

    def test_an_abstention_has_its_own_exit_code(self, model: LoopbackProvider, docs: str) -> None:
        model.ollama.respond = lambda request: (
            Reply('{"steps": ["Who knows?"]}')
            if kind_of(request) == "plan"
            else Reply('{"reasoning": "", "found": false, "answer": "", "passages": []}')
        )
        result = hoptrail("ask", "--docs", docs, "Who knows?")
        assert result.exit_code == 4
        assert result.stdout.startswith("No answer was found to: ")

    def test_the_question_can_come_from_stdin(self, model: LoopbackProvider, docs: str) -> None:
        result = hoptrail("ask", "--json", "--docs", docs, "-", stdin=f"{QUESTION}\n")
        assert json.loads(result.stdout)["question"] == QUESTION

    def test_a_model_is_split_on_its_first_colon(self, model: LoopbackProvider, docs: str) -> None:
        result = hoptrail("ask", "-m", "ollama:llama3.2:3b", "--docs", docs, QUESTION)
        assert result.exit_code == 0
        assert {chat.model for chat in model.ollama.chats} == {"llama3.2:3b"}

    def test_a_named_backend_is_the_only_one(
        self, model: LoopbackProvider, docs: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("HOPTRAIL_BACKENDS", "ollama,extractive")
        result = hoptrail("ask", "--json", "--backend", "extractive", "--docs", docs, QUESTION)
        answer = json.loads(result.stdout)
        assert {step["backend"] for step in answer["steps"]} == {"extractive"}
        assert not model.ollama.chats

    def test_a_named_backend_that_is_down_is_told_with_cause_and_fix(
        self, model: LoopbackProvider, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("OLLAMA_HOST", NOBODY)
        monkeypatch.setenv("HOPTRAIL_BACKENDS", "ollama,extractive")
        result = hoptrail("ask", "--backend", "ollama", QUESTION)
        assert result.exit_code == 3
        assert result.stdout == ""
        assert "ollama: " in result.stderr
        assert "ollama serve" in result.stderr
        assert "hoptrail doctor" in result.stderr
        assert "hoptrail ask --resume " in result.stderr

    @pytest.mark.parametrize("quiet", [(), ("-q",)])
    def test_a_degraded_answer_is_labelled(
        self, model: LoopbackProvider, docs: str, quiet: tuple[str, ...]
    ) -> None:
        result = hoptrail(
            "ask", *quiet, "--json", "--backend", "extractive", "--docs", docs, QUESTION
        )
        assert json.loads(result.stdout)["degraded"] is True
        assert "degraded: " in result.stderr

    def test_no_control_sequence_of_a_model_reaches_the_terminal(
        self, model: LoopbackProvider, docs: str
    ) -> None:
        def hostile(request: object) -> Reply:
            given = respond(request)  # type: ignore[arg-type]  # the fixture's own request
            return Reply(given.text.replace("Prague", "Pra\x1b[2J\x1b]0;owned\x07gue\x9b31m"))

        model.ollama.respond = hostile
        for flag in ("--stream", "--json", "-q"):
            result = hoptrail("ask", flag, "--docs", docs, QUESTION)
            assert not {"\x1b", "\x07", "\x9b"} & set(result.stdout + result.stderr)

    @pytest.mark.parametrize(
        ("arguments", "said"),
        [
            ((), "there is no question"),
            (("",), "there is no question"),
            (("--json", "--stream", "Who?"), "leave out --stream"),
            (("--approve", "Who?"), "stdin is none"),
            (("-m", "qwen3:8b", "Who?"), "BACKEND:MODEL"),
            (("-m", "extractive:x", "Who?"), "BACKEND:MODEL"),
            (("-m", "ollama:qwen3:8b", "--backend", "huggingface", "Who?"), "contradict"),
            (("--backend", "gpt", "Who?"), "huggingface"),
            (("--docs", "nowhere", "Who?"), "does not exist"),
            (("--max-steps", "0", "Who?"), "0 is not in the range"),
        ],
    )
    def test_wrong_usage(self, arguments: tuple[str, ...], said: str) -> None:
        result = hoptrail("ask", *arguments)
        assert result.exit_code == 2
        assert said in result.stderr

    def test_the_backends_offered_are_those_of_the_settings(self) -> None:
        assert get_args(BackendName) == BACKENDS

    def test_documents_that_cannot_be_read_are_told(
        self, model: LoopbackProvider, docs: str
    ) -> None:
        (Path(docs) / "one.txt").write_bytes(b"caf\xe9")
        (Path(docs) / "two.txt").write_bytes(b"K\xf6ln")
        told = hoptrail("ask", "--docs", docs, QUESTION).stderr
        assert "left out of the documents: not UTF-8 text (2)" in told

    def test_without_documents_and_models_it_says_what_is_missing(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("HOPTRAIL_BACKENDS", "extractive")
        result = hoptrail("ask", "Who wrote Dracula?")
        assert result.exit_code == 4
        assert "--docs PATH" in result.stderr

    def test_a_spent_budget_says_how_to_go_on(
        self, model: LoopbackProvider, docs: str, home: Path
    ) -> None:
        result = hoptrail("ask", "--max-llm-calls", "1", "--docs", docs, QUESTION)
        told = f"raise --max-llm-calls with `hoptrail ask --resume {newest_run(home)}`"
        assert result.exit_code == 4
        assert told in result.stderr
        more = ("--max-llm-calls", "9")
        assert hoptrail("ask", "--resume", newest_run(home), *more).exit_code == 0

    def test_an_error_is_told_without_the_graphs_own_notes(
        self, model: LoopbackProvider, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("OLLAMA_HOST", NOBODY)
        assert "During task" not in hoptrail("ask", "Who?").stderr

    def test_the_steps_can_be_chosen_one_at_a_time(
        self, model: LoopbackProvider, docs: str, home: Path
    ) -> None:
        asked = ("ask", "--graph", "iterative", "--docs", docs)
        result = hoptrail(*asked, "--max-steps", "1", QUESTION)
        assert f"raise --max-steps with `hoptrail ask --resume {newest_run(home)}`" in result.stderr
        result = hoptrail("ask", "--resume", newest_run(home), "--max-steps", "5")
        assert result.stdout.startswith("Prague [1]")
        kinds = [kind_of(chat) for chat in model.ollama.chats]
        assert kinds.count("next 1") == kinds.count("next 3") == 1
        told = hoptrail("trace", "show", "last").stdout
        assert "chosen one at a time by ollama" in told
        assert re.search(r"graph\s+iterative", told)

    def test_tools_can_be_offered_and_a_resumed_run_keeps_them(
        self, model: LoopbackProvider, docs: str, home: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("HOPTRAIL_TOOLS", "date_difference")
        asked = ("ask", "--tool", "calculator", "--max-llm-calls", "2", "--docs", docs, QUESTION)
        assert hoptrail(*asked).exit_code == 4
        more = ("--max-llm-calls", "9")
        assert hoptrail("ask", "--resume", newest_run(home), *more).exit_code == 0
        offered = [
            [tool["function"]["name"] for tool in chat.body.get("tools", ())]
            for chat in model.ollama.chats
        ]
        assert offered == [[], ["calculator"], ["calculator"], []]
        assert hoptrail("ask", "--docs", docs, QUESTION).exit_code == 0
        assert model.ollama.chats[-2].body["tools"][0]["function"]["name"] == "date_difference"

    def test_only_tools_that_ship_can_be_named(self) -> None:
        assert get_args(ToolName) == TOOLS
        assert hoptrail("ask", "--tool", "shell", QUESTION).exit_code == 2

    def test_there_is_no_whole_plan_to_approve_one_step_at_a_time(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("hoptrail.cli.approval.at_a_terminal", lambda: True)
        assert get_args(QuestionGraph) == ("multi-hop", "iterative")
        assert "[multi-hop|iterative]" in hoptrail("ask", "--help").stdout
        result = hoptrail("ask", "--graph", "iterative", "--approve", QUESTION)
        assert result.exit_code == 2
        assert "never has one" in result.stderr

    def test_limits_reach_the_run(self, model: LoopbackProvider, docs: str) -> None:
        arguments = ("--max-steps", "1", "--max-llm-calls", "7", "--deadline", "9")
        result = hoptrail("ask", *arguments, "--docs", docs, QUESTION)
        assert result.exit_code in (0, 4)
        trace = json.loads(hoptrail("trace", "show", "last", "--json").stdout)
        assert trace["budget"] | {"max_tokens": None} == {
            "max_steps": 1,
            "max_llm_calls": 7,
            "max_tokens": None,
            "deadline": 9,
        }


class TestResume:
    def test_a_finished_run_is_given_again_without_asking_anyone(
        self,
        model: LoopbackProvider,
        docs: str,
        home: Path,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.chdir(tmp_path)
        first = hoptrail("ask", "--backend", "ollama", "--docs", "notes", QUESTION)
        asked = len(model.ollama.chats)
        elsewhere = tmp_path / "elsewhere"
        elsewhere.mkdir()
        monkeypatch.chdir(elsewhere)
        monkeypatch.setenv("HOPTRAIL_BACKENDS", "extractive")
        again = hoptrail("ask", "--resume", newest_run(home))
        assert again.exit_code == 0
        assert again.stdout == first.stdout
        assert len(model.ollama.chats) == asked

    def test_an_unknown_run_is_told(self) -> None:
        result = hoptrail("ask", "--resume", "nothing")
        assert result.exit_code == 1
        assert "hoptrail trace list" in result.stderr

    def test_another_question_is_refused(
        self, model: LoopbackProvider, docs: str, home: Path
    ) -> None:
        hoptrail("ask", "--docs", docs, QUESTION)
        result = hoptrail("ask", "--resume", newest_run(home), "What else?")
        assert result.exit_code == 2
        assert QUESTION in result.stderr


@pytest.mark.promise("signals-leave-runs-resumable")
class TestInterrupt:
    @pytest.fixture(autouse=True)
    def interruptible(self) -> Iterator[None]:
        """A shell starts background jobs with Ctrl-C ignored, and children inherit that."""
        before = signal.signal(signal.SIGINT, signal.default_int_handler)
        yield
        signal.signal(signal.SIGINT, before)

    @pytest.mark.timeout(180)
    @pytest.mark.parametrize("sign", [signal.SIGINT, signal.SIGTERM])
    def test_a_signal_ends_the_run_cleanly_and_says_how_to_go_on(
        self, provider: LoopbackProvider, docs: str, home: Path, sign: signal.Signals
    ) -> None:
        serve(provider)
        provider.ollama.faults.extend([None, None, Fault("hang")])
        with subprocess.Popen(
            command("ask", "--docs", docs, QUESTION),
            env=process_environment(provider),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as process:
            try:
                until(lambda: len(provider.ollama.chats) == 3)
                process.send_signal(sign)
                stdout, stderr = process.communicate(timeout=60)
            finally:
                process.kill()
        assert process.returncode == 130, stderr
        assert stdout == ""
        assert f"hoptrail ask --resume {newest_run(home)}" in stderr
        assert "Traceback" not in stderr
        journal = Journal(home)
        assert journal.runs()[0].status == "interrupted"
        journal.close()


class TestApprove:
    @pytest.fixture(autouse=True)
    def at_a_terminal(self, model: LoopbackProvider, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("hoptrail.cli.approval.at_a_terminal", lambda: True)

    def asked(self, docs: str, choice: str) -> Result:
        return hoptrail("ask", "--approve", "--docs", docs, QUESTION, stdin=choice)

    def test_yes_goes_on(self, docs: str) -> None:
        assert self.asked(docs, "y\n").stdout.startswith("Prague [1]")

    @pytest.mark.parametrize("choice", ["n\n", ""])
    def test_no_and_the_end_of_input_say_how_to_come_back(
        self, docs: str, home: Path, choice: str
    ) -> None:
        result = self.asked(docs, choice)
        assert result.exit_code == 130
        assert f"hoptrail ask --approve --resume {newest_run(home)}" in result.stderr

    @pytest.mark.parametrize(
        ("edited", "code", "steps"),
        [(None, 0, 2), ("Who wrote The Trial?\n\n", 0, 1), (" \n", 130, 0)],
    )
    def test_an_edited_plan_takes_its_place(
        self,
        docs: str,
        monkeypatch: pytest.MonkeyPatch,
        edited: str | None,
        code: int,
        steps: int,
    ) -> None:
        monkeypatch.setattr("click.edit", lambda text: edited)
        assert self.asked(docs, "e\n").exit_code == code
        trace = json.loads(hoptrail("trace", "show", "last", "--json").stdout)
        assert sum(step["status"] == "answered" for step in trace["steps"]) == steps


def until(happened: object, seconds: float = 60.0) -> None:
    assert callable(happened)
    deadline = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.01)


class TestIngest:
    def test_the_report_says_what_changed(self, docs: str, tmp_path: Path) -> None:
        index = str(tmp_path / "index")
        first = hoptrail("ingest", docs, "--index", index)
        assert first.exit_code == 0, first.stderr
        assert "2 added, 0 changed, 0 unchanged, 0 removed, 0 skipped" in first.stdout
        (Path(docs) / "novels.md").write_text("# The Castle\nA novel by Kafka.\n")
        (Path(docs) / "people.md").unlink()
        (Path(docs) / "broken.pdf").write_bytes(b"no pdf")
        second = hoptrail("ingest", docs, "--index", index)
        assert "0 added, 1 changed, 0 unchanged, 1 removed, 1 skipped" in second.stdout
        assert "broken.pdf: " in second.stderr

    def test_a_folder_without_documents_is_an_error(self, tmp_path: Path) -> None:
        empty = tmp_path / "empty"
        empty.mkdir()
        result = hoptrail("ingest", str(empty))
        assert result.exit_code == 1
        assert "no document" in result.stderr

    def test_ask_finds_what_was_ingested(
        self, model: LoopbackProvider, docs: str, tmp_path: Path
    ) -> None:
        index = str(tmp_path / "index")
        hoptrail("ingest", docs, "--index", index)
        result = hoptrail("ask", "--json", "--index", index, QUESTION)
        assert json.loads(result.stdout)["steps"][0]["evidence"]


class TestTrace:
    @pytest.fixture
    def run_id(self, model: LoopbackProvider, docs: str, home: Path) -> str:
        assert hoptrail("ask", "--docs", docs, QUESTION).exit_code == 0
        return newest_run(home)

    def test_list(self, run_id: str) -> None:
        result = hoptrail("trace", "list")
        assert run_id in result.stdout
        assert "✓" in result.stdout
        assert QUESTION in result.stdout, "a pipe has no width"
        (row,) = json.loads(hoptrail("trace", "list", "--json").stdout)
        assert row["run_id"] == run_id
        assert row["backends"] == "ollama"

    @pytest.mark.parametrize("limit", ["0", "9" * 20])
    def test_a_list_has_no_more_runs_than_can_be_counted(self, limit: str) -> None:
        refused = hoptrail("trace", "list", "--limit", limit)
        assert (refused.exit_code, refused.stdout) == (2, "")
        assert "not in the range" in refused.stderr

    def test_a_run_whose_process_was_killed_is_interrupted(self, home: Path) -> None:
        journal = Journal(home)
        lock = journal.admit("killed", "Who?", {})
        (alive,) = json.loads(hoptrail("trace", "list", "--json").stdout)
        lock.release()
        (dead,) = json.loads(hoptrail("trace", "list", "--json").stdout)
        journal.save_trace(Trace(run_id="killed", question="Who?"))
        assert "‖ interrupted" in hoptrail("trace", "show", "killed").stdout
        journal.close()
        assert (alive["status"], dead["status"]) == ("running", "interrupted")

    def test_list_finds_what_is_wanted(self, home: Path) -> None:
        journal = Journal(home)
        for run_id, question, took in (("a", "Which RIVER?", 10.0), ("b", "Which town?", 30.0)):
            lock = journal.admit(run_id, question, {})
            trace = Trace(run_id=run_id, question=question, status="answered")
            trace.usage.wall_ms, trace.degraded = took, run_id == "b"
            journal.let_go(trace, lock)
        journal.close()

        def found(*flags: str) -> str:
            result = hoptrail("trace", "list", "--json", *flags)
            assert result.exit_code == 0, result.stderr
            return "".join(row["run_id"] for row in json.loads(result.stdout))

        assert found() == "ba"
        assert found("--sort", "fastest") == "ab"
        assert found("--question", "river") == "a"
        assert found("--degraded") == "b"
        assert found("--not-degraded") == "a"
        assert found("--status", "failed") == ""
        assert found("--backend", "ollama") == ""
        assert found("--since", "2h") == found("--since", "1 W") == "ba"
        assert found("--since", "2000-01-01") == "ba"
        assert found("--since", "2999-01-01T10:00") == ""
        nobody = hoptrail("trace", "list", "--status", "failed")
        assert "no run is like that" in nobody.stderr

    @pytest.mark.parametrize("when", ["2x", "yesterday", "99999999d", "2026-13-01", ""])
    def test_a_moment_that_is_none_is_wrong_usage(self, when: str) -> None:
        result = hoptrail("trace", "list", "--since", when)
        assert result.exit_code == 2
        assert "2026-11-22" in result.stderr

    def test_list_says_how_to_begin(self) -> None:
        result = hoptrail("trace", "list")
        assert result.exit_code == 0
        assert result.stdout == ""
        assert "hoptrail ask" in result.stderr

    def test_show(self, run_id: str) -> None:
        by_id, last = hoptrail("trace", "show", run_id), hoptrail("trace", "show", "last")
        assert by_id.stdout == last.stdout
        for told in (QUESTION, "Where was #1 born?", "Where was Franz Kafka born?", "wall time"):
            assert told in by_id.stdout
        assert "Reply with JSON" not in by_id.stdout
        assert "Reply with JSON" in hoptrail("trace", "show", run_id, "--prompts").stdout

    def test_show_json_is_the_trace_file(self, run_id: str, home: Path) -> None:
        shown = json.loads(hoptrail("trace", "show", run_id, "--json").stdout)
        assert shown == json.loads((home / "traces" / f"{run_id}.json").read_text("utf-8"))

    @pytest.mark.parametrize("run_id", ["last", "20260101-000000-abcdef", "../secret"])
    def test_show_of_what_is_not_there(self, run_id: str) -> None:
        result = hoptrail("trace", "show", run_id)
        assert result.exit_code == 1
        assert "error: " in result.stderr
        assert "Traceback" not in result.stderr


class TestConfig:
    def test_values_have_their_origin_and_secrets_are_masked(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("HF_TOKEN", "hf_verysecret")
        monkeypatch.setenv("HOPTRAIL_TOP_K", "7")
        result = hoptrail("config", "show")
        assert "verysecret" not in result.stdout
        line = next(each for each in result.stdout.splitlines() if "HOPTRAIL_TOP_K" in each)
        assert line.split() == ["HOPTRAIL_TOP_K=7", "#", "environment", "HOPTRAIL_TOP_K"]
        rows = json.loads(hoptrail("config", "show", "--json").stdout)
        assert {
            "name": "HOPTRAIL_TOP_K",
            "value": "7",
            "origin": "environment HOPTRAIL_TOP_K",
        } in rows

    def test_a_misspelt_setting_is_told(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("HOPTRAIL_TOPK", "7")
        assert "HOPTRAIL_TOP_K" in hoptrail("config", "show").stderr

    def test_a_wrong_value_is_an_error_with_its_fix(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("HOPTRAIL_TOP_K", "many")
        result = hoptrail("config", "show")
        assert result.exit_code == 1
        assert "HOPTRAIL_TOP_K" in result.stderr


class TestDoctor:
    def test_what_is_up_and_what_is_not(
        self, model: LoopbackProvider, docs: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("HOPTRAIL_BACKENDS", "huggingface,ollama,extractive")
        monkeypatch.delenv("HUGGINGFACE_BASE_URL")
        hoptrail("ingest", docs)
        result = hoptrail("doctor", "--docs", docs)
        assert result.exit_code == 0
        for told in ("HF_TOKEN", "llama3.2:3b", "OLLAMA_NUM_PARALLEL", "2 passages", "sqlite"):
            assert told in result.stdout
        assert "answered by ollama:" in result.stdout

    def test_nothing_that_could_answer(
        self, model: LoopbackProvider, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("OLLAMA_HOST", NOBODY)
        result = hoptrail("doctor")
        assert result.exit_code == 3
        assert "ollama serve" in result.stdout

    def test_a_setting_that_cannot_be_used(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("HOPTRAIL_TOP_K", "many")
        result = hoptrail("doctor")
        assert result.exit_code == 1
        assert result.stderr.startswith("error: HOPTRAIL_TOP_K")

    def test_documents_that_are_not_there(
        self, model: LoopbackProvider, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("HOPTRAIL_DOCS", "nowhere")
        assert "correct --docs or HOPTRAIL_DOCS" in hoptrail("doctor").stdout

    def test_a_home_that_cannot_be_written(
        self, model: LoopbackProvider, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "file").touch()
        monkeypatch.setenv("HOPTRAIL_HOME", str(tmp_path / "file" / "home"))
        assert "set HOPTRAIL_HOME" in " ".join(hoptrail("doctor").stdout.split())
        listed = hoptrail("trace", "list")
        assert listed.exit_code == 1
        assert "not a directory\n`hoptrail doctor`" in listed.stderr

    @pytest.mark.anyio
    @pytest.mark.parametrize(("token", "state"), [("hf_good", "up"), ("hf_bad", "misconfigured")])
    async def test_a_token_nobody_knows_is_told(
        self, provider: LoopbackProvider, token: str, state: str
    ) -> None:
        provider.huggingface.token = "hf_good"
        found = Availability(backend="huggingface", state="up")
        checked = await token_checked(found, token, provider.huggingface_url)
        assert checked.state == state

    def test_json(self, model: LoopbackProvider) -> None:
        report = json.loads(hoptrail("doctor", "--json").stdout)
        assert report["backends"][0]["state"] == "up"
        assert report["versions"].keys() >= {"hoptrail", "sqlite"}


class TestHelp:
    @pytest.mark.parametrize("flag", ["-h", "--help"])
    def test_help_has_examples_and_exit_codes(self, flag: str) -> None:
        result = hoptrail(flag)
        assert result.exit_code == 0
        assert "hoptrail ask --docs" in result.stdout
        assert "130 interrupted" in result.stdout

    def test_version(self) -> None:
        assert hoptrail("--version").stdout.startswith("hoptrail, version ")

    def test_debug_lets_the_traceback_through(self) -> None:
        result = hoptrail("--debug", "trace", "show", "nothing")
        assert type(result.exception).__name__ == "RunNotFound"


def test_the_schema_of_traces_is_printed() -> None:
    result = hoptrail("trace", "schema")
    assert result.exit_code == 0
    schema = json.loads(result.stdout)
    assert schema["$id"] == f"urn:hoptrail:trace:{TRACE_VERSION}"
    assert set(schema["properties"]) == set(Trace.model_fields)
