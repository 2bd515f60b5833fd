"""The trace viewer: one page, filled from trace documents, that needs no network and no build.

The same page is a file on disk, the root of a server, and a frame in a notebook. Everything in a
trace is hostile text: it reaches the page as JSON that cannot end its element, the page writes it
as text only, and the page's policy allows no script, style, image or address but its own.
"""

from __future__ import annotations

import html
import json
import re
from base64 import b64encode
from collections.abc import Sequence
from functools import cache
from hashlib import sha256
from importlib.resources import files
from typing import Literal

_VENDORED = ("vendor/htm-preact.js",)
_SCRIPTS = (
    "app/text.js",
    "app/theme.js",
    "app/status.js",
    "app/record.js",
    "app/chain.js",
    "app/claims.js",
    "app/view.js",
    "app/tip.js",
    "app/keys.js",
    "app/clipboard.js",
    "app/answer.js",
    "app/facts.js",
    "app/plan.js",
    "app/layers.js",
    "app/layout.js",
    "app/plan_graph.js",
    "app/bars.js",
    "app/waterfall.js",
    "app/evidence.js",
    "app/call.js",
    "app/step.js",
    "app/run.js",
    "app/route.js",
    "app/patience.js",
    "app/events.js",
    "app/server.js",
    "app/follower.js",
    "app/dialog.js",
    "app/change.js",
    "app/run_table.js",
    "app/runs.js",
    "app/words.js",
    "app/comparison.js",
    "app/run_page.js",
    "app/site.js",
    "app/main.js",
)
_STYLES = ("style/base.css", "style/run.css", "style/runs.css", "style/comparison.css")
_SAFE_IN_A_SCRIPT = str.maketrans(
    {"<": "\\u003c", ">": "\\u003e", "&": "\\u0026", "\u2028": "\\u2028", "\u2029": "\\u2029"}
)
_COMMENT = re.compile(r"^[ ]*(?:/[*].*?[*]/|//[^\n]*)$", re.MULTILINE | re.DOTALL)
_FRAME_PIXELS = 720
_MARK = b'<meta name="generator" content="Hoptrail">'
_HEAD_BYTES = 200

View = Literal["trace", "comparison", "server"]


def trace_page(trace: str) -> str:
    """Give a page that shows one trace document (JSON): a file that opens without a network."""
    return _page("trace", [trace])


def comparison_page(before: str, after: str, comparison: str) -> str:
    """Give a page that shows two trace documents and how they compare (all JSON)."""
    return _page("comparison", [before, after], comparison)


@cache
def server_page() -> str:
    """Give the page that looks at a server's runs; it is to be served with `server_policy`."""
    return _page("server", [])


@cache
def server_policy() -> str:
    """Give the Content-Security-Policy of `server_page`: it may also ask its own server."""
    return f"{_policy('server')}; frame-ancestors 'none'"


def file_policy() -> str:
    """Give the Content-Security-Policy under which a server gives `trace_page` as a file.

    It stands there as in a file: apart from everything else at the server's address, whatever
    its scripts should come to do.
    """
    return f"{_policy('trace')}; frame-ancestors 'none'; sandbox allow-scripts allow-popups"


def is_page(head: bytes) -> bool:
    """Say whether a file that begins like this is such a page."""
    return _MARK in head[:_HEAD_BYTES]


def notebook_frame(trace: str) -> str:
    """Give HTML that shows one trace document (JSON) in a notebook, apart from its page.

    The frame is sandboxed: its scripts have an origin of their own and reach nothing outside.
    """
    inside = html.escape(trace_page(trace))
    return (
        f'<iframe title="Hoptrail trace" sandbox="allow-scripts allow-popups" srcdoc="{inside}" '
        f'style="width: 100%; height: {_FRAME_PIXELS}px; border: 0"></iframe>'
    )


def _page(view: View, traces: Sequence[str], comparison: str = "null") -> str:
    told = f'{{"view":{json.dumps(view)},"traces":[{",".join(traces)}],"comparison":{comparison}}}'
    parts = {
        "policy": html.escape(_policy(view)),
        "style": _style(),
        "data": told.translate(_SAFE_IN_A_SCRIPT),
        "script": _script(),
    }
    page = _read("page.html")
    # In one pass over the template: what is filled in may hold anything.
    pieces = page.split("%%")
    return "".join(parts.get(piece, piece) for piece in pieces)


@cache
def _policy(view: View) -> str:
    script, style = _hash(_script()), _hash(_style())
    asks = "connect-src 'self'; " if view == "server" else ""
    return (
        f"default-src 'none'; script-src {script}; style-src {style}; {asks}"
        "base-uri 'none'; form-action 'none'"
    )


def _hash(text: str) -> str:
    return f"'sha256-{b64encode(sha256(text.encode()).digest()).decode()}'"


@cache
def _script() -> str:
    own = "\n".join(_bare(_read(name)) for name in _SCRIPTS)
    return "\n".join([*map(_read, _VENDORED), f'(() => {{\n"use strict";\n{own}\n}})();'])


@cache
def _style() -> str:
    return "\n".join(_bare(_read(name)) for name in _STYLES)


def _bare(source: str) -> str:
    """Give a source without comments on lines of their own, and without what sets lines in."""
    lines = _COMMENT.sub("", source).split("\n")
    return "\n".join(filter(None, (line.strip() for line in lines)))


def _read(name: str) -> str:
    return files("hoptrail").joinpath("viewer", name).read_text(encoding="utf-8")
