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
_SURVIVED, _UNTESTED = (0,), (5, 33)
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
        score = counted["killed"] / tried
        name = path.relative_to(_FOLDER).with_suffix("")
        print(  # noqa: T201 # a table is what this is for
            f"{name!s:30} {score:6.1%}  killed {counted['killed']:4} of {tried:4},"
            f" survived {counted['survived']:3}, without a test {counted['untested']:3},"
            f" not run {len(codes) - tried:4}"
        )
        if score < _ENOUGH:
            poor.append(str(name))
    if poor:
        sys.exit(f"below {_ENOUGH:.0%}: {', '.join(poor)} (mutmut results, mutmut show NAME)")


def _fate(code: int) -> str:
    if code in _SURVIVED:
        return "survived"
    return "untested" if code in _UNTESTED else "killed"


if __name__ == "__main__":
    main()
