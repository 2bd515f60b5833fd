"""A disk that fails is told by name, loses nothing that was kept, and is no reason to lie."""

import asyncio
import errno
import json
import os
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, closing, suppress
from pathlib import Path
from typing import Any

import pytest
from langchain_core.messages import AIMessage
from langchain_core.tools import tool

from hoptrail import Hoptrail, load_settings, sqlite_file
from hoptrail.answer import Answer
from hoptrail.embeddings import EmbedderChain, HashEmbedder
from hoptrail.errors import StorageFailed
from hoptrail.journal import Journal
from hoptrail.memory import Memory
from hoptrail.memory_store import sqlite_store
from hoptrail.request import StepRequest
from hoptrail.testing import Asked, ScriptedChatModel, script, tool_call
from tests import two_hops
from tests.faulty_disk import REFUSALS, FaultyDisk, How

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.promise("storage-faults-are-told"),
    pytest.mark.timeout(600),
]

CALLS = 4
"""A plan, two steps and a synthesis."""
NUMBERS = (errno.ENOSPC, errno.EIO, errno.EROFS, errno.EMFILE, errno.EACCES)
PATIENCE = 3600.25
"""Seconds that a disk is given where the time is over as soon as it hangs; nothing else has it."""
DISK_GIVES_UP = 0.3


@pytest.fixture
def docs(tmp_path: Path) -> Path:
    return two_hops.write_documents(tmp_path / "docs")


def trail(docs: Path, home: Path, model: ScriptedChatModel) -> Hoptrail:
    settings = load_settings(home=home, embedders="hash")
    return Hoptrail(docs=docs, index=docs.parent / "index", model=model, settings=settings)


async def asked(docs: Path, home: Path, model: ScriptedChatModel) -> Answer:
    made = trail(docs, home, model)
    try:
        return await made.aask(two_hops.QUESTION, run_id="r1")
    finally:
        made.close()


def is_right(answer: Answer) -> bool:
    return (answer.trace.short_answer, answer.trace.abstained, answer.trace.degraded) == (
        "Prague",
        False,
        False,
    )


def name_of(call: Asked) -> str:
    assert call.request is not None
    return call.question if call.request.kind == "step" else call.request.kind


def kept_calls(home: Path) -> set[str]:
    """Give the calls whose answers are in the journal: ``plan``, a step's question, …"""
    with closing(Journal(home)) as journal:
        entries = journal.entries("r1")
    kinds = {key.partition(":")[0]: value for key, value in entries.items()}
    steps = {json.loads(value)["asked"] for key, value in entries.items() if key[:4] == "step"}
    return steps | (kinds.keys() & {"plan", "synthesis"})


def check_intact(file: Path) -> None:
    with closing(sqlite3.connect(file)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)


@asynccontextmanager
async def over_when_it_hangs(disk: FaultyDisk) -> AsyncIterator[None]:
    """Put a disk under what is done; when it hangs, the time that it is given is over.

    Until then it may be as slow as it likes.
    """
    limits: list[asyncio.Timeout] = []
    real = asyncio.timeout

    def noted(delay: float | None) -> asyncio.Timeout:
        limit = real(delay)
        if delay == PATIENCE:
            limits.append(limit)
        return limit

    async def watch() -> None:
        while True:
            await asyncio.sleep(0.01)
            for limit in limits if disk.hangs.is_set() else ():
                with suppress(RuntimeError):  # nobody waits for it any more
                    limit.reschedule(0.0)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(asyncio, "timeout", noted)
        patch.setattr(sqlite_file, "DISK_SECONDS", PATIENCE)
        disk.inserted(patch)
        watching = asyncio.ensure_future(watch())
        try:
            yield
        finally:
            disk.goes_on.set()
            watching.cancel()


async def ended(work: Awaitable[Answer]) -> Answer | StorageFailed:
    try:
        return await work
    except StorageFailed as error:
        return error


