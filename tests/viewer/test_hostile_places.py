"""Whatever stands in a trace is text in a notebook's frame and on a server's pages, too."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from hoptrail.secrecy import masked
from hoptrail.trace import Call, Trace
from hoptrail.viewer import notebook_frame
from tests.hostile import PAYLOADS
from tests.serving import Server, served
from tests.viewer.browser import Watch, expect, open_notebook
from tests.viewer.planted import (
    ALWAYS_SHOWN,
    TAGS,
    Way,
    audit,
    batches,
    hostile_trace,
    missing,
    payload,
    written,
)
from tests.viewer.stored import keep

if TYPE_CHECKING:
    from playwright.sync_api import Locator, Page

pytestmark = [pytest.mark.browser, pytest.mark.timeout(300)]


def test_a_frame_in_a_notebook(page: Page, tmp_path: Path) -> None:
    around = "[document.title, document.body.children.length, window.__pwned]"

    def show(document: dict[str, Any]) -> None:
        if len(page.frames) > 1:
            assert page.evaluate(around) == ["Notebook", 2, None]
        open_notebook(page, notebook_frame(written(document)), tmp_path)
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


def test_the_list_of_a_server(page: Page, server: Server) -> None:
    for number, text in enumerate(PAYLOADS):
        other = payload(1, number)
        call = Call(purpose="synthesis", backend=text.replace(",", ""), model=other)
        trace = Trace(run_id=f"run-{number}", question=text, synthesis=[call], status="failed")
        trace.answer, trace.stop_reason, trace.parent_run_id = other, text, other
        keep(server, trace)
    page.goto(server.url)
    for shown in range(50, len(PAYLOADS), 50):
        expect(rows(page)).to_have_count(shown)
        page.get_by_role("button", name="Show more").click()
    expect(rows(page)).to_have_count(len(PAYLOADS))
    seen = audit(page, 1)
    assert not seen["bad"]
    assert not [each for each in seen["tags"] if each not in TAGS]
    assert not missing(seen["texts"], map(masked, PAYLOADS))


def rows(page: Page) -> Locator:
    return page.locator("tbody tr")


def test_the_form_for_a_change(page: Page, server: Server) -> None:
    for numbers in batches():
        document = hostile_trace(numbers, "answered", checked=True, run_id=f"run-{numbers[0]}")
        run_id = keep(server, Trace.model_validate(document))
        page.goto("about:blank")
        page.goto(f"{server.url}/#/runs/{run_id}")
        page.get_by_role("button", name="Change and rerun from here").click()
        form = page.get_by_role("dialog")
        for choice in form.get_by_role("radio").all():
            choice.check()
            seen = audit(page, 1)
            assert not seen["bad"]
            assert not [each for each in seen["tags"] if each not in TAGS]
