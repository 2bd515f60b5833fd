"""axe-core finds nothing on any view, light or dark: WCAG 2.1, levels A and AA."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import pytest

from hoptrail.comparison import compare
from hoptrail.viewer import comparison_page, trace_page
from tests.sample_trace import sample_trace
from tests.serving import served
from tests.viewer.browser import Watch, expect, open_file
from tests.viewer.states import STATES, abstained
from tests.viewer.stored import keep

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = pytest.mark.browser

Theme = Literal["light", "dark"]
RULES = {"runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "best-practice"]}
THEMES = pytest.mark.parametrize("theme", ["light", "dark"])
WIDTHS = (1280, 375)


def check(page: Page) -> None:
    """Fail on a violation; each is named with the elements it is about."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    told: dict[str, Any] = axe.run(page, options=RULES).response
    found = {
        each["id"]: [node["html"][:120] for node in each["nodes"]] for each in told["violations"]
    }
    assert not found
    assert told["passes"]


def check_wide_and_narrow(page: Page) -> None:
    for width in WIDTHS:
        page.set_viewport_size({"width": width, "height": 800})
        check(page)


@THEMES
@pytest.mark.parametrize("state", STATES)
def test_a_run(page: Page, tmp_path: Path, state: str, theme: Theme) -> None:
    page.emulate_media(color_scheme=theme, reduced_motion="reduce")
    open_file(page, trace_page(STATES[state]().model_dump_json()), tmp_path)
    page.locator("details").evaluate_all("all => all.forEach((each) => (each.open = true))")
    page.locator("[aria-expanded=false]").evaluate_all("all => all.forEach((each) => each.click())")
    check_wide_and_narrow(page)


@THEMES
def test_what_is_lit_and_the_keys(page: Page, tmp_path: Path, theme: Theme) -> None:
    page.emulate_media(color_scheme=theme, reduced_motion="reduce")
    open_file(page, trace_page(sample_trace().model_dump_json()), tmp_path)
    page.get_by_role("button", name="[2] Prague").first.click()
    page.get_by_text("was born in Prague, on the Vltava").hover()
    expect(page.locator(".lit")).not_to_have_count(0)
    check(page)
    page.get_by_role("region", name="Time").get_by_role("button", name="Step 2").hover()
    check(page)
    page.keyboard.press("?")
    expect(page.get_by_role("dialog")).to_be_visible()
    check(page)


@THEMES
def test_a_comparison(page: Page, tmp_path: Path, theme: Theme) -> None:
    page.emulate_media(color_scheme=theme, reduced_motion="reduce")
    before, after = sample_trace(), abstained()
    after.run_id = "20261122-101500-abcdef"
    told = compare(before, after).model_dump_json()
    html = comparison_page(before.model_dump_json(), after.model_dump_json(), told)
    open_file(page, html, tmp_path)
    page.locator("details").evaluate_all("all => all.forEach((each) => (each.open = true))")
    check_wide_and_narrow(page)


@THEMES
def test_the_pages_of_a_server(page: Page, watch: Watch, theme: Theme) -> None:
    page.emulate_media(color_scheme=theme, reduced_motion="reduce")
    with served() as server:
        watch.origin = server.url
        page.goto(server.url)
        expect(page.get_by_role("heading", name="No run yet")).to_be_visible()
        check(page)
        for state, make in STATES.items():
            keep(server, make().model_copy(update={"run_id": state.replace(" ", "-")}))
        page.reload()
        expect(page.get_by_role("row")).to_have_count(len(STATES) + 1)
        page.get_by_role("checkbox").first.check()
        check_wide_and_narrow(page)
        page.goto(f"{server.url}/#/runs/answered")
        page.get_by_role("button", name="Change and rerun from here").click()
        expect(page.get_by_role("dialog")).to_be_visible()
        for choice in page.get_by_role("dialog").get_by_role("radio").all():
            choice.check()
            check(page)


@THEMES
def test_the_question_for_a_token(page: Page, watch: Watch, theme: Theme) -> None:
    page.emulate_media(color_scheme=theme, reduced_motion="reduce")
    with served(api_token="a-long-secret-of-a-token") as server:
        watch.origin = server.url
        page.goto(server.url)
        expect(page.get_by_role("dialog")).to_be_visible()
        check_wide_and_narrow(page)
    watch.errors = [each for each in watch.errors if "401" not in each]


def test_axe_finds_what_is_wrong(page: Page) -> None:
    page.set_content("<img src='data:,'><p style='color: #aaa'>pale</p>")
    with pytest.raises(AssertionError, match="color-contrast"):
        check(page)
