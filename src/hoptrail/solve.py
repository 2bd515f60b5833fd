"""Solving: the steps as a dataflow, each started the moment the answers it needs exist.

LangGraph's own fan-out waits at the end of each superstep for its slowest branch; here two
branches never wait for each other. A step's failure is a typed outcome and stays its own.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence

from hoptrail.characters import whole
from hoptrail.citations import citations_for
from hoptrail.context import Context, gather_context
from hoptrail.errors import BudgetExceeded, HoptrailError, InvalidResponse, StorageFailed
from hoptrail.events import StepFinished, StepStarted
from hoptrail.evidence import Evidence
from hoptrail.inheritance import awaited, given_key, holds, parts_for, shown, step_key
from hoptrail.kept import kept_as
from hoptrail.plan import Step, fill, mentions
from hoptrail.planning import Voided
from hoptrail.reply import read_step_reply
from hoptrail.request import StepReply, StepRequest
from hoptrail.run import Run
from hoptrail.tokens import cut, weight
from hoptrail.tool_use import ask_with_tools, unusable_key
from hoptrail.trace import StepTrace, TracedEvidence

WIDER = 2
"""How many times more passages a step gets in a revision round."""
LONGEST_ANSWER = 4_000
"""The weight of a step's answer, at most: later prompts hold it, several times perhaps."""


async def solve_steps(run: Run, steps: AsyncIterator[Step | Voided]) -> None:
    """Run steps as they arrive, each as soon as those it depends on have ended.

    How each ended stands in the run's trace. Raises what the plan's own making raises; a step's
    failure is recorded and leaves its siblings alone.
    """
    ended: dict[int, Ended] = {}
    for record in run.trace.steps:
        if record.finished_ms is not None:
            _of(ended, record.id).set_result(record)
    running: list[asyncio.Task[None]] = []
    try:
        async with asyncio.TaskGroup() as group:
            async for step in steps:
                if isinstance(step, Voided):
                    for task in running:
                        task.cancel()
                    ended.clear()
                    continue
                _of(ended, step.id)
                needed = [ended[need] for need in step.depends_on]
                running.append(group.create_task(_run_step(run, step, needed, ended)))
    except BaseExceptionGroup as group_error:
        raise group_error.exceptions[0] from None


Ended = asyncio.Future[StepTrace]


async def _run_step(run: Run, step: Step, needed: Sequence[Ended], ended: dict[int, Ended]) -> None:
    own, record = ended[step.id], run.trace.step(step.id)
    if (given := run.kept.get(given_key(run.key, record))) is not None:
        record.started_ms = run.now()
        record = _put(run, record, kept_as(StepTrace, given))
        run.tell(StepStarted(record.id, record.asked))
    else:
        known = [await need for need in needed]
        for each in awaited(run, record):
            await _of(ended, each)
        record = await _answer_or_block(run, record, known)
    record.finished_ms = run.now()
    run.tell(StepFinished(record))
    own.set_result(record)


def _of(ended: dict[int, Ended], step_id: int) -> Ended:
    return ended.setdefault(step_id, asyncio.get_running_loop().create_future())


async def _answer_or_block(run: Run, record: StepTrace, known: list[StepTrace]) -> StepTrace:
    record.ready_ms = record.started_ms = run.now()
    blocker = next((need for need in known if need.status != "answered"), None)
    if blocker is not None:
        record.status = "failed" if blocker.status == "failed" else "abstained"
        record.warnings.append(f"not asked: step {blocker.id} gave no answer to build on")
        return record
    return await _answer_or_record(run, record, known)


async def _answer_or_record(run: Run, record: StepTrace, known: list[StepTrace]) -> StepTrace:
    record.asked = self_contained(record, known)
    record.status = "running"
    run.tell(StepStarted(record.id, record.asked))
    key = step_key(run.key, record, run.parts.tool_names)
    if key in run.kept:
        kept = kept_as(StepTrace, run.kept[key])
        if holds(run, record, kept):
            return _taken_up(run, record, kept)
    try:
        await _answer(run, record, known)
    except StorageFailed:
        raise  # what was paid for is not kept: no other step may build on that
    except HoptrailError as error:
        record.status, record.error = "failed", whole(f"{type(error).__name__}: {error}")
        run.failures.append(error)
        if isinstance(error, BudgetExceeded):
            record.warnings.append(f"not answered: {error}")
    else:
        await run.keep(key, record.model_dump_json())
    return record


