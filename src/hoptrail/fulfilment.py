"""The fulfilment of an intent: what a message asks of memory is done, and told exactly."""

from __future__ import annotations

from collections.abc import Sequence

from hoptrail.errors import HoptrailError
from hoptrail.fact import Fact
from hoptrail.intent import Intent
from hoptrail.memory import Memory

_MOST_RECITED = 50
_STILL_SAID = " What was said in this conversation still stands in it."


async def fulfilled(memory: Memory, intent: Intent, *, in_conversation: bool) -> str:
    """Do what is asked, and say what was done; ``in_conversation`` is not its first message.

    Raises:
        HoptrailError: the store refused; nothing is said to be done that was not.
    """
    match intent.act:
        case "remember":
            return f"I will remember: {_quoted([await memory.remember(intent.text)])}"
        case "forget":
            done = await _forgotten(memory, intent.text)
        case "forget_all":
            done = await _all_forgotten(memory)
        case "recite":
            return await _recited(memory)
    return done + _STILL_SAID * in_conversation if done else await _nothing(memory, intent.text)


async def _forgotten(memory: Memory, text: str) -> str:
    forgotten = await memory.forget_about(text)
    return f"Forgotten: {_quoted(forgotten)}" if forgotten else ""


async def _all_forgotten(memory: Memory) -> str:
    count = await memory.forget_all()
    return f"Forgotten: everything, {count} {'fact' if count == 1 else 'facts'}." if count else ""


async def _nothing(memory: Memory, text: str) -> str:
    if not text:
        return "There was nothing to forget: I remember nothing."
    said = f"Nothing was forgotten: I remember nothing that says “{text}”."
    try:
        nearest = await memory.recall(text, 1)
    except HoptrailError:
        return said  # the hint needs an embedder, and forgetting does not
    if not nearest:
        return said
    return f"{said} Nearest is {_quoted(nearest)} To forget that, say: forget {nearest[0].id}"


async def _recited(memory: Memory) -> str:
    facts = await memory.facts()
    if not facts:
        return "I remember nothing about you."
    lines = [f"- {fact.text}" for fact in facts[:_MOST_RECITED]]
    left = len(facts) - len(lines)
    return "\n".join(["This is what I remember:", *lines, *([f"and {left} more"] if left else [])])


def _quoted(facts: Sequence[Fact]) -> str:
    return "; ".join(f"“{fact.text.rstrip('.')}”" for fact in facts) + "."
