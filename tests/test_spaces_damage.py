"""Whatever happens to the index's file: it is found, named, kept, and made anew by ingesting."""

from __future__ import annotations

import asyncio
import gzip
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from click.testing import CliRunner

from hoptrail import Hoptrail, load_settings
from hoptrail.cli import main
from hoptrail.errors import IndexDamaged, RetrievalError
from hoptrail.retrieval.index import Index
from hoptrail.retrieval.seal import LENGTH
from hoptrail.retrieval.store import FILE_NAME, FORMAT
from tests.shelf import chain, served, take_in, write
from tests.two_hops import DOCUMENTS, QUESTION, model

pytestmark = [pytest.mark.promise("damage-is-found"), pytest.mark.timeout(300)]

RIVERS = {
    f"river-{number}.md": f"# River {number}\n\nThe river {number} passes mile {number * 7}."
    for number in range(12)
}
PAGE = 4096
POSITIONS = 64
FIRST_FORMAT = Path(__file__).parent / "data" / "index-format-1.db.gz"
NAMED = r"index\.db: the index is not what was written .*`hoptrail ingest PATH --index .*index`"


@pytest.fixture(scope="module")
def origin(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("origin")
    take_in(write(root / "docs", RIVERS), root / "index")
    return root


@pytest.fixture
def root(origin: Path, tmp_path: Path) -> Path:
    shutil.copytree(origin, tmp_path / "copy")
    return tmp_path / "copy"


@pytest.fixture
def file(root: Path) -> Path:
    return root / "index" / FILE_NAME


def flips(content: bytes) -> Iterator[tuple[int, bytes]]:
    """Give every copy with one bit flipped: 64 places of each page, and all of the seal's."""
    places = range(0, len(content) - LENGTH, PAGE // POSITIONS)
    for turn, place in enumerate([*places, *range(len(content) - LENGTH, len(content))]):
        flipped = bytearray(content)
        flipped[place] ^= 1 << turn % 8
        yield place, bytes(flipped)


def refused_as_damaged(file: Path) -> bool:
    with pytest.raises(IndexDamaged, match=NAMED):
        Index.open(file.parent)
    return True


def test_no_flipped_bit_goes_unnoticed(file: Path) -> None:
    intact = file.read_bytes()
    found = 0
    for _, content in flips(intact):
        file.write_bytes(content)
        found += refused_as_damaged(file)
    assert found == len(intact) // PAGE * POSITIONS + LENGTH
    file.write_bytes(intact)
    assert served(file.parent)


def test_no_bit_of_the_head_goes_unnoticed(file: Path) -> None:
    """SQLite believes most of these bytes, the ones that say what follows among them."""
    intact = file.read_bytes()
    for bit in range(100 * 8):
        flipped = bytearray(intact)
        flipped[bit // 8] ^= 1 << bit % 8
        file.write_bytes(flipped)
        assert refused_as_damaged(file)


def test_no_cut_and_no_addition_goes_unnoticed(file: Path) -> None:
    intact = file.read_bytes()
    for length in (*range(0, len(intact), 499), len(intact) - LENGTH, len(intact) - 1):
        file.write_bytes(intact[:length])
        assert refused_as_damaged(file)
    for added in (b"\0", b"x" * LENGTH, intact[-LENGTH:], intact):
        file.write_bytes(intact + added)
        assert refused_as_damaged(file)


def test_no_two_pages_change_places_unnoticed(file: Path) -> None:
    intact = file.read_bytes()
    for start in range(0, len(intact) - 2 * PAGE, PAGE):
        one, two = intact[start : start + PAGE], intact[start + PAGE : start + 2 * PAGE]
        if one != two:
            file.write_bytes(intact[:start] + two + one + intact[start + 2 * PAGE :])
            assert refused_as_damaged(file)


def test_another_file_in_its_place_is_no_index(file: Path, tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "journal.db")) as other, other:
        other.execute("CREATE TABLE runs (id TEXT)")
    documents = [file.with_suffix(".lock"), tmp_path / "journal.db", Path(__file__)]
    for content in (*(path.read_bytes() for path in documents), bytes(100_000)):
        file.write_bytes(content)
        assert refused_as_damaged(file)


def test_what_is_damaged_is_kept_and_never_kept_over(root: Path, file: Path) -> None:
    """Each is another file, with the bytes it had; the new index is whole."""
    intact = served(file.parent)
    for number, (place, content) in enumerate([*flips(file.read_bytes())][::97], 1):
        file.write_bytes(content)
        report = take_in(root / "docs", file.parent)
        kept = file.with_suffix(f".damaged-{number}" if number > 1 else ".damaged")
        assert report.warnings == (f"the index was damaged: made anew, kept as {kept}",), place
        assert kept.read_bytes() == content
        assert served(file.parent) == intact
    assert number > 5


@pytest.mark.parametrize("kind", [".draft", ".draft-journal", ".lock", ".damaged", ".db-wal"])
def test_a_file_beside_the_index_changes_nothing(root: Path, file: Path, kind: str) -> None:
    """Leftovers, and what a user puts there, are not read."""
    intact = served(file.parent)
    file.with_suffix(kind).write_bytes(file.read_bytes()[: 3 * PAGE])
    assert served(file.parent) == intact
    (root / "docs" / "new.md").write_text("A new river.")
    assert take_in(root / "docs", file.parent).passages == len(RIVERS) + 1
    assert len(served(file.parent) or ()) == len(RIVERS) + 1


async def search(index: Index) -> int:
    return len((await index.search("which river?", k=50, embedders=chain())).evidence)


def test_an_open_index_that_is_damaged_refuses_and_comes_back(root: Path, file: Path) -> None:
    """Nothing is answered from it until it is made anew; then nobody has to start again."""
    with closing(Index.open(file.parent)) as index:
        assert asyncio.run(search(index)) == len(RIVERS)
        content = bytearray(file.read_bytes())
        content[len(content) // 2] ^= 1
        file.write_bytes(content)
        for _ in range(2):
            with pytest.raises(IndexDamaged, match=NAMED):
                asyncio.run(search(index))
            with pytest.raises(IndexDamaged, match=NAMED):
                index.passages(["docs/river-1.md#1"])
        take_in(root / "docs", file.parent)
        assert asyncio.run(search(index)) == len(RIVERS)


def test_the_command_makes_it_anew_and_says_so(root: Path, file: Path) -> None:
    file.write_bytes(b"")
    arguments = ["ingest", str(root / "docs"), "--index", str(file.parent)]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 0
    assert f"warning: the index was damaged: made anew, kept as {file.parent}" in result.stderr
    assert f"{len(RIVERS)} passages" in result.stdout


def test_a_question_is_answered_from_the_new_index_or_refused(tmp_path: Path) -> None:
    """With its documents at hand an index is made anew; alone it is refused."""
    docs, place = write(tmp_path / "docs", DOCUMENTS), tmp_path / "index"
    settings = load_settings(embedders=("hash",))
    with closing(Hoptrail(docs=docs, index=place, settings=settings, model=model())) as trail:
        assert trail.ask(QUESTION).text.startswith("Prague")
    (place / FILE_NAME).write_bytes((place / FILE_NAME).read_bytes()[:-1])
    with (
        closing(Hoptrail(index=place, settings=settings, model=model())) as trail,
        pytest.raises(IndexDamaged, match=NAMED),
    ):
        trail.ask(QUESTION)
    with closing(Hoptrail(docs=docs, index=place, settings=settings, model=model())) as trail:
        assert trail.ask(QUESTION).text.startswith("Prague")
    assert (place / "index.damaged").exists()


class TestTheFirstFormat:
    """Indexes of the first format are brought forward, by whoever opens them."""

    @pytest.fixture
    def old(self, tmp_path: Path) -> Path:
        place = tmp_path / "index"
        place.mkdir()
        (place / FILE_NAME).write_bytes(gzip.decompress(FIRST_FORMAT.read_bytes()))
        return place

    def test_a_reader_brings_it_forward(self, old: Path) -> None:
        assert len(served(old) or ()) == 3
        with closing(Index.open(old)) as index:
            assert index.stats().format == FORMAT
        assert {path.name for path in old.iterdir()} <= {FILE_NAME, "index.lock"}

    def test_an_ingestion_goes_on_from_it(self, old: Path, tmp_path: Path) -> None:
        served(old)
        before = (old / FILE_NAME).read_bytes()
        texts = {id_.removeprefix("docs/")[:-2]: text for id_, text in (served(old) or {}).items()}
        (old / FILE_NAME).write_bytes(gzip.decompress(FIRST_FORMAT.read_bytes()))
        report = take_in(write(tmp_path / "docs", texts), old)
        assert (report.unchanged, report.added, report.warnings) == (3, 0, ())
        assert len((old / FILE_NAME).read_bytes()) == len(before)

    def test_its_log_is_read_too(self, old: Path, tmp_path: Path) -> None:
        """A writer that was killed left its last version there."""
        with closing(sqlite3.connect(old / FILE_NAME)) as writer:
            writer.execute("PRAGMA wal_autocheckpoint = 0")
            with writer:
                writer.execute("UPDATE manifest SET document = document || ' '")
            shutil.copytree(old, tmp_path / "killed")
        assert (tmp_path / "killed" / "index.db-wal").stat().st_size
        assert len(served(tmp_path / "killed") or ()) == 3

    def test_damage_is_found_and_kept(self, old: Path, tmp_path: Path) -> None:
        """Its digest is over the rows alone: a damaged one is refused, or holds what it did."""
        intact = (old / FILE_NAME).read_bytes()
        texts = served(old)
        used = [place for place in range(100, len(intact)) if intact[place]][::61]
        refusals = 0
        for place in used:
            flipped = bytearray(intact)
            flipped[place] ^= 4
            (old / FILE_NAME).write_bytes(flipped)
            try:
                with closing(Index.open(old)) as index:
                    found = index.passages([*(texts or ())])
                    assert {id_: passage.text for id_, passage in found.items()} == texts
            except IndexDamaged:
                refusals += 1
        assert refusals > len(used) // 2
        (old / FILE_NAME).write_bytes(intact[:-PAGE])
        report = take_in(write(tmp_path / "docs", RIVERS), old)
        assert "kept as" in report.warnings[0]
        assert (old / "index.damaged").read_bytes()[:PAGE] == intact[:PAGE]

    def test_where_nothing_may_be_written_it_is_refused(
        self, old: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def read_only(*_: object, **__: object) -> None:
            raise OSError(30, "Read-only file system")

        monkeypatch.setattr("hoptrail.retrieval.replacement.FileLock.acquire", read_only)
        with pytest.raises(RetrievalError, match="cannot be written: Read-only file system"):
            Index.open(old)
