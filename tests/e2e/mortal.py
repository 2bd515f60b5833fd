"""A process that dies where it is told to: it is killed at the n-th point of its run.

``python -m tests.e2e.mortal`` imports everything once, then reads jobs from stdin, a list of them
a line, forks a process for each, and answers with how each ended. Nothing of the product knows of
this: what is on the way of a run (databases, the trace's file, the model, the journal, the nodes)
is wrapped from outside, in the forked process.
"""

from __future__ import annotations

import asyncio
import functools
import gc
import json
import os
import signal
import sqlite3
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

from langchain_core.documents import Document
from langchain_core.messages import BaseMessage
from langchain_core.outputs import ChatGenerationChunk
from langchain_core.retrievers import BaseRetriever

import hoptrail.run
from hoptrail import Change, Hoptrail, load_settings
from hoptrail.checkpoints import sqlite_checkpointer
from hoptrail.journal import Journal
from hoptrail.nodes import AnyNode
from hoptrail.request import NextStepRequest, StepRequest, request_of
from hoptrail.run import RUN_ID
from hoptrail.testing import ScriptedChatModel, script
from tests import four_hops
from tests.e2e.ledger import Ledger

Story = Literal["chain", "diamond", "iterative", "chat", "fork"]
Durability = Literal["", "sync", "async", "exit"]

PLANS: dict[Story, Sequence[str]] = {
    "chain": four_hops.CHAIN[:3],
    "diamond": four_hops.DIAMOND,
    "iterative": four_hops.CHAIN[:2],
    "fork": four_hops.CHAIN[:3],
}
FACTS = four_hops.FACTS | {"Which river flows through Vienna?": "Danube"}
QUESTION = four_hops.QUESTION
SAID = "I am called Ada. Where was Franz Kafka born?"
PARENT, RUN = "parent", "run"


@dataclass(frozen=True)
class Job:
    """One life of a run: ``die_at`` is the point at which it ends, 0 lets it live.

    ``hold`` is a file that the first call to the model waits for.
    """

    story: Story
    home: str
    run_id: str = RUN
    durability: Durability = ""
    die_at: int = 0
    hold: str = ""
    result: str = ""


class Points:
    """Counts the points a life reaches, and ends it at one of them; threads take turns."""

    def __init__(self, ledger: Ledger, die_at: int) -> None:
        self._ledger, self._die_at = ledger, die_at
        self._reached = 0
        self._turn = threading.Lock()

    def reach(self, name: str) -> None:
        """Be at a point."""
        with self._turn:
            self._reached += 1
            self._ledger.note("point", name)
            if self._reached == self._die_at:
                os.kill(os.getpid(), signal.SIGKILL)

    def after(self, owner: Any, name: str) -> None:
        """Make the end of a method a point."""
        method = getattr(owner, name)

        @functools.wraps(method)
        def wrapped(*args: Any, **kwargs: Any) -> Any:
            result = method(*args, **kwargs)
            self.reach(f"after {owner.__name__}.{name}")
            return result

        setattr(owner, name, wrapped)


class Documents(BaseRetriever):
    """Finds what shares a name with the query."""

    def _get_relevant_documents(self, query: str, *, run_manager: Any) -> list[Document]:
        texts = four_hops.DOCUMENTS.values()
        found = [text for text in texts if any(w in text for w in query.split() if w.istitle())]
        return [Document(text, metadata={"title": text.split("\n")[0][2:]}) for text in found]


class Model(ScriptedChatModel):
    """Answers as a good model would, and leaves in the ledger what it was asked and when."""

    ledger: Any
    points: Any
    hold: str = ""

    async def _astream(
        self, messages: list[BaseMessage], *args: Any, **kwargs: Any
    ) -> AsyncIterator[ChatGenerationChunk]:
        request = request_of(messages)
        assert request is not None  # nobody else asks
        prompt = [[message.type, str(message.text)] for message in messages]
        prompt.insert(0, ["for", request.kind])
        self.ledger.note("begun", prompt)
        self.points.reach("a call begins")
        if self.hold:
            await asyncio.to_thread(_wait_for, Path(self.hold))
        pieces = not isinstance(request, StepRequest | NextStepRequest)
        async for chunk in super()._astream(messages, *args, **kwargs):
            yield chunk
            if pieces:
                self.points.reach("a piece was streamed")
        self.ledger.note("finished", prompt)
        self.points.reach("a call ended")


