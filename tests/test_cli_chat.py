"""``hoptrail chat``: a conversation over a pipe, and at a terminal."""

import os
import pty
import re
import select
import shlex
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from hoptrail.cli import main
from hoptrail.journal import Journal
from hoptrail.settings import load_settings
from tests.providers import ChatRequest, Fault, LoopbackProvider, Reply
from tests.two_hops import command, environment, process_environment, write_documents


@pytest.fixture
def model(provider: LoopbackProvider, monkeypatch: pytest.MonkeyPatch) -> LoopbackProvider:
    provider.ollama.models = ["qwen3:8b"]
    provider.ollama.answer(lambda request: f"You said: {request.question}")
    for name, value in environment(provider).items():
        monkeypatch.setenv(name, value)
    return provider


def chat(*arguments: str, say: str) -> Result:
    return CliRunner().invoke(main, ["chat", *arguments], input=say)


def history(request: ChatRequest) -> list[str]:
    return [message["content"] for message in request.messages[1:-1]]


class TestOverAPipe:
    def test_each_line_is_a_message_and_only_answers_are_on_stdout(
        self, model: LoopbackProvider
    ) -> None:
        result = chat(say="Hello!\n\n  How are you?  \n")
        assert result.exit_code == 0, result.stderr
        assert result.stdout == "You said: Hello!\nYou said: How are you?\n"
        assert history(model.ollama.chats[1]) == ["Hello!", "You said: Hello!"]
        assert result.stderr.splitlines().count("ollama:qwen3:8b") == 1

    def test_a_thread_is_gone_on_with(self, model: LoopbackProvider) -> None:
        told = chat(say="Hello!\n").stderr
        thread = re.search(r"hoptrail chat --thread (\S+)", told)
        assert thread is not None
        chat("--thread", thread[1], say="Again?\n")
        chat("--thread", "another", say="Alone?\n")
        assert history(model.ollama.chats[1]) == ["Hello!", "You said: Hello!"]
        assert history(model.ollama.chats[2]) == []

    def test_the_way_back_is_a_command_as_a_shell_takes_it(self, model: LoopbackProvider) -> None:
        name = "my trip; $(ls)"
        told = chat("--thread", name, say="Hello!\n").stderr
        command = next(line for line in told.splitlines() if "hoptrail chat" in line)
        assert shlex.split(command.partition(": ")[2]) == ["hoptrail", "chat", "--thread", name]
        assert "\x1b" not in chat("--thread", "\x1b[31mred", say="Hello!\n").stderr

    def test_what_is_said_of_oneself_is_remembered_and_told(self, model: LoopbackProvider) -> None:
        first = chat("--user", "anna", say="My dog is called Rex.\n")
        assert "remembered: My dog is called Rex." in first.stderr
        chat("--user", "anna", say="What is my dog called?\n")
        chat("--user", "bob", say="What is my dog called?\n")
        chat("--no-memory", "--user", "anna", say="What is my dog called?\nMy cat is Tom.\n")
        told = ["- My dog is called Rex." in asked.prompt for asked in model.ollama.chats]
        assert told == [False, True, False, False, False]
        assert "Tom" not in chat("--user", "anna", say="/memory\n").stdout

    def test_commands(self, model: LoopbackProvider) -> None:
        say = "/remember My dog is called Rex.\n/remember I live in Prague.\n/memory\n"
        result = chat(say=say)
        lines = (line.partition("  ") for line in result.stdout.splitlines())
        ids = {text: fact_id for fact_id, _, text in lines}
        assert list(ids) == ["I live in Prague.", "My dog is called Rex."]
        say = f"/forget {ids['I live in Prague.']}\n/forget my cat\n/forget my dog\n/memory\n"
        result = chat(say=say)
        assert result.stderr.splitlines() == [
            "forgotten: I live in Prague.",
            "nothing was forgotten: /memory lists what is remembered",
            "forgotten: My dog is called Rex.",
            "nothing is remembered",
        ]
        assert "forgotten: everything, 0 facts" in chat(say="/forget everything\n").stderr
        assert "/remember TEXT" in chat(say="/help\n").stderr
        assert "there is no /nonsense" in chat(say="/nonsense\n").stderr
        assert "--no-memory" in chat("--no-memory", say="/memory\n/remember x\n/forget x\n").stderr
        assert model.ollama.chats == []

    def test_new_begins_another_conversation_and_quit_ends_it(
        self, model: LoopbackProvider
    ) -> None:
        result = chat(say="One?\n/new\nTwo?\n/quit\nThree?\n")
        assert result.stdout == "You said: One?\nYou said: Two?\n"
        assert history(model.ollama.chats[1]) == []
        assert len(set(re.findall(r"--thread (\S+)", result.stderr))) == 2

    def test_documents_are_cited(self, model: LoopbackProvider, tmp_path: Path) -> None:
        docs = str(write_documents(tmp_path / "notes"))
        model.ollama.answer("By Franz Kafka [1].")
        result = chat("--docs", docs, say="Who wrote The Trial?\n")
        answer, gap, citation = result.stdout.splitlines()
        assert (answer, gap) == ("By Franz Kafka [1].", "")
        assert citation.startswith("[1] The Trial (")

    def test_without_a_model_it_says_so(self, model: LoopbackProvider) -> None:
        result = chat("--backend", "extractive", say="Hello!\n")
        assert result.exit_code == 0
        assert "no language model answered" in result.stdout
        assert "degraded" in result.stderr

    def test_an_answer_begun_anew_is_told(
        self, model: LoopbackProvider, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("HOPTRAIL_BACKENDS", "ollama,extractive")
        model.ollama.fault = Fault("stream_close", after=2)  # a reset may lose what was sent
        result = chat(say="How are you today, then?\n")
        assert "begins anew" in result.stderr
        # What is void cannot be taken back from a pipe: none of it may have gone there.
        first, *_ = result.stdout.splitlines()
        assert first == "No answer can be given: no language model answered."
        assert "no language model answered: ollama: failed with" in result.stderr

    def test_a_command_without_its_words_is_explained_and_the_rest_goes_on(
        self, model: LoopbackProvider
    ) -> None:
        result = chat(say="/remember\n/forget\nHello!\n")
        assert (result.exit_code, result.stdout) == (0, "You said: Hello!\n")
        assert "say what: /remember TEXT" in result.stderr
        assert "say what: /forget ID or WORDS" in result.stderr

    def test_nothing_of_a_models_text_reaches_the_terminal_as_a_command(
        self, model: LoopbackProvider
    ) -> None:
        model.ollama.answer("red \x1b[31m and \x1b]0;title\x07 done")
        assert "\x1b" not in chat(say="Hello!\n").stdout

    def test_where_nobody_answers_it_ends_with_the_exit_code(self, model: LoopbackProvider) -> None:
        model.ollama.fault = Fault("status", status=500)
        result = chat(say="Hello!\nHello?\n")
        assert result.exit_code == 3
        assert "hoptrail doctor" in result.stderr
        assert len({asked.question for asked in model.ollama.chats}) == 1

    def test_a_user_has_a_name(self) -> None:
        assert chat("--user", " ", say="").exit_code == 2

    def test_help_has_examples(self) -> None:
        result = CliRunner().invoke(main, ["chat", "--help"])
        assert "printf 'I live in Prague.\\nWhere do I live?\\n' | hoptrail chat" in result.stdout


class Terminal:
    """A process at a terminal of its own."""

    def __init__(self, process: subprocess.Popen[bytes], end: int) -> None:
        self.process = process
        self._end = end
        self.shown = ""

    def say(self, text: str) -> None:
        os.write(self._end, text.encode())

    def until(self, expected: str, seconds: float = 30.0) -> None:
        """Wait until something is shown, and forget what was shown up to there."""
        deadline = time.monotonic() + seconds
        while expected not in self.shown:
            assert time.monotonic() < deadline, f"{expected!r} is not in {self.shown!r}"
            if select.select([self._end], [], [], 0.1)[0]:
                self.shown += os.read(self._end, 4096).decode("utf-8", "replace")
        self.shown = self.shown.partition(expected)[2]

    def until_it_listens(self, seconds: float = 30.0) -> None:
        """Wait for the keyboard to be read: readline shows its prompt a moment before.

        What comes in between is heard with the next key only. Where the system does not tell
        what a process waits in, a moment has to do.
        """
        waits_in = Path(f"/proc/{self.process.pid}/wchan")
        deadline = time.monotonic() + seconds
        while waits_in.exists() and not re.search("poll|select", waits_in.read_text("ascii")):
            if time.monotonic() > deadline:
                break
            time.sleep(0.01)
        time.sleep(0.5)


@contextmanager
def at_a_terminal(provider: LoopbackProvider, *arguments: str) -> Iterator[Terminal]:
    ours, theirs = pty.openpty()
    environment = process_environment(provider) | {"TERM": "xterm", "COLUMNS": "200"}

    def to_the_foreground() -> None:
        # Ctrl-C reaches only those whose terminal it is; a shell may have it ignored, too.
        os.login_tty(theirs)
        signal.signal(signal.SIGINT, signal.default_int_handler)

    with subprocess.Popen(
        command("chat", *arguments),
        env=environment,
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        preexec_fn=to_the_foreground,
    ) as process:
        os.close(theirs)
        try:
            yield Terminal(process, ours)
        finally:
            process.kill()
            os.close(ours)


class TestAtATerminal:
    def test_ctrl_c_stops_an_answer_and_at_the_prompt_it_leaves(
        self, model: LoopbackProvider
    ) -> None:
        model.ollama.answer(
            lambda request: (
                Reply("word " * 900, token_delay=0.05)
                if "long" in request.question
                else "Short enough."
            )
        )
        with at_a_terminal(model, "--thread", "t") as terminal:
            terminal.until("> ")
            terminal.say("A long one, please?\n")
            terminal.until("word word")
            terminal.say("\x03")
            terminal.until("stopped")
            terminal.until("> ")
            terminal.say("A brief one?\n")
            terminal.until("Short enough.")
            terminal.until("> ")
            terminal.until_it_listens()
            terminal.say("\x03")
            terminal.until("hoptrail chat --thread t")
            assert terminal.process.wait(20) == 0
        model.settle(30)
        assert model.ollama.chats[0].cancelled
        assert history(model.ollama.chats[1]) == ["A long one, please?", "(no answer was given)"]
        journal = Journal(load_settings().home)
        assert [run.status for run in journal.runs()] == ["answered", "interrupted"]
        journal.close()

    def test_an_error_ends_the_message_and_not_the_conversation(
        self, model: LoopbackProvider
    ) -> None:
        model.ollama.faults.extend([Fault("status", status=401)])
        with at_a_terminal(model) as terminal:
            terminal.until("> ")
            terminal.say("Hello?\n")
            terminal.until("error: ")
            terminal.until("hoptrail doctor")
            terminal.until("> ")
            terminal.say("/help\n")
            terminal.until("/remember TEXT")
            terminal.until("> ")
            terminal.say("\x04")
            assert terminal.process.wait(20) == 0
