"""Memory: facts kept across runs and threads, recalled by the nearness of their vectors.

It works over any LangGraph store and needs no vector index of the store's own, which SQLite has
only where Python may load extensions. A fact is one item, named by its words, so that what is
said again is refreshed rather than kept twice. Its vectors lie apart, one namespace for each
embedding space: vectors of two spaces cannot meet, a change of embedder costs one batch and a
change back costs nothing, and no vector that is written late can bring back a forgotten fact.

A store has no transactions, so nothing here reads before it writes: two processes may remember
and forget at once, and the last word on each fact holds.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import math
import re
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import numpy as np
from langgraph.store.base import BaseStore, PutOp
from pydantic import ValidationError

from hoptrail.characters import whole
from hoptrail.errors import (
    BackendError,
    FactNotFound,
    FactRefused,
    HoptrailError,
    RequestRefused,
    StorageFailed,
)
from hoptrail.fact import Fact
from hoptrail.space import Embedder, Embedders, Vectors, canaries_agree

if TYPE_CHECKING:
    from langgraph.store.base import SearchItem

MOST_FACTS = 500
"""Facts kept of one user. When there is one more, the one last said longest ago goes: what still
holds is said again sooner or later, and being recalled does not make a fact any truer."""
LONGEST_FACT = 1000
"""Characters of a fact; what is longer is cut, and ends with an ellipsis."""

_BATCH = 64
_ATTEMPTS = 4
"""Embedders tried for one recall, each in a space of its own; one that failed is benched."""
_MOST_READ = 10_000
"""Items read at once: processes that remember at the same time may exceed `MOST_FACTS`."""
_LONGEST_LABEL = 100
_ELLIPSIS = "…"
_CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_SPACES = ("memory-spaces",)
_LARGEST_VECTORS = 16_000_000
"""Bytes that stored vectors may unpack to; a zip bomb unpacks to more."""

_OF_ONE = (
    "I grew up in a small village by the sea.",
    "My brother repairs bicycles.",
    "I am afraid of heights.",
    "My wife and I have three children.",
    "I usually get up at six.",
    "My favourite colour is green.",
    "I broke my left arm last winter.",
    "I collect old stamps.",
)
_OF_OTHER_THINGS = (
    "How many bits are in a byte?",
    "Who painted the Mona Lisa?",
    "Write a sentence with the word however.",
    "What does the abbreviation NATO stand for?",
    "Is a tomato a fruit?",
    "How far away is the Moon?",
    "Explain inflation in one paragraph.",
    "Thank you very much!",
)
_CHANCE = math.sqrt(2 * math.log(MOST_FACTS))
"""How many standard deviations above the mean the best of `MOST_FACTS` unrelated facts is."""


class Memory:
    """What is known of one user, in a store that others may use at the same time.

    Remembering and forgetting need no embedder, and are committed when they return. Recalling
    needs one: it embeds the question and whatever facts have no vector in that embedder's space.

    A fact is recalled when it is nearer to the question than chance explains. How near chance
    comes differs from space to space, so it is measured in each: from the cosines of eight facts
    with eight messages that have nothing to do with them, the best of `MOST_FACTS` unrelated ones
    is worked out. That is 0.25 for all-MiniLM-L6-v2 and 0.20 for feature hashing. Of 21 questions
    about 16 facts, none of them among the eight, the first then finds the fact for all, beside 15
    of 312 that do not belong; hashing, which knows words and not their meaning, for 14, beside 21
    (tests/test_memory.py holds both to it).
    """

    def __init__(self, store: BaseStore, embedders: Embedders, user: str = "default") -> None:
        self.user = user
        self._store = store
        self._embedders = embedders
        label = _label(user)
        self._facts = ("memory", label)
        self._vectors = ("memory-vectors", label)

    async def remember(self, text: str) -> Fact:
        """Keep a fact, and give it as it is kept: cleaned, and cut where it is too long.

        Raises:
            FactRefused: the text says nothing.
        """
        text = _cleaned(text)
        if not text:
            raise FactRefused("there is nothing to remember: the text is empty")
        fact = Fact(id=_id(text), text=text, said_at=datetime.now(UTC).isoformat())
        kept = fact.model_dump(include={"text", "said_at"})
        # The store may have an index of its own: it is not to embed what we embed.
        await self._store.aput(self._facts, fact.id, kept, index=False)
        await self._drop([old.id for old in (await self.facts())[MOST_FACTS:]])
        return fact

    async def facts(self) -> list[Fact]:
        """Give everything that is remembered, what was said last first."""
        items = await self._items(self._facts)
        facts = [_fact(item.key, item.value) for item in items]
        return sorted(facts, key=lambda fact: (fact.said_at, fact.id), reverse=True)

    async def recall(self, text: str, k: int = 5) -> list[Fact]:
        """Give the facts nearest to a text, at most ``k``, nearest first, none that is far.

        Raises:
            AllBackendsFailed: no embedder is up.
            BackendError: one embedder after the other broke off.
        """
        facts, text = await self.facts(), _cleaned(text)
        if not facts or not text:
            return []
        for attempt in range(_ATTEMPTS):
            embedder = await self._embedders.first()
            try:
                return await self._nearest(embedder, text, facts, k)
            except RequestRefused:
                raise
            except BackendError:
                # It is benched now, and another stands first.
                if attempt == _ATTEMPTS - 1:
                    raise
        return []

    async def forget(self, fact_id: str) -> Fact:
        """Forget one fact, and give it.

        Raises:
            FactNotFound: nothing of this id is remembered.
        """
        item = await self._store.aget(self._facts, fact_id)
        if item is None:
            raise FactNotFound(f"nothing is remembered under the id {fact_id!r}")
        await self._drop([fact_id])
        return _fact(fact_id, item.value)

    async def forget_about(self, text: str) -> list[Fact]:
        """Forget the facts that say all the words of a text, and give them; or one, by its id.

        Forgetting cannot be taken back, and vectors are too near where it matters: "I like cats"
        and "I like dogs" have the cosine 0.78, "my dog" and "My dog is called Rex" 0.46. So words
        decide, whatever embedder is up, and where they say nothing, nothing is forgotten.
        """
        wanted = _words(_cleaned(text)) - _SAYING_NOTHING
        alike = {text.strip(), _id(_cleaned(text))}
        found = [
            fact
            for fact in await self.facts()
            if fact.id in alike or (wanted and wanted <= _words(fact.text))
        ]
        exact = [fact for fact in found if fact.id in alike]
        await self._drop([fact.id for fact in exact or found])
        return exact or found

    async def forget_all(self) -> int:
        """Forget everything of this user; gives how many facts that were."""
        # What is damaged goes too: it is no fact that could be told.
        facts = [item.key for item in await self._items(self._facts)]
        await self._drop(facts)
        for space in await self._spaces():
            await self._write([PutOp(space, item.key, None) for item in await self._items(space)])
        return len(facts)

    async def _drop(self, ids: Sequence[str]) -> None:
        if not ids:
            return
        # The text goes first: a vector alone says nothing, and the next recall clears it away.
        await self._write([PutOp(self._facts, each, None) for each in ids])
        spaces = await self._spaces()
        await self._write([PutOp(space, each, None) for space in spaces for each in ids])

    async def _items(self, namespace: tuple[str, ...]) -> list[SearchItem]:
        """Give what lies in a namespace; a store may search by how its name begins.

        Postgres' does: to that, what is Anna's is also Ann's.
        """
        found = await self._store.asearch(namespace, limit=_MOST_READ)
        return [item for item in found if item.namespace == namespace]

    async def _spaces(self) -> list[tuple[str, ...]]:
        """Give the namespaces of this user's vectors."""
        found = await self._store.alist_namespaces(prefix=self._vectors, limit=_MOST_READ)
        return [namespace for namespace in found if namespace[:-1] == self._vectors]

    async def _write(self, ops: Sequence[PutOp]) -> None:
        if ops:
            await self._store.abatch(ops)

    async def _nearest(
        self, embedder: Embedder, text: str, facts: Sequence[Fact], k: int
    ) -> list[Fact]:
        space = await self._space(embedder)
        known = await self._known_vectors(embedder, space, facts)
        (asked,) = await embedder.embed([text], "query")
        cosines = np.stack([known[fact.id] for fact in facts]) @ asked
        near = [at for at in np.argsort(-cosines, kind="stable")[:k] if cosines[at] >= space.floor]
        return [
            facts[at].model_copy(update={"similarity": round(float(cosines[at]), 4)}) for at in near
        ]

    async def _known_vectors(
        self, embedder: Embedder, space: _Space, facts: Sequence[Fact]
    ) -> dict[str, Vectors]:
        """Give each fact's vector in a space; those that have none are embedded, and kept."""
        here = (*self._vectors, space.key)
        stored = {item.key: _unpacked(_of(item, "vector")) for item in await self._items(here)}
        # One that is damaged is embedded anew.
        known = {
            key: row for key, row in stored.items() if row is not None and row.size == space.width
        }
        lacking = [fact for fact in facts if fact.id not in known]
        for start in range(0, len(lacking), _BATCH):
            some = lacking[start : start + _BATCH]
            rows = await embedder.embed([fact.text for fact in some], "passage")
            new = {fact.id: row for fact, row in zip(some, rows, strict=True)}
            ops = [PutOp(here, key, {"vector": _packed(row)}, False) for key, row in new.items()]
            await self._write(ops)
            known |= new
        # What was forgotten meanwhile leaves no vector behind.
        left = {fact.id for fact in (await self.facts() if lacking else facts)}
        await self._write([PutOp(here, key, None) for key in (stored | known).keys() - left])
        return known

    async def _space(self, embedder: Embedder) -> _Space:
        """Give the space an embedder's vectors are in: its canaries decide, not its name."""
        ours = await embedder.canaries()
        for item in await self._items(_SPACES):
            theirs, floor = _unpacked(_of(item, "canaries")), _of(item, "floor")
            if theirs is None or theirs.size != ours.size or not isinstance(floor, float):
                continue
            if canaries_agree(ours, theirs.reshape(ours.shape)):
                return _Space(item.key, floor, ours.shape[1])
        key = hashlib.sha256(ours.tobytes()).hexdigest()[:16]
        space = _Space(key, await _chance(embedder), ours.shape[1])
        told: dict[str, Any] = {
            "space": (await embedder.space()).id,
            "canaries": _packed(ours),
            "floor": space.floor,
        }
        await self._store.aput(_SPACES, space.key, told, index=False)
        return space


