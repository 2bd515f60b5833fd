"""An ingestion that is killed leaves the old or the new index, at whatever point it dies."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from hoptrail.retrieval.store import FILE_NAME
from tests.mortal_ingestion import Mortals, mortals
from tests.shelf import Served, served, take_in, write

pytestmark = [pytest.mark.promise("index-is-old-or-new"), pytest.mark.timeout(600)]

BEFORE = {
    "vltava.md": "# Vltava\n\nThe Vltava flows through Prague.",
    "rhine.md": "# Rhine\n\nThe Rhine flows through Bonn and Cologne.",
    "volga.md": "# Volga\n\nThe Volga flows into the Caspian Sea.",
}
AFTER = {
    "vltava.md": BEFORE["vltava.md"],
    "rhine.md": "# Rhine\n\nThe Rhine rises in Switzerland.",
    "elbe.md": "# Elbe\n\nThe Elbe flows through Dresden.",
}

Setting = Callable[[Path, Path], None]


def nothing(docs: Path, place: Path) -> None:
    """There was no index."""


def changed(docs: Path, place: Path) -> None:
    """Documents have come, changed and gone since the last ingestion."""
    take_in(write(docs, BEFORE), place)


def unchanged(docs: Path, place: Path) -> None:
    """Everything is in the index."""
    take_in(write(docs, AFTER), place)


def damaged(docs: Path, place: Path) -> None:
    """The index is damaged, and built anew."""
    take_in(write(docs, BEFORE), place)
    with (place / FILE_NAME).open("rb+") as file:
        file.write(b"damage")


SETTINGS: tuple[Setting, ...] = (nothing, changed, unchanged, damaged)


@pytest.fixture(scope="module")
def mortal() -> Iterator[Mortals]:
    with mortals() as found:
        yield found


class Story:
    """An ingestion that can be told again and again from its beginning."""

    def __init__(self, root: Path, setting: Setting) -> None:
        self.docs, self.place, self._origin = root / "docs", root / "index", root / "origin"
        setting(self.docs, self._origin)
        write(self.docs, AFTER)
        self.new = {f"docs/{name}#1": text for name, text in AFTER.items()}
        self.was_damaged = setting is damaged
        self.old: Served = None if self.was_damaged else served(self._origin)
        self.begin()

    def begin(self) -> None:
        shutil.rmtree(self.place, ignore_errors=True)
        if self._origin.exists():
            shutil.copytree(self._origin, self.place)

    def check(self) -> None:
        """One version or the other is there; what comes next repairs and clears everything."""
        if not (self.was_damaged and self._is_still_damaged()):
            assert served(self.place) in (self.old, self.new)
        take_in(self.docs, self.place)
        assert served(self.place) == self.new
        kept = {"index.damaged"} if self.was_damaged else set()
        assert {path.name for path in self.place.iterdir()} - {"index.lock"} == {FILE_NAME} | kept
        if self.was_damaged:
            assert (self.place / "index.damaged").read_bytes().startswith(b"damage")

    def _is_still_damaged(self) -> bool:
        return (self.place / FILE_NAME).read_bytes().startswith(b"damage")


@pytest.mark.parametrize("setting", SETTINGS)
def test_killed_at_every_point(tmp_path: Path, mortal: Mortals, setting: Setting) -> None:
    story = Story(tmp_path, setting)
    points = mortal(story.docs, story.place)
    assert served(story.place) == story.new
    assert points > (3 if setting is unchanged else 60)
    for point in range(1, points + 1):
        story.begin()
        mortal(story.docs, story.place, die_at=point)
        story.check()


@pytest.mark.parametrize("setting", SETTINGS)
def test_killed_at_any_moment(
    tmp_path: Path, mortal: Mortals, setting: Setting, request: pytest.FixtureRequest
) -> None:
    story = Story(tmp_path, setting)
    moments = random.Random(setting.__name__)
    for _ in range(request.config.getoption("--ingest-kills") // len(SETTINGS)):
        story.begin()
        mortal(story.docs, story.place, after=moments.uniform(0.001, 0.12))
        story.check()


def test_killed_again_and_again(tmp_path: Path, mortal: Mortals) -> None:
    """Each life finds what the one before left, until one reaches the end."""
    story = Story(tmp_path, changed)
    points = mortal(story.docs, story.place)
    story.begin()
    for point in range(2, points, 7):
        mortal(story.docs, story.place, die_at=point)
        assert served(story.place) in (story.old, story.new)
        if served(story.place) == story.new:
            story.begin()
    story.check()