def self_contained(record: StepTrace, known: Sequence[StepTrace]) -> str:
    """Give a step's question with earlier answers in place of its references.

    A question that depends on a step without naming it ("When was it founded?") is completed
    with that step's answer, because retrieval for a pronoun finds nothing.
    """
    asked = fill(record.question, {step.id: step.answer for step in known})
    if asked != record.question and weight(asked) > LONGEST_ANSWER:
        record.warnings.append("cut: with the answers it refers to, the question was too long")
        asked = cut(asked, LONGEST_ANSWER)
    unnamed = [step.answer for step in known if not mentions(asked, step.answer)]
    if asked == record.question and unnamed:
        about = ", ".join(unnamed)
        record.warnings.append(f"not self-contained: completed with {about!r}")
        return f"{asked} ({about})"
    return asked


async def _answer(run: Run, record: StepTrace, known: list[StepTrace]) -> None:
    parts, similar = parts_for(run, record), shown(run, record)
    others = [
        step
        for step in run.trace.steps
        if step.status == "answered"
        and step.id not in (*record.depends_on, record.id)
        and (similar is None or step.id in similar)
    ]
    k = parts.top_k * (WIDER if record.round else 1)
    async with run.until_deadline("step"):
        context = await gather_context(parts, record.asked, known, others, k)
    _note_context(record, context)
    record.retrieved_ms = run.now()
    if parts.search is not None and not (context.holds_anything or parts.tools):
        record.status = "abstained"
        record.warnings.append("not asked: no passage was found")
        return
    request = StepRequest(
        question=record.asked,
        main_question=run.trace.question,
        evidence=context.retrieval.evidence,
        earlier=context.earlier,
        from_documents=parts.search is not None,
        tools=parts.tool_names,
    )
    reply, evidence = await _ask(run, request, record)
    _note_reply(record, reply, evidence)


async def _ask(
    run: Run, request: StepRequest, record: StepTrace
) -> tuple[StepReply, tuple[Evidence, ...]]:
    """Give the reply, and the evidence it counts by: tools may have added to the request's."""
    text, request = await ask_with_tools(run, request, record)
    call = record.calls[-1]
    try:
        return read_step_reply(text, backend=call.backend), request.evidence
    except InvalidResponse as error:
        record.warnings.append(f"asked again: {error}")
    if not call.from_journal:
        key = unusable_key(run, record, len(record.calls) - 1)
        await run.keep(key, call.model_dump_json())
    text = await run.ask("step", request, record.calls)
    return read_step_reply(text, backend=record.calls[-1].backend), request.evidence


def _note_context(record: StepTrace, context: Context) -> None:
    record.retrieval_mode = context.retrieval.mode
    record.embedding_space = context.retrieval.space
    record.earlier = list(context.earlier)
    record.warnings += context.warnings
    record.evidence = [TracedEvidence(**dict(item)) for item in context.retrieval.evidence]


def _note_reply(record: StepTrace, reply: StepReply, evidence: Sequence[Evidence]) -> None:
    record.reasoning, record.answer = reply.reasoning, cut(reply.answer, LONGEST_ANSWER)
    if record.answer != reply.answer:
        record.warnings.append(f"the answer was cut to {LONGEST_ANSWER} characters")
    record.status = "answered" if reply.found else "abstained"
    record.degraded = record.calls[-1].degraded
    if reply.found:
        citations, warnings = citations_for(reply, evidence, record.id)
        record.citations = list(citations)
        record.warnings += warnings
    cited = {citation.passage_id for citation in record.citations}
    record.evidence = [
        item.model_copy(update={"cited": item.passage.id in cited}) for item in record.evidence
    ]


def _taken_up(run: Run, record: StepTrace, kept: StepTrace) -> StepTrace:
    """Put the finished record of an earlier attempt at this run in place of a new one."""
    earlier = _not_void(run, record)
    if earlier is None:
        earlier = kept
        for call in earlier.calls:
            run.recount(call)
        for use in earlier.tools:
            use.from_journal = True
    return _put(run, record, earlier)


def _put(run: Run, record: StepTrace, earlier: StepTrace) -> StepTrace:
    # The plan is that of today, even where another one asked the same.
    earlier.question, earlier.depends_on = record.question, record.depends_on
    earlier.planned_ms = record.planned_ms
    earlier.ready_ms = earlier.started_ms = record.started_ms
    earlier.retrieved_ms = None
    run.trace.steps[run.trace.steps.index(record)] = earlier
    return earlier


def _not_void(run: Run, record: StepTrace) -> StepTrace | None:
    """Take back the voided step that a plan begun anew asks just like before."""
    for position, step in enumerate(run.trace.voided):
        if (step.id, step.asked) == (record.id, record.asked):
            return run.trace.voided.pop(position)
    return None
