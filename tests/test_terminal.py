"""What a terminal shows of a run, at any width, from any text."""

import io
import json
import re
from itertools import count
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from hoptrail.backend import Availability
from hoptrail.change import Change
from hoptrail.doctor import Checkup, IndexState, LoadedModel
from hoptrail.events import (
    AnswerRestarted,
    AnswerText,
    Event,
    PlanFinished,
    PlanRestarted,
    RunFinished,
    RunStarted,
    StepFinished,
    StepPlanned,
    StepStarted,
    ToolUsed,
)
from hoptrail.journal import RunRow
from hoptrail.request import EarlierAnswer
from hoptrail.settings import Origin
from hoptrail.terminal.answer import print_answer
from hoptrail.terminal.change import change_line
from hoptrail.terminal.checkup import print_checkup
from hoptrail.terminal.lines import Lines
from hoptrail.terminal.live import LiveTree
from hoptrail.terminal.plain import duration, json_text, one_line, plain
from hoptrail.terminal.record import print_record
from hoptrail.terminal.runs import runs_table
from hoptrail.terminal.values import print_values
from hoptrail.terminal.waterfall import FAILED, GENERATION, RETRIEVAL, Stretch, bars, draw
from hoptrail.trace import Attempt, Call, StepTrace, ToolCall, ToolUse, Trace
from tests.sample_trace import NOVEL, QUESTION, answered_step, citation, sample_trace, second_step

CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
HOSTILE = "[bold]\x1b[31mred\x1b]0;title\x07\x1b]8;;http://x\x1b\\link\x9b2J\u202eevil\x00\r[/bold]"


def screen(width: int = 100, *, terminal: bool = False) -> Console:
    return Console(
        file=io.StringIO(),
        width=width,
        force_terminal=terminal,
        markup=False,
        highlight=False,
        emoji=False,
        _environ={},
    )


