"""A browser for each file of tests, a context of its own for each test, and no way out."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserContext, Page

    from tests.viewer.browser import Watch


# Not of the session: while Playwright runs in a process, no other event loop can run there.
@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Chromium; skips the test where there is none."""
    from tests.viewer.browser import launched

    with launched() as it:
        yield it


@pytest.fixture
def watch() -> Watch:
    """What the test's pages did; checked when the test is over."""
    from tests.viewer.browser import Watch

    return Watch()


@pytest.fixture
def context(browser: Browser, watch: Watch) -> Iterator[BrowserContext]:
    """A context as new; fails the test when a page reached out, erred, or opened a window."""
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    watch.over(context)
    yield context
    context.close()
    watch.check()


@pytest.fixture
def page(context: BrowserContext) -> Page:
    """A page as new."""
    return context.new_page()
