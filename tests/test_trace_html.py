"""``hoptrail trace html``, ``hoptrail ask --trace-html``, and traces that somebody sent."""

import json
import re
import signal
import subprocess
import webbrowser
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from hoptrail.cli import main
from hoptrail.journal import Journal
from hoptrail.settings import load_settings
from hoptrail.trace import Trace
from tests.providers import Fault, LoopbackProvider, Reply
from tests.sample_trace import sample_trace
from tests.test_server_clients import wait_for
from tests.two_hops import (
    QUESTION,
    command,
    environment,
    process_environment,
    respond,
    serve,
    write_documents,
)

KEY = "hf_aB3dE6gH9jK2mN5pQ8sT1vW4yZ7bC0"
DATA = re.compile(r'<script type="application/json" id="hoptrail">(.*?)</script>', re.DOTALL)


@pytest.fixture
def journal() -> Iterator[Journal]:
    journal = Journal(load_settings().home)
    yield journal
    journal.close()


@pytest.fixture
def trace(journal: Journal) -> Trace:
    return kept(journal, sample_trace())


def kept(journal: Journal, trace: Trace) -> Trace:
    lock = journal.admit(trace.run_id, trace.question, {})
    journal.let_go(trace, lock)
    return trace


def hoptrail(*arguments: str, stdin: str | None = None) -> Result:
    return CliRunner().invoke(main, arguments, input=stdin)


def data_of(page: str) -> dict[str, Any]:
    """Give what a page is filled with."""
    found = DATA.search(page)
    assert found
    held: dict[str, Any] = json.loads(found[1])
    return held


