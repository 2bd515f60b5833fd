"""The course of one ``hoptrail chat``: read a line, do or answer what it says, read the next."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, suppress
from functools import cached_property
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, TypedDict

import click
from rich.text import Text

from hoptrail.cli.choice import settings_for
from hoptrail.cli.failure import EXPECTED, Interrupted, cause, way_out
from hoptrail.events import AnswerRestarted, AnswerText, Event, RunFinished
from hoptrail.terminal.answer import print_citations, print_skipped
from hoptrail.terminal.marks import ACCENT, BAD, QUIET, WARN, console
from hoptrail.terminal.plain import one_line, plain
from hoptrail.terminal.steps import answered_by

if TYPE_CHECKING:
    from rich.status import Status

    from hoptrail.memory import Memory
    from hoptrail.trace import Trace
    from hoptrail.trail import Hoptrail

_PROMPT = "> "
_HELP = """\
/memory              what is remembered of you
/remember TEXT       remember something
/forget ID or WORDS  forget one fact, or those that say these words; /forget all
/new                 begin another conversation; what is remembered stays
/help, /quit         Ctrl-D leaves, too; Ctrl-C stops an answer"""


class ChatFlags(TypedDict):
    """All flags of ``hoptrail chat``."""

    docs: tuple[str, ...]
    index: str | None
    model: tuple[str, str] | None
    backend: str | None
    thread: str | None
    user: str
    no_memory: bool


class Chatting:
    """One conversation at a terminal, or over a pipe; `hold` sees it through."""

    def __init__(self, flags: ChatFlags) -> None:
        self._flags = flags
        self._settings = settings_for(flags["backend"], flags["model"])
        self._user = None if flags["no_memory"] else flags["user"].strip()
        if self._user == "":
            raise click.UsageError("--user needs a name; --no-memory remembers nobody")
        self._out, self._err = console(), console(stderr=True)
        self._at_terminal = sys.stdin.isatty()
        self._thread = flags["thread"] or ""
        self._open = ExitStack()
        self._waiting: Status | None = None
        self._written = False
        self._held = ""
        self._answered_last = ""
        self._warned: set[str] = set()

    def hold(self) -> None:
        """Take lines until there are no more, or one says to quit.

        Raises:
            Interrupted: by Ctrl-C, where nobody is there to go on.
            HoptrailError: a message could not be answered, where nobody is there to see it.
        """
        with self._open:
            if self._at_terminal:
                self._note("/help lists what can be done here; /quit leaves")
            for line in self._lines():
                if line.startswith("/"):
                    if line in ("/quit", "/exit"):
                        break
                    self._guarded(self._command, line)
                else:
                    self._guarded(self._turn, line)
            if self._thread:
                self._note(f"to go on with this: {self._way_back()}")

    def _lines(self) -> Iterator[str]:
        """Give what is said, line by line; empty lines say nothing."""
        if not self._at_terminal:
            yield from filter(None, map(str.strip, sys.stdin))
            return
        with suppress(ImportError):
            import readline  # noqa: F401 # lets `input` edit a line and remember the last ones
        while True:
            try:
                line = input(self._prompt()).strip()
            except (EOFError, KeyboardInterrupt):
                self._err.print()
                return
            if line:
                yield line

    def _prompt(self) -> str:
        if self._out.is_terminal:
            return _PROMPT
        self._err.print(_PROMPT, end="")  # stdout is for answers
        return ""

    def _guarded(self, do: Callable[[str], None], line: str) -> None:
        """Do what a line says; at a terminal, what goes wrong ends that line only."""
        try:
            do(line)
        except KeyboardInterrupt as error:
            if not self._at_terminal:
                raise Interrupted(self._way_on()) from error
            self._end_line()
            self._note("stopped; what was said before is kept")
        except EXPECTED as error:
            if not self._at_terminal or isinstance(error, BrokenPipeError):
                raise
            self._end_line()
            self._err.print(Text(plain(f"error: {cause(error)}"), BAD), soft_wrap=True)
            self._note(plain(way_out(error)))
        finally:
            self._settle()

    def _turn(self, message: str) -> None:
        self._wait()
        from hoptrail.background import background
        from hoptrail.run import new_run_id

        self._thread = self._thread or new_run_id()
        told = self._trail.astream_chat(message, thread_id=self._thread, user=self._user)
        # Closed when it is left: an interrupted run writes down how far it came.
        with closing(background().iterate(told)) as events:
            for event in events:
                self._take(event)

    def _take(self, event: Event) -> None:
        match event:
            case AnswerText():
                self._settle()
                self._write(event.delta)
            case AnswerRestarted():
                self._held = ""
                self._end_line()
                self._note(f"the answer begins anew: {one_line(event.why)}", WARN)
            case RunFinished():
                self._end_line(self._held)
                print_citations(self._out, event.trace.citations)
                self._out.file.flush()
                self._report(event.trace)
            case _:
                pass

    def _write(self, delta: str) -> None:
        if not self._out.is_terminal:  # what turns out to be void could not be taken back there
            self._held += delta
            return
        self._out.file.write(plain(delta))
        self._out.file.flush()
        self._written = True

    def _report(self, trace: Trace) -> None:
        """Say who answered, where that changed, what was remembered, and what went less well."""
        for step in trace.steps:
            who = answered_by(step.calls)
            if step.degraded:
                self._note(f"{who} · degraded: no language model answered", WARN)
            elif who and who != self._answered_last:
                self._note(who)
            self._answered_last = who or self._answered_last
            for use in step.tools if step.calls else ():
                if not use.error:
                    self._note(f"remembered: {one_line(use.output)}")
            for warning in (*trace.warnings, *step.warnings):
                if warning not in self._warned:
                    self._note(one_line(warning), WARN)
                self._warned.add(warning)

    def _command(self, line: str) -> None:
        name, _, text = line.partition(" ")
        commands: dict[str, Callable[[str], None]] = {
            "/help": lambda _: self._err.print(_HELP),
            "/memory": self._show_memory,
            "/remember": self._remember,
            "/forget": self._forget,
            "/new": self._begin_anew,
        }
        if name in commands:
            commands[name](text.strip())
        else:
            self._note(f"there is no {one_line(name, 40)}; /help lists what there is", WARN)

    def _show_memory(self, _: str) -> None:
        from hoptrail.background import background

        if (memory := self._memory()) is None:
            return
        facts = background().run(memory.facts())
        for fact in facts:
            line = Text.assemble((fact.id, ACCENT), f"  {one_line(fact.text)}")
            self._out.print(line, soft_wrap=True)
        if not facts:
            self._note("nothing is remembered")

    def _remember(self, text: str) -> None:
        from hoptrail.background import background

        if not text:
            self._note("say what: /remember TEXT", WARN)
        elif (memory := self._memory()) is not None:
            self._note(f"remembered: {one_line(background().run(memory.remember(text)).text)}")

    def _forget(self, text: str) -> None:
        from hoptrail.background import background

        if not text:
            self._note("say what: /forget ID or WORDS; /memory lists what there is", WARN)
            return
        if (memory := self._memory()) is None:
            return
        if text in ("all", "everything"):
            self._note(f"forgotten: everything, {background().run(memory.forget_all())} facts")
            return
        forgotten = background().run(memory.forget_about(text))
        for fact in forgotten:
            self._note(f"forgotten: {one_line(fact.text)}")
        if not forgotten:
            self._note("nothing was forgotten: /memory lists what is remembered")

    def _begin_anew(self, _: str) -> None:
        if self._thread:
            self._note(f"to go on with the last one: {self._way_back()}")
        self._thread = ""

    def _memory(self) -> Memory | None:
        if self._user is None:
            self._note("there is no memory in this conversation: it was begun with --no-memory")
            return None
        return self._trail.assembly.memory(self._user)

    @cached_property
    def _trail(self) -> Hoptrail:
        # It brings LangGraph: the first prompt stands before that is loaded.
        from hoptrail.background import background
        from hoptrail.terminal.lines import waiting_told
        from hoptrail.trail import Hoptrail

        docs = tuple(map(Path, self._flags["docs"]))
        trail = Hoptrail(docs or None, index=self._flags["index"], settings=self._settings)
        self._open.enter_context(closing(trail))
        report = background().run(trail.prepare(waiting_told(self._err)))
        if report is not None and report.skipped:
            print_skipped(self._err, report.skipped)
        return trail

    def _wait(self) -> None:
        """Show that something goes on until the first word of the answer."""
        if self._err.is_terminal:
            self._waiting = self._err.status(Text("", QUIET))
            self._waiting.start()

    def _settle(self) -> None:
        if self._waiting is not None:
            self._waiting.stop()
            self._waiting = None

    def _end_line(self, held: str = "") -> None:
        self._settle()
        if self._written or held:
            self._out.file.write(f"{plain(held)}\n")
            self._out.file.flush()
        self._written, self._held = False, ""

    def _note(self, text: str, style: str = QUIET) -> None:
        if text:
            self._err.print(Text(text, style), soft_wrap=True)

    def _way_on(self) -> str:
        return f"to go on: {self._way_back()}" if self._thread else ""

    def _way_back(self) -> str:
        """Give the command that goes on with this conversation, as a shell takes it."""
        return f"hoptrail chat --thread {quote(plain(self._thread))}"
