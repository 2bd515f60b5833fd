"""Synthesis: one answer from the steps' answers, or an abstention that says what is missing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from hoptrail.errors import BudgetExceeded, InvalidResponse
from hoptrail.events import AnswerRestarted, AnswerText
from hoptrail.evidence import Citation, Evidence
from hoptrail.reply import FinalStream, FinalText, read_final
from hoptrail.request import ChatRequest, StepOutcome, SynthesisRequest
from hoptrail.room import newest_within, room_beside, steps_within, weight_of_steps
from hoptrail.run import Key, Restarted, Run
from hoptrail.trace import Call, StepTrace, Trace


@dataclass(frozen=True)
class FinalAnswer:
    """The answer of a run. ``citations`` stand in the order of the marks: ``[1]`` is the first."""

    text: str
    short: str = ""
    citations: tuple[Citation, ...] = ()
    abstained: bool = False


async def final_answer(run: Run, *, complete: bool = True) -> tuple[FinalAnswer, str]:
    """Give the answer of a run whose steps have all ended, and why it stopped there.

    A single step needs no synthesis, its answer is the answer: unless the plan was cut, or
    nobody said that it suffices (``complete`` is false). When no step found
    anything, the answer is an abstention, and nobody is asked.

    Raises:
        HoptrailError: every step failed, or the synthesis did; an error is never an abstention.
    """
    steps, stopped_by = run.trace.steps, run.ledger.stopped_by
    spent = f"budget:{stopped_by}" if stopped_by else ""
    if not any(step.status == "answered" for step in steps):
        errors = [error for error in run.failures if not isinstance(error, BudgetExceeded)]
        if errors and all(step.status == "failed" for step in steps):
            raise errors[0]
        return _abstention(steps), spent or "no_evidence"
    complete = complete or steps[0].question == run.trace.question
    if len(steps) == 1 and complete and stopped_by != "steps":
        return _only_answer(steps[0]), "answered"
    try:
        answer = await _synthesis(run)
    except BudgetExceeded as error:
        return _abstention(steps), f"budget:{error.limit}"
    return answer, spent or ("no_evidence" if answer.abstained else "answered")


def outcome(step: StepTrace, numbers: Mapping[str, int]) -> StepOutcome:
    """Give how a step ended; ``numbers`` tells which number each passage id is cited by."""
    cited = (numbers.get(citation.passage_id) for citation in step.citations)
    return StepOutcome(
        id=step.id,
        question=step.asked or step.question,
        status=step.status if step.status in ("answered", "abstained") else "failed",
        answer=step.answer,
        passages=tuple(number for number in cited if number),
    )


def synthesis_request(trace: Trace, tokens: int) -> SynthesisRequest:
    """Give what a model is asked for the answer of a run whose steps have ended.

    It is limited to so many tokens: findings come before passages, and of both the newest first.
    """
    room = room_beside(trace.question, tokens)
    told = steps_within([outcome(step, {}) for step in trace.steps], room // 2)
    evidence = newest_within(_cited_evidence(trace.steps), room - weight_of_steps(told))
    numbers = {item.passage.id: number for number, item in enumerate(evidence, start=1)}
    cited = {step.id: outcome(step, numbers).passages for step in trace.steps}
    steps = tuple(step.model_copy(update={"passages": cited[step.id]}) for step in told)
    return SynthesisRequest(question=trace.question, steps=steps, evidence=evidence)


def written_key(key: Key, request: SynthesisRequest | ChatRequest) -> str:
    """Name an answer by everything that it is written from."""
    kind = "chat" if isinstance(request, ChatRequest) else "synthesis"
    return key(kind, request.model_dump_json())


async def _synthesis(run: Run) -> FinalAnswer:
    request = synthesis_request(run.trace, run.parts.prompt_tokens)
    evidence = request.evidence
    if (left_out := len(_cited_evidence(run.trace.steps)) - len(evidence)) > 0:
        run.warn(f"{left_out} cited passages left out of the synthesis: {_limited(run)}")
    if any(step.answer != run.trace.step(step.id).answer for step in request.steps):
        run.warn(f"answers of steps were cut for the synthesis: {_limited(run)}")
    final = await written(run, request, run.trace.synthesis)
    if final.abstained:
        return FinalAnswer(final.text or _abstention(run.trace.steps).text, abstained=True)
    used = {cited.passage_id: cited for step in run.trace.steps for cited in step.citations}
    citations = tuple(used[evidence[number - 1].passage.id] for number in final.passages)
    return FinalAnswer(final.text, final.short, citations)


async def written(
    run: Run, request: SynthesisRequest | ChatRequest, calls: list[Call]
) -> FinalText:
    """Have an answer written, telling it while it is; one that was finished before is told again.

    In a conversation an abstention is told too, for there it is a reply like any other.

    Raises:
        InvalidResponse: in a conversation, nothing was written.
        HoptrailError: as `Run.stream`.
    """
    in_conversation = isinstance(request, ChatRequest)
    purpose: Literal["synthesis", "chat"] = "chat" if in_conversation else "synthesis"
    key, known = written_key(run.key, request), _known_passages(request)
    shown = FinalStream(known)
    earlier = run.recalled(key, calls)
    if earlier is None:
        async for piece in run.stream(purpose, request, calls):
            if isinstance(piece, Restarted):
                shown = FinalStream(known)
                run.tell(AnswerRestarted(piece.why))
            else:
                _tell(run, shown.feed(piece))
    else:
        _tell(run, shown.feed(earlier.output))
    _tell(run, shown.rest())
    call = calls[-1]
    final = read_final(call.output, known)
    if in_conversation:
        if not final.text:
            raise InvalidResponse("the model wrote no answer", backend=call.backend)
        if shown.withheld:
            _tell(run, final.text)
    if earlier is None:
        await run.keep(key, call.model_dump_json())
    return final


def told_steps(run: Run) -> tuple[StepOutcome, ...]:
    """Give how the steps of a run ended so far, cut to what a prompt that asks on may hold."""
    room = room_beside(run.trace.question, run.parts.prompt_tokens)
    steps = [outcome(step, {}) for step in run.trace.steps]
    told = steps_within(steps, room)
    if told != tuple(steps):
        run.warn(f"what was found so far was cut where more was asked: {_limited(run)}")
    return told


def _limited(run: Run) -> str:
    return f"a prompt is limited to {run.parts.prompt_tokens} tokens"


def _known_passages(request: SynthesisRequest | ChatRequest) -> int | None:
    """Give how many passages an answer can cite, or None where ``[1]`` is no citation."""
    free = isinstance(request, ChatRequest) and not request.from_documents
    return None if free else len(request.evidence)


def _tell(run: Run, text: str) -> None:
    if text:
        run.tell(AnswerText(text))


def _only_answer(step: StepTrace) -> FinalAnswer:
    marks = "".join(f"[{number}]" for number in range(1, len(step.citations) + 1))
    return FinalAnswer(f"{step.answer} {marks}".rstrip(), step.answer, tuple(step.citations))


def _abstention(steps: Sequence[StepTrace]) -> FinalAnswer:
    """Give what is missing, and what was found all the same; never the text of an error."""

    def those(status: str) -> list[str]:
        ended = [step for step in steps if step.status == status]
        # One that was never asked waits for another; its question still names that as #1.
        return [step.asked for step in ended if step.asked] or [step.question for step in ended]

    found = [f"{step.asked} {step.answer}." for step in steps if step.status == "answered"]
    parts = {
        "No answer was found to: ": " / ".join(those("abstained")),
        "Could not be asked: ": " / ".join(those("failed")),
        "Found so far: ": " ".join(found),
    }
    return FinalAnswer(
        "\n".join(head + text for head, text in parts.items() if text), abstained=True
    )


def _cited_evidence(steps: Sequence[StepTrace]) -> tuple[Evidence, ...]:
    cited = {
        item.passage.id: Evidence.model_validate(item.model_dump(exclude={"cited"}))
        for step in steps
        for item in step.evidence
        if item.cited
    }
    return tuple(cited.values())
