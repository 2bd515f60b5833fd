"""Documents in: what changes, what stays, and that no half of anything is ever seen."""

from __future__ import annotations

import asyncio
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import numpy as np
import pytest
from blockbuster import blockbuster_ctx

from hoptrail.embeddings import EmbedderChain, HashEmbedder
from hoptrail.errors import IndexDamaged, RetrievalError
from hoptrail.retrieval.index import Index
from hoptrail.retrieval.ingest import ingest
from hoptrail.retrieval.seal import seal
from hoptrail.retrieval.store import FILE_NAME, FORMAT
from hoptrail.space import Embedder
from tests.embedders import MemoryEmbedder

pytestmark = pytest.mark.anyio

RIVERS = {
    "vltava.md": "# Vltava\n\nThe Vltava flows through Prague.",
    "rhine.md": "# Rhine\n\nThe Rhine flows through Bonn and Cologne.",
    "volga.md": "# Volga\n\nThe Volga flows into the Caspian Sea.",
}


@pytest.fixture
def docs(tmp_path: Path) -> Path:
    folder = tmp_path / "docs"
    folder.mkdir()
    for name, text in RIVERS.items():
        (folder / name).write_text(text)
    return folder


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return tmp_path / "index"


@contextmanager
def opened(place: Path) -> Iterator[Index]:
    with closing(Index.open(place)) as index:
        yield index


def texts_in(place: Path) -> list[str]:
    with closing(sqlite3.connect(place / FILE_NAME)) as database:
        return [text for (text,) in database.execute("SELECT text FROM passages ORDER BY text")]


async def assert_in_one_space(place: Path, embedder: Embedder) -> None:
    """Every stored vector is what ``embedder`` gives for its passage."""
    with closing(sqlite3.connect(place / FILE_NAME)) as database:
        rows = database.execute("SELECT title || char(10) || text, vector FROM passages").fetchall()
    expected = np.vstack([await embedder.embed([text], "passage") for text, _ in rows])
    stored = np.array([np.frombuffer(vector, np.float16) for _, vector in rows])
    assert stored == pytest.approx(expected, abs=1e-3)


async def assert_each_finds_itself(place: Path, embedders: EmbedderChain | None) -> None:
    with opened(place) as index:
        for text in texts_in(place):
            found = await index.search(text, k=1, embedders=embedders, graph=False)
            assert found.evidence[0].passage.text == text


async def test_only_what_changed_is_read_and_embedded_again(docs: Path, place: Path) -> None:
    embedder = MemoryEmbedder()
    chain = EmbedderChain([embedder])
    first = await ingest([docs], place, embedders=chain)
    assert (first.added, first.passages, len(embedder.asked)) == (3, 3, 3)

    embedder.asked.clear()
    (docs / "rhine.md").write_text("# Rhine\n\nThe Rhine rises in Switzerland.")
    (docs / "elbe.md").write_text("# Elbe\n\nThe Elbe flows through Dresden.")
    (docs / "volga.md").unlink()
    second = await ingest([docs], place, embedders=chain)
    assert (second.added, second.changed, second.removed, second.unchanged) == (1, 1, 1, 1)
    assert sorted(embedder.asked) == [
        "Elbe\n# Elbe\n\nThe Elbe flows through Dresden.",
        "Rhine\n# Rhine\n\nThe Rhine rises in Switzerland.",
    ]
    await assert_in_one_space(place, embedder)
    await assert_each_finds_itself(place, chain)


async def test_nothing_new_writes_nothing(docs: Path, place: Path) -> None:
    chain = EmbedderChain([MemoryEmbedder()])
    first = await ingest([docs], place, embedders=chain)
    before = (place / FILE_NAME).read_bytes()
    again = await ingest([docs], place, embedders=chain)
    assert (again.unchanged, again.passages, again.space) == (3, 3, first.space)
    assert (place / FILE_NAME).read_bytes() == before


async def test_progress_counts_files_then_passages(docs: Path, place: Path) -> None:
    seen: list[tuple[int, int, str]] = []
    await ingest(
        [docs],
        place,
        embedders=EmbedderChain([MemoryEmbedder()]),
        progress=lambda done, total, path: seen.append((done, total, path)),
    )
    assert seen == [
        (1, 3, "docs/rhine.md"),
        (2, 3, "docs/vltava.md"),
        (3, 3, "docs/volga.md"),
        (3, 3, "docs/volga.md"),
    ]


