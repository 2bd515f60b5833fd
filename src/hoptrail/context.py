"""The context of a step: earlier answers and passages, chosen by embedding, within a budget."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from hoptrail.characters import whole
from hoptrail.errors import HoptrailError, RetrievalError
from hoptrail.evidence import Evidence, Passage, Retrieval
from hoptrail.parts import Parts, Search
from hoptrail.request import EarlierAnswer
from hoptrail.room import best_within
from hoptrail.secrecy import Secrets
from hoptrail.tokens import WEIGHT_OF_TOKEN, cut, weight
from hoptrail.trace import StepTrace

SIMILARITY_FLOOR = 0.35
"""Cosine below which an earlier answer is not shown to a step that does not refer to it."""
PINNED = "pinned"
"""The score of a passage that is there because somebody wanted it."""
MOST_SIMILAR_ANSWERS = 2
MOST_FACTS = 3
EARLIER_SHARE = 0.25
"""Largest share of the token budget that answers not referred to, and facts, may take."""
_SHORTEST_CUT = 800
"""The weight that the best passage gets even where earlier answers fill the budget."""
_TEXTS = ("id", "text", "title", "source")


@dataclass(frozen=True)
class Context:
    """What a step is given besides its question."""

    retrieval: Retrieval
    earlier: tuple[EarlierAnswer, ...]
    warnings: tuple[str, ...]

    @property
    def holds_anything(self) -> bool:
        """Whether there is something to answer from; a fact of memory is, like an answer."""
        return bool(self.retrieval.evidence or self.earlier)


async def gather_context(
    parts: Parts, asked: str, needed: Sequence[StepTrace], others: Sequence[StepTrace], k: int
) -> Context:
    """Give the context of a step whose question, with its references filled, is ``asked``.

    The answers it refers to (``needed``) are always in it. Of the ``others`` those nearest to
    the question by embedding are, above a floor, and so are facts of memory. Passages fill what
    is left of the budget.
    """
    retrieval, (similar, unmatched), (recalled, unasked) = await asyncio.gather(
        _search(parts, asked, k), _similar(parts, asked, others), _recalled(parts, asked)
    )
    near = _within_share([*similar, *recalled], parts.context_tokens)
    whole_room = parts.context_tokens * WEIGHT_OF_TOKEN
    named = [_earlier(step, "reference") for step in needed]
    earlier = (*_shortened(named, whole_room), *near)
    room = max(0, whole_room - sum(map(_weight, earlier)))
    evidence = best_within(retrieval.evidence, room, _SHORTEST_CUT)
    warnings = [*retrieval.warnings, *unmatched, *unasked]
    if earlier[: len(named)] != tuple(named):
        warnings.append(
            "the answers it refers to were cut: the step's context is limited to "
            f"{parts.context_tokens} tokens"
        )
    if evidence != retrieval.evidence:
        warnings.append(
            f"{len(retrieval.evidence) - len(evidence)} of {len(retrieval.evidence)} passages "
            f"left out or cut: the step's context is limited to {parts.context_tokens} tokens"
        )
    retrieval = retrieval.model_copy(update={"evidence": evidence})
    return Context(retrieval, earlier, tuple(warnings))


def steered(search: Search, pinned: Sequence[Passage], banned: frozenset[str]) -> Search:
    """Give a search whose results begin with the passages ``pinned``, and hold none ``banned``.

    There are as many as are asked for, where so many are found. That a passage was pinned
    is among its scores.
    """
    first = {passage.id for passage in pinned}

    async def steered_search(question: str, k: int) -> Retrieval:
        found = await search(question, k + len(banned))
        of = {item.passage.id: item for item in found.evidence}
        chosen = [_pinned(passage, of.get(passage.id)) for passage in pinned]
        free = [item for name, item in of.items() if name not in first | banned]
        evidence = (*chosen, *free[: max(0, k - len(chosen))])
        ranked = (item.model_copy(update={"rank": at}) for at, item in enumerate(evidence, 1))
        return found.model_copy(update={"evidence": tuple(ranked)})

    return steered_search


def _pinned(passage: Passage, found: Evidence | None) -> Evidence:
    item = found or Evidence(passage=passage, rank=1, score=0.0)
    return item.model_copy(update={"scores": {**item.scores, PINNED: 1.0}})


async def _search(parts: Parts, asked: str, k: int) -> Retrieval:
    if parts.search is None:
        return Retrieval(mode="none")
    try:
        found = await parts.search(asked, k)
    except HoptrailError:
        raise
    except Exception as error:
        # A caller's search may raise anything; it is the failure of this one step.
        raise RetrievalError(f"the search failed: {_why(error, parts)}") from error
    clean = tuple(_clean(item, parts.secrets) for item in found.evidence)
    return found.model_copy(update={"evidence": clean})


async def _similar(
    parts: Parts, asked: str, others: Sequence[StepTrace]
) -> tuple[tuple[EarlierAnswer, ...], tuple[str, ...]]:
    if not others or parts.similarity is None:
        return (), ()
    try:
        cosines = await parts.similarity(asked, [f"{step.asked} {step.answer}" for step in others])
        nearest = sorted(zip(cosines, others, strict=True), key=lambda pair: -pair[0])
    except Exception as error:  # noqa: BLE001 # a caller's embeddings may raise anything
        return (), (f"earlier answers were not compared: {_why(error, parts)}",)
    return tuple(
        _earlier(step, "similar", round(float(cosine), 4))
        for cosine, step in nearest[:MOST_SIMILAR_ANSWERS]
        if cosine >= SIMILARITY_FLOOR
    ), ()


async def _recalled(parts: Parts, asked: str) -> tuple[tuple[EarlierAnswer, ...], tuple[str, ...]]:
    if parts.recall is None:
        return (), ()
    try:
        facts = await parts.recall(asked, MOST_FACTS)
    except Exception as error:  # noqa: BLE001 # a caller's store or embeddings may raise anything
        return (), (f"memory was not asked: {_why(error, parts)}",)
    return tuple(
        EarlierAnswer(
            id=0,
            question="",
            # On one line: a fact must not be able to open a line of the prompt's own.
            answer=" ".join(parts.secrets.hide(whole(fact.text)).split()),
            reason="memory",
            similarity=fact.similarity,
        )
        for fact in facts[:MOST_FACTS]
    ), ()


def _why(error: Exception, parts: Parts) -> str:
    return parts.secrets.hide(f"{type(error).__name__}: {error}")


def _within_share(known: Sequence[EarlierAnswer], context_tokens: int) -> list[EarlierAnswer]:
    kept, room = [], EARLIER_SHARE * context_tokens * WEIGHT_OF_TOKEN
    for each in known:
        size = _weight(each)
        if size <= room:
            room -= size
            kept.append(each)
    return kept


def _shortened(known: Sequence[EarlierAnswer], room: int) -> list[EarlierAnswer]:
    """Give answers that have to be told, cut alike where they would take more than all the room."""
    if sum(map(_weight, known)) <= room:
        return list(known)
    share = room // (2 * len(known))
    return [
        each.model_copy(
            update={"question": cut(each.question, share), "answer": cut(each.answer, share)}
        )
        for each in known
    ]


def _weight(known: EarlierAnswer) -> int:
    return weight(known.question) + weight(known.answer)


def _earlier(step: StepTrace, reason: str, similarity: float | None = None) -> EarlierAnswer:
    return EarlierAnswer.model_validate(
        {
            "id": step.id,
            "question": step.asked,
            "answer": step.answer,
            "reason": reason,
            "similarity": similarity,
        }
    )


def _clean(item: Evidence, secrets: Secrets) -> Evidence:
    passage = item.passage
    texts = {name: secrets.hide(whole(getattr(passage, name))) for name in _TEXTS}
    if all(texts[name] is getattr(passage, name) for name in _TEXTS):
        return item
    return item.model_copy(update={"passage": passage.model_copy(update=texts)})
