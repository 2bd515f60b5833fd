"""Documents on disk: which files there are, what they say, and where they are cut."""

from __future__ import annotations

import hashlib
import json
import os
import re
import zipfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from hoptrail.errors import RetrievalError
from hoptrail.evidence import Passage
from hoptrail.retrieval.html import html_text

LARGEST_FILE = 20_000_000
"""Bytes. A ``.jsonl`` corpus may be larger, its lines may not."""

LARGEST_UNPACKED = 200_000_000
SHORT_DOCUMENT = 1_200
PASSAGE_LENGTH = 800
SHORTEST_PASSAGE = 80
"""Characters: a shorter piece (a heading) goes with the one after it."""
OVERLAP = 100
SEPARATORS = ["\n\n", "\n", ". ", " ", ""]

_FRONT_TITLE = re.compile(r"\A---[ \t]*\n(?:(?!---).*\n)*?title:[ \t]*(.+)\n")
_HEADING = re.compile(r"^#[ \t]+(.+?)[ \t#]*$", re.MULTILINE)

Skip = tuple[str, str]
"""What was left out, and why."""


class Unreadable(Exception):
    """A file is no document; the message says why. Ingestion skips the file."""


@dataclass(frozen=True)
class SourceFile:
    """A file to read; its passages are cited as ``name``."""

    path: Path
    name: str

    def digest(self) -> str:
        """Give the SHA-256 of the content.

        Raises:
            Unreadable: the file cannot be read.
        """
        try:
            with self.path.open("rb") as file:
                return hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:
            raise Unreadable(_reason(error)) from error


def find(paths: Sequence[Path]) -> tuple[list[SourceFile], list[Skip]]:
    """Give the files under the paths, sorted, and what is left out with its reason.

    A file is named by its path from where the given paths lie: ``notes/`` gives
    ``notes/rivers.md``.

    Raises:
        RetrievalError: a path does not exist.
    """
    roots = [path.absolute() for path in paths]
    for path, root in zip(paths, roots, strict=True):
        if not root.exists():
            raise RetrievalError(f"{path}: no such file or folder")
    base = Path(os.path.commonpath([root.parent for root in roots])) if roots else Path()
    files: dict[Path, SourceFile] = {}
    skipped: list[Skip] = []
    for root in roots:
        for path in sorted(_walk(root, skipped, base)):
            name = _storable(path.relative_to(base).as_posix())
            if reason := _unfit(path, root):
                skipped.append((name, reason))
            else:
                files.setdefault(path, SourceFile(path, name))
    return list(files.values()), skipped


def _walk(root: Path, skipped: list[Skip], base: Path) -> Iterator[Path]:
    if not root.is_dir():
        yield root
        return
    for folder, subfolders, names in os.walk(root):
        here = Path(folder)
        for hidden in [name for name in subfolders if name.startswith(".")]:
            subfolders.remove(hidden)
            name = _storable((here / hidden).relative_to(base).as_posix())
            skipped.append((name, "hidden"))
        yield from (here / name for name in names)


def _unfit(path: Path, root: Path) -> str:
    """Say why a file is not to be read, or ""."""
    suffix = path.suffix.lower()
    if path.name.startswith(".") and path != root:
        return "hidden"
    if suffix not in READERS:
        return f"no document format is called {suffix}" if suffix else "no document format"
    try:
        if not path.is_file():
            return "not a regular file"
        if path != root and not path.resolve().is_relative_to(root.resolve()):
            return "a link to outside the folder"
        size = path.stat().st_size
    except (OSError, RuntimeError) as error:
        return _reason(error)
    if suffix != ".jsonl" and size > LARGEST_FILE:
        return f"larger than {LARGEST_FILE // 1_000_000} MB"
    return ""


def read(file: SourceFile, skipped: list[Skip]) -> Iterator[Passage]:
    """Give the file's passages; lines of a corpus that are left out are added to ``skipped``.

    Raises:
        Unreadable: the file is no document.
    """
    try:
        yield from READERS[file.path.suffix.lower()](file, skipped)
    except OSError as error:
        raise Unreadable(_reason(error)) from error


def spans(text: str) -> list[tuple[int, int]]:
    """Give where a text is cut: start and end of each passage, none of them blank."""
    if not text.strip():
        return []
    if len(text) <= SHORT_DOCUMENT:
        return [(len(text) - len(text.lstrip()), len(text.rstrip()))]
    # The splitters take a moment to import, and most corpora need no splitting.
    from langchain_text_splitters import RecursiveCharacterTextSplitter  # noqa: PLC0415

    splitter = RecursiveCharacterTextSplitter(
        separators=SEPARATORS,
        keep_separator="end",
        chunk_size=PASSAGE_LENGTH,
        chunk_overlap=OVERLAP,
        add_start_index=True,
    )
    found: list[tuple[int, int]] = []
    for chunk in splitter.create_documents([text]):
        start = int(chunk.metadata["start_index"])
        end = start + len(chunk.page_content)
        if found and found[-1][1] - found[-1][0] < SHORTEST_PASSAGE:
            start = found.pop()[0]
        found.append((start, end))
    return found


