"""One turn of a conversation: a message on its way to its answer."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Literal

from langchain_core.messages import (
    AIMessage,
    BaseMessage,
    HumanMessage,
    SystemMessage,
    trim_messages,
)
from pydantic import BaseModel, ConfigDict

from hoptrail.characters import whole
from hoptrail.citations import citations_for
from hoptrail.context import gather_context
from hoptrail.events import AnswerText, StepFinished, ToolUsed
from hoptrail.fulfilment import fulfilled
from hoptrail.intent import intent_of, said_of_oneself
from hoptrail.kept import kept_as
from hoptrail.memory import Memory
from hoptrail.reply import FinalText, without_marks
from hoptrail.request import ChatRequest, ChatTurn, EarlierAnswer, StepReply
from hoptrail.run import Run
from hoptrail.synthesis import written
from hoptrail.tokens import WEIGHT_OF_TOKEN, cut, estimated_tokens, weight
from hoptrail.trace import StepTrace, ToolUse, TracedEvidence

_UNANSWERED = ChatTurn(role="assistant", text="(no answer was given)")
_REFERS = re.compile(
    r"\b(?:it|its|he|him|his|she|her|hers|they|them|their|theirs|this|that|these|those|there|then"
    r"|ones?|former|latter|same)\b",
    re.IGNORECASE,
)
_SHORT = 3
_LEAST_TOKENS = 3
"""What an empty message counts for."""


class Gathered(BaseModel):
    """What a message is answered from, and how it was found."""

    model_config = ConfigDict(frozen=True)

    request: ChatRequest
    mode: str
    space: str | None = None
    earlier: tuple[EarlierAnswer, ...] = ()
    warnings: tuple[str, ...] = ()


@dataclass
class Turn:
    """One message on its way to its answer; ``before`` is what was said until then."""

    run: Run
    memory: Memory | None
    before: Sequence[BaseMessage]
    record: StepTrace
    request: ChatRequest | None = None
    final: FinalText | None = None

    @property
    def question(self) -> str:
        """The message."""
        return self.run.trace.question

    async def gather(self) -> None:
        """Find the facts and passages that the message needs.

        A resumed turn takes what it had found: by then memory holds what this message said.
        """
        run, record = self.run, self.record
        key = run.key("gathered")
        if (kept := run.kept.get(key)) is None:
            gathered = await self._gathered()
            await run.keep(key, gathered.model_dump_json())
        else:
            gathered = kept_as(Gathered, kept)
        self.request = request = gathered.request
        record.retrieval_mode, record.embedding_space = gathered.mode, gathered.space
        record.earlier = list(gathered.earlier)
        record.evidence = [TracedEvidence(**dict(item)) for item in request.evidence]
        record.warnings += gathered.warnings
        record.retrieved_ms = run.now()

    async def _gathered(self) -> Gathered:
        recall = None if self.memory is None else self.memory.recall
        parts = replace(self.run.parts, recall=recall)
        sought = _sought(self.question, self.before)
        async with self.run.until_deadline("step"):
            context = await gather_context(parts, sought, (), (), parts.top_k)
        documented = parts.search is not None
        history = tuple(_turns(self.before, parts.context_tokens, marked=documented))
        request = ChatRequest(
            question=self.question,
            history=history,
            facts=tuple(fact.answer for fact in context.earlier),
            evidence=context.retrieval.evidence,
            from_documents=documented,
        )
        return Gathered(
            request=request,
            mode=context.retrieval.mode,
            space=context.retrieval.space,
            earlier=context.earlier,
            warnings=(*context.warnings, *_not_told(self.before, history)),
        )

    async def answer(self) -> None:
        """Have the answer written, told while it is.

        Raises:
            InvalidResponse: the model wrote nothing but its thoughts.
            HoptrailError: nobody answered, or the budget is spent.
        """
        assert self.request is not None  # gathered by the node before
        final = await written(self.run, self.request, self.record.calls)
        self.record.degraded = self.record.calls[-1].degraded
        self._settle(final)

    async def keep_what_was_said(self) -> None:
        """Remember what the message said of who wrote it."""
        if self.memory is None:
            return
        for text in said_of_oneself(self.question):
            use = ToolUse(tool="remember", arguments={"text": text}, started_ms=self.run.now())
            try:
                async with self.run.until_deadline("chat"):
                    use.output = (await self.memory.remember(text)).text
            except Exception as error:  # noqa: BLE001 # a caller's store may raise anything
                # The answer has been given: it stands, and says what did not go well.
                use.error = whole(f"{type(error).__name__}: {error}")
                self.record.warnings.append(f"not remembered: {use.error}")
            self._note(use)

    async def fulfil(self) -> None:
        """Do what the message asks of memory; the answer says exactly what was done.

        A resumed run says it again: by then there may be nothing left to forget.
        """
        intent = intent_of(self.question)
        assert intent is not None  # it is why this was called
        assert self.memory is not None
        use = ToolUse(tool=intent.act, started_ms=self.run.now())
        use.arguments = {"text": intent.text} if intent.text else {}
        key = self.run.key("memory", self.memory.user, intent)
        if (done := self.run.kept.get(key)) is not None:
            use.output, use.from_journal = done, True
        else:
            async with self.run.until_deadline("chat"):
                use.output = await fulfilled(self.memory, intent, in_conversation=bool(self.before))
            await self.run.keep(key, use.output)
        self._note(use)
        self.run.tell(AnswerText(use.output))
        self._settle(FinalText(use.output, use.output, (), False))

    async def finish(self) -> None:
        """End the turn's run."""
        record, abstained = self.record, self.record.status == "abstained"
        record.finished_ms = self.run.now()
        self.run.tell(StepFinished(record))
        status: Literal["abstained", "answered"] = "abstained" if abstained else "answered"
        await self.run.finish(status, "no_evidence" if abstained else "answered")

    def message(self) -> AIMessage:
        """Give the answer as a message; its metadata says where it comes from."""
        trace, last = self.run.trace, self.record.calls[-1:]
        origin = {
            "run_id": trace.run_id,
            "backend": last[0].backend if last else "",
            "model": last[0].model if last else None,
            "degraded": trace.degraded,
            "citations": [citation.model_dump() for citation in trace.citations],
        }
        # One id for one run: a resumed one does not say its answer twice.
        return AIMessage(
            trace.answer, id=f"{trace.run_id}-answer", response_metadata={"hoptrail": origin}
        )

    def _settle(self, final: FinalText) -> None:
        trace, record = self.run.trace, self.record
        trace.answer, trace.short_answer, trace.abstained = final.text, final.short, final.abstained
        record.answer, record.status = final.text, "abstained" if final.abstained else "answered"
        if final.passages and self.request is not None:
            reply = StepReply(answer=without_marks(final.text), passages=final.passages)
            citations, warnings = citations_for(reply, self.request.evidence, record.id)
            trace.citations = record.citations = list(citations)
            record.warnings += warnings
        cited = {citation.passage_id for citation in record.citations}
        record.evidence = [
            item.model_copy(update={"cited": item.passage.id in cited}) for item in record.evidence
        ]

    def _note(self, use: ToolUse) -> None:
        use.ms = round(self.run.now() - use.started_ms, 3)
        self.record.tools.append(use)
        self.run.tell(ToolUsed(self.record.id, use))


