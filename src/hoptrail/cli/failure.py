"""What a failure is to a shell: an exit code, its cause, and the way out."""

from __future__ import annotations

import signal
import sqlite3
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NoReturn

import click

from hoptrail.errors import (
    AllBackendsFailed,
    BackendError,
    HoptrailError,
    InvalidResponse,
    NoBackend,
    RequestRefused,
)

ANSWERED = 0
ERROR = 1
NO_BACKEND = 3
ABSTAINED = 4
INTERRUPTED = 130

EXPECTED = (HoptrailError, OSError, sqlite3.Error)
"""What may go wrong without a fault of Hoptrail's; anything else is a bug, and shows itself."""


_GRAPH_NOTE = "During task with name"
"""LangGraph adds this to every error: it says nothing to whoever asked a question."""


class Interrupted(Exception):
    """Ctrl-C, or SIGTERM; the message says how to go on."""


class Commands(click.Group):
    """A group whose commands end with the contract's exit codes, and no traceback."""

    def main(self, args: Sequence[str] | None = None, *rest: Any, **extra: Any) -> Any:
        """Run as a process of its own, unless ``args`` are given."""
        try:
            return super().main(args, *rest, **extra)
        finally:
            # All is written down: a signal that comes now just ends the process.
            if args is None and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
                signal.signal(signal.SIGINT, signal.SIG_DFL)

    def invoke(self, ctx: click.Context) -> object:
        """Run the command."""
        debug = bool(ctx.params.get("debug"))
        try:
            with _sigterm_interrupts():
                result: object = super().invoke(ctx)
        except (Interrupted, KeyboardInterrupt, click.Abort) as error:
            _leave(INTERRUPTED, "interrupted", str(error), debug)
        except EXPECTED as error:
            if isinstance(error, BrokenPipeError):
                raise  # whoever read the output has left: click ends quietly
            _leave(exit_code(error), f"error: {cause(error)}", way_out(error), debug)
        return result


@contextmanager
def _sigterm_interrupts() -> Iterator[None]:
    """Have SIGTERM do what Ctrl-C does; who serves has handlers of their own."""
    before = signal.getsignal(signal.SIGTERM)
    mine = before is signal.SIG_DFL and threading.current_thread() is threading.main_thread()
    if mine:
        signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        if mine:
            signal.signal(signal.SIGTERM, before)


def exit_code(error: BaseException) -> int:
    """Give the exit code of a failure."""
    answered_badly = isinstance(error, RequestRefused | InvalidResponse)
    nobody = isinstance(error, NoBackend | AllBackendsFailed | BackendError)
    return NO_BACKEND if nobody and not answered_badly else ERROR


def cause(error: BaseException) -> str:
    """Say what went wrong; of several failures each on its own line."""
    if isinstance(error, AllBackendsFailed) and error.causes:
        told = dict.fromkeys(f"  {each.backend}: {each}" for each in error.causes)
        return "\n".join(["no backend answered", *told])
    if isinstance(error, OSError) and error.filename and error.strerror:
        return f"{error.filename}: {error.strerror.lower()}"
    return str(error) or type(error).__name__


def way_out(error: BaseException) -> str:
    """Say what to do about it, where the message does not say so itself."""
    notes = getattr(error, "__notes__", ())
    lines = [note for note in notes if not note.startswith(_GRAPH_NOTE)]
    if isinstance(error, OSError) and not notes:
        lines.append("`hoptrail doctor` says where runs and indexes are kept")
    if exit_code(error) == NO_BACKEND:
        lines.append("`hoptrail doctor` says what each backend lacks")
    return "\n".join(filter(None, lines))


def _leave(code: int, message: str, way_out: str, debug: bool) -> NoReturn:
    from hoptrail.terminal.plain import plain

    if debug:
        raise
    for text in filter(None, (message, way_out)):
        click.echo(plain(text), err=True)
    sys.stdout.flush()
    raise click.exceptions.Exit(code)
