"""What each parser keeps to whatever it is given, as one function of bytes per parser.

`make test` runs them on what Hypothesis makes up and on every input that once broke them (in
``found``); ``python -m tests.fuzz plan -max_total_time=60`` runs one of them under atheris, which
looks for inputs that reach new code. A module here has ``WORDS`` (what its inputs are made of),
``SEEDS`` (inputs to begin with) and ``check``, which raises when a parser breaks its word.
"""

from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import NamedTuple

TARGETS = (
    "plan",
    "reply",
    "citations",
    "events",
    "lines",
    "trace",
    "settings",
    "documents",
    "words",
)
FOUND = Path(__file__).parent / "found"


class Target(NamedTuple):
    """A parser, and what to try on it."""

    name: str
    words: tuple[str, ...]
    seeds: tuple[bytes, ...]
    check: Callable[[bytes], None]

    @property
    def found(self) -> list[Path]:
        """Inputs that once broke it."""
        return sorted((FOUND / self.name).glob("*"))


def target(name: str) -> Target:
    """Give the target of this name."""
    module = import_module(f"tests.fuzz.{name}")
    return Target(name, module.WORDS, module.SEEDS, module.check)
