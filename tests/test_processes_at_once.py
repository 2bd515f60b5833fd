"""Many processes and threads at once on the same files, and processes that were forked."""

import asyncio
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest
from filelock import FileLock

from hoptrail.checkpoints import sqlite_checkpointer
from hoptrail.journal import Journal
from hoptrail.memory_store import sqlite_store
from hoptrail.trace import Call, StepTrace, Trace

pytestmark = [pytest.mark.promise("storage-faults-are-told"), pytest.mark.timeout(180)]

WRITERS, RUNS = 8, 50

WRITER = """
import sys
from pathlib import Path
from hoptrail.journal import Journal
from hoptrail.trace import Trace

journal, name = Journal(Path(sys.argv[1])), sys.argv[2]
print("ready", flush=True)
sys.stdin.readline()
for number in range(int(sys.argv[3])):
    run_id = f"{name}-{number}"
    lock = journal.admit(run_id, f"Question {run_id}?", {"graph": "multi-hop"})
    for step in (1, 2):
        journal.write(run_id, f"step:{step}", f"{run_id} {step}")
    trace = Trace(run_id=run_id, question=f"Question {run_id}?", status="answered", answer=run_id)
    journal.let_go(trace, lock)
journal.close()
print("done", flush=True)
"""


def test_writers_of_one_journal_lose_nothing(tmp_path: Path) -> None:
    home = tmp_path / "home"
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", WRITER, str(home), f"w{number}", str(RUNS)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for number in range(WRITERS)
    ]
    for each in writers:
        assert each.stdout is not None
        assert each.stdout.readline() == "ready\n"
    ended = []
    for each in writers:
        assert each.stdin is not None
        each.stdin.write("\n")
        each.stdin.flush()
    for each in writers:
        ended.append(each.communicate(timeout=150))
    assert ended == [("done\n", "")] * WRITERS
    with closing(Journal(home)) as journal:
        rows = journal.runs(limit=WRITERS * RUNS + 1)
        assert {row.answer for row in rows} == {
            f"w{writer}-{number}" for writer in range(WRITERS) for number in range(RUNS)
        }
        assert len(rows) == WRITERS * RUNS
        for row in rows:
            wanted = {f"step:{step}": f"{row.run_id} {step}" for step in (1, 2)}
            assert journal.entries(row.run_id) == wanted
            assert journal.trace(row.run_id).answer == row.answer
    with closing(sqlite3.connect(home / "journal.db")) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)


BEGINNERS: dict[str, Callable[[Path], object]] = {
    "journal.db": lambda path: Journal(path.parent).runs(),
    "memory.db": lambda path: sqlite_store(path).get(("a",), "b"),
    "threads.db": lambda path: asyncio.run(begin_checkpoints(path)),
}


async def begin_checkpoints(path: Path) -> None:
    saver = await sqlite_checkpointer(path)
    await saver.aclose()


@pytest.mark.parametrize("name", BEGINNERS)
def test_who_opens_a_file_waits_for_who_begins_it(name: str, tmp_path: Path) -> None:
    """SQLite itself would refuse one of two that switch one file to its write-ahead log."""
    path = tmp_path / name
    with ThreadPoolExecutor(1) as pool:
        with FileLock(path.with_suffix(".lock")):
            opening = pool.submit(BEGINNERS[name], path)
            with pytest.raises(TimeoutError):
                opening.result(0.3)
            assert not path.exists() or path.stat().st_size == 0
        opening.result(30)
    assert path.stat().st_size > 0


def test_threads_that_share_a_journal_take_turns(tmp_path: Path) -> None:
    journal, failed = Journal(tmp_path / "home"), list[BaseException]()
    at_once = threading.Barrier(4)

    def write(name: str) -> None:
        at_once.wait(30)
        try:
            for number in range(25):
                run_id = f"{name}-{number}"
                lock = journal.admit(run_id, "q", {})
                journal.write(run_id, "step:1", run_id)
                trace = Trace(run_id=run_id, question="q", status="answered")
                trace.steps, trace.plan.calls = (
                    [StepTrace(id=1, question="q")],
                    [Call(purpose="plan")],
                )
                journal.let_go(trace, lock)
        except BaseException as error:  # noqa: BLE001 # it is told in the test's own thread
            failed.append(error)

    threads = [threading.Thread(target=write, args=(f"t{number}",)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(100)
    assert failed == []
    assert len(journal.runs(limit=200)) == 100
    assert all(journal.entries(f"t{n}-{m}") for n in range(4) for m in range(25))
    journal.close()


FORKS = """
import asyncio, os, sys
from pathlib import Path

from hoptrail import Hoptrail, load_settings
from hoptrail.errors import StorageFailed
from hoptrail.testing import ScriptedChatModel

home = Path(sys.argv[1])


def made():
    model = ScriptedChatModel(respond=lambda _asked: "An answer.")
    return Hoptrail(model=model, settings=load_settings(home=home, embedders="hash"))


def in_a_fork(work):
    child = os.fork()
    if child == 0:
        try:
            work()
        except BaseException as error:
            os.write(2, repr(error).encode())
            os._exit(1)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    assert status == 0, work.__name__


trail, unused = made(), made()
assert trail.chat("Who?", user="anna").text == "An answer."
trail.assembly.own_store.put(("a",), "b", {"c": 1})


def one_that_was_used():
    for work in (
        lambda: trail.chat("Who?"),
        lambda: asyncio.run(trail.achat("Who?")),
        lambda: trail.assembly.journal.runs(),
        lambda: trail.assembly.own_store.get(("a",), "b"),
    ):
        try:
            work()
        except StorageFailed as error:
            assert "forked" in str(error), error
        else:
            raise AssertionError("it was used on")


def one_that_was_not():
    assert unused.chat("Who?").text == "An answer."
    assert unused.assembly.own_store.get(("a",), "b") is not None


def a_new_one():
    fresh = made()
    assert fresh.chat("Who?", thread_id="t").text == "An answer."
    fresh.close()


for work in (one_that_was_used, one_that_was_not, a_new_one):
    in_a_fork(work)
assert trail.chat("Who?", user="anna").text == "An answer."  # nothing was done to it
assert len(trail.assembly.journal.runs()) == 4
trail.close()
print("done")
"""


def test_what_was_opened_before_a_fork_says_so_and_anything_else_works(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "ignore::DeprecationWarning", "-c", FORKS, str(tmp_path / "home")],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "done\n"), done.stderr[-3000:]
