"""Passages, the evidence a step was given, and the citations an answer rests on."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


class Passage(BaseModel):
    """A piece of a document.

    ``start`` and ``end`` are character offsets into the document's text; ``source`` is the
    path or address the document came from.
    """

    model_config = ConfigDict(frozen=True)

    id: str
    text: str
    title: str = ""
    source: str = ""
    start: int = 0
    end: int = 0


class Evidence(BaseModel):
    """A passage as it was retrieved for one step.

    ``rank`` counts from 1. ``scores`` holds what each retriever said (``bm25``, ``dense``,
    ``graph``; absent when it did not see the passage), ``score`` the fused value it was
    ranked by; larger is better.
    """

    model_config = ConfigDict(frozen=True)

    passage: Passage
    rank: int
    score: float
    scores: dict[str, float] = Field(default_factory=dict)


class Retrieval(BaseModel):
    """What one search gave: the evidence, and how it was found.

    ``mode`` is ``hybrid`` (words and vectors), ``lexical`` (words only), or ``external`` (a
    retriever that was passed in). ``space`` names the embedding space of the vectors used.
    ``warnings`` says what was missing, for instance that no embedder matches the index.
    """

    model_config = ConfigDict(frozen=True)

    evidence: tuple[Evidence, ...] = ()
    mode: str = "lexical"
    space: str | None = None
    warnings: tuple[str, ...] = ()


class Citation(BaseModel):
    """A passage that an answer rests on: ``quote`` is the sentence, ``step`` who used it."""

    model_config = ConfigDict(frozen=True)

    passage_id: str
    source: str
    title: str = ""
    quote: str = ""
    step: int | None = None
