"""``python -m tests.mutants``: how many of mutmut's mutants the tests have killed, per area.

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


_AREAS = {
    "router": ("router", "attempts", "standing", "breaker"),
    "plan": ("plan", "plan_text"),
    "journal": ("journal", "journal_file", "sqlite_file"),
    "spaces": ("space", "embeddings/chain", "embeddings/face", "embeddings/vectors"),
}


def main() -> None:
    """Print the score of each area; fail where it is too low."""
    poor = []
    for area, modules in _AREAS.items():
        counted = sum(map(_fates, modules), Counter[str]())
        not_run = counted.pop("not run", 0)
        if not (tried := counted.total()):
            continue
        score = (counted["killed"] + counted["timed out"]) / tried
        told = ", ".join(f"{number} {fate}" for fate, number in sorted(counted.items()))
        print(f"{area:8} {score:6.1%} of {tried} ({told}), {not_run} not run")  # noqa: T201 # a table is what this is for
        if score < _ENOUGH:
            poor.append(area)
    if poor:
        sys.exit(f"below {_ENOUGH:.0%}: {', '.join(poor)} (mutmut results, mutmut show NAME)")


def _fates(module: str) -> Counter[str]:
    path = _FOLDER / f"{module}.py.meta"
    if not path.exists():
        return Counter()
    codes = json.loads(path.read_text(encoding="utf-8"))["exit_code_by_key"].values()
    return Counter("not run" if code is None else _fate(code) for code in codes)


def _fate(code: int) -> str:
    return "timed out" if code in _TIMED_OUT else _FATES.get(code, "unclear")


if __name__ == "__main__":
    main()
