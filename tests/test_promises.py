"""Each promise names its tests, and each such test its promise."""

import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parent.parent
PROMISES = ROOT / "docs" / "promises.md"

_NAMED = re.compile(r"### `([a-z0-9-]+)`")
_TEST = re.compile(r"- `(tests/[\w/]+\.py(?:::\w+)*)`")


def promised() -> dict[str, set[str]]:
    """Give the tests that the document names under each promise."""
    tests: dict[str, set[str]] = {}
    for section in re.split(r"^(?=##)", PROMISES.read_text(encoding="utf-8"), flags=re.M):
        if named := _NAMED.match(section):
            assert named[1] not in tests, f"{named[1]} is promised twice"
            tests[named[1]] = set(_TEST.findall(section))
    return tests


def marked() -> dict[str, set[str]]:
    """Give the tests that carry each promise's name: modules, classes, functions."""
    tests: dict[str, set[str]] = defaultdict(set)
    for path in sorted((ROOT / "tests").rglob("test_*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        for place, mark in _marks(tree, path.relative_to(ROOT).as_posix()):
            for promise in _promises_in(mark):
                tests[promise].add(place)
    return dict(tests)


def _marks(tree: ast.Module, place: str) -> Iterator[tuple[str, ast.expr]]:
    for node in tree.body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "pytestmark":
            yield place, node.value
        if isinstance(node, ast.ClassDef):
            yield from _decorated(node, place)
            for inner in node.body:
                yield from _decorated(inner, f"{place}::{node.name}")
        else:
            yield from _decorated(node, place)


def _decorated(node: ast.stmt, place: str) -> Iterator[tuple[str, ast.expr]]:
    if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
        for decorator in node.decorator_list:
            yield f"{place}::{node.name}", decorator


def _promises_in(mark: ast.expr) -> Iterator[str]:
    for node in ast.walk(mark):
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "pytest.mark.promise":
            for argument in node.args:
                assert isinstance(argument, ast.Constant), "a promise is named letter by letter"
                yield str(argument.value)


def test_each_promise_names_tests_that_carry_its_name() -> None:
    carried = marked()
    wrong = {
        promise: f"not marked: {sorted(tests - carried.get(promise, set()))}"
        for promise, tests in promised().items()
        if not tests or tests - carried.get(promise, set())
    }
    assert not wrong


def test_each_test_that_carries_a_promise_stands_under_it() -> None:
    named = promised()
    missing = {
        promise: sorted(tests - named.get(promise, set()))
        for promise, tests in marked().items()
        if tests - named.get(promise, set())
    }
    assert not missing
