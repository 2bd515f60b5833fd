"""Files that cannot be read, or do not hold still: left out with a reason, the others indexed."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from hoptrail.corpus import Corpus
from hoptrail.errors import RetrievalError
from hoptrail.retrieval import documents
from hoptrail.retrieval.documents import SourceFile
from hoptrail.retrieval.ingest import IngestReport, ingest
from tests.shelf import chain, served, take_in, write

pytestmark = pytest.mark.promise("bad-files-are-skipped-with-a-reason")

GOOD = {"a.md": "# Vltava\n\nThe Vltava.", "z.md": "# Rhine\n\nThe Rhine."}
CHANGES = "it changes while it is read"


@pytest.fixture
def docs(tmp_path: Path) -> Path:
    return write(tmp_path / "docs", GOOD)


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return tmp_path / "index"


def reasons(report: IngestReport) -> dict[str, str]:
    return {name.removeprefix("docs/"): reason for name, reason in report.skipped}


def others_are_there(place: Path) -> bool:
    return set((served(place) or {}).values()) >= set(GOOD.values())


class Meddler:
    """Does something to a file between the moments at which it is opened."""

    def __init__(self, name: str, meddle: Callable[[Path, int], None]) -> None:
        self._name, self._meddle, self._times = name, meddle, 0
        self._open = SourceFile.open

    def open(self, file: SourceFile) -> Any:
        if file.path.name == self._name:
            self._times += 1
            self._meddle(file.path, self._times)
        return self._open(file)


@pytest.fixture
def meddle(monkeypatch: pytest.MonkeyPatch) -> Callable[[str, Callable[[Path, int], None]], None]:
    def begin(name: str, with_: Callable[[Path, int], None]) -> None:
        meddler = Meddler(name, with_)
        monkeypatch.setattr(SourceFile, "open", lambda file: meddler.open(file))

    return begin


Begin = Callable[[str, Callable[[Path, int], None]], None]


class TestWhileItIsRead:
    def test_a_file_that_changes_once_is_read_again(
        self, docs: Path, place: Path, meddle: Begin
    ) -> None:
        """What is in the index is one state of it, and the one its digest stands for."""
        (docs / "m.md").write_text("before")

        def change(path: Path, opened: int) -> None:
            if opened == 2:
                path.write_text("after", encoding="utf-8")

        meddle("m.md", change)
        assert take_in(docs, place).skipped == ()
        assert (served(place) or {})["docs/m.md#1"] == "after"
        assert take_in(docs, place).unchanged == 3

    def test_there_and_back_is_noticed(self, docs: Path, place: Path, meddle: Begin) -> None:
        """Otherwise its digest would hold a text in the index that is nowhere else."""
        (docs / "m.md").write_text("first")

        def there_and_back(path: Path, opened: int) -> None:
            if opened in (2, 3):
                path.write_text("second" if opened == 2 else "first", encoding="utf-8")
                os.utime(path, (opened, opened))  # writes of one tick of the clock look alike

        meddle("m.md", there_and_back)
        assert take_in(docs, place).skipped == ()
        assert (served(place) or {})["docs/m.md#1"] == "first"

    def test_a_file_that_never_rests_is_left_out(
        self, docs: Path, place: Path, meddle: Begin
    ) -> None:
        (docs / "m.md").write_text("0")
        meddle("m.md", lambda path, opened: void(path.write_text(str(opened))))
        assert reasons(take_in(docs, place)) == {"m.md": CHANGES}
        assert others_are_there(place)

    @pytest.mark.parametrize("moment", [1, 2, 3])
    def test_a_file_that_vanishes(
        self, docs: Path, place: Path, meddle: Begin, moment: int
    ) -> None:
        """Before its digest, before it is read, and before its digest is compared."""
        (docs / "m.md").write_text("going")
        meddle("m.md", lambda path, opened: path.unlink() if opened == moment else None)
        assert reasons(take_in(docs, place)) == {"m.md": "No such file or directory"}
        assert set(served(place) or ()) == {"docs/a.md#1", "docs/z.md#1"}

    @pytest.mark.parametrize("moment", [1, 2, 3])
    def test_a_file_that_becomes_a_pipe_holds_nobody_up(
        self, docs: Path, place: Path, meddle: Begin, moment: int
    ) -> None:
        (docs / "m.md").write_text("flowing")

        def become_a_pipe(path: Path, opened: int) -> None:
            if opened == moment:
                path.unlink()
                os.mkfifo(path)

        meddle("m.md", become_a_pipe)
        assert reasons(take_in(docs, place)) == {"m.md": documents.NO_FILE}
        assert set(served(place) or ()) == {"docs/a.md#1", "docs/z.md#1"}

    def test_a_file_that_grows_beyond_measure(
        self, docs: Path, place: Path, meddle: Begin, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(documents, "LARGEST_FILE", 1000)
        (docs / "m.md").write_text("small")
        meddle("m.md", lambda path, opened: void(path.write_text("x" * 2000)))
        assert reasons(take_in(docs, place)) == {"m.md": documents.TOO_LARGE}


def void(_: object) -> None:
    """Take a value and give none."""


class TestWhatIsNoDocument:
    def test_pipes_devices_sockets_and_loops(self, docs: Path, place: Path) -> None:
        os.mkfifo(docs / "pipe.md")
        (docs / "null.md").symlink_to("/dev/null")
        (docs / "zero.txt").symlink_to("/dev/zero")
        (docs / "loop.md").symlink_to("loop.md")
        (docs / "one.md").symlink_to("two.md")
        (docs / "two.md").symlink_to("one.md")
        (docs / "gone.md").symlink_to("nowhere.md")
        (docs / "around").symlink_to(docs)
        (docs / "folder.md").mkdir()
        found = reasons(take_in(docs, place))
        assert set(found) == {
            *("pipe.md", "null.md", "zero.txt", "loop.md", "one.md", "two.md", "gone.md"),
            "around",
        }
        assert found["around"] == "a link to a folder"
        assert others_are_there(place)

    def test_bytes_that_are_no_text(self, docs: Path, place: Path) -> None:
        for name, content in {
            "nul.md": b"a\0b",
            "latin.txt": "schön".encode("latin-1"),
            "cut.txt": "für".encode()[:2],
            "utf16.txt": "odd".encode("utf-16")[:-1],
            "surrogate.txt": b"\xff\xfe\x00\xd8a\x00",
            "overlong.md": b"\xc0\x80",
            "picture.md": b"\x89PNG\r\n\x1a\n\0\0",
        }.items():
            (docs / name).write_bytes(content)
        report = take_in(docs, place)
        assert len(report.skipped) == 7
        assert set(reasons(report).values()) == {"binary", "not UTF-8 text", "not UTF-16 text"}
        assert others_are_there(place)

    def test_names_that_are_no_text(self, docs: Path, place: Path) -> None:
        """Each is indexed under a name of its own, also those that no UTF-8 can hold."""
        names = [b"\xff.md", b"\xfe.md", b"a\nb.md", b"\x1b[31m.md", "é.md".encode(), b"x" * 240]
        for number, name in enumerate(names):
            path = os.fsencode(docs) + b"/" + name + (b".md" if name[-3:] != b".md" else b"")
            with open(path, "w", encoding="utf-8") as file:
                file.write(f"A text of its own, number {number}.")
        first = take_in(docs, place)
        assert (first.added, first.skipped) == (len(names) + 2, ())
        assert len(served(place) or ()) == len(names) + 2
        assert r"docs/\udcff.md#1" in (served(place) or ())
        assert take_in(docs, place).unchanged == len(names) + 2

    def test_two_names_that_are_spelled_alike(self, docs: Path, place: Path) -> None:
        """One of the two is left out, and the same one each time."""
        (docs / r"\udcff.md").write_text("by its letters")
        with open(os.fsencode(docs) + b"/\xff.md", "w", encoding="utf-8") as file:
            file.write("by its byte")
        for _ in range(2):
            assert reasons(take_in(docs, place)) == {r"\udcff.md": "another file has this name"}
            assert len(served(place) or ()) == 3

    def test_a_path_that_is_no_text(self, docs: Path, tmp_path: Path) -> None:
        place = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff"))
        place.mkdir()
        (docs / "a.md").rename(place / "a.md")
        corpus = Corpus([place], None, tmp_path / "home", chain())
        report = asyncio.run(corpus.prepare())
        corpus.close()
        assert report is not None
        assert report.passages == 1

    @pytest.mark.timeout(600)  # a second or ten of work, on a machine that may be busy
    def test_ten_thousand_files(self, tmp_path: Path, place: Path) -> None:
        docs = tmp_path / "docs"
        for number in range(10_000):
            if not number % 100:
                (docs / str(number)).mkdir(parents=True)
            (docs / str(number // 100 * 100) / f"{number}.md").write_text(f"Number {number}.")
        report = asyncio.run(ingest([docs], place, embedders=None))
        assert (report.added, report.skipped) == (10_000, ())
        (docs / "0" / "7.md").unlink()
        report = asyncio.run(ingest([docs], place, embedders=None))
        assert (report.unchanged, report.removed, report.passages) == (9_999, 1, 9_999)


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that everybody may use, in one that everybody may enter."""
    with TemporaryDirectory() as name:
        Path(name).chmod(0o777)
        yield Path(name)


