"""Chromium for tests: where it is, how it is started, and what a page must never do.

A module that imports this is skipped, with a reason, where Playwright is not installed.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Dialog, Page, Route

HOW = "`make browser` installs and runs them"

sync_api = pytest.importorskip("playwright.sync_api", reason=f"Playwright is missing: {HOW}")
expect = sync_api.expect
# The machine may be busy: nothing here is a promise about time.
expect.set_options(timeout=15_000)

_NAMES = ("chromium", "chromium-browser", "google-chrome")
_FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


def chromium() -> str | None:
    """Give the path of this machine's Chromium; ``CHROMIUM_PATH`` names another."""
    return os.environ.get("CHROMIUM_PATH") or next(filter(None, map(shutil.which, _NAMES)), None)


@contextmanager
def launched() -> Iterator[Browser]:
    """Run Chromium while the block runs; the test is skipped where there is none."""
    path = chromium()
    if path is None:
        pytest.skip(f"there is no Chromium on this machine: {HOW}")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=_FLAGS)
        yield browser
        browser.close()


@dataclass
class Watch:
    """What the pages of one test did that a trace must never make them do.

    Requests go out only to ``origin``; a file asks for nothing but itself. A test opens
    ``pages`` itself.
    """

    origin: str | None = None
    pages: int = 1
    outside: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    dialogs: list[str] = field(default_factory=list)
    opened: list[str] = field(default_factory=list)

    def over(self, context: BrowserContext) -> None:
        """Watch every page of a context, those that are opened later too."""
        context.route("**/*", self._decide)
        context.on("page", self._see)
        context.on("weberror", lambda told: self.errors.append(str(told.error)))
        context.on("console", self._hear)
        context.on("dialog", self._dismiss)

    def check(self) -> None:
        """Fail when a page asked for something else, erred, or opened a window or a dialog."""
        opened = self.opened[self.pages :]
        did = {"asked for": self.outside, "erred": self.errors, "said": self.dialogs}
        assert not any([*did.values(), opened]), f"{did}, opened {opened}"

    def _decide(self, route: Route) -> None:
        request = route.request
        file = request.url.startswith("file:") and request.is_navigation_request()
        ours = self.origin is not None and request.url.startswith(f"{self.origin}/")
        if file or ours:
            route.continue_()
        else:
            self.outside.append(request.url)
            route.abort()

    def _hear(self, told: ConsoleMessage) -> None:
        if told.type == "error":
            self.errors.append(told.text)

    def _dismiss(self, dialog: Dialog) -> None:
        self.dialogs.append(dialog.message)
        dialog.dismiss()

    def _see(self, page: Page) -> None:
        self.opened.append(page.url)


def open_file(page: Page, html: str, folder: Path, name: str = "trace.html") -> None:
    """Open a page as a file on disk."""
    path = folder / name
    path.write_text(html, encoding="utf-8")
    page.goto(path.as_uri())


def open_notebook(page: Page, frame: str, folder: Path) -> None:
    """Open a page that shows a frame, as a notebook does."""
    head = '<!doctype html><meta charset="utf-8"><title>Notebook</title>'
    open_file(page, f"{head}<h1>Notebook</h1>{frame}", folder, "notebook.html")