def shown(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


class TestPlain:
    def test_no_sequence_survives(self) -> None:
        assert plain(HOSTILE) == "[bold]redlinkevil[/bold]"

    @given(st.text(st.characters(codec=None), max_size=60))
    def test_no_control_character_survives(self, text: str) -> None:
        assert not CONTROL.search(plain(text))
        plain(text).encode("utf-8")

    @given(st.text(st.characters(exclude_categories=["Cc", "Cs", "Cf", "Zl", "Zp"])))
    def test_ordinary_text_is_left_alone(self, text: str) -> None:
        assert plain(text) == text

    def test_an_open_sequence_ends_with_its_line(self) -> None:
        assert plain("a\x1b]0;never closed\nb") == "a\nb"

    def test_much_hostile_text_takes_no_time(self) -> None:
        assert plain("\x1b]" * 200_000) == ""
        assert plain("\x1b[" + "1;" * 200_000) == ""

    @given(st.recursive(st.text(st.characters(codec=None)), st.lists))
    def test_json_stays_the_same_value_and_carries_no_control_character(
        self, value: object
    ) -> None:
        text = json_text(value)
        assert not CONTROL.search(text.replace("\n", ""))
        assert json.loads(text) == value

    @pytest.mark.parametrize(
        ("ms", "said"),
        [
            (0, "0 ms"),
            (999.4, "999 ms"),
            (999.6, "1.0 s"),
            (59_949, "59.9 s"),
            (59_960, "1 min 00 s"),
            (185_000, "3 min 05 s"),
        ],
    )
    def test_duration(self, ms: float, said: str) -> None:
        assert duration(ms) == said

    def test_one_line(self) -> None:
        assert one_line("a\n  b\tc") == "a b c"
        assert one_line("abcdef", 4) == "abc…"
        assert one_line("abcd", 4) == "abcd"


class TestRecord:
    @pytest.mark.parametrize("width", [40, 80, 120])
    def test_everything_is_told_at_any_width(self, width: int) -> None:
        out = screen(width)
        print_record(out, sample_trace())
        text = shown(out)
        assert max(map(len, text.splitlines())) <= width
        whole = " ".join(re.sub(r"[│├└─]+", " ", text).split())
        for told in (
            "step 2 referred to step 7",
            "Franz Kafka",
            "BackendBusy",
            "429: too many requests",
            "huggingface was busy",
            "hybrid",
            "no embedder matches the index",
            "20261122-091500-4f2a9c",
            "wall time 2.6 s",
            "max_llm_calls 24",
        ):
            assert told in whole, told

    def test_cited_passages_are_marked(self) -> None:
        out = screen(120)
        print_record(out, sample_trace())
        rows = [line for line in shown(out).splitlines() if "0.033" in line or "0.0165" in line]
        assert ["●" in row for row in rows] == [True, False, True, True]

    def test_scores_of_each_retriever_need_room(self) -> None:
        narrow, wide = screen(60), screen(100)
        print_record(narrow, sample_trace())
        print_record(wide, sample_trace())
        assert "bm25" not in shown(narrow)
        assert "bm25" in shown(wide)

    def test_prompts_are_shown_when_asked_for(self) -> None:
        without, with_them = screen(), screen()
        print_record(without, sample_trace())
        print_record(with_them, sample_trace(), prompts=True)
        assert '{"answer": "Franz Kafka"}' not in shown(without)
        assert '{"answer": "Franz Kafka"}' in shown(with_them)

    def test_hostile_text_is_shown_as_text(self) -> None:
        trace = sample_trace()
        step = answered_step()
        step.question = step.answer = step.reasoning = step.error = HOSTILE
        step.warnings = [HOSTILE]
        step.evidence[0] = step.evidence[0].model_copy(
            update={"passage": NOVEL.model_copy(update={"title": HOSTILE, "source": HOSTILE})}
        )
        step.calls[0].reason = step.calls[0].output = HOSTILE
        step.citations = [citation(NOVEL.model_copy(update={"title": HOSTILE}), 1)]
        trace.steps[0] = step
        trace.question = trace.answer = trace.error = HOSTILE
        trace.warnings = trace.plan.repairs = [HOSTILE]
        out = screen(200)
        print_record(out, trace, prompts=True)
        assert not CONTROL.search(shown(out))
        assert shown(out).count("[bold]redlinkevil[/bold]") >= 10

    def test_an_unfinished_run_can_be_looked_at(self) -> None:
        trace = sample_trace()
        trace.status, trace.answer, trace.citations = "running", "", []
        trace.steps.append(StepTrace(id=3, question="What else?", depends_on=[2]))
        trace.usage.wall_ms = 0
        out = screen()
        print_record(out, trace)
        assert "running" in shown(out)
        assert "wall time" not in shown(out)

    def test_a_plan_that_nobody_made_is_not_said_to_be_made(self) -> None:
        trace = Trace(run_id="r", question=QUESTION, status="failed")
        trace.plan.calls.append(Call(purpose="plan", error="NoBackend: nobody is up"))
        trace.voided.append(StepTrace(id=1, question="Void?", asked="Void?"))
        out = screen()
        print_record(out, trace)
        assert "no plan was made" in shown(out)
        assert "begun for a plan that broke off: Void?" in shown(out)


class TestWaterfall:
    def test_each_moment_of_a_step_has_its_stretch(self) -> None:
        _, first, second, _ = bars(sample_trace())
        assert [(s.kind, s.start, s.end) for s in first.stretches] == [
            ("retrieval", 600, 650),
            ("failed attempt", 650, 770),
            ("first token", 770, 850),
            ("generation", 850, 1450),
        ]
        assert first.ms == 850
        assert [s.kind for s in second.stretches] == ["retrieval", "generation"]

    def test_waits_pauses_and_tools_have_their_stretches_too(self) -> None:
        trace = sample_trace()
        step, busy = trace.steps[1], Attempt(backend="ollama", outcome="BackendBusy", ms=100)
        step.planned_ms, step.ready_ms, step.started_ms = 700, 1450, 1460
        broken = Attempt(
            backend="ollama", outcome="InvalidResponse", started_ms=200, first_token_ms=250, ms=100
        )
        good = Attempt(backend="extractive", started_ms=300, ms=150)
        step.calls[0].queued_ms = 30
        step.calls[0].started_ms = 1530
        step.calls[0].attempts = [busy, broken, good]
        step.calls[0].ms = 470
        step.tools = [ToolUse(tool="calculator", started_ms=2000, ms=50)]
        assert [(s.kind, s.start, s.end) for s in bars(trace)[2].stretches] == [
            ("waiting for answers", 700, 1450),
            ("queue", 1450, 1460),
            ("retrieval", 1460, 1500),
            ("queue", 1500, 1530),
            ("failed attempt", 1530, 1630),
            ("pause", 1630, 1730),
            ("failed attempt", 1730, 1830),
            ("generation", 1830, 2000),
            ("tool", 2000, 2050),
        ]
        assert bars(trace)[2].ms == 600, "waiting for others is no work of its own"
        out = screen(40)
        print_record(out, trace)
        assert "× failed attempt" in shown(out)
        assert max(map(len, shown(out).splitlines())) <= 40

    def test_a_failed_attempt_is_never_drawn_over(self) -> None:
        stretches = [Stretch(FAILED, 500, 510), Stretch(GENERATION, 500, 1000)]
        assert draw(stretches, 1000, 4).plain == "  ×█"

    def test_what_was_not_done_in_this_run_takes_no_time_and_says_so(self) -> None:
        trace = sample_trace()
        for call in trace.steps[0].calls:
            call.from_journal = True
        trace.steps[1].from_run = "parent-run"
        assert [(bar.stretches, bar.kept) for bar in bars(trace)[1:3]] == [
            ((), "journal"),
            ((), "kept"),
        ]
        trace.steps[1].given = True
        assert bars(trace)[2].kept == "given"

    def test_a_bar_stands_where_its_time_is(self) -> None:
        stretches = [Stretch(RETRIEVAL, 250, 500), Stretch(GENERATION, 500, 750)]
        assert draw(stretches, 1000, 8).plain == "  ░░██  "

    def test_a_moment_too_short_to_draw_is_drawn(self) -> None:
        assert draw([Stretch(GENERATION, 999.9, 1000)], 1000, 8).plain == "       █"
        assert draw([Stretch(GENERATION, 0, 0.1)], 1000, 8).plain == "█       "

    def test_a_run_without_time_draws_nothing(self) -> None:
        assert draw([], 0, 4).plain == "    "


def events() -> list[Event]:
    return [
        RunStarted("run-1", QUESTION),
        StepPlanned(1, "Void?"),
        PlanRestarted("the stream broke"),
        StepPlanned(1, "Who wrote The Trial?"),
        StepStarted(1, "Who wrote The Trial?"),
        StepPlanned(2, "Which river flows through the birthplace of #1?", (1,)),
        PlanFinished(("step 3 was a duplicate",)),
        StepFinished(answered_step()),
        StepStarted(2, "Which river flows through the birthplace of Franz Kafka?"),
        StepFinished(second_step()),
        AnswerText("Mol"),
        AnswerRestarted("the stream broke"),
        AnswerText("Vltava"),
        RunFinished(sample_trace()),
    ]


class TestLines:
    def test_a_run_is_told_line_by_line(self) -> None:
        out = screen(40)
        with Lines(out) as view:
            for event in events():
                view.show(event)
        assert shown(out).splitlines() == [
            "run      run-1",
            "plan     1. Void?",
            "plan     begins anew: the stream broke",
            "plan     1. Who wrote The Trial?",
            "step 1   asked: Who wrote The Trial?",
            "plan     2. Which river flows through the birthplace of #1?  needs 1",
            "plan     complete",
            "plan     repaired: step 3 was a duplicate",
            "step 1   ✓ Franz Kafka  (ollama:qwen3:8b · 850 ms · cites 1 of 2 passages: "
            "The Trial (novels.md))",
            "step 2   asked: Which river flows through the birthplace of Franz Kafka?",
            "step 2   ✓ Vltava  (ollama:qwen3:8b · 550 ms · cites 2 of 2 passages: "
            "Prague (cities.md); Franz Kafka (people.md))",
            "step 2   no embedder matches the index: searched by words only",
            "answer   is being written",
            "answer   begins anew: the stream broke",
        ]

    def test_reading_documents_is_told_every_second(self) -> None:
        out, now = screen(), iter(0.01 * tick for tick in range(1000))
        view = Lines(out, clock=lambda: next(now))
        for done in range(1, 351):
            view.indexing(done, 1000, "notes.md")
        told = shown(out).splitlines()
        assert told == [f"index    {done} of 1000  notes.md" for done in (101, 201, 301)]

    def test_waiting_for_another_ingestion_is_told(self) -> None:
        out, now = screen(), iter((0.0, 1.0))
        view = Lines(out, clock=lambda: next(now))
        for _ in range(2):
            view.indexing(0, 0, "another ingestion")
        assert shown(out).splitlines() == ["index    waiting for another ingestion"]

    def test_the_same_warning_is_told_once(self) -> None:
        out = screen(200)
        view = Lines(out)
        for _ in range(2):
            view.show(StepFinished(second_step()))
        assert shown(out).count("no embedder matches the index") == 1


class TestLiveTree:
    def frame(self, view: LiveTree, width: int = 100) -> str:
        out = screen(width)
        out.print(view._render())
        return shown(out)

    def test_the_tree_grows(self, monkeypatch: pytest.MonkeyPatch) -> None:
        ticks = count(step=0.001)  # the machine's own clock may leap by seconds
        monkeypatch.setattr("hoptrail.terminal.live.time.monotonic", lambda: next(ticks))
        view = LiveTree(screen(terminal=True), QUESTION)
        frames = {}
        for event in events():
            view.show(event)
            frames[type(event).__name__, getattr(event, "id", 0)] = self.frame(view)
        assert "planning" in frames["RunStarted", 0]
        assert "Void?" not in frames["PlanRestarted", 0]
        assert (
            "○ 2 Which river flows through the birthplace of #1?  needs 1"
            in (frames["PlanFinished", 0])
        )
        assert "step 3 was a duplicate" in frames["PlanFinished", 0]
        assert re.search(r"2 Which river .* of Franz Kafka\?  \d+ ms", frames["StepStarted", 2])
        assert "Vltava" in frames["AnswerText", 0]
        last = self.frame(view)
        assert "✓ 1 Who wrote The Trial?" in last
        assert "→ Franz Kafka" in last
        assert "cites 1 of 2 passages: The Trial (novels.md)" in last

    def test_reading_documents_has_a_bar(self) -> None:
        view = LiveTree(screen(terminal=True), QUESTION)
        view.indexing(3, 10, "notes.md")
        assert "3 of 10  notes.md" in self.frame(view)
        view.indexing(10, 10, "notes.md")
        assert "10 of 10" not in self.frame(view)

    def test_waiting_for_another_ingestion_is_shown(self) -> None:
        view = LiveTree(screen(terminal=True), QUESTION)
        view.indexing(0, 0, "another ingestion")
        assert "waiting for another ingestion" in self.frame(view)

    def test_it_fits_a_narrow_terminal(self) -> None:
        view = LiveTree(screen(terminal=True), QUESTION)
        for event in events():
            view.show(event)
        assert max(map(len, self.frame(view, 40).splitlines())) <= 40

    def test_the_last_state_stays(self) -> None:
        out = screen(terminal=True)
        with LiveTree(out, QUESTION) as view:
            for event in events()[:5]:
                view.show(event)
        last = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown(out)).rsplit(QUESTION, 1)[1]
        assert "‖ 1 Who wrote The Trial?" in last
        assert "planning" not in last


