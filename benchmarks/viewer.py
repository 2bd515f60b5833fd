"""What the trace viewer weighs, and how fast a file of 60 steps opens.

    python -m benchmarks.viewer [--repeats 5]

Sizes are of the page as it is written, and as a server would compress it. Times are of a file
opened from disk in a context as new, in the middle of ``repeats``: until the first text is seen,
until the whole page stands, and until the next step is shown after its key.
"""

from __future__ import annotations

import argparse
import gzip
import tempfile
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table
from tests.long_trace import long_trace
from tests.sample_trace import sample_trace
from tests.viewer.browser import launched

from hoptrail.viewer import server_page, trace_page

if TYPE_CHECKING:
    from playwright.sync_api import Browser

_TIMES = """async () => {
    const painted = await new Promise((resolve) => {
        const told = (list) => list.getEntriesByName("first-contentful-paint").forEach(
            (entry) => resolve(entry.startTime));
        new PerformanceObserver(told).observe({ type: "paint", buffered: true });
    });
    const whole = performance.getEntriesByType("navigation")[0].loadEventEnd;
    const start = performance.now();
    document.body.dispatchEvent(new KeyboardEvent("keydown", { key: "j", bubbles: true }));
    await new Promise((resolve) => requestAnimationFrame(() => setTimeout(resolve)));
    return [painted, whole, performance.now() - start];
}"""


def main() -> None:
    """Print the two tables."""
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("--repeats", default=5, type=int)
    repeats = parser.parse_args().repeats
    out, long = Console(), trace_page(long_trace().model_dump_json())
    out.print(_sizes(long))
    with launched() as browser, tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "trace.html")
        path.write_text(long, encoding="utf-8")
        times = [_opened(browser, path.as_uri()) for _ in range(repeats)]
    table = Table("60 steps, opened from disk", "ms")
    for name, each in zip(
        ("first text", "whole page", "next step"), zip(*times, strict=True), strict=True
    ):
        table.add_row(name, f"{median(each):.0f}")
    out.print(table)


def _sizes(long: str) -> Table:
    table = Table("page", "kB", "kB compressed")
    pages = {
        "of a server": server_page(),
        "file without a trace": trace_page("null"),
        "file of 2 steps": trace_page(sample_trace().model_dump_json()),
        "file of 60 steps": long,
    }
    for name, page in pages.items():
        written = page.encode()
        compressed = gzip.compress(written, mtime=0)
        table.add_row(name, f"{len(written) / 1000:.0f}", f"{len(compressed) / 1000:.0f}")
    return table


def _opened(browser: Browser, address: str) -> list[float]:
    with browser.new_context() as context:
        page = context.new_page()
        page.goto(address)
        page.get_by_role("heading", level=1).wait_for()
        times: list[float] = page.evaluate(_TIMES)
        return times


if __name__ == "__main__":
    main()
