"""The passages that a step's answer rests on."""

from __future__ import annotations

from hoptrail.citations import citations_for
from hoptrail.evidence import Evidence, Passage
from hoptrail.request import StepReply

WORDS = (
    "Vltava",
    "\x00",
    "Prague. ",
    "# Heading\n",
    "\n\n",
    '." ',
    "? ",
    "ß",
    "İ",
    "東京",
    " ",
    "5",
)
SEEDS = (
    b"\1\2Vltava\0Prague is a city. The Vltava flows through it! It is old.\0Brno.",
    b"\3\0svratka\0# Brno\n\nBrno lies where the Svratka meets the Svitava.",
    "\0\0straße\0Die STRASSE. İstanbul.".encode(),
)
_LONGEST_QUOTE = 300


def check(data: bytes) -> None:
    """A citation names a passage that was given, and quotes it."""
    numbers = tuple(byte % 7 - 1 for byte in data[:2])
    answer, *texts = data[2:].decode("utf-8", "replace").split("\0")
    evidence = [
        Evidence(passage=Passage(id=f"p{n}", text=text, title=text[:9]), rank=n, score=1.0)
        for n, text in enumerate(texts, start=1)
    ]
    reply = StepReply(answer=answer, passages=tuple(dict.fromkeys(numbers)))
    citations, warnings = citations_for(reply, evidence, 3)
    given = {item.passage.id: item.passage for item in evidence}
    for citation in citations:
        assert citation.step == 3
        assert len(citation.quote) <= _LONGEST_QUOTE
        assert citation.quote in " ".join(given[citation.passage_id].text.split())
    good = [number for number in reply.passages if 1 <= number <= len(texts)]
    if good:
        assert [citation.passage_id for citation in citations] == [f"p{n}" for n in good]
    assert len(citations) <= max(1, len(good))
    assert bool(warnings) == (len(good) < len(reply.passages) or (not good and bool(texts)))
