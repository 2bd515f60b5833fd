"""The page as a file: every state opens from disk, with no network, and fits the window."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from hoptrail.comparison import compare
from hoptrail.trace import Trace
from hoptrail.viewer import comparison_page, notebook_frame, server_page, trace_page
from tests.sample_trace import QUESTION, sample_trace
from tests.viewer.browser import Watch, expect, open_file, open_notebook
from tests.viewer.states import LOST, STATES, abstained

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

pytestmark = pytest.mark.browser

NO_WORDS = re.compile(r"undefined|\bNaN\b|\[object|Infinity|\bnull\b|\bfalse\b|\btrue\b")
WIDTHS = (360, 768, 1440)


def opened(page: Page, trace: Trace, folder: Path) -> None:
    open_file(page, trace_page(trace.model_dump_json()), folder)


@pytest.mark.parametrize("state", STATES)
def test_each_state_opens_without_a_network(page: Page, tmp_path: Path, state: str) -> None:
    trace = STATES[state]()
    page.context.set_offline(True)
    opened(page, trace, tmp_path)
    expect(page.get_by_role("heading", level=1)).to_have_text(trace.question)
    assert not NO_WORDS.findall(own_words(page))
    assert page.title() == f"{trace.question} · Hoptrail"
    if state != "chat":  # its one step needs no plan
        plan = page.get_by_role("region", name="Plan")
        expect(plan.get_by_role("button", name=re.compile(r"^Step \d"))).to_have_count(
            len(trace.steps)
        )
    for step in trace.steps:
        word = {"abstained": "not found"}.get(step.status, step.status)
        named = page.get_by_role("button", name=re.compile(rf"^Step {step.id}, {word}\b"))
        expect(named).to_have_count(int(state != "chat"))


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("state", STATES)
def test_each_state_fits_the_window(
    browser: Browser, page: Page, tmp_path: Path, state: str, theme: str
) -> None:
    page.emulate_media(color_scheme="light" if theme == "light" else "dark")
    opened(page, STATES[state](), tmp_path)
    for width in WIDTHS:
        page.set_viewport_size({"width": width, "height": 800})
        expect(page.get_by_role("heading", level=1)).to_be_visible()
        assert overhang(page) <= 0, width


def own_words(page: Page) -> str:
    """Give the text of a page without prompts and outputs, which may hold anything."""
    told: str = page.evaluate("""() => {
        const app = document.getElementById("app").cloneNode(true);
        app.querySelectorAll("pre").forEach((each) => each.remove());
        return app.textContent;
    }""")
    return told


def overhang(page: Page) -> int:
    """Give by how much the page is wider than the window."""
    told: int = page.evaluate(
        "document.documentElement.scrollWidth - document.documentElement.clientWidth"
    )
    return told


@pytest.mark.parametrize(
    ("state", "told"),
    [
        ("answered", ["answered", "Vltava", "2.6 s", "2,310 in"]),
        ("abstained", ["abstained", "The documents do not say.", "What is missing"]),
        ("failed", ["failed", LOST, "hoptrail ask --resume"]),
        ("interrupted", ["interrupted", "hoptrail ask --resume"]),
        ("just begun", ["running", "The question is being planned."]),
        ("running", ["running", "The steps are being answered."]),
        ("60 steps", ["degraded", "The Rhine, 1233 km", "62"]),
        ("chat", ["chat", "Franz Kafka wrote it"]),
        ("iterative", ["iterative", "Vltava"]),
    ],
)
def test_the_top_says_how_the_run_stands(
    page: Page, tmp_path: Path, state: str, told: list[str]
) -> None:
    opened(page, STATES[state](), tmp_path)
    for words in told:
        expect(page.locator("main > header")).to_contain_text(words)


@pytest.mark.parametrize(
    ("theme", "light"), [("light", True), ("dark", False), ("no-preference", True)]
)
def test_the_page_takes_the_system_s_theme_and_another_by_a_button(
    page: Page, tmp_path: Path, theme: str, light: bool
) -> None:
    page.emulate_media(color_scheme="dark" if theme == "dark" else "light")
    opened(page, sample_trace(), tmp_path)
    assert is_light(page) is light
    toggle = page.get_by_label("Theme")
    while "Change to light" not in (toggle.get_attribute("aria-label") or ""):
        toggle.click()
    for theme in ("light", "dark"):
        toggle.click()
        expect(toggle).to_have_attribute("aria-label", re.compile(f"Theme: {theme}"))
        expect(page.locator("html")).to_have_attribute("data-theme", theme)
        assert is_light(page) is (theme == "light")
    page.reload()
    expect(toggle).to_be_visible()
    assert is_light(page) is False


def is_light(page: Page) -> bool:
    told: bool = page.evaluate(
        "parseInt(getComputedStyle(document.documentElement).backgroundColor.slice(4)) > 128"
    )
    return told


def test_a_comparison_opens_without_a_network(page: Page, tmp_path: Path) -> None:
    page.context.set_offline(True)
    before, after = sample_trace(), abstained()
    after.run_id = "20261122-101500-abcdef"
    told = compare(before, after).model_dump_json()
    html = comparison_page(before.model_dump_json(), after.model_dump_json(), told)
    open_file(page, html, tmp_path)
    expect(page.get_by_role("heading", level=1)).to_have_text("Two runs compared")
    assert not NO_WORDS.findall(own_words(page))
    for width in WIDTHS:
        page.set_viewport_size({"width": width, "height": 800})
        assert overhang(page) <= 0, width
    page.get_by_role("navigation").get_by_role("link", name="Second run").click()
    expect(page.get_by_role("heading", level=1)).to_have_text(QUESTION)
    expect(page.locator("main > header")).to_contain_text("abstained")
    page.go_back()
    expect(page.get_by_role("heading", level=1)).to_have_text("Two runs compared")


def test_a_notebook_s_frame_shows_the_trace_apart_from_its_page(page: Page, tmp_path: Path) -> None:
    open_notebook(page, notebook_frame(sample_trace().model_dump_json()), tmp_path)
    inside = page.frame_locator("iframe[title='Hoptrail trace']")
    expect(inside.get_by_role("heading", level=1)).to_have_text(QUESTION)
    inside.get_by_label("Theme").click()  # a frame of its own origin can keep nothing
    inside.get_by_role("button", name="[2] Prague").first.click()
    expect(inside.get_by_role("heading", name="Step 2")).to_be_visible()


def test_a_page_without_javascript_says_so(browser: Browser, tmp_path: Path) -> None:
    with browser.new_context(java_script_enabled=False) as context:
        page = context.new_page()
        opened(page, sample_trace(), tmp_path)
        notice = "JavaScript, which is switched off here"
        expect(page.locator("body")).to_contain_text(notice, use_inner_text=True)


def test_nothing_moves_for_who_wants_it_still(page: Page, tmp_path: Path) -> None:
    moving = "document.getAnimations().length"
    page.emulate_media(reduced_motion="no-preference")
    opened(page, STATES["running"](), tmp_path)
    assert page.evaluate(moving) > 0
    page.emulate_media(reduced_motion="reduce")
    opened(page, STATES["running"](), tmp_path)
    assert page.evaluate(moving) == 0


@pytest.mark.parametrize(
    ("trace", "why"),
    [
        ('{"trace_version": 99, "steps": []}', "version 99"),
        ("{}", "no Hoptrail trace"),
        ("null", "no Hoptrail trace"),
        ("[1]", "no Hoptrail trace"),
    ],
)
def test_what_is_no_trace_of_ours_is_refused_in_words(
    page: Page, tmp_path: Path, trace: str, why: str
) -> None:
    open_file(page, trace_page(trace), tmp_path)
    expect(page.get_by_role("heading", level=1)).to_have_text("This trace cannot be shown")
    expect(page.get_by_role("main")).to_contain_text(why)


def test_the_page_itself_is_small() -> None:
    assert len(server_page().encode()) < 200_000
    assert len(trace_page("null").encode()) < 200_000


def test_the_watch_sees_what_it_watches_for(browser: Browser, tmp_path: Path, watch: Watch) -> None:
    context = browser.new_context()
    watch.over(context)
    page = context.new_page()
    bad = "<img src='http://evil.invalid/x'><script>alert(1); open('about:blank'); throw 1</script>"
    open_file(page, bad, tmp_path)
    with pytest.raises(AssertionError):
        watch.check()
    assert watch.outside == ["http://evil.invalid/x"]
    assert watch.dialogs == ["1"]
    assert len(watch.opened) == 2
    assert watch.errors
    context.close()
