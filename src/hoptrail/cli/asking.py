"""The course of one ``hoptrail ask``: watch the run, ask for approval, print the answer."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

from rich.text import Text

from hoptrail.cli.failure import Interrupted
from hoptrail.cli.page_file import PageFile
from hoptrail.errors import HoptrailError
from hoptrail.events import (
    AnswerRestarted,
    AnswerText,
    Event,
    PlanProposed,
    RunFinished,
    RunStarted,
)
from hoptrail.terminal.answer import (
    print_answer,
    print_citations,
    print_hints,
    print_plan,
    print_report,
    print_skipped,
)
from hoptrail.terminal.marks import QUIET, WARN, console
from hoptrail.terminal.plain import json_text, one_line, plain
from hoptrail.terminal.view import View

if TYPE_CHECKING:
    from hoptrail.answer import Answer
    from hoptrail.cli.wish import Wish
    from hoptrail.journal import Journal
    from hoptrail.retrieval.ingest import IngestReport
    from hoptrail.trace import Trace
    from hoptrail.trail import Hoptrail


Events = Generator[Event, None, None]


class Asking:
    """One question on its way; `answer` sees it through."""

    def __init__(self, wish: Wish) -> None:
        self._wish = wish
        self._flags = wish.flags
        self._out, self._err = console(), console(stderr=True)
        self._run_id = wish.flags["resume"] or ""
        self._admitted = False
        self._written = ""
        self._trace: Trace | None = None
        page = wish.flags["trace_html"]
        self._page = PageFile(Path(page)) if page else None
        self._unwritten: OSError | None = None

    def answer(self) -> Answer:
        """Ask, show what happens, print the answer.

        Raises:
            Interrupted: by Ctrl-C or SIGTERM, or because the plan was refused.
        """
        try:
            self._run()
        except KeyboardInterrupt as error:
            raise Interrupted(self._way_on()) from error
        except HoptrailError as error:
            error.add_note(self._way_on())
            raise
        finally:
            if self._written:
                self._out.print()
            self._keep_page()
        return self._printed()

    def _run(self) -> None:
        with self._view() as view:
            # These bring LangGraph: the view already moves while they load.
            from hoptrail.background import background
            from hoptrail.run import new_run_id

            trail = self._trail()
            self._run_id = self._run_id or new_run_id()
            if trail.assembly.corpus is not None:
                self._tell_skipped(background().run(trail.prepare(view.indexing)))
            with closing(trail):
                proposed = self._watch(trail, view, self._begun(trail))
                while proposed is not None:
                    proposed = self._go_on(trail, view, proposed)

    def _begun(self, trail: Hoptrail) -> Events:
        graph = self._flags["graph"] or "multi-hop"
        return trail.stream(self._wish.question, run_id=self._run_id, graph=graph)

    def _tell_skipped(self, report: IngestReport | None) -> None:
        if report is not None and report.skipped and not self._flags["quiet"]:
            print_skipped(self._err, report.skipped)

    def _go_on(self, trail: Hoptrail, view: View, proposed: PlanProposed) -> PlanProposed | None:
        from hoptrail.background import background
        from hoptrail.cli.approval import approved

        view.settle()
        if self._flags["quiet"]:
            print_plan(self._err, proposed.questions)
        decision = approved(self._run_id, proposed.questions)
        with self._view() as view:
            events = background().iterate(trail.decide(self._run_id, decision))
            return self._watch(trail, view, events)

    def _watch(self, trail: Hoptrail, view: View, events: Events) -> PlanProposed | None:
        # Closed before the trail is: an interrupted run writes down how far it came.
        with closing(events):
            for event in events:
                if isinstance(event, PlanProposed):
                    return event
                self._take(event, trail, view)
                view.show(event)
        return None

    def _take(self, event: Event, trail: Hoptrail, view: View) -> None:
        match event:
            case RunStarted():
                self._admitted, self._trace = True, event.trace
                self._keep_flags(trail.assembly.journal)
            case AnswerText() | AnswerRestarted() if self._flags["stream"]:
                view.settle()
                self._write(event)
            case RunFinished():
                self._trace = event.trace
            case _:
                pass

    def _keep_flags(self, journal: Journal) -> None:
        from hoptrail.background import background

        background().run(journal.off_loop(self._wish.record, journal, self._run_id))

    def _write(self, event: AnswerText | AnswerRestarted) -> None:
        if isinstance(event, AnswerText):
            if not self._written:
                self._gap()
            self._written += event.delta
            self._out.file.write(plain(event.delta))
        else:
            self._out.print("\n")
            self._err.print(Text(f"the answer begins anew: {one_line(event.why)}", WARN))
            self._written = ""
        self._out.file.flush()

    def _printed(self) -> Answer:
        from hoptrail.answer import answer_of

        assert self._trace is not None  # a run that ends without one raises
        answer = answer_of(self._trace)
        if self._flags["as_json"]:
            self._out.file.write(json_text(answer.as_json()) + "\n")
        elif self._written:
            print_citations(self._out, answer.citations)
        else:
            self._gap()
            print_answer(self._out, answer.text, answer.citations)
        self._out.file.flush()
        self._gap()
        print_hints(self._err, answer)
        if not self._flags["quiet"]:
            self._report(answer)
        if self._unwritten is not None:
            raise self._unwritten
        return answer

    def _report(self, answer: Answer) -> None:
        home = self._wish.settings.home
        print_report(self._err, answer, home / "traces" / f"{answer.run_id}.json")
        if self._page is not None and self._unwritten is None:
            self._err.print(Text(f"page: {one_line(str(self._page.path))}", QUIET), soft_wrap=True)

    def _keep_page(self) -> None:
        """Write the run's page, of one that failed or was interrupted as far as it came."""
        if self._page is None or self._trace is None:
            return
        from hoptrail.viewer import trace_page

        document = self._wish.settings.secrets.masked_in(self._trace.model_dump_json())
        try:
            self._page.write(trace_page(document))
        except OSError as error:
            # Neither the answer nor what the run failed of is lost over it.
            self._unwritten = error
            self._err.print(Text(f"no page: {one_line(str(error))}", WARN), soft_wrap=True)

    def _gap(self) -> None:
        """Set answer and progress apart where both are on one terminal."""
        if self._out.is_terminal and self._err.is_terminal and not self._flags["quiet"]:
            self._err.print()

    def _way_on(self) -> str:
        if not self._admitted:
            return ""
        return f"what is finished is kept: hoptrail ask --resume {self._run_id}"

    def _trail(self) -> Hoptrail:
        from hoptrail.trail import Hoptrail

        return Hoptrail(
            self._wish.docs or None,
            index=self._flags["index"],
            approve=self._flags["approve"],
            settings=self._wish.settings,
        )

    def _view(self) -> View:
        if self._flags["quiet"]:
            return View()
        if self._err.is_terminal and not self._err.is_dumb_terminal:
            from hoptrail.terminal.live import LiveTree

            return LiveTree(self._err, self._wish.question)
        from hoptrail.terminal.lines import Lines

        return Lines(self._err)
