"""Inputs that once broke a parser, and those that fuzzing begins with: none breaks one now."""

import pytest

from tests.fuzz import FOUND, TARGETS, target

pytestmark = pytest.mark.promise("parsers-survive")


@pytest.mark.parametrize("name", TARGETS)
def test_each_target_keeps_its_word_on_its_seeds(name: str) -> None:
    fuzzed = target(name)
    assert fuzzed.seeds
    for seed in (b"", b"\0", *fuzzed.seeds):
        fuzzed.check(seed)


@pytest.mark.parametrize(
    "place", [path.relative_to(FOUND).as_posix() for path in sorted(FOUND.glob("*/*"))]
)
def test_what_once_broke_a_parser_does_so_no_more(place: str) -> None:
    target(place.partition("/")[0]).check((FOUND / place).read_bytes())
