"""The course of one ``hoptrail ask``: watch the run, ask for approval, print the answer."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING

import click
from rich.text import Text

from hoptrail.cli.failure import Interrupted
from hoptrail.events import (
    AnswerRestarted,
    AnswerText,
    Event,
    PlanProposed,
    RunFinished,
    RunStarted,
)
from hoptrail.terminal.answer import print_answer, print_citations
from hoptrail.terminal.marks import QUIET, WARN, console
from hoptrail.terminal.plain import amount, duration, json_text, one_line, plain
from hoptrail.terminal.view import View

if TYPE_CHECKING:
    from hoptrail.answer import Answer
    from hoptrail.cli.wish import Wish
    from hoptrail.journal import Journal
    from hoptrail.trace import Trace
    from hoptrail.trail import Hoptrail


class Asking:
    """One question on its way; ``answer`` sees it through."""

    def __init__(self, wish: Wish) -> None:
        self._wish = wish
        self._out, self._err = console(), console(stderr=True)
        self._run_id = wish.flags["resume"] or ""
        self._admitted = False
        self._written = ""
        self._trace: Trace | None = None

    def answer(self) -> Answer:
        """Ask, show what happens, print the answer.

        Raises:
            Interrupted: Ctrl-C, SIGTERM, or a plan that was not approved.
        """
        try:
            with _sigterm_interrupts(), self._view() as view:
                trail = self._trail()
                with closing(trail):
                    self._run(trail, view)
        except KeyboardInterrupt as error:
            raise Interrupted(self._way_on()) from error
        finally:
            if self._written:
                self._out.print()
        return self._printed()

    def _run(self, trail: Hoptrail, view: View) -> None:
        from hoptrail.background import background
        from hoptrail.run import new_run_id

        self._run_id = self._run_id or new_run_id()
        if trail.assembly.library is not None:
            background().run(trail.prepare(view.indexing))
        events = trail.stream(self._wish.question, run_id=self._run_id)
        proposed = self._watch(trail, view, events)
        while proposed is not None:
            view.settle()
            decision = self._decision(proposed)
            with self._view() as view:
                events = background().iterate(trail.decide(self._run_id, decision))
                proposed = self._watch(trail, view, events)

    def _watch(self, trail: Hoptrail, view: View, events: Iterator[Event]) -> PlanProposed | None:
        for event in events:
            match event:
                case PlanProposed():
                    return event
                case RunStarted():
                    self._admitted = True
                    self._record(trail.assembly.journal)
                case AnswerText() | AnswerRestarted() if self._wish.flags["stream"]:
                    view.settle()
                    self._write(event)
                case RunFinished():
                    self._trace = event.trace
                case _:
                    pass
            view.show(event)
        return None

    def _record(self, journal: Journal) -> None:
        from hoptrail.background import background

        background().run(journal.off_loop(self._wish.record, journal, self._run_id))

    def _write(self, event: AnswerText | AnswerRestarted) -> None:
        if isinstance(event, AnswerText):
            self._written += event.delta
            self._out.file.write(plain(event.delta))
        else:
            self._written = ""
            self._out.file.write("\n\n")
            self._tell(f"the answer begins anew: {one_line(event.why)}", WARN)
        self._out.file.flush()

    def _decision(self, proposed: PlanProposed) -> bool | list[str]:
        self._tell("The plan:")
        for number, question in enumerate(proposed.questions, start=1):
            self._tell(f"  {number}. {one_line(question)}")
        choice = click.prompt(
            "Answer it? yes, no, or edit", type=click.Choice(["y", "n", "e"]), default="y", err=True
        )
        if choice == "n":
            raise KeyboardInterrupt
        if choice == "y":
            return True
        edited = click.edit("\n".join(proposed.questions) + "\n") or ""
        return [line.strip() for line in edited.splitlines() if line.strip()] or True

    def _printed(self) -> Answer:
        from hoptrail.answer import answer_of

        assert self._trace is not None  # a run that ends without one raises
        answer = answer_of(self._trace)
        if self._wish.flags["as_json"]:
            self._out.file.write(json_text(answer.as_json()) + "\n")
        elif self._written:
            print_citations(self._out, answer.citations)
        else:
            print_answer(self._out, answer.text, answer.citations)
        self._out.file.flush()
        self._report(answer)
        return answer

    def _report(self, answer: Answer) -> None:
        if answer.degraded:
            self._tell(
                "degraded: not all of this answer comes from a language model; "
                "`hoptrail doctor` says what is missing",
                WARN,
            )
        if self._wish.flags["quiet"]:
            return
        for warning in answer.warnings:
            self._tell(one_line(warning), WARN)
        usage = answer.usage
        self._tell(
            f"{duration(usage.wall_ms)} · {amount(usage.llm_calls, 'LLM call')} · "
            f"{usage.input_tokens:,} + {usage.output_tokens:,} tokens",
            QUIET,
        )
        path = self._wish.settings.home / "traces" / f"{answer.run_id}.json"
        self._tell(f"trace: hoptrail trace show {answer.run_id}  ({path})", QUIET)

    def _way_on(self) -> str:
        if not self._admitted:
            return ""
        return f"what is finished is kept: hoptrail ask --resume {self._run_id}"

    def _tell(self, text: str, style: str = "") -> None:
        self._err.print(Text(text, style), soft_wrap=True)

    def _trail(self) -> Hoptrail:
        from hoptrail.trail import Hoptrail

        wish = self._wish
        return Hoptrail(
            wish.docs or None,
            index=wish.flags["index"],
            approve=wish.flags["approve"],
            settings=wish.settings,
        )

    def _view(self) -> View:
        if self._wish.flags["quiet"]:
            return View()
        if self._err.is_terminal and not self._err.is_dumb_terminal:
            from hoptrail.terminal.live import LiveTree

            return LiveTree(self._err)
        from hoptrail.terminal.lines import Lines

        return Lines(self._err)


@contextmanager
def _sigterm_interrupts() -> Iterator[None]:
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