def _split(file: SourceFile, title: str, text: str) -> Iterator[Passage]:
    for number, (start, end) in enumerate(spans(text), 1):
        yield Passage(
            id=f"{file.name}#{number}",
            text=text[start:end],
            title=title or _from_name(file.path),
            source=file.name,
            start=start,
            end=end,
        )


def _text(file: SourceFile) -> str:
    content = file.path.read_bytes()
    encoding = "utf-16" if content[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
    if encoding != "utf-16" and b"\0" in content:
        raise Unreadable("binary")
    try:
        text = content.decode(encoding)
    except UnicodeDecodeError as error:
        raise Unreadable(f"not {encoding.removesuffix('-sig').upper()} text") from error
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _read_text(file: SourceFile, skipped: list[Skip]) -> Iterator[Passage]:
    return _split(file, "", _text(file))


def _read_markdown(file: SourceFile, skipped: list[Skip]) -> Iterator[Passage]:
    text = _text(file)
    title = _FRONT_TITLE.match(text) or _HEADING.search(text)
    return _split(file, title.group(1).strip("\"' ") if title else "", text)


def _read_html(file: SourceFile, skipped: list[Skip]) -> Iterator[Passage]:
    return _split(file, *html_text(_text(file)))


def _read_converted(file: SourceFile, skipped: list[Skip]) -> Iterator[Passage]:
    try:
        from markitdown import MarkItDown, MarkItDownException  # noqa: PLC0415 # an extra
        from markitdown.converters import DocxConverter, PdfConverter  # noqa: PLC0415 # an extra
    except ImportError as error:
        raise Unreadable("needs `pip install hoptrail[documents]`") from error
    if zipfile.is_zipfile(file.path):
        with zipfile.ZipFile(file.path) as archive:
            if sum(member.file_size for member in archive.infolist()) > LARGEST_UNPACKED:
                raise Unreadable(f"unpacks to more than {LARGEST_UNPACKED // 1_000_000} MB")
    # Only these two: any other converter would take a broken document for plain text.
    converter = MarkItDown(enable_builtins=False, enable_plugins=False)
    converter.register_converter(PdfConverter())
    converter.register_converter(DocxConverter())
    try:
        converted = converter.convert_local(file.path)
    except MarkItDownException as error:
        reason = str(error).strip().splitlines()[-1].strip(" -")
        raise Unreadable(f"cannot be converted: {reason}") from error
    heading = _HEADING.search(converted.markdown)
    title = converted.title or (heading.group(1) if heading else "")
    return _split(file, title, converted.markdown)


def _read_corpus(file: SourceFile, skipped: list[Skip]) -> Iterator[Passage]:
    """One passage a line, never split: objects with ``text``, and ``id`` and ``title``."""
    bad: list[int] = []
    with file.path.open("rb") as lines:
        for number, line in enumerate(iter(lambda: lines.readline(LARGEST_FILE + 1), b""), 1):
            passage = _corpus_passage(file, number, line)
            if passage is not None:
                yield passage
            elif line.strip():
                bad.append(number)
    if bad:
        count = f"{len(bad)} lines are" if len(bad) > 1 else "1 line is"
        skipped.append((f"{file.name}:{bad[0]}", f"{count} no object with a text"))


def _corpus_passage(file: SourceFile, number: int, line: bytes) -> Passage | None:
    try:
        entry = json.loads(line)
    except (ValueError, RecursionError):
        return None
    text = entry.get("text") if isinstance(entry, dict) else None
    if not isinstance(text, str) or not text.strip():
        return None
    return Passage(
        id=_storable(str(entry.get("id") or f"{file.name}#{number}")),
        text=_storable(text),
        title=_storable(str(entry.get("title") or "")),
        source=file.name,
        start=0,
        end=len(_storable(text)),
    )


def _storable(text: str) -> str:
    """Replace what UTF-8 cannot hold: JSON can spell lone surrogates, file names can too."""
    return text.replace("\0", " ").encode("utf-8", "replace").decode()


def _from_name(path: Path) -> str:
    return re.sub(r"[_-]+", " ", path.stem).strip()


def _reason(error: Exception) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or str(error)


READERS: dict[str, Callable[[SourceFile, list[Skip]], Iterator[Passage]]] = {
    ".md": _read_markdown,
    ".markdown": _read_markdown,
    ".txt": _read_text,
    ".html": _read_html,
    ".htm": _read_html,
    ".jsonl": _read_corpus,
    ".pdf": _read_converted,
    ".docx": _read_converted,
}
"""The document formats, by the end of the file's name."""
