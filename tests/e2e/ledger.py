"""What the lives of a run leave behind outside of Hoptrail: points reached, calls made."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any


class Ledger:
    """A file that every life appends to; what is written survives its death."""

    def __init__(self, home: Path) -> None:
        home.mkdir(parents=True, exist_ok=True)
        self.path = home / "ledger.jsonl"
        self._file = os.open(self.path, os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o600)

    def note(self, kind: str, what: Any) -> None:
        """Write down what happened."""
        os.write(self._file, f"{json.dumps([kind, what])}\n".encode())

    def close(self) -> None:
        """Close the file."""
        os.close(self._file)


def noted(home: Path, since: int = 0) -> list[tuple[str, Any]]:
    """Give what stands in a ledger, from the ``since``-th line on."""
    path = home / "ledger.jsonl"
    if not path.exists():
        return []
    lines = path.read_text(encoding="utf-8").splitlines()[since:]
    return [(kind, what) for kind, what in map(json.loads, lines)]
