"""Which files are read, what they say, and where they are cut."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hoptrail.errors import RetrievalError
from hoptrail.evidence import Passage
from hoptrail.retrieval import documents
from hoptrail.retrieval.documents import Unreadable, find, read, spans
from hoptrail.retrieval.html import html_text


def passages_of(path: Path) -> list[Passage]:
    files, skipped = find([path])
    assert not skipped
    return [passage for file in files for passage in read(file, skipped)]


def reasons(path: Path) -> dict[str, str]:
    """Every file that is left out below ``path``, by the end of its name."""
    files, skipped = find([path])
    for file in files:
        try:
            list(read(file, skipped))
        except Unreadable as reason:
            skipped.append((file.name, str(reason)))
    return {name.removeprefix(f"{path.name}/"): reason for name, reason in skipped}


def test_a_folder_is_read_recursively_and_named_from_where_it_lies(tmp_path: Path) -> None:
    notes = tmp_path / "notes"
    (notes / "deep").mkdir(parents=True)
    (notes / "deep" / "b.txt").write_text("second")
    (notes / "a.md").write_text("first")
    files, skipped = find([notes])
    assert [file.name for file in files] == ["notes/a.md", "notes/deep/b.txt"]
    assert skipped == []


def test_two_folders_of_one_name_stay_apart(tmp_path: Path) -> None:
    for parent in ("x", "y"):
        (tmp_path / parent / "notes").mkdir(parents=True)
        (tmp_path / parent / "notes" / "a.md").write_text(parent)
    files, _ = find([tmp_path / "x" / "notes", tmp_path / "y" / "notes"])
    assert [file.name for file in files] == ["x/notes/a.md", "y/notes/a.md"]


def test_a_file_given_twice_is_read_once(tmp_path: Path) -> None:
    (tmp_path / "a.md").write_text("once")
    files, _ = find([tmp_path, tmp_path / "a.md"])
    assert len(files) == 1


def test_a_path_that_does_not_exist_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(RetrievalError, match="nowhere: no such file or folder"):
        find([tmp_path / "nowhere"])


@pytest.mark.parametrize(
    ("name", "content", "title"),
    [
        ("a.md", "---\ntitle: 'The Vltava'\n---\n# Heading\ntext", "The Vltava"),
        ("a.md", "intro\n\n# The Vltava #\ntext", "The Vltava"),
        ("the_vltava-river.md", "## Only a second heading\n", "the vltava river"),
        ("vltava.txt", "# not a heading in plain text", "vltava"),
        ("a.html", "<title>The\n Vltava</title><h1>Other</h1><p>text", "The Vltava"),
        ("a.htm", "<h1>The <b>Vltava</b></h1><h1>Second</h1>text", "The Vltava"),
    ],
)
def test_titles(tmp_path: Path, name: str, content: str, title: str) -> None:
    (tmp_path / name).write_text(content)
    assert [passage.title for passage in passages_of(tmp_path)] == [title]


def test_a_short_document_is_one_passage_without_its_margins(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("\n\n  A river.  \n")
    (passage,) = passages_of(tmp_path / "a.txt")
    assert (passage.id, passage.text) == ("a.txt#1", "A river.")
    assert (passage.start, passage.end) == (4, 12)


def test_a_long_document_is_cut_at_paragraphs(tmp_path: Path) -> None:
    paragraphs = [f"Paragraph {number}. " + "word " * 90 for number in range(6)]
    text = "\n\n".join(paragraphs)
    (tmp_path / "a.txt").write_text(text)
    found = passages_of(tmp_path)
    assert len(found) == 6
    assert [passage.text.split(".")[0] for passage in found] == [
        f"Paragraph {number}" for number in range(6)
    ]
    assert len({passage.id for passage in found}) == 6


def test_a_heading_goes_with_what_it_heads() -> None:
    text = "# Vltava\n\n" + "It flows on. " * 120
    assert spans(text)[0][0] == 0
    assert all(end - start > 100 for start, end in spans(text))


@given(st.text(alphabet=st.sampled_from("ab .\n\tÉ"), max_size=6000))
def test_offsets_reproduce_the_text_and_leave_only_blanks_out(text: str) -> None:
    covered = bytearray(len(text))
    for start, end in spans(text):
        assert 0 <= start < end <= len(text)
        assert text[start:end] == text[start:end].strip()
        covered[start:end] = b"\1" * (end - start)
    assert all(is_in or letter.isspace() for is_in, letter in zip(covered, text, strict=True))


def test_a_corpus_gives_one_passage_a_line_never_split(tmp_path: Path) -> None:
    long = "word " * 1000
    lines = [{"id": "p1", "title": "T", "text": long}, {"text": "no id"}, {"id": 7, "text": "n"}]
    (tmp_path / "c.jsonl").write_text("\n".join(map(json.dumps, lines)))
    found = passages_of(tmp_path / "c.jsonl")
    assert [passage.id for passage in found] == ["p1", "c.jsonl#2", "7"]
    assert found[0].text == long


def test_bad_lines_of_a_corpus_are_counted_and_the_first_is_named(tmp_path: Path) -> None:
    lines = ['{"text": "good"}', "not json", "", "[1]", '{"text": " "}', '{"text": 3}', "[" * 9999]
    (tmp_path / "c.jsonl").write_text("\n".join(lines))
    assert reasons(tmp_path / "c.jsonl") == {"c.jsonl:2": "5 lines are no object with a text"}


def test_what_no_file_could_hold_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "c.jsonl").write_text(r'{"id": "\ud800", "text": "a\u0000b\udfff"}')
    (passage,) = passages_of(tmp_path)
    assert (passage.id, passage.text) == ("?", "a b?")


def test_what_is_no_document_is_left_out_with_a_reason(tmp_path: Path) -> None:
    root = tmp_path / "root"
    (root / ".git").mkdir(parents=True)
    (root / ".git" / "config.md").write_text("hidden")
    (root / ".secret.md").write_text("hidden")
    (root / "picture.png").write_bytes(b"\x89PNG")
    (root / "Makefile").write_text("all:")
    (root / "binary.txt").write_bytes(b"a\0b")
    (root / "latin.txt").write_bytes("Prag liegt an der Moldau: schön".encode("latin-1"))
    os.mkfifo(root / "pipe.md")
    (root / "dangling.md").symlink_to("nowhere")
    (root / "loop.md").symlink_to("loop.md")
    (root / "good.md").write_text("good")
    assert reasons(root) == {
        ".git": "hidden",
        ".secret.md": "hidden",
        "picture.png": "no document format is called .png",
        "Makefile": "no document format",
        "binary.txt": "binary",
        "latin.txt": "not UTF-8 text",
        "pipe.md": "not a regular file",
        "dangling.md": "not a regular file",
        "loop.md": reasons(root)["loop.md"],
    }


def test_a_link_does_not_lead_out_of_the_folder(tmp_path: Path) -> None:
    (tmp_path / "key.md").write_text("a secret")
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "link.md").symlink_to(tmp_path / "key.md")
    assert reasons(tmp_path / "root") == {"link.md": "a link to outside the folder"}


def test_a_loop_of_folders_is_walked_once(tmp_path: Path) -> None:
    (tmp_path / "a.md").write_text("text")
    (tmp_path / "again").symlink_to(tmp_path)
    assert [passage.id for passage in passages_of(tmp_path / "a.md")] == ["a.md#1"]
    files, _ = find([tmp_path])
    assert len(files) == 1


def test_a_large_file_is_left_out(tmp_path: Path) -> None:
    with (tmp_path / "large.txt").open("wb") as file:
        file.truncate(documents.LARGEST_FILE + 1)
    assert reasons(tmp_path) == {"large.txt": "larger than 20 MB"}


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_without_permission_is_left_out(tmp_path: Path) -> None:
    (tmp_path / "mine.md").write_text("text")
    (tmp_path / "mine.md").chmod(0)
    assert reasons(tmp_path) == {"mine.md": "Permission denied"}


def test_other_encodings_with_a_mark_are_read(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes("Øresund".encode("utf-16"))
    (tmp_path / "b.txt").write_bytes(b"\xef\xbb\xbf\xc3\x98resund\r\nnext")
    assert [passage.text for passage in passages_of(tmp_path)] == ["Øresund", "Øresund\nnext"]


def test_formats_of_an_extra_name_it_when_it_is_missing(tmp_path: Path) -> None:
    (tmp_path / "a.pdf").write_bytes(b"%PDF-1.4")
    try:
        import markitdown  # noqa: F401
    except ImportError:
        assert reasons(tmp_path) == {"a.pdf": "needs `pip install hoptrail[documents]`"}
    else:
        assert reasons(tmp_path)["a.pdf"].startswith("cannot be converted")


def test_html_is_text_without_scripts_and_tags() -> None:
    markup = (
        "<html><head><title>Bonn &amp; Köln</title><style>p {}</style></head><body>"
        "<script>alert('x')</script><h1>Bonn</h1><p>On the\n <b>Rhine</b>.<p>Second<br>line"
        "<noscript>no</noscript><ul><li>one<li>two</ul><svg><text>drawn</text></svg>"
    )
    assert html_text(markup) == (
        "Bonn & Köln",
        "Bonn\n\nOn the Rhine.\n\nSecond\n\nline\n\none\n\ntwo",
    )


@given(st.text(alphabet=st.sampled_from("<>/ap!-&;#=\"' script")))
def test_any_markup_gives_text(markup: str) -> None:
    title, text = html_text(markup)
    assert title == title.strip()
    assert text == text.strip()
