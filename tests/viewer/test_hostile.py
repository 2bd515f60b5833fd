"""Whatever stands in a trace is text on the page: nothing of it runs, loads, or leads away."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from hoptrail.secrecy import masked
from hoptrail.trace import Trace
from hoptrail.viewer import notebook_frame, trace_page
from tests.serving import Server, served
from tests.viewer.browser import Watch, expect, open_file
from tests.viewer.planted import ENDS, Way, batches, hostile_trace, written
from tests.viewer.stored import keep

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = [pytest.mark.browser, pytest.mark.timeout(300)]

ALWAYS_SHOWN = {
    "question",
    "answer",
    "warnings[]",
    "citations[].title",
    "citations[].source",
    "steps[].question",
    "steps[].asked",
    "steps[].answer",
    "steps[].reasoning",
    "steps[].warnings[]",
    "steps[].error",
    "steps[].evidence[].passage.text",
    "steps[].evidence[].passage.title",
    "steps[].evidence[].passage.source",
    "steps[].earlier[].question",
    "steps[].earlier[].answer",
    "steps[].calls[].prompt[].content",
    "steps[].calls[].output",
    "steps[].calls[].backend",
    "steps[].calls[].model",
    "steps[].calls[].error",
    "steps[].calls[].attempts[].detail",
    "steps[].calls[].attempts[].outcome",
    "steps[].tools[].output",
    "steps[].tools[].arguments{}",
    "plan.repairs[]",
    "plan.calls[].output",
    "synthesis[].output",
}
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


def test_a_frame_in_a_notebook(page: Page, tmp_path: Path) -> None:
    around = "[document.title, document.body.children.length, window.__pwned]"

    def show(document: dict[str, Any]) -> None:
        if len(page.frames) > 1:
            assert page.evaluate(around) == ["Notebook", 2, None]
        html = f"<title>Notebook</title><h1>Notebook</h1>{notebook_frame(written(document))}"
        open_file(page, html, tmp_path)
        expect(page.frame_locator("iframe").locator("#app h1")).to_be_visible()
        assert len(page.frames) == 2

    told = Way("frame", show, lambda: page.frames[1]).try_all()
    assert not ALWAYS_SHOWN - told - {"steps[].error"}


@pytest.fixture
def server(watch: Watch) -> Iterator[Server]:
    with served() as it:
        watch.origin = it.url
        yield it


def test_a_page_of_the_server(page: Page, server: Server) -> None:
    def show(document: dict[str, Any]) -> None:
        run_id = keep(server, Trace.model_validate(document))
        page.goto("about:blank")
        page.goto(f"{server.url}/#/runs/{run_id}")
        expect(page.locator("#app h1")).to_contain_text("⟦")

    way = Way("server", show, lambda: page, checked=True, told=masked)
    assert not ALWAYS_SHOWN - way.try_all() - {"steps[].error"}


def test_the_file_has_the_elements_of_the_template_alone(page: Page) -> None:
    page.goto("about:blank")
    clean, _ = page.evaluate(ELEMENTS, trace_page("{}"))
    for numbers in batches():
        document = hostile_trace(numbers, "answered")
        elements, told = page.evaluate(ELEMENTS, trace_page(written(document)))
        assert elements == clean
        assert json.loads(told)["traces"] == [document]
