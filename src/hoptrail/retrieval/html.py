"""HTML as plain text."""

from __future__ import annotations

import re
from html.parser import HTMLParser

_SILENT = frozenset(("script", "style", "noscript", "template", "svg"))
_BLOCK_TAGS = (
    "address article aside blockquote br dd div dl dt figcaption figure footer form h1 h2 h3 h4 h5 "
    "h6 header hr li main nav ol p pre section table td th title tr ul"
)
_BLOCKS = frozenset(_BLOCK_TAGS.split())


def html_text(markup: str) -> tuple[str, str]:
    """Give the title (or first heading, or "") and the text, one block a paragraph.

    Scripts, styles and markup are gone; nothing is ever fetched.
    """
    parser = _Text()
    parser.feed(markup)
    parser.close()
    paragraphs = (" ".join(block.split()) for block in re.split(r"\n+", "".join(parser.pieces)))
    title = " ".join("".join(parser.title or parser.heading).split())
    return title, "\n\n".join(filter(None, paragraphs))


class _Text(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.pieces: list[str] = []
        self.title: list[str] = []
        self.heading: list[str] = []
        self._open: list[str] = []
        self._headings = 0

    def handle_starttag(self, tag: str, attrs: object) -> None:
        if tag in _BLOCKS:
            self.pieces.append("\n")
        if tag in _SILENT or tag in ("title", "h1"):
            self._open.append(tag)
            self._headings += tag == "h1"

    def handle_endtag(self, tag: str) -> None:
        if tag in _BLOCKS:
            self.pieces.append("\n")
        if tag in self._open:
            del self._open[self._open.index(tag) :]

    def handle_data(self, data: str) -> None:
        if _SILENT.intersection(self._open):
            return
        if "title" in self._open:
            self.title.append(data)
            return
        if "h1" in self._open and self._headings == 1:
            self.heading.append(data)
        self.pieces.append(data.replace("\n", " "))
