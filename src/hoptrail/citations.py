"""Citations: which passages an answer rests on, checked against those it was given."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from hoptrail.characters import whole_words
from hoptrail.evidence import Citation, Evidence
from hoptrail.request import StepReply

_SENTENCE_END = re.compile(r"(?<=[.!?])[\"”’)\]]*\s+(?=[\"“‘(\[]?[A-Z0-9ÀÁÂÄÅÇÉÈÊÍÎÑÓÖØÚÜČŘŠŽ])")
_HEADING = re.compile(r"^#.*$", re.MULTILINE)
_BLOCK_END = re.compile(r"\n\s*\n")
_LONGEST_QUOTE = 300
_LONGEST_FOUND = 1000
"""Characters: a longer answer stands in no passage word for word, and would be slow to look for."""


def citations_for(
    reply: StepReply, evidence: Sequence[Evidence], step: int
) -> tuple[tuple[Citation, ...], list[str]]:
    """Give the citations of a step's answer, and what was wrong with those it named.

    A number that names no passage is refused. When none is left, passages that contain the
    answer are cited in their place, and the warning says so.
    """
    warnings = []
    known = [number for number in reply.passages if 1 <= number <= len(evidence)]
    if len(known) < len(reply.passages):
        refused = sorted(set(reply.passages) - set(known))
        warnings.append(f"cited passages that it was not given: {refused}")
    if not known and evidence:
        known = _containing(reply.answer, evidence)[:1]
        warnings.append(
            f"cited nothing: passage {known[0]} contains the answer"
            if known
            else "cited nothing, and no passage contains the answer"
        )
    return tuple(_cite(evidence[number - 1], reply.answer, step) for number in known), warnings


def _cite(item: Evidence, answer: str, step: int) -> Citation:
    passage = item.passage
    return Citation(
        passage_id=passage.id,
        source=passage.source,
        title=passage.title,
        quote=_quote(passage.text, answer),
        step=step,
    )


def _containing(answer: str, evidence: Iterable[Evidence]) -> list[int]:
    if not 0 < len(answer) <= _LONGEST_FOUND:
        return []
    wanted = whole_words(answer)
    return [
        number
        for number, item in enumerate(evidence, start=1)
        if wanted.search(f"{item.passage.title} {item.passage.text}".casefold())
    ]


def _quote(text: str, answer: str) -> str:
    wanted = answer.casefold()
    words = set(re.findall(r"\w+", wanted))

    def nearness(sentence: str) -> tuple[bool, int]:
        folded = sentence.casefold()
        return wanted in folded, len(words.intersection(re.findall(r"\w+", folded)))

    return max(_sentences(text), key=nearness, default="")[:_LONGEST_QUOTE]


def _sentences(text: str) -> list[str]:
    prose = _HEADING.sub("\n\n", text)
    blocks = (" ".join(block.split()) for block in _BLOCK_END.split(prose))
    return [sentence for block in blocks for sentence in _SENTENCE_END.split(block) if sentence]
