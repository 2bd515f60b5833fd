"""Documents as they are ingested: Markdown, text, HTML, and corpora in JSON lines."""

from __future__ import annotations

import tempfile
from pathlib import Path

from hoptrail.retrieval.documents import SourceFile, Unreadable, read
from hoptrail.retrieval.entities import mentions

SUFFIXES = (".md", ".txt", ".html", ".jsonl")
WORDS = (
    "---\n", "title: ", "# ", " #", "\n", "<", ">", "</", "<a b=\"", "='", "<!--", "-->",
    "<![CDATA[", "<!", "<?", "<script>", "</script", "<style>", "<svg>", "<h1>", "<title>",
    "<p/>", "&#", "&#x", "&amp", "9999999999", '{"text": "', '"id": ', '"title": ', "}\n",
    "\\ud800", "\x00", "\xff\xfe", "A of B", " (",
)  # fmt: skip
SEEDS = (
    b"\0---\ntitle: 'The Vltava'\n---\n# Heading #\ntext",
    b"\0# The Vltava (river) #\n\nIt flows. " + b"It flows on. " * 120,
    b"\1One. Two.\n\nThree.\r\nFour",
    b"\2<html><title>Bonn &amp; K&ouml;ln</title><script>if (a<b) '</p>'</script><h1>Bonn</h1><p>On"
    b' the <b title="a>b">Rhine</b>.<!-- no --><svg/>&#8364;<![CDATA[x]]>',
    b'\3{"id": "p1", "title": "T", "text": "x"}\nnot json\n{"id": [1], "text": "y"}\n',
)


def check(data: bytes) -> None:
    """A file gives passages that can be stored and found again in it, or a reason why not."""
    suffix = SUFFIXES[data[0] % len(SUFFIXES)] if data else ".md"
    skipped: list[tuple[str, str]] = []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, f"a{suffix}")
        path.write_bytes(data[1:])
        try:
            passages = list(read(SourceFile(path, path.name), skipped))
        except Unreadable:
            return
    for passage in passages:
        passage.model_dump_json()
        assert passage.id
        assert passage.text.strip()
        assert 0 <= passage.start < passage.end
        assert passage.end - passage.start == len(passage.text)
        assert "\n" not in passage.title or suffix == ".jsonl"
        assert all(mentions(passage.title, passage.text).values())
    assert len(skipped) <= 1
