"""The passage graph: passages linked by the names they mention, walked by personalised PageRank.

It finds the second hop of a question without a language model: the seeds are what one search
found and the names in the question, and their mass flows over shared names to passages that the
question itself does not resemble. Rare names carry more of it than common ones.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hoptrail.retrieval.arrays import pack, pack_names, unpack, unpack_names, within
from hoptrail.retrieval.entities import named_in

RESTART = 0.2
ROUNDS = 6
"""They leave less than a thousandth of the mass misplaced; plain iteration takes thirty."""

_RADIUS = (1 - RESTART) ** 2 / 2
_CENTRE = 1 - _RADIUS
"""The eigenvalues of one minus two damped steps lie within ``_RADIUS`` of ``_CENTRE``."""

SEED_PASSAGES = 20
SEED_SHARPNESS = 8
"""Passage seeds are weighted by their fused score to this power: 8 to 12 is a plateau of recall
on MuSiQue, HotpotQA and 2WikiMultihopQA, some points above 4."""

NAME_SHARE = 0.5
"""The share of the seed mass that the question's names get."""

COUNT_CAP = 3

Mass = NDArray[np.float32]


@dataclass(frozen=True)
class _Rows:
    """A sparse matrix by rows, reduced to those that hold anything."""

    filled: NDArray[np.int64]
    starts: NDArray[np.int64]
    columns: NDArray[np.intp]
    weights: Mass
    count: int

    @classmethod
    def of(
        cls, rows: NDArray[np.int32], columns: NDArray[np.int32], weights: Mass, count: int
    ) -> _Rows:
        order = np.argsort(rows, kind="stable")
        sizes = np.bincount(rows, minlength=count)
        filled = np.flatnonzero(sizes)
        starts = (np.cumsum(sizes) - sizes)[filled]
        return cls(filled, starts, columns[order].astype(np.intp), weights[order], count)

    def times(self, values: Mass) -> Mass:
        product = np.zeros(self.count, np.float32)
        if self.filled.size:
            terms = values.take(self.columns, mode="clip")
            terms *= self.weights
            product[self.filled] = np.add.reduceat(terms, self.starts)
        return product


