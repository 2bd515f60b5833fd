"""Memory over any store: remembers, recalls within one space, forgets for good."""

import asyncio
import contextlib
import json
import os
import sqlite3
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st
from langgraph.store.base import (
    BaseStore,
    ListNamespacesOp,
    Op,
    PutOp,
    Result,
    SearchItem,
    SearchOp,
)
from langgraph.store.memory import InMemoryStore

from hoptrail import Hoptrail, load_settings
from hoptrail.embeddings import EmbedderChain, HashEmbedder, LocalEmbedder
from hoptrail.errors import AllBackendsFailed, FactNotFound, FactRefused, HoptrailError
from hoptrail.memory import LONGEST_FACT, MOST_FACTS, Memory
from hoptrail.memory_store import sqlite_store
from hoptrail.space import Embedder
from tests.embedders import MemoryEmbedder
from tests.providers import LoopbackProvider

pytestmark = pytest.mark.anyio

FACTS = ("My dog is called Rex.", "I live in Prague.", "I work as a nurse.", "I am vegetarian.")


class ByText(InMemoryStore):
    """Searches as LangGraph's Postgres store does: by how the joined namespace begins."""

    async def abatch(self, ops: Iterable[Op]) -> list[Result]:
        return [self._done(op) for op in ops]

    def _done(self, op: Op) -> Any:
        if isinstance(op, SearchOp):
            (found,) = self.batch([op._replace(namespace_prefix=(), limit=10_000)])
            items = cast("list[SearchItem]", found)
            return [each for each in items if self._begins(each.namespace, op.namespace_prefix)]
        if isinstance(op, ListNamespacesOp) and op.match_conditions:
            (prefix,) = (each.path for each in op.match_conditions)
            (found,) = self.batch([op._replace(match_conditions=None)])
            return [each for each in cast("list[Any]", found) if self._begins(each, prefix)]
        return self.batch([op])[0]

    @staticmethod
    def _begins(namespace: tuple[str, ...], prefix: Sequence[str]) -> bool:
        return ".".join(namespace).startswith(".".join(prefix))


