"""Eight processes write one index at once, a ninth reads it: nothing is lost, nobody refused."""

from __future__ import annotations

import asyncio
import multiprocessing
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import closing
from pathlib import Path
from threading import Event

import pytest

from hoptrail.errors import RetrievalError
from hoptrail.retrieval import ingest as ingestion
from hoptrail.retrieval.index import Index
from hoptrail.retrieval.replacement import Replacement
from hoptrail.retrieval.store import index_file
from tests.shelf import served, take_in, write

pytestmark = [pytest.mark.promise("writers-lose-nothing"), pytest.mark.timeout(600)]

WRITERS = 8
PATIENCE = 120.0
"""Seconds for what takes one or two on a machine that has nothing else to do."""
RIVERS = ("Vltava", "Rhine", "Volga", "Elbe", "Oder", "Danube", "Seine", "Loire")


def text_of(writer: int, turn: int) -> str:
    return f"# {RIVERS[writer]} {turn}\n\nThe {RIVERS[writer]} has gauge {turn} at mile {writer}."


def add_to_one_folder(docs: Path, place: Path, writer: int, turns: int) -> None:
    """Put a document into the folder that all share, and ingest that; after each, it is there."""
    for turn in range(turns):
        name = f"{writer}-{turn}.md"
        (docs / f"{name}.new").write_text(text_of(writer, turn), encoding="utf-8")
        (docs / f"{name}.new").rename(docs / name)
        take_in(docs, place)
        with closing(Index.open(place)) as index:
            assert index.passages([f"{docs.name}/{name}#1"])


def bring_own_folder(docs: Path, place: Path, writer: int, turns: int) -> None:
    """Make the index hold this writer's documents and no others."""
    own = write(docs / str(writer), {f"{turn}.md": text_of(writer, turn) for turn in range(3)})
    for _ in range(turns):
        take_in(own, place)


def follow(place: Path, begun: Event, done: Event, sees: Callable[[set[str]], bool]) -> None:
    """Look at the index until all have written; tell when it was seen for the first time."""
    while not done.wait(0.01):
        if not index_file(place).exists():
            continue
        with closing(Index.open(place)) as index:
            held = asyncio.run(index.search("gauge", k=1000)).evidence
            assert sees({evidence.passage.id for evidence in held})
        begun.set()


def is_one_folder(ids: set[str]) -> bool:
    return len(ids) == 3 and len({id_.partition("/")[0] for id_ in ids}) == 1


def is_any(ids: set[str]) -> bool:
    return bool(ids)


Writer = Callable[[Path, Path, int, int], None]


@pytest.mark.parametrize(
    ("writer", "sees"), [(add_to_one_folder, is_any), (bring_own_folder, is_one_folder)]
)
def test_eight_writers_lose_nothing(
    tmp_path: Path,
    request: pytest.FixtureRequest,
    writer: Writer,
    sees: Callable[[set[str]], bool],
) -> None:
    docs, place = write(tmp_path / "docs", {}), tmp_path / "index"
    turns = request.config.getoption("--index-writes")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.test_spaces_writers"])
    with (
        context.Manager() as manager,
        ProcessPoolExecutor(WRITERS + 1, mp_context=context) as pool,
    ):
        begun, done = manager.Event(), manager.Event()
        reader = pool.submit(follow, place, begun, done, sees)
        # With one version there, the reader is looking when the eight begin.
        failures = [pool.submit(writer, docs, place, 0, 1).exception()]
        looks = begun.wait(PATIENCE)
        written = [pool.submit(writer, docs, place, each, turns) for each in range(WRITERS)]
        failures += [each.exception() for each in written]
        done.set()
        assert failures == [None] * (1 + WRITERS)
        reader.result(PATIENCE)
        assert looks

    texts = sorted((served(place) or {}).values())
    if writer is add_to_one_folder:
        every = [text_of(one, turn) for one in range(WRITERS) for turn in range(turns)]
        assert texts == sorted(every)
    else:
        assert texts in [sorted(text_of(one, turn) for turn in range(3)) for one in range(WRITERS)]
    assert {path.name for path in place.iterdir()} <= {"index.db", "index.lock"}


def test_an_ingestion_waits_for_the_one_before_and_then_sees_what_came_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Files are looked for when its turn has come: what the other took in does not leave again."""
    docs, place = write(tmp_path / "docs", {"a.md": "first"}), tmp_path / "index"
    other = Replacement(index_file(place))
    assert other.claim()
    waits: list[Sequence[object]] = []

    async def let_the_other_end(seconds: float) -> None:
        (docs / "b.md").write_text("second")
        other.close()

    monkeypatch.setattr(asyncio, "sleep", let_the_other_end)
    report = asyncio.run(
        ingestion.ingest([docs], place, embedders=None, progress=lambda *told: waits.append(told))
    )
    assert report.passages == 2
    assert waits[0] == (0, 0, "another ingestion of this index")


def test_whoever_waited_too_long_is_told_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ingestion, "PATIENCE_SECONDS", 0.1)
    docs, place = write(tmp_path / "docs", {"a.md": "first"}), tmp_path / "index"
    other = Replacement(index_file(place))
    assert other.claim()
    with pytest.raises(RetrievalError, match=r"index\.db: another ingestion is writing"):
        take_in(docs, place)
    other.close()
    assert take_in(docs, place).passages == 1