def _wait_for(file: Path) -> None:
    # Whoever holds it may have failed, and its folder be gone.
    until = time.monotonic() + 120
    while not file.exists() and time.monotonic() < until:
        time.sleep(0.005)


def model_of(job: Job, ledger: Ledger, points: Points) -> Model:
    """Give the model of a story."""
    plan = list(PLANS.get(job.story, ()))
    respond = script(plan, FACTS, "430 km [1]\n\nIt is the Vltava [1].", chat="Prague.")
    return Model(respond=respond, ledger=ledger, points=points, hold=job.hold)


def instrument(points: Points) -> None:
    """Make a point of everything on a run's way at which a death could matter."""
    points.after(Journal, "admit")
    points.after(Journal, "let_go")
    _watch_databases(points)
    _watch_traces(points)
    enter = AnyNode.ainvoke

    async def ainvoke(self: AnyNode[Any], *args: Any, **kwargs: Any) -> dict[str, object]:
        result = await enter(self, *args, **kwargs)
        points.reach(f"after {self.name}")
        return result

    setattr(AnyNode, "ainvoke", ainvoke)  # noqa: B010 # mypy takes a method for one
    # The trace is written after each finished piece of work, not only after a quarter second.
    setattr(hoptrail.run, "_SAVE_EVERY_SECONDS", 0)  # noqa: B010 # so does it a constant


_WRITES = ("BEGIN", "INSERT", "UPDATE", "DELETE", "CREATE", "ALTER", "COMMIT")


class Cursor(sqlite3.Cursor):
    """Makes a point of each statement that writes, and of the end of each transaction."""

    points: ClassVar[Points]

    def execute(self, sql: str, *args: Any) -> Any:
        return self.watched(sql, lambda: super(Cursor, self).execute(sql, *args))

    def executemany(self, sql: str, *args: Any) -> Any:
        return self.watched(sql, lambda: super(Cursor, self).executemany(sql, *args))

    @classmethod
    def watched(cls, sql: str, run: Callable[[], Any]) -> Any:
        """Run a statement."""
        verb = sql.split(maxsplit=1)[0].upper()
        if verb in _WRITES:
            cls.points.reach(f"before {' '.join(sql.split()[:3])}")
        result = run()
        if verb == "COMMIT":
            cls.points.reach("after COMMIT")
        return result


class Connection(sqlite3.Connection):
    """Has its statements run by such a cursor."""

    def cursor(self, *_: Any) -> Any:
        return super().cursor(Cursor)

    def execute(self, sql: str, *args: Any) -> Any:
        return self.cursor().execute(sql, *args)

    def executemany(self, sql: str, *args: Any) -> Any:
        return self.cursor().executemany(sql, *args)

    def commit(self) -> None:
        Cursor.watched("COMMIT", super().commit)


def _watch_databases(points: Points) -> None:
    Cursor.points = points
    connect = functools.partial(sqlite3.connect, factory=Connection)
    setattr(sqlite3, "connect", connect)  # noqa: B010 # mypy compares the two signatures