def _sought(question: str, before: Sequence[BaseMessage]) -> str:
    """Give what to look for; a follow-up says too little, and the message before says the rest."""
    earlier = [str(said.text) for said in before if isinstance(said, HumanMessage)]
    if earlier and (_REFERS.search(question) or len(question.split()) <= _SHORT):
        return f"{whole(earlier[-1])} {question}"
    return question


def _turns(before: Sequence[BaseMessage], tokens: int, *, marked: bool) -> Iterator[ChatTurn]:
    """Give the conversation so far: its instructions, and of the rest the newest that fit.

    Instructions are whole unless they alone take more. ``marked`` says that answers cite
    passages: the numbers of an earlier answer's would be taken for those of this one's. Users
    and assistants take turns, as most chat templates demand.
    """
    instructions = [whole(str(each.text)) for each in before if isinstance(each, SystemMessage)]
    for text in instructions:
        share = tokens * WEIGHT_OF_TOKEN // len(instructions)
        fits = sum(map(weight, instructions)) <= tokens * WEIGHT_OF_TOKEN
        yield ChatTurn(role="system", text=text if fits else cut(text, share))
    said = [each for each in before if isinstance(each, HumanMessage | AIMessage)]
    # A conversation may be as long as a request allows; what cannot fit is not looked at.
    plain = [_plain(each, marked=marked) for each in said[-(tokens // _LEAST_TOKENS) :]]
    newest = trim_messages(
        [each for each in plain if each.text],
        max_tokens=tokens,
        token_counter=_tokens_of,
        strategy="last",
        start_on="human",
    )
    for each, following in pairwise([*newest, HumanMessage("")]):
        yield ChatTurn(role=_ROLES[each.type], text=str(each.text))
        if each.type == following.type == "human":
            yield _UNANSWERED


def _not_told(before: Sequence[BaseMessage], told: Sequence[ChatTurn]) -> Iterator[str]:
    """Say what of a conversation its next answer is not told."""
    said = sum(isinstance(each, HumanMessage | AIMessage) and bool(each.text) for each in before)
    kept = sum(turn.role != "system" and turn is not _UNANSWERED for turn in told)
    if kept < said:
        yield f"{said - kept} earlier messages left out: the newest fill what there is room for"
    whole_ones = [whole(str(each.text)) for each in before if isinstance(each, SystemMessage)]
    if whole_ones != [turn.text for turn in told if turn.role == "system"]:
        yield "instructions of the conversation were cut: they take more room than there is"


_ROLES: dict[str, Literal["user", "assistant"]] = {"human": "user", "ai": "assistant"}


def _tokens_of(messages: Sequence[BaseMessage]) -> int:
    return sum(_LEAST_TOKENS + estimated_tokens(str(each.text)) for each in messages)


def _plain(message: HumanMessage | AIMessage, *, marked: bool) -> BaseMessage:
    text = whole(str(message.text)).strip()
    if isinstance(message, HumanMessage):
        return HumanMessage(text)
    return AIMessage(without_marks(text) if marked else text)
