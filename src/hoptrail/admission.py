"""Admission: a run is begun, or an earlier part of it is taken up where it stopped."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import version
from typing import TYPE_CHECKING

from hoptrail.characters import whole
from hoptrail.errors import HoptrailError
from hoptrail.events import Event, RunStarted
from hoptrail.journal import Journal
from hoptrail.lineage import Lineage, lineage_in
from hoptrail.parts import Parts, asking
from hoptrail.run import GraphName, Run
from hoptrail.trace import Trace

if TYPE_CHECKING:
    from filelock import FileLock


async def open_run(  # what a run is: all but the first four have a default
    parts: Parts,
    run_id: str,
    question: str,
    tell: Callable[[Event], None],
    *,
    graph: GraphName = "multi-hop",
    thread_id: str = "",
) -> Run:
    """Admit a run, or take up an earlier one of the same id where it stopped.

    Raises:
        RunBusy: somebody else is working on it.
        HoptrailError: the question is empty.
    """
    began = time.monotonic()  # many that begin at once wait for the disk, which is their time
    question = parts.secrets.hide(whole(question))
    if not question.strip():
        raise HoptrailError('the question is empty: a graph is given {"question": "..."}')
    trace = Trace(
        run_id=run_id,
        graph=graph,
        thread_id=thread_id,
        question=question,
        started_at=datetime.now(UTC).isoformat(timespec="milliseconds"),
        model_policy=parts.policy,
        documents=parts.documents,
        budget=parts.budget.model_dump(),
        versions=_versions(),
    )
    lock, kept = await _admitted(parts.journal, trace)
    lineage = lineage_in(kept)
    run = Run(parts, trace, lock, lineage, began)
    run.kept = kept
    if lineage is not None:
        async with run.guarded():
            _descend(run, lineage)
    run.tell = tell
    resumed = len(kept) > (lineage.entries if lineage else 0)
    tell(RunStarted(run_id, question, resumed=resumed, trace=trace))
    return run


def _descend(run: Run, lineage: Lineage) -> None:
    """Make a run the fork that it is."""
    run.parts = asking(run.parts, lineage)
    trace = run.trace
    trace.parent_run_id, trace.change = lineage.parent_run_id, lineage.change
    trace.model_policy = run.parts.policy
    if lineage.documents != trace.documents:
        run.warn(_mixed(lineage.parent_run_id, lineage.documents, trace.documents))


def _take_up(trace: Trace, kept: dict[str, str], journal: Journal) -> None:
    """Say in a run's trace what there is to say of an earlier part of it."""
    lineage = lineage_in(kept)
    begun = len(kept) > (lineage.entries if lineage else 0)
    trace.resumed = begun or journal.trace_path(trace.run_id).exists()
    before = journal.run(trace.run_id).options.get("documents", "") if begun else trace.documents
    if lineage is None and before != trace.documents:
        trace.warnings.append(_mixed(trace.run_id, before, trace.documents))


def _mixed(run_id: str, before: object, now: str) -> str:
    return (
        f"what is kept of run {run_id} was answered from "
        f"{before or 'no documents'}, the rest from {now or 'none'}"
    )


async def _admitted(journal: Journal, trace: Trace) -> tuple[FileLock, dict[str, str]]:
    """Admit the run of a trace; gives its lock, and what an earlier part of it finished."""
    options: dict[str, object] = {
        "policy": trace.model_policy,
        "documents": trace.documents,
        "graph": trace.graph,
    }
    locks: list[FileLock] = []

    def admit() -> dict[str, str]:
        locks.append(journal.admit(trace.run_id, trace.question, options))
        kept = journal.entries(trace.run_id)
        _take_up(trace, kept, journal)
        return kept

    def let_go() -> None:
        # What an earlier part of the run has written down stays: nothing was added to it.
        for lock in locks:
            lock.release()

    try:
        kept = await journal.off_loop(admit)
    except BaseException:
        # The journal ends what it has begun, whoever waits: this comes after the admission.
        await journal.off_loop(let_go)
        raise
    return locks[0], kept


@cache
def _versions() -> dict[str, str]:
    return {name: version(name) for name in ("hoptrail", "langgraph", "langchain-core")}