async def test_the_event_loop_is_never_blocked(docs: Path, place: Path) -> None:
    chain = EmbedderChain([HashEmbedder(64)])
    await ingest([docs], place, embedders=chain)  # imports, which read files, are over
    (docs / "elbe.md").write_text("The Elbe.")
    with blockbuster_ctx("hoptrail.retrieval"):
        await ingest([docs], place, embedders=chain)


async def test_an_index_belongs_to_its_owner_alone(docs: Path, place: Path) -> None:
    await ingest([docs], place, embedders=None)
    assert (place / FILE_NAME).stat().st_mode & 0o777 == 0o600
    assert (place / ".").stat().st_mode & 0o777 == 0o700


async def test_without_embedders_an_index_is_words_only(docs: Path, place: Path) -> None:
    report = await ingest([docs], place, embedders=None)
    assert report.space is None
    await assert_each_finds_itself(place, None)


async def test_when_no_embedder_is_up_an_index_is_words_only_and_says_so(
    docs: Path, place: Path
) -> None:
    report = await ingest([docs], place, embedders=EmbedderChain([]))
    assert report.space is None
    assert report.warnings == ("no embedder: no backend answered",)


async def test_an_embedder_that_fails_midway_leaves_nothing_behind(
    docs: Path, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hoptrail.retrieval.ingest.BATCH", 2)
    (docs / "elbe.md").write_text("# Elbe\n\nThe Elbe flows through Dresden.")
    other = MemoryEmbedder(weights="another-model", backend="huggingface")
    chain = EmbedderChain([MemoryEmbedder(lasts=2), other])
    report = await ingest([docs], place, embedders=chain)
    assert report.space == await other.space()
    assert report.warnings == ("ollama failed while embedding: it went down",)
    assert len(other.asked) == 4
    await assert_in_one_space(place, other)


async def test_the_same_model_elsewhere_goes_on_where_one_fails(
    docs: Path, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hoptrail.retrieval.ingest.BATCH", 2)
    report = await ingest([docs], place, embedders=EmbedderChain([MemoryEmbedder()]))
    for number in range(4):
        (docs / f"new{number}.md").write_text(f"New river number {number}.")
    same = MemoryEmbedder(backend="huggingface")
    chain = EmbedderChain([MemoryEmbedder(lasts=2), same])
    again = await ingest([docs], place, embedders=chain)
    assert again.space == report.space
    assert len(same.asked) == 4
    await assert_in_one_space(place, same)


async def test_a_model_that_changes_behind_its_name_is_noticed(
    docs: Path, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hoptrail.retrieval.ingest.BATCH", 2)
    chain = EmbedderChain([MemoryEmbedder(turns_into="another-model")])
    report = await ingest([docs], place, embedders=chain)
    assert report.space is None
    assert "another model answers" in report.warnings[0]
    await assert_each_finds_itself(place, chain)


async def test_another_model_embeds_everything_anew(docs: Path, place: Path) -> None:
    await ingest([docs], place, embedders=EmbedderChain([MemoryEmbedder()]))
    other = MemoryEmbedder(weights="another-model")
    report = await ingest([docs], place, embedders=EmbedderChain([other]))
    assert (report.unchanged, report.space) == (3, await other.space())
    await assert_in_one_space(place, other)


async def test_a_space_of_the_corpus_follows_the_corpus(docs: Path, place: Path) -> None:
    chain = EmbedderChain([HashEmbedder(256)])
    first = await ingest([docs], place, embedders=chain)
    (docs / "elbe.md").write_text("# Elbe\n\nThe Elbe flows through Dresden.")
    second = await ingest([docs], place, embedders=chain)
    assert first.space != second.space
    await assert_each_finds_itself(place, chain)
    with opened(place) as index:
        found = await index.search("Dresden", embedders=EmbedderChain([HashEmbedder(256)]))
    assert found.mode == "hybrid"


async def test_an_outage_does_not_replace_a_model_by_hashing_for_nothing(
    docs: Path, place: Path
) -> None:
    first = await ingest([docs], place, embedders=EmbedderChain([MemoryEmbedder()]))
    hashing = EmbedderChain([HashEmbedder(256)])
    assert (await ingest([docs], place, embedders=hashing)).space == first.space
    (docs / "elbe.md").write_text("The Elbe.")
    assert (await ingest([docs], place, embedders=hashing)).space != first.space


async def test_passages_with_the_id_of_another_are_left_out(tmp_path: Path, place: Path) -> None:
    corpus = tmp_path / "c.jsonl"
    corpus.write_text('{"id": "a", "text": "one"}\n{"id": "a", "text": "two"}')
    report = await ingest([corpus], place, embedders=None)
    assert report.skipped == (("c.jsonl", "1 passages with the id of another"),)
    assert texts_in(place) == ["one"]


async def test_a_file_that_became_unreadable_leaves(docs: Path, place: Path) -> None:
    await ingest([docs], place, embedders=None)
    (docs / "rhine.md").write_bytes(b"\0")
    report = await ingest([docs], place, embedders=None)
    assert (report.removed, report.skipped) == (1, (("docs/rhine.md", "binary"),))
    assert len(texts_in(place)) == 2


async def test_documents_that_are_all_gone_do_not_empty_the_index(docs: Path, place: Path) -> None:
    """An unmounted disk looks like this."""
    await ingest([docs], place, embedders=None)
    for name in RIVERS:
        (docs / name).unlink()
    with pytest.raises(RetrievalError, match="there is no document to ingest"):
        await ingest([docs], place, embedders=None)
    assert len(texts_in(place)) == 3


async def test_readers_see_the_old_version_until_the_new_one_is_complete(
    docs: Path, place: Path
) -> None:
    await ingest([docs], place, embedders=None)
    embedder = MemoryEmbedder(gate=asyncio.Event())
    assert embedder.gate is not None
    (docs / "rhine.md").write_text("# Rhine\n\nThe Rhine rises in Switzerland.")
    with opened(place) as index:
        async with asyncio.TaskGroup() as group:
            group.create_task(ingest([docs], place, embedders=EmbedderChain([embedder])))
            await embedder.started.wait()
            assert "Bonn" in (await index.search("Rhine")).evidence[0].passage.text
            embedder.gate.set()
        assert "Switzerland" in (await index.search("Rhine")).evidence[0].passage.text


async def test_a_second_ingestion_waits_for_the_first(docs: Path, place: Path) -> None:
    embedder = MemoryEmbedder(gate=asyncio.Event())
    assert embedder.gate is not None
    waits = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        group.create_task(ingest([docs], place, embedders=EmbedderChain([embedder])))
        await embedder.started.wait()
        (docs / "elbe.md").write_text("The Elbe.")
        second = group.create_task(
            ingest([docs], place, embedders=None, progress=lambda *_: waits.set())
        )
        await waits.wait()
        assert not (place / FILE_NAME).exists()
        embedder.gate.set()
    assert (second.result().added, len(texts_in(place))) == (1, 4)


async def test_a_cancelled_ingestion_never_happened(docs: Path, place: Path) -> None:
    await ingest([docs], place, embedders=None)
    (docs / "elbe.md").write_text("The Elbe.")
    embedder = MemoryEmbedder(gate=asyncio.Event())
    task = asyncio.ensure_future(ingest([docs], place, embedders=EmbedderChain([embedder])))
    await embedder.started.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    with opened(place) as index:
        assert index.stats().passages == 3
    assert (await ingest([docs], place, embedders=None)).passages == 4


KILLED = """
import asyncio, os, signal, sys, threading
from hoptrail.embeddings import EmbedderChain, HashEmbedder
from hoptrail.retrieval import ingest as module

docs, place, at, delay = sys.argv[1:]
module.BATCH = 2
events = 0

def die():
    os.kill(os.getpid(), signal.SIGKILL)

def progress(done, total, path):
    global events
    events += 1
    if events == int(at):
        threading.Timer(float(delay), die).start() if float(delay) else die()

asyncio.run(module.ingest([docs], place, embedders=EmbedderChain([HashEmbedder(64)]),
                          progress=progress))
die()
"""


@pytest.mark.parametrize(
    ("at", "delay"),
    [(1, 0), (5, 0), (6, 0), (7, 0.0), (8, 0.001), (8, 0.004), (8, 0.008), (8, 0.02)],
)
async def test_killed_at_any_time_the_index_is_one_version_or_the_other(
    docs: Path, place: Path, at: int, delay: float
) -> None:
    """Events 1 to 5 are files read, 6 to 8 batches embedded; then comes the commit."""
    chain = EmbedderChain([HashEmbedder(64)])
    await ingest([docs], place, embedders=chain)
    old = texts_in(place)
    (docs / "elbe.md").write_text("# Elbe\n\nThe Elbe flows through Dresden.")
    (docs / "oder.md").write_text("# Oder\n\nThe Oder reaches the Baltic Sea.")
    command = [sys.executable, "-c", KILLED, str(docs), str(place), str(at), str(delay)]
    killed = await asyncio.to_thread(subprocess.run, command, timeout=50, check=False)
    assert killed.returncode == -signal.SIGKILL

    now = texts_in(place)
    assert now == old or (len(now) == 5 and delay > 0)
    await assert_each_finds_itself(place, chain)
    assert (await ingest([docs], place, embedders=chain)).passages == 5
    await assert_each_finds_itself(place, chain)


async def test_killed_at_the_first_ingestion_there_is_no_index(docs: Path, place: Path) -> None:
    command = [sys.executable, "-c", KILLED, str(docs), str(place), "4", "0"]
    await asyncio.to_thread(subprocess.run, command, timeout=50, check=False)
    with pytest.raises(RetrievalError, match="no index here"):
        Index.open(place)
    assert (await ingest([docs], place, embedders=None)).passages == 3


async def test_a_damaged_index_is_kept_and_made_anew(docs: Path, place: Path) -> None:
    await ingest([docs], place, embedders=None)
    (place / FILE_NAME).write_bytes(b"not a database" * 1000)
    with pytest.raises(IndexDamaged, match=r"index\.db: .*Ingest the documents again"):
        Index.open(place)
    report = await ingest([docs], place, embedders=None)
    assert "kept as" in report.warnings[0]
    assert (place / "index.damaged").read_bytes().startswith(b"not a database")
    await assert_each_finds_itself(place, None)


async def test_no_flipped_bit_goes_unnoticed(docs: Path, place: Path) -> None:
    """Wherever it is: the index is refused, or it holds and finds what it did."""
    await ingest([docs], place, embedders=EmbedderChain([HashEmbedder(64)]))
    file = place / FILE_NAME
    intact, texts = file.read_bytes(), texts_in(place)
    refused = 0
    used = np.flatnonzero(np.frombuffer(intact, np.uint8))
    for position in np.random.default_rng(7).choice(used, 96):
        flipped = bytearray(intact)
        flipped[position] ^= 16
        file.write_bytes(flipped)
        try:
            await assert_each_finds_itself(place, EmbedderChain([HashEmbedder(64)]))
            assert texts_in(place) == texts
        except RetrievalError:
            refused += 1
    assert refused > 48


async def test_a_newer_format_is_refused_and_left_alone(docs: Path, place: Path) -> None:
    await ingest([docs], place, embedders=None)
    with closing(sqlite3.connect(place / FILE_NAME)) as database:
        database.execute(f"PRAGMA user_version = {FORMAT + 1}")
    seal(place / FILE_NAME)
    with pytest.raises(RetrievalError, match="newer Hoptrail"):
        Index.open(place)
    with pytest.raises(RetrievalError, match="newer Hoptrail"):
        await ingest([docs], place, embedders=None)
    assert len(texts_in(place)) == 3


async def test_a_place_that_cannot_be_written_is_an_error(docs: Path) -> None:
    with pytest.raises(RetrievalError, match="cannot be written"):
        await ingest([docs], docs / "rhine.md", embedders=None)


async def test_a_file_that_cannot_be_read_does_not_build_the_index_anew(
    docs: Path, place: Path
) -> None:
    """Its reason is told each time; the index is the same, byte for byte."""
    (docs / "latin.txt").write_bytes("schön".encode("latin-1"))
    embedders = EmbedderChain([HashEmbedder(64)])
    first = await ingest([docs], place, embedders=embedders)
    before = (place / FILE_NAME).read_bytes()
    again = await ingest([docs], place, embedders=embedders)
    assert (again.added, again.changed, again.unchanged) == (0, 0, len(RIVERS))
    assert again.skipped == first.skipped != ()
    assert (place / FILE_NAME).read_bytes() == before
