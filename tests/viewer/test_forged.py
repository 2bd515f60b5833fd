"""A trace in which anything may stand anywhere is drawn all the same: a page is never blank."""

from __future__ import annotations

import copy
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any

import pytest

from hoptrail.viewer import trace_page
from tests.hostile import PAYLOADS
from tests.planting import leaves
from tests.viewer.browser import expect, open_file
from tests.viewer.planted import audit, harmless_trace, written

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = [pytest.mark.browser, pytest.mark.timeout(180)]

VNODE = {"type": "img", "props": {"src": "x", "onerror": "window.__pwned=1"}, "key": None, "__v": 1}
RAW = {"type": "p", "props": {"dangerouslySetInnerHTML": {"__html": "<img src=x onerror=1>"}}}
VALUES: list[Any] = [
    None,
    True,
    0,
    -1,
    1e308,
    -1e-300,
    2**63,
    "",
    "NaN",
    "1e999",
    [],
    {},
    [[["deep"]]],
    ["<b>", 1, None],
    VNODE,
    RAW,
    [VNODE, RAW],
    {"length": 1e9},
    {"toString": 1, "valueOf": None, "toJSON": "x", "then": "y"},
    {"__proto__": {"polluted": 1}, "constructor": {"prototype": {"polluted": 1}}},
    *PAYLOADS[::60],
]
KEPT = {("trace_version",), ("steps",)}
"""Without these it is no trace, and is refused."""


def place(document: Any, path: tuple[str | int, ...]) -> Any:
    for key in path:
        document = document[key]
    return document


def looked_at(page: Page, document: dict[str, Any], folder: Path) -> None:
    open_file(page, trace_page(written(document)), folder)
    expect(page.locator("#app h1")).to_have_count(1)
    assert not audit(page, 6)["bad"]
    assert page.locator("#app h1").text_content() != "This cannot be shown"
    assert len(page.locator("main").inner_text()) > 20


@pytest.mark.parametrize("value", VALUES, ids=lambda value: repr(value)[:30])
def test_one_value_in_every_place(page: Page, tmp_path: Path, value: Any) -> None:
    document = harmless_trace(range(2), "answered")
    for path in leaves(document):
        if path not in KEPT:
            place(document, path[:-1])[path[-1]] = value
    looked_at(page, document, tmp_path)


@pytest.mark.parametrize("seed", range(6))
def test_any_values_in_any_places(page: Page, tmp_path: Path, seed: int) -> None:
    random = Random(seed)
    for _ in range(8):
        document = harmless_trace(range(3), random.choice(["answered", "failed", "running"]))
        every = [path for path in leaves(document) if path not in KEPT]
        for path in random.sample(every, len(every) // 8):
            forge(document, path[: random.randint(1, len(path))], random)
        looked_at(page, document, tmp_path)


def forge(document: dict[str, Any], path: tuple[str | int, ...], random: Random) -> None:
    """Put something else in a place, or leave it out; a place may be gone by now."""
    try:
        inside = place(document, path[:-1])
        if path in KEPT:
            return
        if isinstance(inside, dict) and random.random() < 0.2:
            inside.pop(path[-1], None)
        else:
            inside[path[-1]] = copy.deepcopy(random.choice(VALUES))
    except (KeyError, IndexError, TypeError):
        return