class PassageGraph:
    """Passages and names, an edge wherever a passage mentions a name.

    An edge weighs ``sqrt(min(count, 3)) * ln(1 + N / df)``: N passages, df of which mention
    the name.
    """

    def __init__(
        self,
        names: Sequence[str],
        passages: NDArray[np.int32],
        mentioned: NDArray[np.int32],
        counts: NDArray[np.int32],
        size: int,
    ) -> None:
        self._edges = (passages, mentioned, counts)
        self.names = {name: number for number, name in enumerate(names)}
        self.size = size
        holders = np.bincount(mentioned, minlength=len(names))
        self._rarity = np.log1p(size / np.maximum(holders, 1)).astype(np.float32)
        self.linked = bool((holders > 1).any())
        weights = np.sqrt(np.minimum(counts, COUNT_CAP)).astype(np.float32)
        weights *= self._rarity[mentioned]
        of_passage = np.bincount(passages, weights, size).astype(np.float32)
        of_name = np.bincount(mentioned, weights, len(names)).astype(np.float32)
        self._unlinked = np.flatnonzero(of_passage == 0)
        self._to_passages = _Rows.of(passages, mentioned, weights / of_name[mentioned], size)
        self._to_names = _Rows.of(mentioned, passages, weights / of_passage[passages], len(names))

    @property
    def edges(self) -> int:
        """How many edges there are."""
        return len(self._edges[0])

    @classmethod
    def build(cls, mentions: Sequence[Mapping[str, int]], titles: Sequence[str]) -> PassageGraph:
        """Link passages by the names they mention.

        A name is kept if two passages mention it, or if it is in ``titles`` (the canonical
        names of the passages' titles): then it links nothing, but a question may name it.
        """
        holders: dict[str, int] = {}
        for counted in mentions:
            for name in counted:
                holders[name] = holders.get(name, 0) + 1
        own = set(titles)
        kept = [name for name, count in holders.items() if count > 1 or name in own]
        numbers = {name: number for number, name in enumerate(kept)}
        edges = np.array(
            [
                (passage, numbers[name], count)
                for passage, counted in enumerate(mentions)
                for name, count in counted.items()
                if name in numbers
            ],
            np.int32,
        ).reshape(-1, 3)
        return cls(kept, edges[:, 0], edges[:, 1], edges[:, 2], len(mentions))

    def walk(self, passages: Mass, names: Mass) -> tuple[Mass, Mass]:
        """Give the mass on passages and names after a walk that restarts at the seeds.

        ``passages`` and ``names`` are the seeds x, together of mass 1, and so is the result:
        personalised PageRank, the fixpoint of ``y = (1 - a) * transposed(P) * y + a * x``.
        A passage without names keeps its own mass. Solved for the passages alone (names are
        only ever one step away) by Chebyshev iteration (Saad, Iterative Methods, 12.1): the
        two-step walk is reversible, so the spectrum is real and within known bounds, and each
        of the few rounds shrinks the error to a quarter.
        """
        restart, kept = np.float32(RESTART), np.float32(1 - RESTART)
        missing = passages * restart + self._to_passages.times(names) * (kept * restart)
        found = np.zeros_like(missing)
        change = missing * np.float32(1 / _CENTRE)
        ratio = _RADIUS / _CENTRE
        for _ in range(ROUNDS):
            found += change
            missing += self._two_steps(change) * (kept * kept) - change
            previous, ratio = ratio, 1 / (2 * _CENTRE / _RADIUS - ratio)
            onward, towards = np.float32(ratio * previous), np.float32(2 * ratio / _RADIUS)
            change *= onward
            change += missing * towards
        found = np.maximum(found, 0)
        found[self._unlinked] = passages[self._unlinked]
        return found, self._to_names.times(found) * kept + names * restart

    def _two_steps(self, on_passages: Mass) -> Mass:
        return self._to_passages.times(self._to_names.times(on_passages))

    def scores(self, question: str, fused: Mass) -> Mass:
        """Give every passage's mass after a walk from ``fused`` scores and the question's names.

        All 0 when no two passages share a name: then the graph has nothing to add.
        """
        if not self.linked or not fused.any():
            return np.zeros(self.size, np.float32)
        return self.walk(*self.seeds(question, fused))[0]

    def seeds(self, question: str, fused: Mass) -> tuple[Mass, Mass]:
        """Give the seed mass of passages and names; without a name, passages get all of it."""
        passages = np.zeros(self.size, np.float32)
        names = np.zeros(len(self.names), np.float32)
        best = np.argpartition(-fused, min(SEED_PASSAGES, self.size) - 1)[:SEED_PASSAGES]
        passages[best] = (fused[best] / max(float(fused.max()), 1e-9)) ** SEED_SHARPNESS
        passages /= passages.sum()
        for name in named_in(question, self.names):
            number = self.names[name]
            names[number] += len(name.split()) * self._rarity[number]
        if names.any():
            names *= NAME_SHARE / names.sum()
            passages *= 1 - NAME_SHARE
        return passages, names

    def dump(self) -> bytes:
        """Give what `restored` needs."""
        passages, mentioned, counts = self._edges
        return pack(
            names=pack_names(self.names),
            passages=passages,
            mentioned=mentioned,
            counts=counts,
            size=np.array(self.size),
        )

    @classmethod
    def restored(cls, dumped: bytes, size: int) -> PassageGraph:
        """Give the graph that `dump` described, which is of ``size`` passages.

        Raises:
            ValueError: it is not.
        """
        arrays = unpack(dumped)
        names = unpack_names(arrays["names"])
        passages, mentioned, counts = (arrays[name] for name in ("passages", "mentioned", "counts"))
        if not len(passages) == len(mentioned) == len(counts) or not within(mentioned, len(names)):
            raise ValueError("the graph does not fit together")
        if int(arrays["size"]) != size or not within(passages, size):
            raise ValueError("the graph is not of these passages")
        return cls(names, passages, mentioned, counts, size)
