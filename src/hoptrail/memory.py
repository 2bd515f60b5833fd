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

import asyncio
import base64
import binascii
import hashlib
import json
import math
import re
import sqlite3
import weakref
import zlib
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import numpy as np
from filelock import FileLock
from langgraph.store.base import BaseStore, PutOp
from langgraph.store.sqlite import SqliteStore
from pydantic import ValidationError

from hoptrail import sqlite_file
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
from hoptrail.sqlite_file import (
    BUSY_SECONDS,
    Owner,
    Transaction,
    check_version,
    make_private,
    slow,
    version_of,
)

if TYPE_CHECKING:
    from langgraph.store.base import Op, Result, SearchItem

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
_VERSION = 1
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


def sqlite_store(path: Path) -> ThreadedSqliteStore:
    """Give a store in a SQLite file that only its owner can read; made when it is first used."""
    return ThreadedSqliteStore(path)


class ThreadedSqliteStore(BaseStore):
    """LangGraph's SQLite store for any event loop, and for none.

    LangGraph has a synchronous one and one that is bound to a single event loop; this one does
    the work of the first in a thread of its own. What was written is committed, and stays so
    through a power cut, when the call returns. Several processes may use the file at once.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._inner: SqliteStore | None = None
        self._owner = Owner()
        self._files = ExitStack()
        weakref.finalize(self, self._files.close)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="hoptrail-memory")

    def batch(self, ops: Iterable[Op]) -> list[Result]:
        """Do the operations, waiting; raises as `abatch`."""
        self._owner.check(str(self.path))
        return self._thread.submit(self._do, list(ops)).result()

    async def abatch(self, ops: Iterable[Op]) -> list[Result]:
        """Do the operations, all or none. Whoever is cancelled leaves them to their end.

        Raises:
            StorageFailed: the disk refused, or does not answer, or the process was forked since.
        """
        self._owner.check(str(self.path))
        loop = asyncio.get_running_loop()
        work = loop.run_in_executor(self._thread, self._do, list(ops))
        # Whoever was cancelled no longer hears of a failure: asyncio would report it as lost.
        work.add_done_callback(lambda done: done.cancelled() or done.exception())
        try:
            async with asyncio.timeout(sqlite_file.DISK_SECONDS):
                return await asyncio.shield(work)
        except TimeoutError as error:
            raise slow(self.path) from error

    def close(self) -> None:
        """Finish what is under way and close the file; the store is not used afterwards."""
        self._thread.shutdown(wait=True)
        self._files.close()

    def _do(self, ops: list[Op]) -> list[Result]:
        try:
            return self._open().batch(ops)
        except (sqlite3.Error, OSError, json.JSONDecodeError) as error:
            raise self._unusable(error) from error
        except ValueError as error:
            # LangGraph's store tells some of SQLite's errors so, and most hostile names.
            if isinstance(error.__cause__, sqlite3.Error):
                raise self._unusable(error.__cause__) from error
            raise

    def _unusable(self, error: Exception) -> StorageFailed:
        return StorageFailed(f"the memory in {self.path} is not usable: {error}")

    def _open(self) -> SqliteStore:
        if self._inner is None:
            make_private(self.path)
            # Two processes that begin one file at once would both change its tables.
            with FileLock(self.path.with_suffix(".lock"), BUSY_SECONDS, mode=0o600):
                self._inner = self._begun()
        return self._inner

    def _begun(self) -> SqliteStore:
        connection = sqlite3.connect(
            self.path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False
        )
        try:
            # Before anything is changed: a file that is refused stays as it is.
            check_version(self.path, "memory", version_of(connection), _VERSION)
            done = _tables_of(connection)
            check_version(self.path, "table", done, len(SqliteStore.MIGRATIONS))
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = FULL")
            if done < len(SqliteStore.MIGRATIONS) or version_of(connection) < _VERSION:
                _bring_up(connection, done)
            store = _WholeBatches(connection)
            store.setup()
        except BaseException:
            connection.close()
            raise
        self._files.callback(connection.close)
        return store


class _WholeBatches(SqliteStore):
    """LangGraph's store, but of a batch that fails nothing is kept; its own keeps the half."""

    _reading = False

    def batch(self, ops: Iterable[Op]) -> list[Result]:
        ops = list(ops)
        self._reading = not any(isinstance(op, PutOp) for op in ops)
        return super().batch(ops)

    @contextmanager
    def _cursor(self, *, transaction: bool = True) -> Iterator[sqlite3.Cursor]:
        whole_batch = Transaction(self.conn, reading=self._reading)
        with self.lock, whole_batch as connection, closing(connection.cursor()) as cursor:
            yield cursor


def _tables_of(connection: sqlite3.Connection) -> int:
    """Give how many of LangGraph's migrations a file has been through."""
    there = "SELECT count(*) FROM sqlite_master WHERE name = 'store_migrations'"
    if not connection.execute(there).fetchone()[0]:
        return 0
    last: int = connection.execute("SELECT coalesce(max(v), -1) FROM store_migrations").fetchone()[
        0
    ]
    return last + 1


def _bring_up(connection: sqlite3.Connection, done: int) -> None:
    """Bring a file up to this version: all of it, or nothing.

    LangGraph's own way is to note each migration after it is done: a process that is killed in
    between leaves a file that it never opens again.
    """
    with Transaction(connection):
        connection.execute("CREATE TABLE IF NOT EXISTS store_migrations (v INTEGER PRIMARY KEY)")
        for number, statement in enumerate(SqliteStore.MIGRATIONS[done:], done):
            try:
                connection.execute(statement)
            except sqlite3.OperationalError as error:
                if "duplicate column" not in str(error):  # what such a process has left
                    raise
            connection.execute("INSERT INTO store_migrations (v) VALUES (?)", (number,))
        connection.execute(f"PRAGMA user_version = {_VERSION}")
