"""The built-in backend: no model, no key, no download."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator, Sequence

from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage
from langchain_core.messages.ai import UsageMetadata
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult

from hoptrail.backend import Availability, Backend, CallOptions
from hoptrail.errors import BackendRefused
from hoptrail.providers.extractive.plan_progress import progress
from hoptrail.providers.extractive.planner import split
from hoptrail.providers.extractive.reader import Finding, read
from hoptrail.providers.extractive.rewording import revised
from hoptrail.providers.extractive.scenes import Similarity
from hoptrail.providers.extractive.synthesis import conclude
from hoptrail.providers.extractive.words import content_stems
from hoptrail.request import (
    ChatRequest,
    NextStepRequest,
    PlanRequest,
    Request,
    RevisionRequest,
    StepReply,
    StepRequest,
    SynthesisRequest,
    request_of,
)

MODEL_NAME = "extractive-1"
_MOST_LOOK_UPS = 8


class ExtractiveBackend(Backend):
    """Plans by rules, answers with a span of a passage, compares two answers, or abstains.

    It works on the typed request that the last message carries, never on the prompt, and
    writes exactly what a model is asked to write. ``similarity`` gives for a question the
    cosine of each sentence, where an embedder is at hand; words alone are used otherwise.
    """

    name = "extractive"
    model: str | None = None
    degraded = True

    def __init__(self, similarity: Similarity | None = None) -> None:
        self._similarity = similarity

    async def probe(self) -> Availability:
        """Say that it is up: there is nothing that could be down."""
        return Availability(backend=self.name, state="up", detail="built in, needs no model")

    async def generate(self, messages: Sequence[BaseMessage], options: CallOptions) -> ChatResult:
        """Answer a typed request.

        Raises:
            BackendRefused: the messages carry no typed request: it cannot hold a conversation.
        """
        text = self._reply(messages)
        message = AIMessage(
            content=text,
            response_metadata={"model_name": MODEL_NAME, "finish_reason": "stop"},
            usage_metadata=_usage(messages, text),
        )
        return ChatResult(generations=[ChatGeneration(message=message)])

    async def stream(
        self, messages: Sequence[BaseMessage], options: CallOptions
    ) -> AsyncIterator[ChatGenerationChunk]:
        """Answer a typed request word by word.

        Raises:
            BackendRefused: as `generate`.
        """
        text = self._reply(messages)
        for piece in re.findall(r"\s*\S+\s*", text):
            yield ChatGenerationChunk(message=AIMessageChunk(content=piece))
        end = AIMessageChunk(
            content="",
            response_metadata={"model_name": MODEL_NAME, "finish_reason": "stop"},
            usage_metadata=_usage(messages, text),
            chunk_position="last",
        )
        yield ChatGenerationChunk(message=end, generation_info={"finish_reason": "stop"})

    def _reply(self, messages: Sequence[BaseMessage]) -> str:
        request = request_of(messages)
        if request is None:
            raise BackendRefused(
                "the built-in reader answers only questions over documents; for a conversation "
                "start Ollama (`ollama serve`) or set HF_TOKEN for Hugging Face",
                backend=self.name,
                model=MODEL_NAME,
            )
        return reply_to(request, self._similarity)


def reply_to(request: Request, similarity: Similarity | None = None) -> str:
    """Give the text that answers a request, in the form a model is asked for."""
    match request:
        case PlanRequest():
            return _steps_json(split(request.question, request.max_steps).steps)
        case RevisionRequest():
            return _steps_json(revised(request.steps, request.first_id, request.max_steps))
        case StepRequest():
            return _answered(request, similarity).model_dump_json()
        case NextStepRequest():
            return _steps_json(next_step(request))
        case SynthesisRequest():
            return conclude(request)
        case ChatRequest():
            return chat_reply(request, similarity)


def next_step(request: NextStepRequest) -> list[str]:
    """Give what comes next in the question's own plan, or nothing when it is done or stuck."""
    planned = split(request.question, len(request.steps) + 1 + request.left).steps
    following = progress(planned, request.steps).following
    return [following] if following else []


def chat_reply(request: ChatRequest, similarity: Similarity | None = None) -> str:
    """Give what facts and passages say to a question, or that no language model is there.

    What is asked about the user is answered with the nearest fact, in the words it was said in;
    anything else with a span of a passage, and failing that with the fact.
    """
    if not _QUESTION.search(request.question):
        return _NO_MODEL
    found = _looked_up(request, similarity)
    fact = request.facts[0] if request.facts else ""
    if fact and (_OF_ONESELF.search(request.question) or not found):
        return f"You told me: “{fact}”"
    return f"{found.answer} [{found.passage}]" if found else _NO_MODEL


def _looked_up(request: ChatRequest, similarity: Similarity | None) -> Finding | None:
    # A question of several look-ups would get the answer of its first one.
    is_one = len(split(request.question, _MOST_LOOK_UPS).steps) == 1
    return read(request.question, request.evidence, similarity) if is_one else None


_QUESTION = re.compile(
    r"\?|^\W*(?:(?:and|but|so|please|then)\W+)*(?:who|what|which|where|when|why|how|whose|whom"
    r"|name|tell|list|find|is|are|was|were|do|does|did)\b",
    re.IGNORECASE,
)
_OF_ONESELF = re.compile(r"\b(?:i|my|me|mine|myself|we|our|us)\b", re.IGNORECASE)
_NO_MODEL = """\
No answer can be given: no language model answered.

I can read documents and repeat what you told me, and neither says it. For a conversation start \
Ollama (`ollama serve`) or set HF_TOKEN for Hugging Face; `hoptrail doctor` says what is missing. \
A question that takes several look-ups is for `hoptrail ask`."""


def _steps_json(steps: Sequence[str]) -> str:
    return json.dumps({"steps": list(steps)}, ensure_ascii=False)


def _answered(request: StepRequest, similarity: Similarity | None) -> StepReply:
    if found := read(request.question, request.evidence, similarity):
        return _quoted(found)
    wanted = set(content_stems(request.question))
    for earlier in request.earlier:
        if wanted and earlier.answer and set(content_stems(earlier.question)) == wanted:
            said = f"It was answered before: {earlier.question} {earlier.answer}."
            return StepReply(reasoning=said, answer=earlier.answer)
    return StepReply(reasoning=_why_not(request), found=False)


def _quoted(found: Finding) -> StepReply:
    said = f"‘{found.answer}’ stands in “{found.sentence}” (confidence {found.confidence:.2f})."
    return StepReply(reasoning=said, answer=found.answer, passages=(found.passage,))


def _why_not(request: StepRequest) -> str:
    if not request.evidence:
        return "There is no passage to read, and the built-in reader knows nothing by itself."
    return "No span of the passages looks like an answer."


def _usage(messages: Sequence[BaseMessage], text: str) -> UsageMetadata:
    """Count words: there is no tokenizer."""
    asked = sum(len(str(message.content).split()) for message in messages)
    said = len(text.split())
    return UsageMetadata(input_tokens=asked, output_tokens=said, total_tokens=asked + said)