class TestTools:
    USES = (
        ToolUse(tool="calculator", arguments={"expression": "3*4"}, output="12"),
        ToolUse(tool="look", arguments={"at": HOSTILE}, error=f"{HOSTILE}\nnot there"),
    )

    def test_each_call_is_a_line_with_what_came_of_it(self) -> None:
        out = screen()
        with Lines(out) as view:
            for use in self.USES:
                view.show(ToolUsed(1, use))
        first, second = shown(out).splitlines()
        assert first == "step 1   calculator(expression='3*4') → 12"
        assert second.endswith("→ [bold]redlinkevil[/bold] not there")
        assert not CONTROL.search(second)

    def test_the_tree_shows_the_last_one_until_the_step_ends(self) -> None:
        view = LiveTree(screen(terminal=True), QUESTION)
        view.show(StepStarted(1, "How much is it?"))
        view.show(ToolUsed(1, self.USES[0]))
        out = screen()
        out.print(view._render())
        assert "calculator(expression='3*4') → 12" in shown(out)
        view.show(StepFinished(StepTrace(id=1, question="How much is it?", status="answered")))
        out = screen()
        out.print(view._render())
        assert "calculator" not in shown(out)

    def test_the_record_shows_calls_and_facts_of_memory(self) -> None:
        trace = sample_trace()
        trace.steps[0].tools = list(self.USES)
        trace.steps[0].calls[0].output = ""
        trace.steps[0].calls[0].tool_calls = [ToolCall(tool="look", arguments={"at": 1})]
        fact = {"id": 0, "question": "", "answer": "I live in Brno.", "reason": "memory"}
        trace.steps[0].earlier = [EarlierAnswer.model_validate({**fact, "similarity": 0.5})]
        out = screen(120)
        print_record(out, trace, prompts=True)
        told = shown(out)
        assert "calculator(expression='3*4') → 12" in told
        assert "2 tool calls" in told
        assert "look(at=1)" in told
        assert re.search(r"knows\s+I live in Brno\.  memory 0\.50", told)