def _watch_traces(points: Points) -> None:
    write = Path.write_text

    def write_text(self: Path, data: str, *args: Any, **kwargs: Any) -> int:
        write(self, data[: len(data) // 2], *args, **kwargs)
        points.reach(f"half of {self.suffix} is written")
        written = write(self, data, *args, **kwargs)
        points.reach(f"all of {self.suffix} is written")
        return written

    setattr(Path, "write_text", write_text)  # noqa: B010 # mypy compares the two signatures
    points.after(Path, "replace")


def live(job: Job) -> dict[str, Any]:
    """Live a run, from its beginning or from where an earlier life ended."""
    ledger = Ledger(Path(job.home))
    points = Points(ledger, job.die_at)
    instrument(points)
    return asyncio.run(_live(job, model_of(job, ledger, points)))


async def _live(job: Job, model: Model) -> dict[str, Any]:
    settings = load_settings(home=job.home, backends="extractive", embedders="hash")
    async with AsyncExitStack() as held:
        saver = None
        if job.durability:
            saver = await sqlite_checkpointer(Path(job.home) / "checkpoints.db")
            held.push_async_callback(saver.conn.close)
        trail = Hoptrail(retriever=Documents(), model=model, checkpointer=saver, settings=settings)
        held.callback(trail.close)
        return await _told(job, trail)


async def _told(job: Job, trail: Hoptrail) -> dict[str, Any]:
    graph = trail.iterative_graph if job.story == "iterative" else trail.graph
    if job.story == "chat":
        answer = await trail.achat(SAID, thread_id="thread", user="ada", run_id=job.run_id)
    elif job.story == "fork":
        return await _fork(job, trail)
    elif job.durability:
        named = {"thread_id": job.run_id, RUN_ID: job.run_id}
        config: Any = {"configurable": named}
        begun = (await graph.aget_state(config)).next
        given = None if begun else {"question": QUESTION}
        told = await graph.ainvoke(given, config, durability=job.durability)
        return {"answer": told["answer"], "citations": told["citations"]}
    else:
        kind: Any = "iterative" if job.story == "iterative" else "multi-hop"
        answer = await trail.aask(QUESTION, run_id=job.run_id, graph=kind)
    return {"answer": answer.text, "citations": [each.model_dump() for each in answer.citations]}


async def _fork(job: Job, trail: Hoptrail) -> dict[str, Any]:
    """Ask a finished run again with its second step answered, or go on with that."""
    journal = trail.assembly.journal
    known = {row.run_id for row in await journal.off_loop(journal.runs)}
    if job.run_id in known:
        answer = await trail.aask(QUESTION, run_id=job.run_id)
    else:
        change = Change(step=2, answer="Vienna")
        answer = await trail.arerun(PARENT, change, new_run_id=job.run_id)
    return {"answer": answer.text, "citations": [each.model_dump() for each in answer.citations]}


def _child(job: Job) -> int:
    error = os.open(f"{job.result}.err", os.O_CREAT | os.O_WRONLY | os.O_APPEND)
    os.dup2(error, 2)
    os.dup2(error, 1)
    os.chdir(job.home)
    try:
        told = live(job)
    except Exception as failure:  # noqa: BLE001 # whatever it is, the test is told
        told = {"error": type(failure).__name__, "why": str(failure)}
    Path(job.result).write_bytes(json.dumps(told).encode())
    return 0


def _fork_off(job: Job) -> int:
    if pid := os.fork():
        return pid
    status = 70
    try:
        status = _child(job)
    finally:
        os._exit(status)


def _jobs(line: str) -> Iterator[Job]:
    for each in json.loads(line):
        yield Job(**each)


def serve(warm: Path) -> None:
    """Have everything imported, then live the lives that stdin asks for."""
    home = str(warm)
    for job in (
        Job("chain", home, PARENT),
        Job("fork", home),
        Job("iterative", home, "other", durability="sync"),
        Job("chat", home, "said"),
    ):
        ledger = Ledger(warm)
        asyncio.run(_live(job, model_of(job, ledger, Points(ledger, 0))))
    for thread in threading.enumerate():
        if thread is not threading.main_thread():
            thread.join(60)  # it was told to end, and may still be about to
    assert threading.active_count() == 1, threading.enumerate()  # a fork copies no other
    gc.freeze()
    print("ready", flush=True)  # noqa: T201 # it is what the test waits for
    for line in sys.stdin:
        pids = [_fork_off(job) for job in _jobs(line)]
        codes = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids]
        print(json.dumps(codes), flush=True)  # noqa: T201 # so is this


if __name__ == "__main__":
    serve(Path(sys.argv[1]))