class TestJournal:
    @pytest.mark.parametrize("how", ["before", "after"])
    async def test_whichever_statement_fails_the_run_is_resumed_to_its_answer(
        self, how: How, docs: Path, tmp_path: Path
    ) -> None:
        """No call is repeated whose answer was kept; what was under way beside it is."""
        statement, told = 0, 0
        while True:
            statement += 1
            home, model = tmp_path / f"home-{statement}", two_hops.model()
            says = REFUSALS[statement % len(REFUSALS)]
            disk = FaultyDisk("journal.db", statement, how, says)
            with pytest.MonkeyPatch.context() as patch:
                disk.inserted(patch)
                first = await ended(asked(docs, home, model))
            if not disk.failed:
                break
            if isinstance(first, StorageFailed):
                told += 1
                assert str(home) in str(first)
                assert says in str(first)
            else:
                assert is_right(first), disk.failed
            made, kept = len(model.calls), kept_calls(home)
            assert is_right(await asked(docs, home, model)), disk.failed
            assert len(model.calls) - made == CALLS - len(kept), disk.failed
            assert not kept & {name_of(call) for call in model.calls[made:]}, disk.failed
            # One answer is lost at most, and that of a step that was asked meanwhile.
            assert made - len(kept) <= 2, disk.failed
            check_intact(home / "journal.db")
        assert statement >= 30
        assert told >= 20

    @pytest.mark.parametrize("where", ["admission", "plan", "finish"])
    async def test_a_disk_that_says_nothing_is_given_up(
        self, where: str, docs: Path, tmp_path: Path
    ) -> None:
        begins = {"admission": "INSERT INTO runs", "plan": "INSERT OR REPLACE", "finish": "UPDATE"}
        model, home = two_hops.model(), tmp_path / "home"
        await asked(docs, tmp_path / "other", two_hops.model())  # the index is made
        counting = FaultyDisk("journal.db")
        seen = await self._statements(counting, docs, tmp_path / "counted")
        disk = FaultyDisk("journal.db", seen.index(begins[where]) + 1, "hang")
        made = trail(docs, home, model)
        async with over_when_it_hangs(disk):
            with pytest.raises(StorageFailed, match="has not answered"):
                await made.aask(two_hops.QUESTION, run_id="r1")
        made.close()
        before, kept = len(model.calls), kept_calls(home)
        # A step begins while the plan is written; it is as much lost as the run.
        assert 0 <= before - len(kept) <= (where == "plan")
        assert is_right(await asked(docs, home, model))
        assert len(model.calls) - before == CALLS - len(kept)

    async def _statements(self, disk: FaultyDisk, docs: Path, home: Path) -> list[str]:
        seen: list[str] = []
        do = disk.do

        def noted(text: str, act: Callable[[], Any]) -> Any:
            words = ("INSERT INTO runs", "INSERT OR REPLACE", "UPDATE")
            seen.append(next((word for word in words if text.startswith(word)), text))
            return do(text, act)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(disk, "do", noted)
            disk.inserted(patch)
            await asked(docs, home, two_hops.model())
        return seen

    @pytest.mark.parametrize("kind", ["turn", "tool", "revision"])
    async def test_what_could_not_be_kept_is_no_answer_that_is_missing(
        self, kind: str, docs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A run whose work is lost once ends, rather than to answer from what is left."""

        @tool
        def population(city: str) -> str:
            """Tell how many live in a city."""
            return f"1.3 million live in {city}"

        told = script(
            ["Who?", "How many?"],
            {"Who?": None if kind == "revision" else "Kafka", "How many?": "1.3 million"},
            synthesis="1.3 million [1]",
            revision=["How many?"],
        )

        def say(asked: Asked) -> str | BaseException | AIMessage:
            first = isinstance(asked.request, StepRequest) and not asked.request.earlier
            uses = asked.tools and asked.question == "How many?" and "1.3 million" not in str(asked)
            return tool_call("population", city="Prague") if first and uses else told(asked)

        home, refusals = tmp_path / "home", iter([OSError(errno.EIO, "input/output error")])
        write = Journal.write

        def once(self: Journal, run_id: str, key: str, value: str) -> None:
            if key.startswith(kind) and (refusal := next(refusals, None)) is not None:
                raise refusal
            write(self, run_id, key, value)

        monkeypatch.setattr(Journal, "write", once)
        settings = load_settings(home=home, embedders="hash", revisions=1)
        made = Hoptrail(
            docs, model=ScriptedChatModel(respond=say), tools=[population], settings=settings
        )
        with pytest.raises(StorageFailed, match="input/output error"):
            await made.aask("How many live where who?", run_id="r1")
        answer = await made.aask("How many live where who?", run_id="r1")
        made.close()
        assert "1.3 million" in answer.text
        assert [step.status for step in answer.trace.steps].count("failed") == 0

    async def test_who_writes_for_a_while_is_waited_for(self, docs: Path, tmp_path: Path) -> None:
        home, model = tmp_path / "home", two_hops.model()
        Journal(home).runs()
        with closing(sqlite3.connect(home / "journal.db", check_same_thread=False)) as other:
            other.execute("BEGIN IMMEDIATE")
            async with asyncio.TaskGroup() as group:
                running = group.create_task(asked(docs, home, model))
                await asyncio.sleep(0.5)
                assert not running.done()
                assert not model.calls
                other.rollback()
        assert is_right(running.result())

    async def test_who_writes_for_ever_is_told_of(
        self, docs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        home, model = tmp_path / "home", two_hops.model()
        Journal(home).runs()
        monkeypatch.setattr("hoptrail.journal_file.BUSY_SECONDS", 0.2)
        with closing(sqlite3.connect(home / "journal.db")) as other:
            other.execute("BEGIN IMMEDIATE")
            with pytest.raises(StorageFailed, match="database is locked"):
                await asked(docs, home, model)
            assert not model.calls
        assert is_right(await asked(docs, home, model))


class TestTrace:
    @pytest.mark.parametrize("number", NUMBERS)
    @pytest.mark.parametrize("method", ["write_text", "replace"])
    async def test_a_run_goes_on_without_its_trace_and_says_so(
        self, method: str, number: int, docs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        home, model = tmp_path / "home", two_hops.model()
        # Whatever is written while the run goes on, too.
        monkeypatch.setattr("hoptrail.run._SAVE_EVERY_SECONDS", 0.0)
        real = getattr(Path, method)

        def refuse(self: Path, *given: Any, **named: Any) -> Any:
            if self.suffix != ".partial":
                return real(self, *given, **named)
            if method == "write_text":
                real(self, given[0][:100], encoding="utf-8")  # what there was room for
            raise OSError(number, os.strerror(number), str(self))

        monkeypatch.setattr(Path, method, refuse)
        answer = await asked(docs, home, model)
        monkeypatch.undo()
        assert is_right(answer)
        (warned,) = {each for each in answer.trace.warnings if "of this run could not" in each}
        assert os.strerror(number) in warned
        journal = Journal(home)
        assert journal.run("r1").answer == answer.text
        journal.close()
        assert list((home / "traces").iterdir()) == []
        again = await asked(docs, home, model)
        assert is_right(again)
        assert len(model.calls) == CALLS
        assert [each.name for each in (home / "traces").iterdir()] == ["r1.json"]

    async def test_the_trace_before_stays_whole(
        self, docs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        home = tmp_path / "home"
        await asked(docs, home, two_hops.model())
        path = home / "traces" / "r1.json"
        before = path.read_bytes()

        def full(self: Path, text: str, **_: Any) -> int:
            self.write_bytes(text.encode()[:100])
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        monkeypatch.setattr(Path, "write_text", full)
        assert is_right(await asked(docs, home, two_hops.model()))
        assert path.read_bytes() == before


class TestConversations:
    @pytest.mark.parametrize("how", ["before", "after"])
    async def test_whichever_statement_fails_nothing_said_is_lost_or_said_twice(
        self, how: How, tmp_path: Path
    ) -> None:
        statement, told = 0, 0
        while True:
            statement += 1
            home = tmp_path / f"home-{statement}"
            model = ScriptedChatModel(respond=lambda _asked: "It is 42.")
            disk = FaultyDisk("threads.db", statement, how, REFUSALS[statement % len(REFUSALS)])
            with pytest.MonkeyPatch.context() as patch:
                disk.inserted(patch)
                first = await ended(self._said(home, model, "one"))
            if not disk.failed:
                break
            if isinstance(first, StorageFailed):
                told += 1
                assert "threads.db" in str(first)
            again = await self._said(home, model, "one")
            assert again.text == "It is 42."
            assert len(model.calls) == 1, disk.failed
            await self._said(home, model, "two")
            said = [str(message.content) for message in model.calls[-1].messages]
            assert sum("What is one?" in each for each in said) == 1, disk.failed
            check_intact(home / "threads.db")
        assert statement >= 15
        assert told >= 10

    async def _said(self, home: Path, model: ScriptedChatModel, word: str) -> Answer:
        made = Hoptrail(model=model, settings=load_settings(home=home, embedders="hash"))
        try:
            return await made.achat(f"What is {word}?", thread_id="t", run_id=word)
        finally:
            made.close()

    async def test_a_disk_that_says_nothing_is_given_up(self, tmp_path: Path) -> None:
        model = ScriptedChatModel(respond=lambda _asked: "An answer.")
        async with over_when_it_hangs(FaultyDisk("threads.db", 9, "hang")):
            with pytest.raises(StorageFailed, match="has not answered"):
                await self._said(tmp_path / "home", model, "one")
        assert (await self._said(tmp_path / "home", model, "one")).text == "An answer."


class TestMemory:
    FACTS = ("I live in Prague.", "My dog is called Rex.")

    async def _remembered(self, memory: Memory) -> set[str]:
        return {fact.text for fact in await memory.facts()}

    @pytest.mark.parametrize("how", ["before", "after"])
    async def test_whichever_statement_fails_each_fact_is_there_or_told_of(
        self, how: How, tmp_path: Path
    ) -> None:
        statement, told = 0, 0
        while True:
            statement += 1
            path = tmp_path / f"memory-{statement}" / "memory.db"
            disk = FaultyDisk("memory.db", statement, how, REFUSALS[statement % len(REFUSALS)])
            store = sqlite_store(path)
            memory = Memory(store, EmbedderChain([HashEmbedder()]))
            kept: set[str] = set()
            failures = 0
            with pytest.MonkeyPatch.context() as patch:
                disk.inserted(patch)
                for fact in self.FACTS:
                    try:
                        kept.add((await memory.remember(fact)).text)
                        await memory.recall("Where do I live?")
                    except StorageFailed as error:
                        failures += str(path) in str(error)
                # The same store goes on: the disk is in order again.
                disk.at = 0
                assert kept <= await self._remembered(memory)
                for fact in self.FACTS:
                    await memory.remember(fact)
                assert await self._remembered(memory) == set(self.FACTS)
                assert (await memory.recall("Where do I live?"))[0].text == self.FACTS[0]
                assert await memory.forget_all() == 2
            store.close()
            if not disk.failed:
                break
            told += failures
            assert failures <= 1
            check_intact(path)
        assert statement >= 30
        assert told >= 20

    async def test_a_batch_that_fails_leaves_nothing_half_done(self, tmp_path: Path) -> None:
        from langgraph.store.base import PutOp

        store = sqlite_store(tmp_path / "memory.db")
        await store.aput(("a",), "kept", {"b": 1})
        disk = FaultyDisk("memory.db")
        with pytest.raises(TypeError):
            await store.abatch([PutOp(("a",), "kept", None), PutOp(("a",), "b", {"c": object()})])
        assert disk.seen == 0
        assert await store.aget(("a",), "kept") is not None
        # A trigger stands for a disk that is full at the second statement.
        with closing(sqlite3.connect(tmp_path / "memory.db")) as connection, connection:
            connection.execute(
                "CREATE TRIGGER full BEFORE INSERT ON store BEGIN SELECT raise(ABORT, 'full'); END"
            )
        with pytest.raises(StorageFailed, match="full"):
            await store.abatch([PutOp(("a",), "kept", None), PutOp(("a",), "b", {"c": 1})])
        assert await store.aget(("a",), "kept") is not None
        store.close()

    async def test_a_disk_that_says_nothing_is_given_up(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        store = sqlite_store(tmp_path / "memory.db")
        await store.aput(("a",), "b", {"c": 1})
        monkeypatch.setattr(sqlite_file, "DISK_SECONDS", DISK_GIVES_UP)
        held = FaultyDisk("other.db", 1, "hang")
        store._thread.submit(held.do, "x", lambda: None)
        with pytest.raises(StorageFailed, match="has not answered"):
            await store.aget(("a",), "b")
        held.goes_on.set()
        monkeypatch.undo()
        assert await store.aget(("a",), "b") is not None
        store.close()


@pytest.mark.parametrize("number", NUMBERS)
async def test_a_file_that_cannot_be_opened_is_told_by_name(
    number: int, docs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.open

    def refuse(path: Any, *given: Any, **named: Any) -> int:
        if str(path).endswith(("journal.db", "threads.db", "memory.db")):
            raise OSError(number, os.strerror(number), str(path))
        return real(path, *given, **named)

    monkeypatch.setattr(os, "open", refuse)
    home = tmp_path / "home"
    with pytest.raises(StorageFailed, match=os.strerror(number)):
        await asked(docs, home, two_hops.model())
    made = Hoptrail(model=two_hops.model(), settings=load_settings(home=home, embedders="hash"))
    with pytest.raises(StorageFailed, match=r"threads\.db"):
        await made.achat("Who?", thread_id="t")
    with pytest.raises(StorageFailed, match=r"memory\.db"):
        await made.assembly.memory("anna").remember("I live here.")
    made.close()
