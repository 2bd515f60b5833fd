"""Going through a run: by the answer's marks, by pointing, by keys."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from hoptrail.viewer import trace_page
from tests.long_trace import long_trace
from tests.sample_trace import PRAGUE, sample_trace
from tests.viewer.browser import expect, open_file

if TYPE_CHECKING:
    from playwright.sync_api import Locator, Page

pytestmark = pytest.mark.browser

LIT = re.compile(r"\blit\b")


@pytest.fixture(autouse=True)
def opened(page: Page, tmp_path: Path) -> None:
    open_file(page, trace_page(sample_trace().model_dump_json()), tmp_path)


def card(page: Page) -> Locator:
    return page.get_by_role("article")


def node(page: Page, step: int) -> Locator:
    plan = page.get_by_role("region", name="Plan")
    return plan.get_by_role("button", name=re.compile(rf"^Step {step},"))


def test_a_citation_leads_to_its_step_and_passage(page: Page) -> None:
    expect(card(page).get_by_role("heading", level=2)).to_have_text("Step 1")
    page.get_by_role("region", name="Answer").get_by_role("button", name="[2] Prague").click()
    expect(card(page).get_by_role("heading", level=2)).to_have_text("Step 2")
    page.mouse.move(0, 0)  # what was come to stays lit wherever the pointer is
    passage = card(page).locator("tbody", has_text=PRAGUE.text)
    expect(passage.get_by_text(PRAGUE.text)).to_be_in_viewport()
    expect(passage).to_have_class(LIT)
    expect(passage.locator("mark")).to_have_text(PRAGUE.text)
    assert page.evaluate(
        "getComputedStyle(document.querySelector('tbody.lit')).backgroundColor"
    ) != (
        page.evaluate("getComputedStyle(document.querySelector('tbody:not(.lit)')).backgroundColor")
    )


def test_a_claim_lights_what_it_rests_on(page: Page) -> None:
    expect(page.locator(".lit")).to_have_count(0)
    page.get_by_text("was born in Prague, on the Vltava").hover()
    sources = page.get_by_role("list", name="Sources").get_by_role("listitem")
    expect(sources).to_have_class([LIT, LIT])
    for step in (1, 2):
        expect(node(page, step)).to_have_class(LIT)
    expect(card(page).locator("tbody.lit")).to_contain_text("The Trial")
    page.get_by_role("heading", level=1).hover()
    expect(page.locator(".lit")).to_have_count(0)


def test_a_source_lights_the_claims_that_rest_on_it(page: Page) -> None:
    page.get_by_role("list", name="Sources").get_by_role("button", name="Prague").hover()
    expect(page.locator(".claim.lit")).to_have_count(1)
    expect(node(page, 2)).to_have_class(LIT)
    expect(node(page, 1)).not_to_have_class(LIT)


def test_the_keys_lead_from_part_to_part(page: Page) -> None:
    heading = card(page).get_by_role("heading", level=2)
    for key, title in [("j", "Step 2"), ("j", "Answer"), ("j", "Answer"), ("k", "Step 2")]:
        page.keyboard.press(key)
        expect(heading).to_have_text(title)
    expect(node(page, 2)).to_have_attribute("aria-current", "true")
    page.keyboard.press("Enter")
    expect(heading).to_be_focused()
    page.keyboard.press("?")
    keys = page.get_by_role("dialog", name="Keys")
    expect(keys).to_be_visible()
    page.keyboard.press("j")
    expect(heading).to_have_text("Step 2")
    page.keyboard.press("Escape")
    expect(keys).not_to_be_visible()
    expect(heading).to_be_focused()


def test_a_key_that_means_something_else_to_the_browser_is_left_alone(page: Page) -> None:
    page.keyboard.press("Control+j")
    page.keyboard.press("Alt+k")
    expect(card(page).get_by_role("heading", level=2)).to_have_text("Step 1")


def test_a_node_and_a_row_of_times_show_their_step(page: Page) -> None:
    heading = card(page).get_by_role("heading", level=2)
    node(page, 2).click()
    expect(heading).to_have_text("Step 2")
    page.get_by_role("region", name="Time").get_by_role("button", name="Step 1").click()
    expect(heading).to_have_text("Step 1")
    page.keyboard.press("ArrowDown")
    expect(heading).to_have_text("Step 2")


def test_a_reference_in_a_question_leads_to_its_step(page: Page) -> None:
    node(page, 2).click()
    card(page).get_by_role("button", name="#1").click()
    expect(card(page).get_by_role("heading", level=2)).to_have_text("Step 1")


def test_everything_is_told_of_a_step(page: Page) -> None:
    card(page).get_by_text("Prompt").first.click()
    for words in (
        "Who wrote The Trial?",
        "Franz Kafka",
        "Passage 1 names the author.",
        "huggingface:openai/gpt-oss-20b",
        "BackendBusy",
        "429: too many requests",
        "huggingface was busy",
        "400 → 20 tokens",
        "local:all-MiniLM-L6-v2:0123456789ab",
        '{"answer": "Franz Kafka"}',
        "Who?",
    ):
        expect(card(page)).to_contain_text(words)
    rows = card(page).get_by_role("row")
    expect(rows.nth(1)).to_have_text(re.compile(r"The Trial.*11\.2.*0\.710.*0\.180.*0\.033.*cited"))
    node(page, 2).click()
    for words in ("no embedder matches the index", "Franz Kafka", "#1"):
        expect(card(page)).to_contain_text(words)


@pytest.mark.parametrize("long", [False, True])
def test_the_tab_key_reaches_everything_in_the_order_it_is_read(
    page: Page, tmp_path: Path, long: bool
) -> None:
    if long:
        open_file(page, trace_page(long_trace().model_dump_json()), tmp_path)
    card(page).locator("details").evaluate_all("all => all.forEach(each => each.open = true)")
    count = page.evaluate("""() => {
        const all = "a[href], button:not([disabled]), input, select, summary, [tabindex='0']";
        const found = [...document.querySelectorAll(all)].filter((each) => each.checkVisibility());
        found.forEach((each, at) => (each.dataset.at = at));
        return found.length;
    }""")
    reached = []
    for _ in range(count):
        page.keyboard.press("Tab")
        reached.append(page.evaluate("Number(document.activeElement.dataset.at ?? -1)"))
    assert reached == list(range(count))


def test_what_is_reached_by_tab_is_seen_to_be(page: Page) -> None:
    for _ in range(12):
        page.keyboard.press("Tab")
        width = page.evaluate("parseFloat(getComputedStyle(document.activeElement).outlineWidth)")
        assert width >= 2


def test_the_copy_button_copies(page: Page) -> None:
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.get_by_role("button", name="Copy the run id").click()
    expect(page.get_by_role("button", name="Copied the run id")).to_be_visible()
    assert page.evaluate("navigator.clipboard.readText()") == sample_trace().run_id
