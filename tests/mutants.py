"""``python -m tests.mutants``: how many of mutmut's mutants the tests have killed, per module.

`make mutants` runs mutmut before it. Whole, that takes hours; ``MUTANTS="hoptrail.plan.*"`` takes a
part, and what ran before is not run again.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from pathlib import Path

_FOLDER = Path("mutants/src/hoptrail")
_ENOUGH = 0.85
_FATES = {0: "survived", 1: "killed", 3: "killed", 5: "untested", 33: "untested"}
_TIMED_OUT = (-24, 24, 36, 152, 255)
"""The exit codes that pytest, or mutmut in its place, ends with."""


def main() -> None:
    """Print the score of each module; fail where it is too low."""
    poor = []
    for path in sorted(_FOLDER.rglob("*.meta")):
        codes = json.loads(path.read_text(encoding="utf-8"))["exit_code_by_key"].values()
        counted = Counter(_fate(code) for code in codes if code is not None)
        tried = counted.total()
        if not tried:
            continue
        score = (counted["killed"] + counted["timed out"]) / tried
        name = path.relative_to(_FOLDER).with_suffix("")
        told = ", ".join(f"{number} {fate}" for fate, number in sorted(counted.items()))
        print(f"{name!s:20} {score:6.1%} of {tried} ({told}), {len(codes) - tried} not run")  # noqa: T201 # a table is what this is for
        if score < _ENOUGH:
            poor.append(str(name))
    if poor:
        sys.exit(f"below {_ENOUGH:.0%}: {', '.join(poor)} (mutmut results, mutmut show NAME)")


def _fate(code: int) -> str:
    return "timed out" if code in _TIMED_OUT else _FATES.get(code, "unclear")


if __name__ == "__main__":
    main()
