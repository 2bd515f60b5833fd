"""Requests that schemathesis makes up from the OpenAPI document, and what became of them."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

CONFIGURATION = Path(__file__).with_name("schemathesis.toml")


@dataclass(frozen=True)
class Outcome:
    """How many requests there were, what they were answered, and what was wrong with that."""

    cases: int
    modes: Mapping[str, int]
    statuses: Mapping[str, Counter[int]]
    failures: Mapping[str, int]
    told: str

    @property
    def table(self) -> str:
        """The statuses of each operation."""
        width = max(map(len, self.statuses))
        rows = [
            f"{name:{width}}  {sum(counted.values()):6}  "
            + "  ".join(f"{status}: {number}" for status, number in sorted(counted.items()))
            for name, counted in sorted(self.statuses.items())
        ]
        modes = ", ".join(f"{number} {mode}" for mode, number in self.modes.items())
        total = f"{self.cases} cases ({modes}), failures: {dict(self.failures) or 'none'}"
        return "\n".join([*rows, total])


def make_up_requests(url: str, headers: Mapping[str, str], folder: Path, examples: int) -> Outcome:
    """Ask a server what its document allows, and what it forbids.

    That is each example, each limit of each field, a wrong token, other methods. With
    ``examples`` so many random requests per operation and mode come on top, and chains of
    requests that use what others answered; without, all of it is the same every time.
    """
    phases = "examples,coverage,fuzzing,stateful" if examples else "examples,coverage"
    how = ["--max-examples", str(examples)] if examples else ["--generation-deterministic"]
    kept = [f"--report-{kind}-path={folder}/{kind}" for kind in ("json", "ndjson")]
    sent = [f"--header={name}: {value}" for name, value in headers.items()]
    command = [sys.executable, "-m", "schemathesis.cli", f"--config-file={CONFIGURATION}", "run"]
    options = ["--checks=all", "--continue-on-failure", "--no-shrink", "--report=json,ndjson"]
    done = subprocess.run(
        [*command, f"{url}/openapi.json", f"--phases={phases}", *options, *how, *kept, *sent],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    told = done.stdout + done.stderr
    assert (folder / "json").exists(), told
    summary = json.loads((folder / "json").read_text("utf-8"))
    assert summary["complete"], told
    assert not summary["errors"], told
    statuses: dict[str, Counter[int]] = defaultdict(Counter)
    modes: Counter[str] = Counter()
    for name, mode, status in _answers((folder / "ndjson").read_text("utf-8")):
        statuses[name][status] += 1
        modes[mode] += 1
    return Outcome(
        cases=summary["test_cases"]["generated"],
        modes=modes,
        statuses=statuses,
        failures={each["title"]: each["count"] for each in summary["failures"]},
        told=told,
    )


def _answers(lines: str) -> Iterator[tuple[str, str, int]]:
    for line in lines.splitlines():
        recorder = json.loads(line).get("ScenarioFinished", {}).get("recorder", {})
        for case, met in recorder.get("interactions", {}).items():
            asked = recorder["cases"][case]["value"]
            status = met["response"]["status_code"] if met["response"] else 0
            name = "other methods" if status == 405 else f"{asked['method']} {asked['path']}"
            yield name, asked["meta"]["generation"]["mode"], status