class TestFork:
    @pytest.mark.parametrize("width", [40, 120])
    def test_a_fork_says_what_it_is_forked_from_and_what_is_its_own(self, width: int) -> None:
        trace = sample_trace()
        trace.parent_run_id = "20261122-090000-aaaaaa"
        trace.change = Change(step=2, answer="Elbe\x1b[31m")
        trace.steps[0].from_run = trace.parent_run_id
        trace.steps[1].given = True
        out = screen(width)
        print_record(out, trace)
        told = " ".join(shown(out).split())
        assert "forked from 20261122-090000-aaaaaa" in told
        assert "step 2: answered “Elbe”" in told
        assert "kept from" in told
        assert "by hand" in told
        assert "\x1b" not in shown(out)

    def test_a_change_is_told_whole(self) -> None:
        change = Change(question="Why?", model="ollama:x", pinned=("a", "b"), banned=("c",))
        assert change_line(change).plain == "asked “Why?”; asked of ollama:x; with a, b; without c"


class TestOthers:
    def test_the_answer_is_followed_by_what_it_cites(self) -> None:
        out = screen(30)
        print_answer(out, "Vltava [1]", [citation(NOVEL, 1)])
        assert shown(out).splitlines() == [
            "Vltava [1]",
            "",
            "[1] The Trial (novels.md) “The Trial is a novel by Franz Kafka.”",
        ]

    @pytest.mark.parametrize("width", [40, 60, 80, 100, 120, 200])
    def test_runs_fit_and_keep_their_ids_whole(self, width: int) -> None:
        rows = [
            RunRow.model_validate(
                {
                    "run_id": "20261122-091500-4f2a9c",
                    "question": QUESTION * 3,
                    "options": {},
                    "status": status,
                    "created": 1_800_000_000,
                    "updated": 1_800_000_000,
                    "backends": "huggingface,ollama",
                    "wall_ms": 2600,
                    "steps": 2,
                    "llm_calls": 31,
                    "parent_run_id": "the-parent" if status == "failed" else "",
                }
            )
            for status in ("answered", "failed", "running")
        ]
        out = screen(width)
        out.print(runs_table(rows, width))
        lines = shown(out).splitlines()
        assert max(map(len, lines)) <= width
        assert shown(out).count("20261122-091500-4f2a9c") == 3
        assert ("✓ answered" in shown(out)) == (width >= 100)
        assert ("huggingface, ollama" in shown(out)) == (width >= 120)
        assert (" 31 " in shown(out)) == (width == 200), "LLM calls where there is room"
        assert ("↳ the-parent" in shown(out)) == (width == 200)
        assert shown(out).count("↳") == 1

    def test_settings_are_lines_of_a_dotenv_file(self) -> None:
        out = screen(40)
        print_values(out, [Origin("HOPTRAIL_TOP_K", "7", "environment HOPTRAIL_TOP_K")])
        line = shown(out).rstrip("\n")
        assert re.fullmatch(r"HOPTRAIL_TOP_K=7 +# environment HOPTRAIL_TOP_K", line)

    @pytest.mark.parametrize("width", [50, 120])
    def test_a_checkup_says_what_to_do(self, width: int) -> None:
        checkup = Checkup(
            backends=(
                Availability(
                    backend="huggingface",
                    state="unconfigured",
                    detail="no token",
                    fix="set HF_TOKEN",
                ),
                Availability(
                    backend="ollama",
                    model="qwen3:8b",
                    state="up",
                    ms=12,
                    models=tuple(f"m{number}" for number in range(9)),
                ),
            ),
            embedders=(Availability(backend="hash", state="up"),),
            loaded=(LoadedModel(name="qwen3:8b", context=4096, gpu_share=0.5),),
            index=IndexState(path=Path("index"), passages=1, sources=1, problem=HOSTILE),
            notes=("a note",),
            warnings=("a warning",),
            home=Path("home"),
            versions={"sqlite": "3.40"},
        )
        out = screen(width)
        print_checkup(out, checkup)
        text = " ".join(shown(out).split())
        assert not CONTROL.search(text)
        for told in (
            "→ set HF_TOKEN",
            "m5 and 3 more",
            "context 4,096 tokens, 50% on GPU",
            "1 passage of 1 document",
            "warning: a warning",
            "questions are answered by ollama:qwen3:8b",
        ):
            assert told in text
