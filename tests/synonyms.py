"""Three hundred documents, questions in their words and in other words, and how many are found.

The loopback providers' vectors are made from words; here a word and its synonym are one to them.
So a model finds by meaning what words alone do not.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from hoptrail.embeddings import EmbedderChain
from hoptrail.evidence import Retrieval
from hoptrail.retrieval.index import Index
from hoptrail.retrieval.ingest import IngestReport, ingest
from hoptrail.space import Embedders
from tests.providers import unit_vector, vectors

SYNONYMS = {
    "physician": "doctor",
    "attorney": "lawyer",
    "instructor": "teacher",
    "mariner": "sailor",
    "vintner": "winemaker",
    "constable": "policeman",
    "chemist": "pharmacist",
    "tailor": "dressmaker",
    "cobbler": "shoemaker",
    "angler": "fisherman",
    "sculptor": "stonecutter",
    "minstrel": "musician",
    "blacksmith": "farrier",
    "ploughman": "farmer",
    "merchant": "shopkeeper",
}
_TOWNS = (
    "Litomysl Bonn Tallinn Bergen Siena Utrecht Coimbra Bruges Toledo Cork "
    "Lund Graz Split Gdansk Tartu Turku Vilnius Ghent Arles Bath"
)
TOWNS = tuple(_TOWNS.split())
TEXTS = {
    f"{trade}-{town}": f"Since 1900 the {trade} of {town} has lived near the old bridge."
    for trade in SYNONYMS
    for town in TOWNS
}
assert len(TEXTS) == 300

PAIRS = [(trade, TOWNS[number * 7 % 20]) for number, trade in enumerate(SYNONYMS)]
IN_THEIR_WORDS = {f"Where lived the {trade} of {town}?": f"{trade}-{town}" for trade, town in PAIRS}
IN_OTHER_WORDS = {
    f"Where lived the {SYNONYMS[trade]} of {town}?": f"{trade}-{town}" for trade, town in PAIRS
}
QUESTIONS = IN_THEIR_WORDS | IN_OTHER_WORDS

_MEANING = {other: trade for trade, other in SYNONYMS.items()}
_word_vector = vectors._word_vector  # before a test teaches it synonyms


def teach_synonyms(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give a word and its synonym one vector, in every model."""
    monkeypatch.setattr(
        vectors,
        "_word_vector",
        lambda word, space, width: _word_vector(_MEANING.get(word, word), space, width),
    )


def write_notes(folder: Path) -> Path:
    """Write the documents into one file of the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = [json.dumps({"id": id_, "text": text}) for id_, text in TEXTS.items()]
    (folder / "notes.jsonl").write_text("\n".join(lines), encoding="utf-8")
    return folder


@dataclass(frozen=True)
class Findings:
    """What the questions found."""

    found: Sequence[Retrieval]

    @property
    def recall(self) -> float:
        """The share of the questions whose document is among the best ten."""
        return self._share(QUESTIONS)

    @property
    def recall_in_their_words(self) -> float:
        """The same, of the questions in the documents' words: words alone find all of them."""
        return self._share(IN_THEIR_WORDS)

    @property
    def recall_in_other_words(self) -> float:
        """The same, of the questions in other words than the documents'."""
        return self._share(IN_OTHER_WORDS)

    def _share(self, questions: dict[str, str]) -> float:
        by_question = dict(zip(QUESTIONS, self.found, strict=True))
        hits = [
            answer in {evidence.passage.id for evidence in by_question[question].evidence}
            for question, answer in questions.items()
        ]
        return sum(hits) / len(hits)

    @property
    def modes(self) -> set[str]:
        """How it was searched."""
        return {one.mode for one in self.found}

    @property
    def spaces(self) -> set[str | None]:
        """The spaces that were used."""
        return {one.space for one in self.found}

    @property
    def warnings(self) -> set[str]:
        """What was said about it."""
        return {warning for one in self.found for warning in one.warnings}

    def are_cosines_of(self, weights: str) -> bool:
        """Say whether every dense score is the cosine of two vectors of these weights."""
        told, exact = [], []
        for question, one in zip(QUESTIONS, self.found, strict=True):
            asked = np.array(unit_vector(question, weights))
            for evidence in one.evidence:
                told.append(evidence.scores.get("dense", 0.0))
                exact.append(float(asked @ np.array(unit_vector(evidence.passage.text, weights))))
        return bool(told) and np.allclose(told, exact, atol=5e-3)


async def take_in(docs: Path, place: Path, embedders: Embedders | None) -> IngestReport:
    """Ingest the notes."""
    return await ingest([docs], place, embedders=embedders)


async def look_up(place: Path | Index, embedders: EmbedderChain | None) -> Findings:
    """Ask every question; of an index that is open already, of that."""
    if isinstance(place, Index):
        return await _asked(place, embedders)
    with closing(await asyncio.to_thread(Index.open, place)) as index:
        return await _asked(index, embedders)


async def _asked(index: Index, embedders: EmbedderChain | None) -> Findings:
    return Findings([await index.search(each, k=10, embedders=embedders) for each in QUESTIONS])