class TestHtml:
    def test_a_run_becomes_a_file_named_after_it(self, trace: Trace, tmp_path: Path) -> None:
        result = hoptrail("trace", "html", "last")
        assert result.exit_code == 0, result.stderr
        assert result.stdout == f"{trace.run_id}.html\n"
        page = (tmp_path / f"{trace.run_id}.html").read_text(encoding="utf-8")
        assert data_of(page)["view"] == "trace"
        assert data_of(page)["traces"] == [trace.model_dump(mode="json")]
        assert not re.search(r"(?:src|href)=[\"']?(?:https?:)?//", page), "it loads nothing"
        assert not list(tmp_path.glob(".*.partial"))

    def test_it_is_written_where_one_wants_it(self, trace: Trace, tmp_path: Path) -> None:
        place = tmp_path / "a folder"
        place.mkdir()
        result = hoptrail("trace", "html", trace.run_id, "-o", str(place / "x y.html"))
        assert result.exit_code == 0
        assert [file.name for file in place.iterdir()] == ["x y.html"]
        out = hoptrail("trace", "html", trace.run_id, "-o", "-")
        assert out.stdout == (place / "x y.html").read_text(encoding="utf-8")

    def test_another_export_is_replaced_and_nothing_else(
        self, trace: Trace, tmp_path: Path
    ) -> None:
        page, notes = tmp_path / "page.html", tmp_path / "notes.html"
        assert hoptrail("trace", "html", "last", "-o", str(page)).exit_code == 0
        assert hoptrail("trace", "html", "last", "-o", str(page)).exit_code == 0
        notes.write_text("<p>mine", encoding="utf-8")
        refused = hoptrail("trace", "html", "last", "-o", str(notes))
        assert refused.exit_code == 2
        assert "--force" in refused.stderr
        assert notes.read_text(encoding="utf-8") == "<p>mine"
        assert hoptrail("trace", "html", "last", "-o", str(notes), "--force").exit_code == 0
        assert data_of(notes.read_text(encoding="utf-8"))["view"] == "trace"

    @pytest.mark.parametrize(
        ("place", "said"),
        [("nowhere/x.html", "there is no folder nowhere"), (".", "no file that could be replaced")],
    )
    def test_a_place_that_cannot_be_is_told(self, trace: Trace, place: str, said: str) -> None:
        result = hoptrail("trace", "html", "last", "-o", place, "--force")
        assert result.exit_code == 2
        assert said in result.stderr

    @pytest.mark.parametrize("length", [250, 300])
    def test_a_page_that_cannot_be_written_is_named_with_a_way_out(
        self, trace: Trace, tmp_path: Path, length: int
    ) -> None:
        name = "x" * length  # too long for its partial file, and for itself
        result = hoptrail("trace", "html", "last", "-o", name)
        assert result.exit_code == 1
        told = result.stderr.splitlines()
        assert told[0] == f"error: {name}: file name too long"
        assert told[1:] == ["`hoptrail trace html RUN_ID -o FILE` writes the page elsewhere"]
        assert not list(tmp_path.glob("*x*"))

    def test_two_runs_become_a_comparison(
        self, trace: Trace, journal: Journal, tmp_path: Path
    ) -> None:
        other = sample_trace()
        other.run_id, other.answer = "other", "Elbe [1]"
        kept(journal, other)
        result = hoptrail("trace", "html", trace.run_id, "other")
        assert result.stdout == f"{trace.run_id}-other.html\n"
        held = data_of((tmp_path / f"{trace.run_id}-other.html").read_text(encoding="utf-8"))
        assert held["view"] == "comparison"
        assert [each["run_id"] for each in held["traces"]] == [trace.run_id, "other"]
        assert (held["comparison"]["before"], held["comparison"]["after"]) == (
            trace.run_id,
            "other",
        )

    def test_the_browser_is_opened(
        self, trace: Trace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        opened: list[str] = []
        monkeypatch.setattr(webbrowser, "open", opened.append)
        assert hoptrail("trace", "html", "last", "--open").exit_code == 0
        assert opened == [(tmp_path / f"{trace.run_id}.html").as_uri()]
        assert hoptrail("trace", "html", "last", "--open", "-o", "-").exit_code == 2

    def test_without_a_browser_it_is_said(
        self, trace: Trace, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(webbrowser, "open", lambda address: False)
        result = hoptrail("trace", "html", "last", "--open")
        assert result.stdout == f"{trace.run_id}.html\n"
        assert "no browser could be started" in result.stderr

    def test_secrets_are_masked(
        self, journal: Journal, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        known = "the very 0wn token"
        monkeypatch.setenv("HOPTRAIL_API_TOKEN", known)
        trace = sample_trace()
        trace.steps[0].calls[0].prompt[0].content = f"Use {KEY} and {known}."
        kept(journal, trace)
        page = hoptrail("trace", "html", "last", "-o", "-").stdout
        assert "Use hf_… and …." in page
        assert KEY not in page
        assert known not in page

    def test_an_unknown_run_is_told(self) -> None:
        result = hoptrail("trace", "html", "nobody")
        assert result.exit_code == 1
        assert "trace list" in result.stderr


class TestSentTraces:
    def test_a_file_is_shown_and_exported(self, tmp_path: Path) -> None:
        sent = tmp_path / "sent.json"
        sent.write_text(sample_trace().model_dump_json(), encoding="utf-8")
        assert "Who wrote The Trial?" in hoptrail("trace", "show", "sent.json").stdout
        assert "Who wrote The Trial?" in hoptrail("trace", "show", str(sent)).stdout
        made = hoptrail("trace", "html", str(sent))
        assert made.stdout == "20261122-091500-4f2a9c.html\n"

    def test_stdin_is_read_too(self) -> None:
        told = hoptrail("trace", "show", "-", "--json", stdin=sample_trace().model_dump_json())
        assert json.loads(told.stdout)["run_id"] == "20261122-091500-4f2a9c"

    def test_the_id_in_a_file_names_no_path(self, tmp_path: Path) -> None:
        (tmp_path / "in").mkdir()
        sent = tmp_path / "sent.json"
        sent.write_text(
            sample_trace().model_copy(update={"run_id": "../out"}).model_dump_json(),
            encoding="utf-8",
        )
        result = hoptrail("trace", "html", str(sent))
        assert result.stdout == "trace.html\n"
        assert (tmp_path / "trace.html").exists()

    @pytest.mark.parametrize("named", ["", ".", "sent.json", "a/folder"])
    def test_what_is_neither_a_run_nor_a_file_is_told(self, tmp_path: Path, named: str) -> None:
        (tmp_path / "a" / "folder").mkdir(parents=True)
        result = hoptrail("trace", "show", named)
        assert result.exit_code == 1
        assert (
            result.stderr
            == f"error: {named!r} is neither the id of a run nor a file with a trace\n"
        )

    @pytest.mark.parametrize("text", ["{", "[]", '{"trace_version": 99}'])
    def test_what_is_none_is_told_by_its_name(self, tmp_path: Path, text: str) -> None:
        (tmp_path / "sent.json").write_text(text, encoding="utf-8")
        for what in ("show", "html"):
            result = hoptrail("trace", what, "sent.json")
            assert result.exit_code == 1
            assert "sent.json" in result.stderr
            assert "Traceback" not in result.stderr


class TestAsk:
    @pytest.fixture
    def docs(self, tmp_path: Path) -> str:
        return str(write_documents(tmp_path / "notes"))

    @pytest.fixture
    def model(
        self, provider: LoopbackProvider, monkeypatch: pytest.MonkeyPatch
    ) -> LoopbackProvider:
        serve(provider)
        for name, value in environment(provider).items():
            monkeypatch.setenv(name, value)
        return provider

    def ask(self, docs: str, *more: str) -> Result:
        return hoptrail("ask", "--docs", docs, "--trace-html", "run.html", *more, QUESTION)

    def test_the_run_becomes_a_page(
        self, model: LoopbackProvider, docs: str, tmp_path: Path, journal: Journal
    ) -> None:
        result = self.ask(docs)
        assert result.exit_code == 0, result.stderr
        assert result.stdout.startswith("Prague")
        (held,) = data_of((tmp_path / "run.html").read_text(encoding="utf-8"))["traces"]
        assert held == journal.trace(held["run_id"]).model_dump(mode="json")
        assert "\npage: run.html\n" in result.stderr

    def test_a_bad_place_costs_nothing(
        self, model: LoopbackProvider, docs: str, tmp_path: Path
    ) -> None:
        (tmp_path / "run.html").write_text("mine", encoding="utf-8")
        result = self.ask(docs)
        assert result.exit_code == 2
        assert not model.ollama.chats
        assert (tmp_path / "run.html").read_text(encoding="utf-8") == "mine"

    def test_stdout_is_the_answers(
        self, model: LoopbackProvider, docs: str, tmp_path: Path
    ) -> None:
        result = hoptrail("ask", "--docs", docs, "--trace-html", "-", QUESTION)
        assert result.exit_code == 2
        assert "hoptrail trace html last -o -" in result.stderr
        assert not model.ollama.chats
        assert not (tmp_path / "-").exists()

    def test_a_place_that_goes_away_costs_the_page_alone(
        self, model: LoopbackProvider, docs: str, tmp_path: Path
    ) -> None:
        place = tmp_path / "pages"
        place.mkdir()

        def answer(request: Any) -> Reply:
            if place.exists():
                place.rmdir()
            return respond(request)

        model.ollama.respond = answer
        target = str(place / "x.html")
        result = hoptrail("ask", "--docs", docs, "--trace-html", target, QUESTION)
        assert result.stdout.startswith("Prague"), "the answer is told all the same"
        assert result.exit_code == 1
        assert f"error: {target}: no such file or directory" in result.stderr
        assert "page: " not in result.stderr.replace("no page: ", "")

    def test_a_run_that_fails_is_kept_as_far_as_it_came(
        self, model: LoopbackProvider, docs: str, tmp_path: Path
    ) -> None:
        model.ollama.faults.extend([None, *[Fault("bad_token")] * 20])
        result = self.ask(docs)
        assert result.exit_code != 0
        (held,) = data_of((tmp_path / "run.html").read_text(encoding="utf-8"))["traces"]
        assert held["status"] == "failed"
        assert [step["question"] for step in held["steps"]][:1] == ["Who wrote The Trial?"]

    @pytest.mark.timeout(300)
    def test_a_run_that_is_interrupted_too(
        self, provider: LoopbackProvider, docs: str, tmp_path: Path
    ) -> None:
        serve(provider)
        provider.ollama.faults.extend([None, None, Fault("hang", seconds=600)])
        with subprocess.Popen(
            command("ask", "--docs", docs, "--trace-html", "run.html", QUESTION),
            env=process_environment(provider),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as process:
            try:
                wait_for(lambda: len(provider.ollama.chats) == 3, 100)
                process.send_signal(signal.SIGTERM)
                _, stderr = process.communicate(timeout=100)
            finally:
                process.kill()
        assert process.returncode == 130, stderr
        (held,) = data_of((tmp_path / "run.html").read_text(encoding="utf-8"))["traces"]
        assert held["status"] == "interrupted"
        assert held["steps"][0]["answer"] == "Franz Kafka"