@contextmanager
def as_nobody() -> Iterator[None]:
    """Be somebody else than root, who may read everything."""
    if os.geteuid():
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


class TestWithoutPermission:
    def test_files_and_folders_are_left_out(self, open_folder: Path) -> None:
        docs, place = write(open_folder / "docs", GOOD), open_folder / "index"
        (docs / "mine.md").write_text("mine")
        (docs / "own").mkdir()
        (docs / "own" / "deep.md").write_text("deep")
        for path in (docs / "mine.md", docs / "own"):
            path.chmod(0)
        with as_nobody():
            report = take_in(docs, place)
            assert reasons(report) == dict.fromkeys(("mine.md", "own"), "Permission denied")
            assert others_are_there(place)
        (docs / "own").chmod(0o700)

    def test_a_path_behind_a_closed_door_is_an_error_of_ours(self, open_folder: Path) -> None:
        docs = write(open_folder / "own" / "docs", GOOD)
        (open_folder / "own").chmod(0)
        with as_nobody(), pytest.raises(RetrievalError, match="Permission denied"):
            take_in(docs, open_folder / "index")
        (open_folder / "own").chmod(0o700)


class TestIdsOfOthers:
    def test_a_passage_comes_back_when_its_id_is_free(self, tmp_path: Path, place: Path) -> None:
        """The index holds what a new one would: what another's id kept out is not forgotten."""
        one, two = '{"id": "x", "text": "one"}\n', '{"id": "x", "text": "two"}\n'
        other = '{"id": "y", "text": "why"}\n'
        docs = write(tmp_path / "docs", {"a.jsonl": one + other, "b.jsonl": two})
        assert reasons(take_in(docs, place)) == {"b.jsonl": "1 passages with the id of another"}
        (docs / "a.jsonl").write_text(other)
        assert take_in(docs, place).skipped == ()
        assert served(place) == {"x": "two", "y": "why"}
        (docs / "a.jsonl").write_text(one)
        assert reasons(take_in(docs, place)) == {"a.jsonl": "1 passages with the id of another"}
        (docs / "b.jsonl").unlink()
        take_in(docs, place)
        assert served(place) == {"x": "one"}