@dataclass(frozen=True)
class _Space:
    """An embedding space: under which key its vectors lie, and how near chance comes in it."""

    key: str
    floor: float
    width: int


async def _chance(embedder: Embedder) -> float:
    facts = await embedder.embed(_OF_ONE, "passage")
    messages = await embedder.embed(_OF_OTHER_THINGS, "query")
    cosines = messages @ facts.T
    return float(cosines.mean() + _CHANCE * cosines.std())


def _packed(vectors: Vectors) -> str:
    """Give vectors as text, for stores that hold JSON; those of hashing are mostly zeros."""
    return base64.b64encode(zlib.compress(vectors.astype("<f4").tobytes(), 1)).decode()


def _of(item: SearchItem, name: str) -> object:
    """Give a part of an item; it may be anything, where somebody else has written to the store."""
    kept: object = item.value
    return kept.get(name) if isinstance(kept, dict) else None


def _unpacked(text: object) -> Vectors | None:
    """Give vectors back, or None where the text is damaged."""
    if not isinstance(text, str):
        return None
    unpacking = zlib.decompressobj()
    try:
        unpacked = unpacking.decompress(base64.b64decode(text), _LARGEST_VECTORS)
        vectors = np.frombuffer(unpacked, "<f4")
    except (zlib.error, binascii.Error, ValueError):
        return None
    return vectors if unpacking.eof and np.isfinite(vectors).all() else None


