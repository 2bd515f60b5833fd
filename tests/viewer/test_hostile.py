"""Whatever stands in a trace is text in its file: nothing of it runs, loads, or leads away."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from hoptrail.comparison import Comparison
from hoptrail.viewer import comparison_page, trace_page
from tests.hostile import PAYLOADS
from tests.viewer.browser import expect, open_file
from tests.viewer.planted import (
    ALWAYS_SHOWN,
    ENDS,
    TAGS,
    Way,
    audit,
    batches,
    hostile,
    hostile_trace,
    missing,
    written,
)

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = [pytest.mark.browser, pytest.mark.timeout(300)]

ELEMENTS = """html => {
    const told = new DOMParser().parseFromString(html, "text/html");
    const named = (each) => [each.localName, ...[...each.attributes].map(({ name }) => name)];
    const elements = [...told.querySelectorAll("*")].map(named);
    return [elements, told.getElementById("hoptrail")?.textContent ?? ""];
}"""


def test_a_file(page: Page, tmp_path: Path) -> None:
    def show(document: dict[str, Any]) -> None:
        open_file(page, trace_page(written(document)), tmp_path)

    assert not ALWAYS_SHOWN - Way("file", show, lambda: page, ends=ENDS).try_all()


def test_the_file_has_the_elements_of_the_template_alone(page: Page) -> None:
    page.goto("about:blank")
    clean, _ = page.evaluate(ELEMENTS, trace_page("{}"))
    for numbers in batches():
        document = hostile_trace(numbers, "answered")
        elements, told = page.evaluate(ELEMENTS, trace_page(written(document)))
        assert elements == clean
        assert json.loads(told)["traces"] == [document]


def test_a_comparison(page: Page, tmp_path: Path) -> None:
    shown = set()
    for numbers in batches():
        trace = written(hostile_trace(numbers, "answered"))
        comparison, texts = hostile(Comparison, numbers)
        open_file(page, comparison_page(trace, trace, written(comparison)), tmp_path)
        expect(page.locator("#app h1")).to_have_text("Two runs compared")
        seen = audit(page, 1)
        assert not seen["bad"]
        assert not [each for each in seen["tags"] if each not in TAGS]
        shown |= texts - set(missing(seen["texts"], texts))
    assert shown == set(PAYLOADS)
