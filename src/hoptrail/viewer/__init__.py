"""The trace viewer: one page, filled from trace documents, that needs no network and no build.

The same page is a file on disk, the root of a server, and a frame in a notebook. Everything in a
trace is hostile text: it reaches the page as JSON that cannot end its element, the page writes it
as text only, and the page's policy allows no script, style, image or address but its own.
"""

from __future__ import annotations

import html
import json
from base64 import b64encode
from collections.abc import Sequence
from functools import cache
from hashlib import sha256
from importlib.resources import files
from typing import Literal

_VENDORED = ("vendor/htm-preact.js", "vendor/dagre.js")
_SCRIPTS = (
    "app/text.js",
    "app/record.js",
    "app/answer.js",
    "app/plan.js",
    "app/waterfall.js",
    "app/step.js",
    "app/run.js",
    "app/server.js",
    "app/change.js",
    "app/runs.js",
    "app/comparison.js",
    "app/main.js",
)
_STYLES = ("style/base.css", "style/run.css", "style/runs.css", "style/comparison.css")
_SAFE_IN_A_SCRIPT = str.maketrans(
    {"<": "\\u003c", ">": "\\u003e", "&": "\\u0026", "\u2028": "\\u2028", "\u2029": "\\u2029"}
)
_FRAME_PIXELS = 720

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
    return f"{_policy()}; connect-src 'self'; frame-ancestors 'none'"


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
        "policy": html.escape(_policy()),
        "style": _style(),
        "data": told.translate(_SAFE_IN_A_SCRIPT),
        "script": _script(),
    }
    page = _read("page.html")
    # In one pass over the template: what is filled in may hold anything.
    pieces = page.split("%%")
    return "".join(parts.get(piece, piece) for piece in pieces)


@cache
def _policy() -> str:
    script, style = _hash(_script()), _hash(_style())
    return (
        f"default-src 'none'; script-src {script}; style-src {style}; "
        "base-uri 'none'; form-action 'none'"
    )


def _hash(text: str) -> str:
    return f"'sha256-{b64encode(sha256(text.encode()).digest()).decode()}'"


@cache
def _script() -> str:
    own = "\n".join(map(_read, _SCRIPTS))
    return "\n".join([*map(_read, _VENDORED), f'(() => {{\n"use strict";\n{own}\n}})();'])


@cache
def _style() -> str:
    return "\n".join(map(_read, _STYLES))


def _read(name: str) -> str:
    return files("hoptrail").joinpath("viewer", name).read_text(encoding="utf-8")