def _fact(fact_id: str, kept: dict[str, Any]) -> Fact:
    """Give a fact as it was kept.

    Raises:
        StorageFailed: it is damaged.
    """
    try:
        return Fact.model_validate({**kept, "id": fact_id})
    except (ValidationError, TypeError) as error:
        raise StorageFailed(
            f"the remembered fact {fact_id} is damaged: forget everything, and say it again"
        ) from error


def _label(user: str) -> str:
    """Give a user's name as a namespace takes it: without dots, and not too long.

    Raises:
        HoptrailError: it is empty.
    """
    if not user.strip():
        raise HoptrailError("memory belongs to a user: the user's name is empty")
    label = quote(user, safe="", errors="surrogatepass").replace(".", "%2E")
    if len(label) <= _LONGEST_LABEL:
        return label
    # No name that is quoted begins so: nobody can be called what another's digest is.
    return "=" + hashlib.sha256(label.encode()).hexdigest()


def _cleaned(text: str) -> str:
    # Cut before the work is done, and once more for good: a hostile text may be very long.
    text = whole(text.strip()[: 4 * LONGEST_FACT])
    text = " ".join(_CONTROLS.sub(" ", text).split())
    return text if len(text) <= LONGEST_FACT else text[: LONGEST_FACT - 1].rstrip() + _ELLIPSIS


def _id(text: str) -> str:
    return hashlib.sha256(text.casefold().rstrip(" .!").encode()).hexdigest()[:10]


_FUNCTION_WORDS = """
a about all am an and any are as at be been by did do does for from had has have he her his how i in
is it its just me mine my of on or our she so that the their them there these they this those to us
was we were what when where which who whom whose why with you your m s ve re d ll fact facts said
say told tell know everything anything
"""
_SAYING_NOTHING = frozenset(_FUNCTION_WORDS.split())


def _words(text: str) -> frozenset[str]:
    """Give the words of a text; a plural counts as its singular."""
    found = re.findall(r"[^\W_]+", text.casefold())
    return frozenset(word.removesuffix("s") if len(word) > 3 else word for word in found)
