"""The lives of a run: ended where a test says, looked at after each death, and told at the end.

::

    with Mortals(tmp_path) as mortals:
        story = undisturbed(mortals, "chain", durability="")
        assert not killed(mortals, story, die_at=[7]).wrong
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, field, replace
from itertools import count
from pathlib import Path
from types import TracebackType
from typing import Any

from hoptrail.checkpoints import sqlite_checkpointer
from hoptrail.errors import RunNotFound
from hoptrail.journal import Journal
from tests.e2e.ledger import noted
from tests.e2e.mortal import PARENT, RUN, SAID, Durability, Job, Story

AT_ONCE: dict[Story, int] = {"chain": 2, "diamond": 3, "iterative": 1, "chat": 1, "fork": 2}
"""How many calls of each story may be under way at a time: its widest steps, and its plan."""
_REPLIES = ("plan", "next", "step", "synthesis", "chat")
"""The kinds of work that hold replies of the model."""
DEAD = -signal.SIGKILL
_ROOT = Path(__file__).parent.parent.parent


class Mortals:
    """A process that has everything imported, and forks one for each life."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._numbers = count()
        # Nothing of the developer's: no key, no settings, no file of the folder they are in.
        own = {"PATH": os.environ["PATH"], "HOME": str(folder), "PYTHONPATH": str(_ROOT)}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.e2e.mortal", str(folder / "warm")],
            cwd=folder,
            env=own,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._read() == "ready\n"

    def __enter__(self) -> Mortals:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._process.kill()
        self._process.communicate()

    def home(self) -> Path:
        """Give a new place for a home folder."""
        return self.folder / f"home-{next(self._numbers)}"

    def begin(self, *jobs: Job) -> None:
        """Begin lives, all at the same time."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{json.dumps([asdict(job) for job in jobs])}\n")
        self._process.stdin.flush()

    def ended(self) -> list[int]:
        """Wait for the lives begun to end; gives their exit codes."""
        codes: list[int] = json.loads(self._read())
        return codes

    def live(self, job: Job) -> int:
        """Have a life lived; gives its exit code."""
        self.begin(job)
        (code,) = self.ended()
        return code

    def _read(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline()


@dataclass(frozen=True)
class Undisturbed:
    """How a story ends when nobody dies; ``points`` are those it passes, in their order."""

    job: Job
    template: Path
    points: tuple[str, ...]
    told: dict[str, Any]
    calls: Counter[str]
    state: dict[str, Any]
    order: tuple[tuple[str, str], ...]

    def build_on(self, call: str) -> set[str]:
        """Give the calls that begin when this one has ended, and not before.

        A plan is not waited for: its first steps begin while it is still written.
        """
        if call.startswith("for: plan") or ("finished", call) not in self.order:
            return set()
        later = self.order[self.order.index(("finished", call)) :]
        return {name for kind, name in later if kind == "begun" and not self._beside(call, name)}

    def _beside(self, one: str, other: str) -> bool:
        """Say whether both are steps and the other needs not the one: which is first is chance."""
        steps = {asked: (number, needs) for number, _, needs, asked, *_ in self.state["trace"][4]}
        needs_of = dict(steps.values())
        first, second = (steps.get(call.rpartition("Question: ")[2]) for call in (one, other))
        if first is None or second is None:
            return False
        needed = {second[0]}
        for _ in steps:
            needed |= {need for number in needed for need in needs_of[number]}
        return first[0] not in needed


@dataclass
class Outcome:
    """What became of a run that was killed: how often, what was repeated, and what is wrong."""

    kills: int = 0
    repeated: int = 0
    lost: list[str] = field(default_factory=list)
    corrupt: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)

    @property
    def faults(self) -> list[str]:
        """Everything that breaks a promise."""
        return [*self.lost, *self.corrupt, *self.wrong]

    def add(self, other: Outcome) -> None:
        """Add what became of another run."""
        self.kills += other.kills
        self.repeated += other.repeated
        self.lost += other.lost
        self.corrupt += other.corrupt
        self.wrong += other.wrong

    def __str__(self) -> str:
        return (
            f"{self.kills} kills: {len(self.lost)} lost, {len(self.corrupt)} corrupt, "
            f"{len(self.wrong)} wrong, {self.repeated} calls repeated"
        )


def undisturbed(
    mortals: Mortals, story: Story, durability: Durability = "", *, first: bool = False
) -> Undisturbed:
    """Let a story be told without a death.

    ``first`` begins with an empty home; otherwise its databases are there, empty, and so is the
    run that a fork comes from.
    """
    template = mortals.home()
    template.mkdir()
    if not first:
        _prepare(mortals, template, story, durability)
    home = mortals.home()
    shutil.copytree(template, home)
    job = Job(story, str(home), durability=durability, result=str(home / "told.json"))
    assert mortals.live(job) == 0, Path(f"{job.result}.err").read_text(encoding="utf-8")
    told = told_of(Path(job.result))
    assert "error" not in told, told
    notes = noted(home)
    points = tuple(what for kind, what in notes if kind == "point")
    order = tuple((kind, named(what)) for kind, what in notes if kind in ("begun", "finished"))
    state = _state(home, story)
    return Undisturbed(job, template, points, told, calls_in(notes, "begun"), state, order)


def _prepare(mortals: Mortals, home: Path, story: Story, durability: Durability) -> None:
    with closing(Journal(home)) as journal:
        journal.runs()
    if durability:
        asyncio.run(_begun(home / "checkpoints.db"))
    if story == "fork":
        job = Job("chain", str(home), run_id=PARENT, result=str(home / "told.json"))
        assert mortals.live(job) == 0
        (home / "ledger.jsonl").unlink()
        (home / "told.json").unlink()


async def _begun(path: Path) -> None:
    saver = await sqlite_checkpointer(path)
    await saver.conn.close()


def killed(mortals: Mortals, story: Undisturbed, die_at: Sequence[int]) -> Outcome:
    """Kill a run at these points, one in each of its lives; then let it end, and judge it."""
    home = mortals.home()
    shutil.copytree(story.template, home)
    judge = _Judge(story, home)
    for life, point in enumerate([*die_at, 0]):
        result = str(home / "told.json")
        job = replace(story.job, home=str(home), die_at=point, result=result)
        code = mortals.live(job)
        judge.look(code, _where(story, home, die_at[: life + 1]))
        if code != DEAD:
            judge.look_at_end(job, code)
            break
    if not judge.outcome.faults:
        shutil.rmtree(home)
    return judge.outcome


def killed_at_each(mortals: Mortals, story: Undisturbed, every: int = 1) -> Outcome:
    """Kill a run at each point of its way (or at ``every`` n-th), and have it resumed each time."""
    outcome = Outcome()
    for point in range(1, len(story.points) + 1, every):
        outcome.add(killed(mortals, story, [point]))
    return outcome


def killed_again_at_each(mortals: Mortals, story: Undisturbed, first: int) -> Outcome:
    """Kill a run at a point, and its resume at each of its own, until one sees it through."""
    outcome = Outcome()
    for point in count(1):
        ended = killed(mortals, story, [first, point])
        outcome.add(ended)
        if ended.kills < len((first, point)):
            return outcome
    raise AssertionError("a resume never ends")


def _where(story: Undisturbed, home: Path, die_at: Sequence[int]) -> str:
    last = next((what for kind, what in reversed(noted(home)) if kind == "point"), "the start")
    named = f"{story.job.story} {story.job.durability or 'journal'}"
    return f"{named}, killed at {', '.join(map(str, die_at))} ({last})"


class _Judge:
    """Looks at what each life left, and counts."""

    def __init__(self, story: Undisturbed, home: Path) -> None:
        self.story, self.home = story, home
        self.outcome = Outcome()
        self._seen = 0
        self._committed: Counter[str] = Counter()
        self._where = ""

    def look(self, code: int, where: str) -> None:
        """Look at what is on disk after a life, and at the calls it made."""
        self._where = where
        notes = noted(self.home, self._seen)
        self._seen += len(notes)
        begun, finished = calls_in(notes, "begun"), calls_in(notes, "finished")
        self._expect(not begun - self.story.calls, "asked what it never asks", begun)
        again = begun & self._committed
        self._expect(not again, "asked again what was committed", again)
        if code != DEAD:
            expected = self.story.calls - self._committed
            self._expect(begun == expected, "did not ask exactly what was missing", begun)
            return
        self.outcome.kills += 1
        self._databases()
        self._run(admitted=("point", "after Journal.admit") in notes)
        repeated = finished - self._committed
        self.outcome.repeated += repeated.total()
        for call in repeated:
            early = begun.keys() & self.story.build_on(call)
            self._expect(not early, "built on what was not committed", early)
        wide = AT_ONCE[self.story.job.story]
        self._expect(repeated.total() <= wide, "more than one call a step is lost", repeated)

    def _databases(self) -> None:
        for path in self.home.rglob("*.db"):
            with closing(sqlite3.connect(path)) as connection:
                (told,) = connection.execute("PRAGMA integrity_check").fetchone()
            if told != "ok":
                self.outcome.corrupt.append(f"{self._where}: {path.name}: {told}")

    def _run(self, *, admitted: bool) -> None:
        with closing(Journal(self.home)) as journal:
            try:
                row = journal.run(RUN)
            except RunNotFound:
                if admitted:
                    self.outcome.lost.append(f"{self._where}: the run is not known")
                return
            self._expect(row.status in ("interrupted", "answered"), "wrong status", row.status)
            if row.status == "answered":
                self._expect(row.answer == self.story.told["answer"], "half an end", row)
            self._committed = self._kept(journal.entries(RUN))
            self._expect(not journal.alive(RUN), "a dead process works on it", row)
            self._trace(journal)

    def _trace(self, journal: Journal) -> None:
        try:
            trace = journal.trace(RUN)
        except RunNotFound:
            trace = None
        if trace is not None:
            self._expect(trace.status in ("interrupted", "answered"), "trace says", trace.status)
            asked = [call.error for call in trace.calls() if call.error]
            self._expect(not asked, "the trace shows failures", asked)
        left = [path.name for path in self.home.rglob("*.partial")]
        self._expect(not left, "a half-written file stays", left)

    def _kept(self, entries: dict[str, str]) -> Counter[str]:
        """Give the calls whose replies an earlier life committed."""
        kept: Counter[str] = Counter()
        for key, value in entries.items():
            if key.partition(":")[0] in _REPLIES:
                document = json.loads(value)
                made = document.get("calls", [document])
                own = [call for call in made if not call["from_run"]]
                kept.update(named(_prompt_of(call)) for call in own)
        return kept

    def look_at_end(self, job: Job, code: int) -> None:
        """Compare how the run ended with how it ends undisturbed."""
        errors = Path(f"{job.result}.err").read_text(encoding="utf-8")
        self._expect(code == 0, "the last life failed", errors)
        told = told_of(Path(job.result))
        self._expect(told == self.story.told, "another answer", told)
        if "error" not in told:
            self._databases()
            state = _state(self.home, self.story.job.story)
            self._expect(state == self.story.state, "another state", state)
        self._expect("Traceback" not in errors, "noise", errors)

    def _expect(self, holds: bool, what: str, shown: object) -> None:
        if not holds:
            self.outcome.wrong.append(f"{self._where}: {what}: {shown}"[:2000])


def told_of(path: Path) -> dict[str, Any]:
    """Give what a life told at its end."""
    return dict(json.loads(path.read_text(encoding="utf-8"))) if path.exists() else {"error": "-"}


def _prompt_of(call: dict[str, Any]) -> list[list[str]]:
    said = [[each["role"], each["content"]] for each in call["prompt"]]
    return [["for", call["purpose"]], *said]


def named(prompt: list[list[str]]) -> str:
    """Name a call by what it asks."""
    return "\n".join(f"{role}: {content}" for role, content in prompt)


def calls_in(notes: Sequence[tuple[str, Any]], kind: str) -> Counter[str]:
    """Give the calls that were ``begun``, or those that were ``finished``, how often each."""
    return Counter(named(what) for noted_kind, what in notes if noted_kind == kind)


def _state(home: Path, story: Story) -> dict[str, Any]:
    """Give what a run that has ended leaves, so far as it does not tell of times."""
    with closing(Journal(home)) as journal:
        row, trace = journal.run(RUN), journal.trace(RUN)
        alive, runs = journal.alive(RUN), len(journal.runs())
        keys = sorted(journal.entries(RUN))
    steps = [
        (each.id, each.question, each.depends_on, each.asked, each.answer, each.status)
        for each in trace.steps
    ]
    return {
        "row": (row.status, row.answer, row.steps, row.stop_reason, row.parent_run_id),
        "trace": (trace.status, trace.answer, trace.stop_reason, trace.warnings, steps),
        "usage": trace.usage.llm_calls,
        "entries": keys,
        "partial": [path.name for path in home.rglob("*.partial")],
        "alive": alive,
        "runs": runs,
    } | ({"chat": asyncio.run(_conversation(home))} if story == "chat" else {})


async def _conversation(home: Path) -> dict[str, Any]:
    saver = await sqlite_checkpointer(home / "threads.db")
    try:
        kept = await saver.aget_tuple({"configurable": {"thread_id": "thread"}})
        rows = await (await saver.conn.execute("SELECT count(*) FROM checkpoints")).fetchone()
    finally:
        await saver.conn.close()
    assert kept is not None
    messages = kept.checkpoint["channel_values"]["messages"]
    with closing(sqlite3.connect(home / "memory.db")) as memory:
        facts = memory.execute("SELECT count(*) FROM store WHERE prefix LIKE '%ada%'").fetchone()
    return {
        "messages": [(each.type, each.text) for each in messages],
        "checkpoints": rows,
        "facts": facts,
        "said": SAID,
    }
