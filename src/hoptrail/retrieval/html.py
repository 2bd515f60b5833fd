"""HTML as plain text.

Read here and not with ``html.parser``, which in the Pythons of 2023 takes a time that grows with
the square of the text where tags or comments are left open, and raises on ``<![`` and on
``&#`` with thousands of digits. Nothing here looks at a character more than a few times.
"""

from __future__ import annotations

import re
from html import unescape

_SILENT = frozenset(("script", "style", "noscript", "template", "svg"))
_RAW = {name: re.compile(rf"</{name}(?=[\s/>])", re.IGNORECASE) for name in ("script", "style")}
"""Where the content of an element ends that holds no tags, whatever it looks like."""
_BLOCK_TAGS = (
    "address article aside blockquote br dd div dl dt figcaption figure footer form h1 h2 h3 h4 h5 "
    "h6 header hr li main nav ol p pre section table td th title tr ul"
)
_BLOCKS = frozenset(_BLOCK_TAGS.split())

_NAME = re.compile(r"<(/?)([a-zA-Z][^\s/>]*)")
_ATTRIBUTES = re.compile(r"(?>(?:[^>=]++|=\s*+(?>(?:\"[^\"]*\"|'[^']*')?))*)>")
_NO_CHARACTER = re.compile(r"&#[0-9]{8,}")


def html_text(markup: str) -> tuple[str, str]:
    """Give the title (or first heading, or "") and the text, one block a paragraph.

    Scripts, styles and markup are gone; nothing is ever fetched.
    """
    page = _Page()
    page.read(markup)
    paragraphs = (" ".join(block.split()) for block in re.split(r"\n+", "".join(page.pieces)))
    title = " ".join("".join(page.title or page.heading).split())
    return title, "\n\n".join(filter(None, paragraphs))


class _Page:
    def __init__(self) -> None:
        self.pieces: list[str] = []
        self.title: list[str] = []
        self.heading: list[str] = []
        self._open: list[str] = []
        self._headings = 0

    def read(self, markup: str) -> None:
        """Take in a whole page."""
        at = 0
        while (start := markup.find("<", at)) >= 0:
            self._take_text(markup[at:start])
            at = self._after(markup, start)
        self._take_text(markup[at:])

    def _after(self, markup: str, start: int) -> int:
        """Take in what a ``<`` begins; give where it ends."""
        if markup.startswith("<!--", start):
            return _past("-->", markup, start + 2)
        if markup.startswith(("<!", "<?"), start):
            return _past(">", markup, start)
        tag = _NAME.match(markup, start)
        if tag is None:
            self._take_text("<")
            return start + 1
        end = _ATTRIBUTES.match(markup, tag.end())
        if end is None:  # nor will any later one end
            self._take_text(markup[start:])
            return len(markup)
        return self._take_tag(tag[2].lower(), bool(tag[1]), markup, end.end())

    def _take_tag(self, name: str, closes: bool, markup: str, end: int) -> int:
        is_empty = markup.endswith("/>", 0, end)
        if not closes:
            self._enter(name)
        if closes or is_empty:
            self._leave(name)
        elif name in _RAW:
            content_end = _RAW[name].search(markup, end)
            return content_end.start() if content_end else len(markup)
        return end

    def _enter(self, tag: str) -> None:
        if tag in _BLOCKS:
            self.pieces.append("\n")
        if tag in _SILENT or tag in ("title", "h1"):
            self._headings += tag == "h1"
            # The first one of a name is what its end closes: others need not be known.
            if tag not in self._open:
                self._open.append(tag)

    def _leave(self, tag: str) -> None:
        if tag in _BLOCKS:
            self.pieces.append("\n")
        if tag in self._open:
            del self._open[self._open.index(tag) :]

    def _take_text(self, written: str) -> None:
        if not written or _SILENT.intersection(self._open):
            return
        text = unescape(_NO_CHARACTER.sub("\ufffd", written))
        if "title" in self._open:
            self.title.append(text)
            return
        if "h1" in self._open and self._headings == 1:
            self.heading.append(text)
        self.pieces.append(text.replace("\n", " "))


def _past(mark: str, markup: str, start: int) -> int:
    found = markup.find(mark, start)
    return len(markup) if found < 0 else found + len(mark)
