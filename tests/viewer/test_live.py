"""The page of a server: a run as it goes on, many runs, two compared, one changed."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from hoptrail.testing import step_reply
from tests import two_hops
from tests.providers import ChatRequest, LoopbackProvider, Reply
from tests.sample_trace import sample_trace
from tests.serving import Server, served
from tests.viewer.browser import Watch, expect, open_file
from tests.viewer.states import STATES
from tests.viewer.stored import keep

if TYPE_CHECKING:
    from playwright.sync_api import Locator, Page

pytestmark = pytest.mark.browser

TOKEN = "a-long-secret-of-a-token"


@pytest.fixture
def server(provider: LoopbackProvider, tmp_path: Path, watch: Watch) -> Iterator[Server]:
    two_hops.serve(provider)
    docs = two_hops.write_documents(tmp_path / "docs")
    # What a test holds up is held up for as long as the browser takes.
    with served(provider, docs=docs, idle_timeout=3600.0) as it:
        watch.origin = it.url
        yield it


@pytest.fixture
def stored(watch: Watch) -> Iterator[Server]:
    """A server that has one run of each state that lasts."""
    with served() as it:
        watch.origin = it.url
        for state in ("answered", "abstained", "failed", "60 steps", "chat"):
            keep(it, STATES[state]().model_copy(update={"run_id": state.replace(" ", "-")}))
        yield it


def ask(page: Page, question: str = two_hops.QUESTION) -> None:
    page.get_by_role("textbox", name="Question", exact=True).fill(question)
    page.get_by_role("button", name="Ask", exact=True).click()


def node(page: Page, step: int, status: str) -> Locator:
    plan = page.get_by_role("region", name="Plan")
    return plan.get_by_role("button", name=re.compile(rf"^Step {step}, {status}"))


def test_a_run_is_seen_going_on_without_a_reload(
    page: Page, server: Server, provider: LoopbackProvider
) -> None:
    held = Held(provider)
    page.goto(server.url)
    page.evaluate("window.stillHere = true")
    ask(page)
    expect(page.get_by_role("heading", level=1)).to_have_text(two_hops.QUESTION)
    expect(page.locator("main > header")).to_contain_text("running")
    expect(page.get_by_role("button", name="Stop")).to_be_visible()
    held.let("plan")
    expect(node(page, 1, "running")).to_be_visible()
    expect(node(page, 2, "waiting")).to_be_visible()
    held.let("Who wrote The Trial?")
    expect(node(page, 1, "answered")).to_be_visible()
    expect(node(page, 2, "running")).to_be_visible()
    held.let("Where was Franz Kafka born?")
    answer = page.get_by_role("region", name="Answer")
    expect(answer).to_have_attribute("aria-busy", "true")
    expect(answer).to_contain_text("The Trial is by")
    expect(page.locator("main > header")).to_contain_text("running")
    held.let("synthesis")
    expect(page.get_by_role("button", name="[1] Franz Kafka").first).to_be_visible()
    expect(page.locator("main > header")).to_contain_text("answered")
    expect(page.get_by_role("button", name="Stop")).to_have_count(0)
    assert page.evaluate("window.stillHere") is True


class Held:
    """A good model that answers nothing, and ends no answer, before the test lets it."""

    def __init__(self, provider: LoopbackProvider) -> None:
        self._let = set[str]()
        provider.ollama.respond = self._respond

    def let(self, *kinds: str) -> None:
        """Let the calls of these kinds be answered."""
        self._let |= set(kinds)

    def _respond(self, request: ChatRequest) -> Reply:
        kind = two_hops.kind_of(request)
        after = 8 if kind == "synthesis" else 0
        text = two_hops.respond(request).text
        return Reply(text, hold=lambda: kind in self._let, hold_after=after)


def test_a_run_is_stopped(page: Page, server: Server, provider: LoopbackProvider) -> None:
    provider.ollama.respond = lambda request: Reply("{", token_delay=3600, first_token_delay=60)
    page.goto(server.url)
    ask(page)
    page.get_by_role("button", name="Stop").click()
    expect(page.locator("main > header")).to_contain_text("interrupted")


def test_a_reload_and_a_second_tab_show_the_same_run(
    page: Page, server: Server, provider: LoopbackProvider, watch: Watch
) -> None:
    watch.pages = 2
    held = Held(provider)
    held.let("plan")
    page.goto(server.url)
    ask(page)
    expect(node(page, 1, "running")).to_be_visible()
    page.reload()
    other = page.context.new_page()
    other.goto(page.url)
    for each in (page, other):
        expect(node(each, 1, "running")).to_be_visible()
    held.let("Who wrote The Trial?", "Where was Franz Kafka born?", "synthesis")
    for each in (page, other):
        expect(each.get_by_role("button", name="[1] Franz Kafka").first).to_be_visible()


def test_a_server_that_is_away_for_a_moment_is_told_and_found_again(
    page: Page, stored: Server, watch: Watch
) -> None:
    page.goto(stored.url)
    expect(page.get_by_role("row")).to_have_count(6)
    page.context.set_offline(True)
    expect(page.get_by_text("The connection to the server is lost")).to_be_visible()
    page.context.set_offline(False)
    expect(page.get_by_text("The connection to the server is lost")).to_have_count(0)
    watch.errors = [each for each in watch.errors if "ERR_INTERNET_DISCONNECTED" not in each]


def test_runs_are_filtered_and_sorted(page: Page, stored: Server) -> None:
    page.goto(stored.url)
    rows = page.get_by_role("row")
    expect(rows).to_have_count(6)
    page.get_by_label("Status").select_option("failed")
    expect(rows).to_have_count(2)
    expect(rows.nth(1)).to_contain_text("failed")
    page.reload()
    expect(rows).to_have_count(2)
    page.get_by_label("Status").select_option("")
    page.get_by_role("searchbox").fill("COMPOSERS of")
    expect(rows).to_have_count(2)
    expect(rows.nth(1)).to_contain_text("The Rhine, 1233 km")
    page.get_by_role("searchbox").fill("")
    page.get_by_label("Degraded").select_option("true")
    expect(rows).to_have_count(2)
    page.get_by_label("Degraded").select_option("")
    page.get_by_label("Sort").select_option("slowest")
    expect(rows.nth(1)).to_contain_text("The Rhine, 1233 km")
    page.get_by_label("Sort").select_option("fastest")
    expect(rows.nth(5)).to_contain_text("The Rhine, 1233 km")
    page.get_by_role("searchbox").fill("no such question")
    expect(page.get_by_text("No run is like that.")).to_be_visible()


def test_two_runs_are_picked_and_compared(page: Page, stored: Server) -> None:
    page.goto(stored.url)
    question = f"Pick for comparison: {sample_trace().question}"
    boxes = page.get_by_role("checkbox", name=question)
    boxes.nth(0).check()
    boxes.nth(1).check()
    expect(page.get_by_role("checkbox").nth(0)).to_be_disabled()
    page.get_by_role("link", name="Compare", exact=True).click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Two runs compared")
    first = page.get_by_role("region", name="What differs first")
    expect(first).to_contain_text(re.compile(r"\w+ \w+"))
    page.get_by_role("link", name="Step 2 in:").first.click()
    expect(page.get_by_role("article").get_by_role("heading", level=2)).to_have_text("Step 2")
    page.go_back()
    expect(page.get_by_role("heading", level=1)).to_have_text("Two runs compared")


def brod_too(request: ChatRequest) -> Reply:
    """Answer as a good model would that knows where Max Brod was born."""
    if two_hops.kind_of(request) == "Where was Max Brod born?":
        return Reply(step_reply("Prague", (1,)))
    return two_hops.respond(request)


def test_a_run_is_changed_and_compared_with_the_one_it_came_from(
    page: Page, server: Server, provider: LoopbackProvider
) -> None:
    page.goto(server.url)
    ask(page)
    expect(page.get_by_role("button", name="[1] Franz Kafka").first).to_be_visible()
    parent, calls = page.url, len(provider.ollama.chats)
    provider.ollama.respond = brod_too
    page.get_by_role("button", name="Change and rerun from here").click()
    form = page.get_by_role("dialog")
    form.get_by_role("radio", name="Its answer").check()
    form.get_by_role("textbox", name="Its answer").fill("Max Brod")
    form.get_by_role("button", name="Run again").click()
    expect(page.get_by_label("Where this run comes from")).to_contain_text("Max Brod")
    assert page.url != parent
    expect(page.get_by_text("answer given").first).to_be_visible()
    expect(node(page, 2, "answered")).to_be_visible()
    expect(page.locator("main > header")).not_to_contain_text("running")
    asked = [two_hops.kind_of(each) for each in provider.ollama.chats[calls:]]
    assert asked == ["Where was Max Brod born?", "synthesis"]
    page.get_by_role("link", name="Compare with the original").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Two runs compared")
    expect(page.get_by_role("main")).to_contain_text("Max Brod")
    page.get_by_role("navigation").get_by_role("link", name="Runs").click()
    expect(page.get_by_role("row")).to_have_count(3)
    expect(page.get_by_role("row").nth(1)).to_contain_text("changed from")


def test_a_change_that_makes_no_sense_is_refused_in_the_form(page: Page, stored: Server) -> None:
    page.goto(f"{stored.url}/#/runs/answered")
    page.get_by_role("button", name="Change and rerun from here").click()
    form = page.get_by_role("dialog")
    form.get_by_role("radio", name="Its answer").check()
    expect(form.get_by_role("button", name="Run again")).to_be_disabled()
    page.keyboard.press("Escape")
    expect(form).to_have_count(0)
    expect(page.get_by_role("button", name="Change and rerun from here")).to_be_focused()


def test_a_run_is_saved_as_a_file_that_opens(
    page: Page, stored: Server, tmp_path: Path, watch: Watch
) -> None:
    page.goto(f"{stored.url}/#/runs/60-steps")
    with page.expect_download() as download:
        page.get_by_role("link", name="Save as HTML").click()
    html = Path(download.value.path()).read_text(encoding="utf-8")
    watch.origin = None
    open_file(page, html, tmp_path)
    expect(page.get_by_role("region", name="Answer")).to_contain_text("The Rhine, 1233 km")


def test_a_run_that_there_is_not_is_told_so(page: Page, stored: Server, watch: Watch) -> None:
    page.goto(f"{stored.url}/#/runs/no-such-run")
    expect(page.get_by_role("alert")).to_contain_text("there is no run 'no-such-run'")
    page.goto(f"{stored.url}/#/nowhere")
    expect(page.get_by_role("heading", level=1)).to_have_text("There is no such page")
    page.get_by_role("link", name="All runs").click()
    expect(page.get_by_role("row")).to_have_count(6)
    watch.errors = [each for each in watch.errors if "404" not in each]


def test_a_server_with_a_token_asks_for_it_and_then_works(page: Page, watch: Watch) -> None:
    with served(api_token=TOKEN) as server:
        watch.origin = server.url
        keep(server, sample_trace())
        page.goto(server.url)
        form = page.get_by_role("dialog", name="This server asks for a token")
        token = form.get_by_label("Token")
        token.fill("another-secret-that-is-wrong")
        form.get_by_role("button", name="Go on").click()
        expect(form.get_by_role("alert")).to_be_visible()
        token.fill(TOKEN)
        form.get_by_role("button", name="Go on").click()
        expect(form).to_have_count(0)
        page.get_by_role("link", name=sample_trace().question).click()
        expect(page.get_by_role("region", name="Answer")).to_contain_text("Vltava")
        assert TOKEN not in page.url
        page.reload()
        expect(page.get_by_role("region", name="Answer")).to_contain_text("Vltava")
        with page.expect_download() as download:
            page.get_by_role("link", name="Save as HTML").click()
        assert "Vltava" in Path(download.value.path()).read_text(encoding="utf-8")
    watch.errors = [each for each in watch.errors if "401" not in each]


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_the_list_the_form_and_a_comparison_fit_the_window(
    page: Page, stored: Server, theme: str
) -> None:
    page.emulate_media(color_scheme="light" if theme == "light" else "dark")
    for path in ("#/", "#/compare/answered/60-steps", "#/runs/60-steps"):
        page.goto("about:blank")
        page.goto(f"{stored.url}/{path}")
        expect(page.get_by_role("heading", level=1)).not_to_have_text("Loading…")
        if path.startswith("#/runs"):
            page.get_by_role("button", name="Change and rerun from here").click()
            expect(page.get_by_role("dialog")).to_be_visible()
        for width in (360, 768, 1440):
            page.set_viewport_size({"width": width, "height": 800})
            assert page.evaluate("document.documentElement.scrollWidth") <= width, (path, width)
