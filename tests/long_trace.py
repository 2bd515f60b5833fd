"""A long run made up to look like a real one: 60 steps, and all that can happen on the way.

Fourteen works each hop to composer, birthplace, river and length; a comparison and a sum build
on them. Backends are busy and fail, one answer comes from the built-in reader, two steps abstain
and are asked differently in a second round. Times come from playing the run: at most four calls
are under way at once, so steps queue as in a real one.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from dataclasses import dataclass, field
from math import inf
from random import Random

from hoptrail.evidence import Citation, Passage
from hoptrail.prompts import render
from hoptrail.request import (
    EarlierAnswer,
    PlanRequest,
    Request,
    RevisionRequest,
    StepOutcome,
    StepRequest,
    SynthesisRequest,
)
from hoptrail.testing import step_reply
from hoptrail.trace import (
    Attempt,
    Call,
    Message,
    PlanTrace,
    StepTrace,
    ToolCall,
    ToolUse,
    Trace,
    TracedEvidence,
    Usage,
)

QUESTION = (
    "Of the rivers that flow through the birthplaces of the composers of fourteen famous works, "
    "from The Magic Flute to Peer Gynt, which is the longest, and how long are the first four "
    "together?"
)
WORKS = [
    ("The Magic Flute", "Wolfgang Amadeus Mozart", "Salzburg", "Salzach", 227),
    ("Fidelio", "Ludwig van Beethoven", "Bonn", "Rhine", 1233),
    ("Messiah", "George Frideric Handel", "Halle", "Saale", 413),
    ("Má vlast", "Bedřich Smetana", "Litomyšl", "Loučná", 82),
    ("Lohengrin", "Richard Wagner", "Leipzig", "White Elster", 257),
    ("Tosca", "Giacomo Puccini", "Lucca", "Serchio", 126),
    ("Carmen", "Georges Bizet", "Paris", "Seine", 777),
    ("Boris Godunov", "Modest Mussorgsky", "Karevo", "Lovat", 530),
    ("Nabucco", "Giuseppe Verdi", "Le Roncole", "Ongina", 56),
    ("Norma", "Vincenzo Bellini", "Catania", "Simeto", 113),
    ("Rusalka", "Antonín Dvořák", "Nelahozeves", "Vltava", 430),
    ("Jenůfa", "Leoš Janáček", "Hukvaldy", "Ondřejnice", 29),
    ("Finlandia", "Jean Sibelius", "Hämeenlinna", "Kokemäenjoki", 121),
    ("Peer Gynt", "Edvard Grieg", "Bergen", "Storelva", 10),
]
HUGGINGFACE, OLLAMA = ("huggingface", "openai/gpt-oss-20b"), ("ollama", "qwen3:8b")
AT_ONCE = 4
RETRIED, FAILED_OVER, READER, CUT, ABSTAINED, FAILED = {2, 13, 29}, {6, 18, 33, 50}, 22, 9, 47, 40
SUM, LONGEST, AGAIN, AGAIN_LENGTH = 57, 58, 59, 60

_Planned = tuple[int, str, list[int]]
"""A step's number, its question, and the steps it needs."""


@dataclass
class _Play:
    """The run as it is played: what is known when, and which of the calls at once is free."""

    random: Random = field(default_factory=lambda: Random(20261122))
    free: list[float] = field(default_factory=lambda: [0.0] * AT_ONCE)
    steps: dict[int, StepTrace] = field(default_factory=dict)

    def start(self, ready: float) -> float:
        """Give when a call that is ready gets its turn."""
        return max(ready, heapq.heappop(self.free))

    def end(self, at: float) -> None:
        """Give the turn back."""
        heapq.heappush(self.free, at)

    def between(self, least: float, most: float) -> float:
        """Give a time."""
        return round(self.random.uniform(least, most), 1)


def long_trace() -> Trace:
    """Give the run."""
    play = _Play()
    plan = _plan(play)
    waiting = list(_planned())
    while waiting:
        waiting.remove(chosen := min(waiting, key=lambda step: _known_ms(play, plan, step)))
        play.steps[chosen[0]] = _step(play, chosen, plan)
    _revise(play, plan)
    return _told(play, plan)


def running_trace(at_ms: float = 15_000) -> Trace:
    """Give the run as it stood at a time, while it went on."""
    trace = long_trace()
    trace.status, trace.answer, trace.short_answer, trace.citations = "running", "", "", []
    trace.stop_reason, trace.synthesis, trace.abstained, trace.degraded = "", [], False, False
    trace.plan.revisions, trace.plan.calls = [], trace.plan.calls[:1]
    trace.steps = [_as_of(step, at_ms) for step in trace.steps if step.round == 0]
    done = [call for step in trace.steps for call in step.calls if call.output]
    trace.usage = Usage(
        llm_calls=len(done) + 1,
        input_tokens=sum(call.input_tokens for call in done),
        output_tokens=sum(call.output_tokens for call in done),
        wall_ms=at_ms,
    )
    return trace


