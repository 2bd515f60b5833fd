"""One call to a language model: why that one, what was tried, what was said."""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.text import Text

from hoptrail.terminal.marks import BAD, QUIET
from hoptrail.terminal.plain import duration, model_name, one_line, plain
from hoptrail.trace import Attempt, Call

Fact = tuple[str, RenderableType]


def call_facts(call: Call, usual: str = "", *, prompts: bool = False) -> Iterator[Fact]:
    """Give what a call has to tell beside who answered, each with its label.

    Why its backend was chosen is told unless that is the ``usual`` reason. The attempts are told
    when it took several, or when none was answered.
    """
    tried = call.attempts if len(call.attempts) > 1 or call.error else []
    for attempt in tried:
        yield "tried", _attempt(attempt)
    if call.reason and call.reason != usual and not tried:
        yield "chosen", Text(one_line(call.reason), QUIET)
    if call.error:
        yield "error", Text(one_line(call.error), BAD)
    if prompts:
        for message in call.prompt:
            yield "prompt", _block(message.role, message.content)
        wanted = "\n".join(asked.written for asked in call.tool_calls)
        yield "reply", _block(model_name(call.backend, call.model), call.output or wanted)


def _attempt(attempt: Attempt) -> Text:
    good = attempt.outcome == "ok"
    line = Text("✓ " if good else "✗ ", "green" if good else BAD)
    line.append(model_name(attempt.backend, attempt.model), "default")
    line.append(f"  {duration(attempt.ms)}", QUIET)
    if not good:
        line.append(f"  {one_line(attempt.outcome)}", BAD)
    said = attempt.detail if not good and attempt.detail else attempt.reason
    return line.append(f"  {one_line(said)}" if said else "", QUIET)


def _block(label: str, text: str) -> RenderableType:
    return Group(Text(label, QUIET), Padding(Text(plain(text).strip()), (0, 0, 1, 2)))
