"""A trace made by hand, in which everything that can be shown happens once."""

from __future__ import annotations

from hoptrail.evidence import Citation, Passage
from hoptrail.request import EarlierAnswer
from hoptrail.trace import (
    Attempt,
    Call,
    Message,
    PlanTrace,
    StepTrace,
    Trace,
    TracedEvidence,
    Usage,
)

QUESTION = "Which river flows through the birthplace of the author of The Trial?"
NOVEL = Passage(
    id="n1", text="The Trial is a novel by Franz Kafka.", title="The Trial", source="novels.md"
)
KAFKA = Passage(
    id="k1", text="Franz Kafka was born in Prague.", title="Franz Kafka", source="people.md"
)
PRAGUE = Passage(
    id="p1", text="The Vltava flows through Prague.", title="Prague", source="cities.md"
)


def evidence(passage: Passage, rank: int, *, cited: bool) -> TracedEvidence:
    """One passage as a step got it."""
    fused = 0.033 / rank
    scores = {"bm25": 11.2 / rank, "dense": 0.71 / rank, "fused": fused, "graph": 0.18 / rank}
    return TracedEvidence(passage=passage, rank=rank, score=0.18 / rank, scores=scores, cited=cited)


def citation(passage: Passage, step: int) -> Citation:
    """A citation of a whole passage."""
    return Citation(
        passage_id=passage.id,
        source=passage.source,
        title=passage.title,
        quote=passage.text,
        step=step,
    )


def answered_step() -> StepTrace:
    """A step that was answered by the second backend, after the first one was busy."""
    attempts = [
        Attempt(
            backend="huggingface",
            model="openai/gpt-oss-20b",
            reason="first in order",
            outcome="BackendBusy",
            detail="429: too many requests",
            ms=120,
        ),
        Attempt(
            backend="ollama",
            model="qwen3:8b",
            reason="huggingface was busy",
            started_ms=120,
            first_token_ms=200,
            ms=680,
        ),
    ]
    call = Call(
        purpose="step",
        prompt=[Message(role="system", content="Answer."), Message(role="human", content="Who?")],
        output='{"answer": "Franz Kafka"}',
        backend="ollama",
        model="qwen3:8b",
        reason="huggingface was busy",
        attempts=attempts,
        started_ms=650,
        ms=800,
        input_tokens=400,
        output_tokens=20,
    )
    return StepTrace(
        id=1,
        question="Who wrote The Trial?",
        asked="Who wrote The Trial?",
        status="answered",
        ready_ms=600,
        started_ms=600,
        retrieved_ms=650,
        finished_ms=1450,
        retrieval_mode="hybrid",
        embedding_space="local:all-MiniLM-L6-v2:0123456789ab",
        evidence=[evidence(NOVEL, 1, cited=True), evidence(PRAGUE, 2, cited=False)],
        calls=[call],
        reasoning="Passage 1 names the author.",
        answer="Franz Kafka",
        citations=[citation(NOVEL, 1)],
    )


def second_step() -> StepTrace:
    """A step that hops from the first one."""
    call = Call(
        purpose="step", backend="ollama", model="qwen3:8b", started_ms=1500, ms=500, output="{}"
    )
    return StepTrace(
        id=2,
        question="Which river flows through the birthplace of #1?",
        asked="Which river flows through the birthplace of Franz Kafka?",
        depends_on=[1],
        status="answered",
        ready_ms=1450,
        started_ms=1450,
        retrieved_ms=1500,
        finished_ms=2000,
        retrieval_mode="lexical",
        evidence=[evidence(PRAGUE, 1, cited=True), evidence(KAFKA, 2, cited=True)],
        earlier=[EarlierAnswer(id=1, question="Who?", answer="Franz Kafka")],
        calls=[call],
        answer="Vltava",
        citations=[citation(PRAGUE, 2), citation(KAFKA, 2)],
        warnings=["no embedder matches the index: searched by words only"],
    )


def sample_trace() -> Trace:
    """A run of two hops."""
    planning = Call(
        purpose="plan",
        backend="ollama",
        model="qwen3:8b",
        started_ms=2,
        first_token_ms=300,
        ms=700,
        reason="first that is up",
    )
    writing = Call(
        purpose="synthesis",
        backend="ollama",
        model="qwen3:8b",
        started_ms=2000,
        first_token_ms=2200,
        ms=600,
    )
    return Trace(
        run_id="20261122-091500-4f2a9c",
        question=QUESTION,
        status="answered",
        started_at="2026-11-22T09:15:00.000+00:00",
        model_policy="huggingface, ollama",
        documents="notes/",
        plan=PlanTrace(
            repairs=["step 2 referred to step 7, which does not exist"], calls=[planning]
        ),
        steps=[answered_step(), second_step()],
        synthesis=[writing],
        answer="Vltava\nKafka, who wrote The Trial [1], was born in Prague, on the Vltava [2].",
        short_answer="Vltava",
        citations=[citation(NOVEL, 1), citation(PRAGUE, 2)],
        stop_reason="answered",
        usage=Usage(llm_calls=4, input_tokens=2310, output_tokens=412, wall_ms=2600),
        budget={"max_steps": 8, "max_llm_calls": 24, "deadline": 300},
        versions={"hoptrail": "0.1.0", "langgraph": "1.2.22"},
    )