@pytest.fixture(params=["memory", "by text", "sqlite"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[BaseStore]:
    if request.param != "sqlite":
        yield {"memory": InMemoryStore, "by text": ByText}[request.param]()
        return
    kept = sqlite_store(tmp_path / "memory.db")
    yield kept
    kept.close()


def chain(*embedders: Embedder) -> EmbedderChain:
    return EmbedderChain(embedders or [HashEmbedder()])


async def filled(store: BaseStore, *embedders: Embedder, user: str = "default") -> Memory:
    memory = Memory(store, chain(*embedders), user)
    for fact in FACTS:
        await memory.remember(fact)
    return memory


async def texts(memory: Memory) -> list[str]:
    return [fact.text for fact in await memory.facts()]


class TestRemembering:
    async def test_what_was_said_last_comes_first(self, store: BaseStore) -> None:
        memory = await filled(store)
        facts = await memory.facts()
        assert [fact.text for fact in facts] == list(reversed(FACTS))
        assert all(fact.said_at for fact in facts)
        assert [fact.similarity for fact in facts] == [None] * len(FACTS)

    async def test_what_is_said_again_is_refreshed_and_not_kept_twice(
        self, store: BaseStore
    ) -> None:
        memory = await filled(store)
        first = (await memory.facts())[-1]
        again = await memory.remember("  MY DOG is   called Rex!")
        assert again.id == first.id
        assert again.said_at > first.said_at
        assert await texts(memory) == ["MY DOG is called Rex!", *reversed(FACTS[1:])]

    async def test_facts_that_only_look_alike_are_two(self, store: BaseStore) -> None:
        memory = Memory(store, chain())
        await memory.remember("I like C.")
        await memory.remember("I like C++.")
        assert len(await memory.facts()) == 2

    @pytest.mark.parametrize("text", ["", "  \n\t", "\x00\x1b"])
    async def test_a_text_that_says_nothing_is_refused(self, store: BaseStore, text: str) -> None:
        with pytest.raises(FactRefused):
            await Memory(store, chain()).remember(text)

    async def test_hostile_text_is_cleaned_and_cut(self, store: BaseStore) -> None:
        memory = Memory(store, chain())
        half = await memory.remember(
            "half \ud800 a pair, \x1b[31mred\x00, and \u2028 lines\n\nof it"
        )
        assert half.text == "half \ufffd a pair, [31mred , and lines of it"
        long = await memory.remember("x" * 1_000_000)
        assert len(long.text) == LONGEST_FACT
        assert long.text.endswith("…")
        assert await texts(memory) == [long.text, half.text]
        found = await memory.recall("\ud800 half a pair \x00 " * 100_000)
        assert [fact.text for fact in found] == [half.text]

    @given(st.text(st.characters(codec=None), max_size=200))
    def test_any_text_is_remembered_or_refused(self, text: str) -> None:
        async def remembered() -> None:
            memory = Memory(InMemoryStore(), chain())
            try:
                fact = await memory.remember(text)
            except FactRefused:
                assert not text.strip() or not text.isprintable()
                return
            json.dumps(fact.text, ensure_ascii=False).encode()
            assert await memory.facts() == [fact]
            assert await memory.recall(text)
            assert await memory.forget_about(fact.text) == [fact]

        asyncio.run(remembered())

    async def test_the_one_said_longest_ago_makes_room(self) -> None:
        store = InMemoryStore()
        memory = Memory(store, chain())
        ops = [
            PutOp(("memory", "default"), f"{at}", {"text": f"fact {at}", "said_at": f"{at:06}"})
            for at in range(MOST_FACTS)
        ]
        store.batch(ops)
        await memory.remember("the newest")
        kept = await texts(memory)
        assert len(kept) == MOST_FACTS
        assert kept[0] == "the newest"
        assert kept[-1] == "fact 1"

    async def test_users_share_nothing_however_they_are_called(self, store: BaseStore) -> None:
        users = ["a", "ab", "a.b", "a%2Eb", "A", "*", "[ab]", "é", "x" * 500, "x" * 501, "\ud800"]
        # As the namespace of a long name might be called.
        users += [f"{mark}{sha256(b'x' * 500).hexdigest()}" for mark in ("", "~", "=")]
        for user in users:
            await Memory(store, chain(), user).remember(f"I am number {users.index(user)}.")
        for user in users:
            memory = Memory(store, chain(), user)
            assert await texts(memory) == [f"I am number {users.index(user)}."]
            assert len(await memory.recall("number")) == 1
        vectors = len(await store.asearch(("memory-vectors",), limit=99))
        await Memory(store, chain(), "a").forget_all()
        assert len(await store.asearch(("memory-vectors",), limit=99)) == vectors - 1
        assert [bool(await texts(Memory(store, chain(), user))) for user in users] == [
            user != "a" for user in users
        ]

    async def test_a_user_has_a_name(self, store: BaseStore) -> None:
        with pytest.raises(HoptrailError, match="empty"):
            Memory(store, chain(), "  ")


class TestRecalling:
    @pytest.mark.parametrize(
        ("question", "fact"),
        [("What is my dog called?", FACTS[0]), ("Where do I live?", FACTS[1])],
    )
    async def test_the_nearest_comes_first(
        self, store: BaseStore, question: str, fact: str
    ) -> None:
        found = await (await filled(store)).recall(question)
        assert found[0].text == fact
        assert found[0].similarity is not None
        similarities = [each.similarity or 0 for each in found]
        assert similarities == sorted(similarities, reverse=True)

    @pytest.mark.parametrize(
        "message",
        ["Explain photosynthesis.", "What is 17 times 23?", "Who won the world cup?", "Hello!"],
    )
    async def test_what_is_far_is_not_recalled(self, store: BaseStore, message: str) -> None:
        assert await (await filled(store)).recall(message) == []

    async def test_no_more_than_k(self, store: BaseStore) -> None:
        memory = Memory(store, chain())
        for number in range(9):
            await memory.remember(f"My cat number {number} is grey.")
        assert len(await memory.recall("my grey cat", 4)) == 4
        assert len(await memory.recall("my grey cat")) == 5

    async def test_of_nothing_and_for_nothing_there_is_nothing(self, store: BaseStore) -> None:
        assert await Memory(store, chain()).recall("What is my name?") == []
        assert await (await filled(store)).recall("   ") == []

    async def test_the_stores_own_index_embeds_nothing(self) -> None:
        def never(texts: object) -> list[list[float]]:
            raise AssertionError(texts)

        store = InMemoryStore(index={"dims": 4, "embed": never})
        assert await (await filled(store)).recall("What is my dog called?")


LIFE = (
    "My name is Ann Novak.",
    "I live in Prague.",
    "I am allergic to peanuts.",
    "My dog is called Rex.",
    "I work as a nurse in a children's hospital.",
    "I prefer short answers.",
    "My sister Eva studies chemistry in Vienna.",
    "I am vegetarian.",
    "My favourite composer is Dvořák.",
    "I was born in 1987.",
    "We have two cats.",
    "I drive an old Škoda.",
    "I play the violin.",
    "My birthday is on 3 May.",
    "I don't drink alcohol.",
    "I speak Czech and German.",
)
QUESTIONS = {
    "What is my name?": [0],
    "Where do I live?": [1],
    "Which city is my home?": [1],
    "Can I eat this peanut butter cookie?": [2],
    "What is my dog called?": [3],
    "What's the name of my pet?": [3, 10],
    "What do I do for a living?": [4],
    "Where do I work?": [4],
    "What does my sister study?": [6],
    "Do I eat meat?": [7],
    "Suggest a recipe for dinner tonight.": [7, 2],
    "Which music do I like?": [8, 12],
    "Who is my favourite composer?": [8],
    "How old am I?": [9],
    "When was I born?": [9],
    "How many cats do we have?": [10],
    "What car do I drive?": [11],
    "Which instrument do I play?": [12],
    "When is my birthday?": [13],
    "Which wine shall I drink tonight?": [14],
    "Which languages do I speak?": [15],
}
WEIGHTS = Path(__file__).parents[1] / ".models" / "all-MiniLM-L6-v2"


@pytest.mark.parametrize(
    ("embedder", "found_for", "most_beside"),
    [
        (HashEmbedder(), 14, 21),
        pytest.param(
            LocalEmbedder("sentence-transformers/all-MiniLM-L6-v2", WEIGHTS),
            21,
            15,
            marks=[
                pytest.mark.model,
                pytest.mark.skipif(
                    not (WEIGHTS / "model.onnx").is_file(),
                    reason="no weights in .models; run `make model`",
                ),
            ],
        ),
    ],
    ids=["hash", "minilm"],
)
async def test_the_floor_of_each_space_tells_what_belongs_from_what_does_not(
    embedder: Embedder, found_for: int, most_beside: int
) -> None:
    memory = Memory(InMemoryStore(), chain(embedder))
    for fact in LIFE:
        await memory.remember(fact)
    found = beside = 0
    for question, places in QUESTIONS.items():
        recalled = {fact.text for fact in await memory.recall(question, len(LIFE))}
        belonging = {LIFE[place] for place in places}
        found += bool(recalled & belonging)
        beside += len(recalled - belonging)
    assert found >= found_for
    assert beside <= most_beside


class TestSpaces:
    async def test_memory_outlives_its_embedder(self, store: BaseStore) -> None:
        first, second = MemoryEmbedder("all-minilm"), MemoryEmbedder("another")
        memory = await filled(store, first)
        assert (await memory.recall("my dog called Rex"))[0].text == FACTS[0]
        later = Memory(store, chain(second))
        assert (await later.recall("my dog called Rex"))[0].text == FACTS[0]
        assert sorted(set(FACTS) & set(second.asked)) == sorted(FACTS)

    async def test_each_space_is_embedded_once_and_a_change_back_is_free(
        self, store: BaseStore
    ) -> None:
        first, second = MemoryEmbedder("all-minilm"), MemoryEmbedder("another")
        memory, later = await filled(store, first), Memory(store, chain(second))
        for each in (memory, later, memory, later):
            await each.recall("my dog")
        for embedder in (first, second):
            assert [embedder.asked.count(fact) for fact in FACTS] == [1] * len(FACTS)

    async def test_vectors_of_two_spaces_never_lie_together(self, store: BaseStore) -> None:
        memory = await filled(store, MemoryEmbedder("all-minilm"))
        await memory.recall("my dog")
        await Memory(store, chain(MemoryEmbedder("another"))).recall("my dog")
        spaces = await store.alist_namespaces(prefix=("memory-vectors",))
        assert len(spaces) == 2
        for space in spaces:
            assert len(await store.asearch(space, limit=99)) == len(FACTS)

    async def test_the_same_model_elsewhere_embeds_nothing_again(self, store: BaseStore) -> None:
        here = MemoryEmbedder("all-minilm", backend="ollama")
        there = MemoryEmbedder("all-minilm", backend="huggingface")
        await (await filled(store, here)).recall("my dog")
        assert await Memory(store, chain(there)).recall("my dog called Rex")
        assert not set(FACTS) & set(there.asked)

    async def test_another_model_behind_the_same_name_embeds_all_anew(
        self, store: BaseStore
    ) -> None:
        class Renamed(MemoryEmbedder):
            """Says that it is what it is not."""

            async def space(self):  # type: ignore[no-untyped-def] # as its base
                return (await MemoryEmbedder("all-minilm").space()).model_copy()

        await (await filled(store, MemoryEmbedder("all-minilm"))).recall("my dog")
        changed = Renamed("another")
        await Memory(store, chain(changed)).recall("my dog")
        assert set(FACTS) <= set(changed.asked)

    async def test_an_embedder_that_breaks_off_is_followed_by_the_next(
        self, store: BaseStore
    ) -> None:
        breaking = MemoryEmbedder(down_for=FACTS[2:3])
        found = await (await filled(store, breaking, HashEmbedder())).recall("my dog called Rex")
        assert found[0].text == FACTS[0]
        assert (
            found[0].similarity
            == (await Memory(store, chain()).recall("my dog called Rex"))[0].similarity
        )

    async def test_without_an_embedder_recall_says_so_and_the_rest_works(
        self, store: BaseStore
    ) -> None:
        memory = await filled(store, MemoryEmbedder(down=True))
        with pytest.raises(AllBackendsFailed):
            await memory.recall("my dog")
        assert [fact.text for fact in await memory.forget_about("my dog")] == [FACTS[0]]
        assert await memory.forget_all() == len(FACTS) - 1

    async def test_real_embedders_over_sockets(
        self, provider: LoopbackProvider, tmp_path: Path
    ) -> None:
        def trail(embedders: str) -> Hoptrail:
            settings = load_settings(
                embedders=embedders,
                token="hf_loopback",
                huggingface_base_url=provider.huggingface_url,
                ollama_host=provider.ollama_url,
            )
            return Hoptrail(settings=settings)

        provider.ollama.models = ["all-minilm"]
        for embedders in ("huggingface,hash", "ollama,hash", "hash"):
            opened = trail(embedders)
            memory = opened.assembly.memory()
            if embedders.startswith("huggingface"):
                for fact in FACTS:
                    await memory.remember(fact)
            assert (await memory.recall("What is my dog called?"))[0].text == FACTS[0]
            opened.close()
        by_ollama = [text for call in provider.ollama.embeddings for text in call.texts]
        by_face = [text for call in provider.huggingface.embeddings for text in call.texts]
        assert set(FACTS) <= set(by_face)
        assert not set(FACTS) & set(by_ollama)  # the same model: its vectors are known


class TestForgetting:
    async def test_by_id(self, store: BaseStore) -> None:
        memory = await filled(store)
        rex = (await memory.facts())[-1]
        assert await memory.forget(rex.id) == rex
        assert await texts(memory) == list(reversed(FACTS[1:]))
        with pytest.raises(FactNotFound):
            await memory.forget(rex.id)

    @pytest.mark.parametrize(
        ("words", "forgotten"),
        [
            ("my dog", FACTS[:1]),
            ("dogs", FACTS[:1]),
            ("that I live in Prague", FACTS[1:2]),
            ("where I work", FACTS[2:3]),
            ("my cat", ()),
            ("my dog Bello", ()),
            ("that I am", ()),
            ("", ()),
        ],
    )
    async def test_by_words_and_only_what_says_them(
        self, store: BaseStore, words: str, forgotten: tuple[str, ...]
    ) -> None:
        memory = await filled(store)
        assert tuple(fact.text for fact in await memory.forget_about(words)) == forgotten
        assert set(await texts(memory)) == set(FACTS) - set(forgotten)

    async def test_the_very_words_are_that_fact_alone(self, store: BaseStore) -> None:
        memory = Memory(store, chain())
        await memory.remember("I like cats.")
        await memory.remember("I like cats and dogs.")
        (gone,) = await memory.forget_about("I like cats")
        assert gone.text == "I like cats."
        (gone,) = await memory.forget_about((await memory.facts())[0].id)
        assert gone.text == "I like cats and dogs."

    async def test_everything_leaves_nothing_in_the_store(
        self, store: BaseStore, tmp_path: Path
    ) -> None:
        memory = await filled(store)
        await memory.recall("my dog")
        assert await memory.forget_all() == len(FACTS)
        assert await memory.forget_all() == 0
        assert await store.asearch(("memory", "default")) == []
        assert await store.asearch(("memory-vectors",)) == []

    async def test_a_vector_that_comes_late_brings_nothing_back(self, store: BaseStore) -> None:
        slow = MemoryEmbedder(gate=asyncio.Event())
        memory = await filled(store, slow)
        async with asyncio.TaskGroup() as group:
            recall = group.create_task(memory.recall("my dog called Rex"))
            await slow.started.wait()
            other = Memory(store, chain())
            assert await other.forget_about("dog")
            assert slow.gate is not None
            slow.gate.set()
        assert recall.done()
        items = await store.asearch(("memory-vectors",), limit=99)
        assert len({item.key for item in items}) == len(FACTS) - 1
        assert set(await texts(memory)) == set(FACTS[1:])
        assert FACTS[0] not in [fact.text for fact in await memory.recall("my dog called Rex")]


REMEMBERS = """
import asyncio, os, sys
from pathlib import Path
from hoptrail.embeddings import EmbedderChain, HashEmbedder, LocalEmbedder
from hoptrail.memory import Memory
from hoptrail.memory_store import sqlite_store

async def main():
    store = sqlite_store(Path(sys.argv[1]))
    memory = Memory(store, EmbedderChain([HashEmbedder()]))
    for number in range(20):
        await memory.remember(f"Process {sys.argv[2]} said {number}.")
        await memory.recall("Which process said it?")

asyncio.run(main())
os._exit(9)
"""


class TestSqlite:
    def test_only_its_owner_can_read_it(self, tmp_path: Path) -> None:
        path = tmp_path / "home" / "memory.db"
        store = sqlite_store(path)
        assert not path.exists()
        store.put(("a",), "b", {"c": 1})
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
        store.close()
        with contextlib.closing(sqlite3.connect(path)) as connection:
            assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)

    @pytest.mark.timeout(300)
    def test_processes_at_once_lose_nothing_and_what_is_said_is_committed(
        self, tmp_path: Path
    ) -> None:
        path = tmp_path / "memory.db"
        names = ["one", "two", "three"]
        running = [
            subprocess.Popen([sys.executable, "-c", REMEMBERS, str(path), name], env=os.environ)
            for name in names
        ]
        # Each ends without closing anything, as if it were killed.
        assert [process.wait(90) for process in running] == [9, 9, 9]
        store = sqlite_store(path)
        memory = Memory(store, chain())
        facts = asyncio.run(memory.facts())
        store.close()
        said = {f"Process {name} said {number}." for name in names for number in range(20)}
        assert {fact.text for fact in facts} == said

    def test_one_store_serves_several_event_loops_and_none(self, tmp_path: Path) -> None:
        store = sqlite_store(tmp_path / "memory.db")
        memory = Memory(store, chain())

        async def twice() -> None:
            async with asyncio.TaskGroup() as group:
                group.create_task(memory.remember("I live in Prague."))
                group.create_task(asyncio.to_thread(asyncio.run, memory.remember("I have a cat.")))

        asyncio.run(twice())
        assert len(asyncio.run(memory.recall("Where do I live?"))) == 1
        assert len(store.search(("memory",))) == 2
        store.close()

    async def test_whoever_is_cancelled_has_written_all_the_same(self, tmp_path: Path) -> None:
        store = sqlite_store(tmp_path / "memory.db")
        task = asyncio.ensure_future(store.aput(("a",), "b", {"c": 1}))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await store.aget(("a",), "b")
        store.close()

    async def test_a_file_that_cannot_be_used_is_a_typed_error(self, tmp_path: Path) -> None:
        path = tmp_path / "memory.db"
        path.write_text("this is no database, and long enough to be seen as none" * 9)
        store = sqlite_store(path)
        with pytest.raises(HoptrailError, match=r"memory\.db"):
            await Memory(store, chain()).remember("I live in Prague.")
        store.close()

    def test_a_trail_closes_the_store_it_made(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            trail = Hoptrail(settings=load_settings(home=folder, embedders="hash"))
            asyncio.run(trail.assembly.memory("anna").remember("I live in Prague."))
            trail.close()
            again = Hoptrail(settings=load_settings(home=folder, embedders="hash"))
            assert asyncio.run(again.assembly.memory("anna").facts())[0].text == "I live in Prague."
            again.close()