def _planned() -> Iterator[_Planned]:
    number = 0
    for work, *_ in WORKS:
        yield number + 1, f"Who composed {work}?", []
        yield number + 2, f"In which town was #{number + 1} born?", [number + 1]
        yield number + 3, f"Which river flows through #{number + 2}?", [number + 2]
        yield number + 4, f"How long, in kilometres, is the river #{number + 3}?", [number + 3]
        number += 4
    first = [4, 8, 12, 16]
    yield SUM, "How many kilometres are #4, #8, #12 and #16 together?", first
    lengths = [each for each in range(4, 57, 4) if each not in (FAILED, ABSTAINED + 1)]
    yield LONGEST, f"Which is the greatest of {', '.join(f'#{each}' for each in lengths)}?", lengths


def _known_ms(play: _Play, plan: PlanTrace, step: _Planned) -> float:
    """Give when a step can begin; it is far off while one that it needs has not been played."""
    number, _, needs = step
    if any(each not in play.steps for each in needs):
        return inf
    written = plan.calls[0].started_ms + 900 + number * 85.0
    return max([written, *(play.steps[each].finished_ms or 0.0 for each in needs)])


def _facts(number: int) -> tuple[str, str, str, str]:
    """Give question as asked, answer, title and text of what tells it."""
    work, composer, town, river, length = WORKS[min((number - 1) // 4, len(WORKS) - 1)]
    match (number - 1) % 4 if number <= 4 * len(WORKS) else number:
        case 0:
            return f"Who composed {work}?", composer, work, f"{work} is a work by {composer}."
        case 1:
            said = f"{composer} was born in {town}, the child of a family of musicians."
            return f"In which town was {composer} born?", town, composer, said
        case 2:
            asked = f"Which river flows through {town}?"
            return asked, river, town, f"{town} lies on the {river}, which divides the old town."
        case 3:
            asked = f"How long, in kilometres, is the river {river}?"
            return asked, f"{length} km", river, f"The {river} is {length} kilometres long."
        case 57:
            together = sum(each[-1] for each in WORKS[:4])
            lengths = ", ".join(f"{each[-1]} km" for each in WORKS[:4])
            asked = f"How many kilometres are {lengths} together?"
            return asked, f"{together} km", "Rivers", "Four rivers are compared."
        case _:
            lengths = ", ".join(f"{each[-1]} km" for each in WORKS)
            asked = f"Which is the greatest of {lengths}?"
            return asked, "1233 km", "Rhine", "The Rhine is 1233 kilometres long."


def _passage(title: str, text: str) -> Passage:
    """Give a passage of a length that passages have."""
    more = (
        " Visitors have described it since the Middle Ages, and the records that survive were"
        " edited in the nineteenth century by the society for local history. Its name is older"
        " than its first mention in a charter; both are discussed at length in the notes. The"
        " present account follows the encyclopaedia and the two biographies named at the end."
    )
    slug = "-".join(title.lower().split())
    return Passage(
        id=f"{slug}-1",
        text=text + more,
        title=title,
        source=f"notes/{slug}.md",
        start=0,
        end=len(text + more),
    )


def _evidence(play: _Play, title: str, text: str) -> list[TracedEvidence]:
    others = play.random.sample([each for each in WORKS if title not in each], 4)
    passages = [_passage(title, text)]
    passages += [_passage(town, f"{town} lies on the {river}.") for _, _, town, river, _ in others]
    found = []
    for rank, passage in enumerate(passages, start=1):
        dense, words = 0.82 - 0.09 * rank, max(0.0, 13.4 - 3.1 * rank)
        scores = {"bm25": words, "dense": dense, "fused": 1 / (60 + rank)}
        if rank % 2:
            scores["graph"] = 0.3 / rank
        noisy = {
            name: round(score + play.between(0.0, 0.9) / 30, 4) for name, score in scores.items()
        }
        noisy["fused"] = round(scores["fused"], 4)
        found.append(
            TracedEvidence(
                passage=passage, rank=rank, score=noisy["fused"], scores=noisy, cited=rank == 1
            )
        )
    return found


def _prompt(request: Request) -> list[Message]:
    return [Message(role=each.type, content=str(each.text)) for each in render(request)]


def _attempt(who: tuple[str, str | None], start: float, ms: float, **told: str) -> Attempt:
    backend, model = who
    failed = told.get("outcome", "ok") != "ok"
    return Attempt(
        backend=backend,
        model=model,
        started_ms=start,
        first_token_ms=None if failed else round(start + ms * 0.3, 1),
        ms=ms,
        **told,
    )


def _attempts(play: _Play, number: int) -> list[Attempt]:
    """Give how a call came to its answer; the last attempt gave it, unless the step failed."""
    busy = {"outcome": "BackendBusy", "detail": "429: too many requests, retry after 1 s"}
    away = {"outcome": "BackendUnavailable", "detail": "503: the model is not loaded"}
    first, again = {"reason": "first in order"}, {"reason": "asked again after BackendBusy"}
    after = "huggingface: failed with {} ({})"
    if number in RETRIED:
        return [
            _attempt(HUGGINGFACE, 0, 340, **first, **busy),
            _attempt(HUGGINGFACE, 1340, play.between(700, 1500), **again),
        ]
    if number in FAILED_OVER:
        why = after.format(away["outcome"], away["detail"])
        return [
            _attempt(HUGGINGFACE, 0, 610, **first, **away),
            _attempt(OLLAMA, 612, play.between(1500, 3200), reason=why),
        ]
    if number in (READER, FAILED):
        lost = {"outcome": "BackendUnavailable", "detail": "connection refused"}
        tried = [
            _attempt(HUGGINGFACE, 0, 590, **first, **away),
            _attempt(OLLAMA, 592, 12, reason="huggingface: failed", **lost),
        ]
        reader = _attempt(("extractive", None), 605, 21, reason="no language model is up")
        return tried if number == FAILED else [*tried, reader]
    return [_attempt(HUGGINGFACE, 0, play.between(600, 1700), **first)]


def _call(play: _Play, request: Request, output: str, ready: float, number: int = 0) -> Call:
    attempts = _attempts(play, number)
    last, prompt = attempts[-1], _prompt(request)
    started = play.start(ready)
    ms = last.started_ms + last.ms
    play.end(started + ms)
    answered = last.outcome == "ok"
    purpose = {"StepRequest": "step", "SynthesisRequest": "synthesis"}
    purpose |= {"PlanRequest": "plan", "RevisionRequest": "revision"}
    return Call.model_validate(
        {
            "purpose": purpose[type(request).__name__],
            "prompt": prompt,
            "output": output if answered else "",
            "backend": last.backend if answered else "",
            "model": last.model if answered else None,
            "reason": last.reason if answered else "",
            "attempts": attempts,
            "queued_ms": round(started - ready, 1),
            "started_ms": round(started, 1),
            "first_token_ms": last.first_token_ms,
            "ms": round(ms, 1),
            "input_tokens": sum(len(each.content) for each in prompt) // 4,
            "output_tokens": len(output) // 4 if answered else 0,
            "tokens_estimated": number in FAILED_OVER,
            "degraded": last.backend == "extractive",
            "error": "" if answered else "AllBackendsFailed: huggingface 503; ollama refused",
        }
    )


def _plan(play: _Play) -> PlanTrace:
    questions = [question for _, question, _ in _planned()]
    output = '{"steps": [' + ", ".join(f'"{question}"' for question in questions) + "]}"
    call = _call(play, PlanRequest(question=QUESTION, max_steps=60), output, 2.0)
    call.ms, call.output_tokens = 6200.0, 1480
    play.free = [call.started_ms + 1000.0] * AT_ONCE
    repairs = ["Step 58 referred to step 61, which does not exist: left out."]
    return PlanTrace(repairs=repairs, calls=[call])


def _step(play: _Play, step: _Planned, plan: PlanTrace) -> StepTrace:
    number, question, needs = step
    needed = [play.steps[each] for each in needs]
    ready = _known_ms(play, plan, step)
    planned = _known_ms(play, plan, (number, question, []))
    blocker = next((each for each in needed if each.status in ("abstained", "failed")), None)
    asked, answer, title, text = _facts(number)
    record = StepTrace(
        id=number, question=question, depends_on=needs, planned_ms=planned, ready_ms=ready
    )
    if blocker is not None:
        record.status, record.finished_ms = "abstained", ready
        record.warnings = [f"not asked: step {blocker.id} gave no answer to build on"]
        return record
    record.asked, record.started_ms = asked, ready
    record.earlier = _earlier(play, number, needed)
    _retrieve(play, record, title, text)
    _ask(play, record, answer)
    return record


def _earlier(play: _Play, number: int, needed: list[StepTrace]) -> list[EarlierAnswer]:
    told = [EarlierAnswer(id=each.id, question=each.asked, answer=each.answer) for each in needed]
    near = play.steps.get(number - 5)
    if near is not None and near.status == "answered" and near not in needed:
        told.append(
            EarlierAnswer(
                id=near.id,
                question=near.asked,
                answer=near.answer,
                reason="similar",
                similarity=play.between(0.6, 0.9),
            )
        )
    return told


def _retrieve(play: _Play, record: StepTrace, title: str, text: str) -> None:
    record.retrieval_mode, record.embedding_space = "hybrid", "local:all-MiniLM-L6-v2:0123456789ab"
    record.retrieved_ms = round((record.started_ms or 0.0) + play.between(25, 140), 1)
    record.evidence = _evidence(play, title, text)
    if record.id == CUT:
        record.evidence = record.evidence[:3]
        limit = "the step's context is limited to 1500 tokens"
        record.warnings = [f"2 of 5 passages left out or cut: {limit}"]
    if record.id == SUM:
        _compute(record)


def _compute(record: StepTrace) -> None:
    at = record.retrieved_ms or 0.0
    unread = ToolUse(
        tool="calculator",
        arguments={"expression": "227 km + 1233 km"},
        error="'227 km' is no number",
        started_ms=at + 2,
        ms=1.2,
    )
    expression = " + ".join(str(each[-1]) for each in WORKS[:4])
    result = str(sum(each[-1] for each in WORKS[:4]))
    added = ToolUse(
        tool="calculator",
        arguments={"expression": expression},
        output=result,
        passage_id="tool-57-2",
        started_ms=at + 900,
        ms=0.8,
    )
    record.tools = [unread, added]
    passage = Passage(id="tool-57-2", text=result, title=added.written, source="calculator")
    record.evidence = [TracedEvidence(passage=passage, rank=1, score=1.0, cited=True)]


def _ask(play: _Play, record: StepTrace, answer: str) -> None:
    evidence = tuple(record.evidence)
    request = StepRequest(
        question=record.asked,
        main_question=QUESTION,
        evidence=evidence,
        earlier=tuple(record.earlier),
    )
    found = record.id != ABSTAINED
    output = step_reply(answer if found else None, (1,) if found else ())
    call = _call(play, request, output, record.retrieved_ms or 0.0, record.id)
    if record.tools:
        call.tool_calls = [ToolCall(tool=use.tool, arguments=use.arguments) for use in record.tools]
    record.calls.append(call)
    record.finished_ms = round(call.started_ms + call.ms + 1.5, 1)
    if call.error:
        record.status, record.error = "failed", call.error
        record.warnings = [f"not answered: {call.error}"]
    elif not found:
        record.status = "abstained"
        record.evidence = [each.model_copy(update={"cited": False}) for each in record.evidence]
    else:
        _answer(record, answer)
    record.degraded = call.degraded


def _answer(record: StepTrace, answer: str) -> None:
    first = record.evidence[0].passage
    record.status, record.answer = "answered", answer
    record.reasoning = f"Passage 1 says it: {first.text.partition('.')[0]}."
    record.citations = [
        Citation(
            passage_id=first.id,
            source=first.source,
            title=first.title,
            quote=first.text.partition(".")[0] + ".",
            step=record.id,
        )
    ]


def _revise(play: _Play, plan: PlanTrace) -> None:
    done = max(step.finished_ms or 0.0 for step in play.steps.values())
    output = '{"steps": ["On which river does Karlštejn lie?", "How long is #59?"]}'
    request = RevisionRequest(question=QUESTION, steps=_outcomes(play), first_id=AGAIN)
    call = _call(play, request, output, done)
    plan.calls.append(call)
    plan.revisions = [
        "Steps 47 and 48 found nothing: asked for the river by another name of the town."
    ]
    known = call.started_ms + call.ms
    river, length = WORKS[11][3:]
    _later(play, AGAIN, "Which river rises near Hukvaldy castle?", [], known, river)
    question = f"How long, in kilometres, is the river #{AGAIN}?"
    _later(play, AGAIN_LENGTH, question, [AGAIN], known, f"{length} km")


def _later(
    play: _Play, number: int, question: str, needs: list[int], known: float, answer: str
) -> None:
    needed = [play.steps[each] for each in needs]
    ready = max([known, *(each.finished_ms or 0.0 for each in needed)])
    asked, _, title, text = _facts(ABSTAINED + number - AGAIN)
    record = StepTrace(
        id=number,
        question=question,
        asked=asked if needs else question,
        depends_on=needs,
        round=1,
        planned_ms=known,
        ready_ms=ready,
        started_ms=ready,
    )
    record.earlier = _earlier(play, number, needed)
    _retrieve(play, record, title, text)
    _ask(play, record, answer)
    play.steps[number] = record


def _outcomes(play: _Play) -> tuple[StepOutcome, ...]:
    return tuple(
        StepOutcome.model_validate(
            {
                "id": step.id,
                "question": step.asked or step.question,
                "status": step.status,
                "answer": step.answer,
            }
        )
        for step in sorted(play.steps.values(), key=lambda step: step.id)
    )


def _told(play: _Play, plan: PlanTrace) -> Trace:
    steps = [play.steps[number] for number in sorted(play.steps)]
    done = max(step.finished_ms or 0.0 for step in steps)
    cited = [play.steps[each].citations[0] for each in (1, 2, 3, 4, 5, 6, 7, 8, SUM, AGAIN_LENGTH)]
    answer = (
        "The Rhine, 1233 km\n\n"
        "Beethoven, who composed Fidelio [5], was born in Bonn [6], and through Bonn flows the "
        "Rhine [7], which is 1233 kilometres long [8]: longer than any other of the rivers. "
        "Mozart, who composed The Magic Flute [1], was born in Salzburg [2] on the Salzach [3], "
        "which is 227 kilometres long [4]. The first four rivers are 1955 kilometres long "
        "together [9]. Of the rivers that could be looked up, the Ondřejnice is the shortest but "
        "one [10]; the length of one could not be found."
    )
    evidence = tuple(play.steps[each.step or 1].evidence[0] for each in cited)
    request = SynthesisRequest(question=QUESTION, steps=_outcomes(play), evidence=evidence)
    writing = _call(play, request, answer, done)
    calls = [*plan.calls, *(call for step in steps for call in step.calls), writing]
    void = StepTrace(
        id=1,
        question="Who wrote the music of The Magic Flute?",
        status="abstained",
        warnings=["the plan it belongs to broke off"],
    )
    return Trace(
        run_id="20261122-091500-6057e9",
        question=QUESTION,
        status="answered",
        started_at="2026-11-22T09:15:00.000+00:00",
        model_policy="huggingface:openai/gpt-oss-20b > ollama:qwen3:8b > extractive",
        documents="notes/",
        plan=plan,
        steps=steps,
        voided=[void],
        synthesis=[writing],
        answer=answer,
        short_answer="The Rhine, 1233 km",
        citations=cited,
        degraded=True,
        stop_reason="answered",
        usage=Usage(
            llm_calls=len(calls),
            input_tokens=sum(call.input_tokens for call in calls),
            output_tokens=sum(call.output_tokens for call in calls),
            wall_ms=round(writing.started_ms + writing.ms + 3, 1),
        ),
        budget={"max_steps": 60, "max_llm_calls": 90, "max_tokens": None, "deadline": 300},
        warnings=["no language model answered: no language model is up"],
        versions={"hoptrail": "0.1.0", "langgraph": "1.2.22", "python": "3.11.7"},
    )


def _as_of(step: StepTrace, at_ms: float) -> StepTrace:
    """Give a step as it stood at a time."""
    if (step.planned_ms or 0.0) > at_ms or step.started_ms is None or step.started_ms > at_ms:
        known = {"id": step.id, "question": step.question, "depends_on": step.depends_on}
        ready = step.ready_ms if (step.ready_ms or at_ms) < at_ms else None
        return StepTrace.model_validate({**known, "planned_ms": step.planned_ms, "ready_ms": ready})
    if (step.finished_ms or 0.0) <= at_ms:
        return step
    step.status, step.finished_ms, step.answer, step.reasoning = "running", None, "", ""
    step.citations, step.error, step.degraded = [], "", False
    step.evidence = [each.model_copy(update={"cited": False}) for each in step.evidence]
    step.calls = [_call_as_of(call, at_ms) for call in step.calls if call.started_ms <= at_ms]
    return step


def _call_as_of(call: Call, at_ms: float) -> Call:
    begun = [each for each in call.attempts if call.started_ms + each.started_ms <= at_ms]
    last = begun[-1].model_copy(
        update={"outcome": "running", "detail": "", "first_token_ms": None, "ms": 0.0}
    )
    open_: dict[str, object] = {
        "output": "",
        "backend": "",
        "model": None,
        "reason": "",
        "error": "",
        "ms": 0.0,
    }
    zero: dict[str, object] = {
        "first_token_ms": None,
        "input_tokens": 0,
        "output_tokens": 0,
        "tool_calls": [],
    }
    return call.model_copy(update={**open_, **zero, "attempts": [*begun[:-1], last]})
