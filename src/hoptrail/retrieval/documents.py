"""Documents on disk: which files there are, what they say, and where they are cut."""

from __future__ import annotations

import hashlib
import json
import os
import re
import stat
import zipfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path
from typing import NamedTuple

from hoptrail.errors import RetrievalError
from hoptrail.evidence import Passage
from hoptrail.retrieval.html import html_text

LARGEST_FILE = 20_000_000
"""Bytes. A ``.jsonl`` corpus may be larger, its lines may not."""

LARGEST_UNPACKED = 200_000_000
NO_FILE = "not a regular file"
TOO_LARGE = f"larger than {LARGEST_FILE // 1_000_000} MB"
SHORT_DOCUMENT = 1_200
PASSAGE_LENGTH = 800
SHORTEST_PASSAGE = 80
"""Characters: a shorter piece (a heading) goes with the one after it."""
OVERLAP = 100
SEPARATORS = ["\n\n", "\n", ". ", " ", ""]

# What is around a title is taken off it later: a pattern that does would try a long line again
# from each of its places.
_FRONT_TITLE = re.compile(r"\A---[ \t]*\n(?:(?!---).*\n)*?title:(.*\S.*)\n")
_HEADING = re.compile(r"^#[ \t](.*[^\s#].*)$", re.MULTILINE)

Skip = tuple[str, str]
"""What was left out, and why."""


class Unreadable(Exception):
    """A file is no document; the message says why. Ingestion skips the file."""


class FileState(NamedTuple):
    """The SHA-256 of a file's content, and what changes even when the content comes back."""

    digest: str
    number: int
    written_ns: int


@dataclass(frozen=True)
class SourceFile:
    """A file to read; its passages are cited as ``name``."""

    path: Path
    name: str

    def state(self) -> FileState:
        """Give what the file is now.

        Raises:
            Unreadable: the file cannot be read.
        """
        try:
            with self.open() as file:
                found = os.fstat(file.fileno())
                digest = hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:
            raise Unreadable(_reason(error)) from error
        return FileState(digest, found.st_ino, found.st_mtime_ns)

    def open(self) -> BufferedReader:
        """Open it, unless it is no regular file by now: a pipe would never let go.

        Raises:
            OSError: it cannot be opened.
            Unreadable: it is a pipe, a device or a folder.
        """
        descriptor = os.open(self.path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise Unreadable(NO_FILE)
        return os.fdopen(descriptor, "rb")


def find(paths: Sequence[Path]) -> tuple[list[SourceFile], list[Skip]]:
    """Give the files under the paths, sorted, and what is left out with its reason.

    A file is named by its path from where the given paths lie: ``notes/`` gives
    ``notes/rivers.md``.

    Raises:
        RetrievalError: a path does not exist, or must not be looked at.
    """
    roots = [path.absolute() for path in paths]
    for path, root in zip(paths, roots, strict=True):
        _require(path, root)
    base = Path(os.path.commonpath([root.parent for root in roots])) if roots else Path()
    files: dict[str, SourceFile] = {}
    skipped: list[Skip] = []
    for root in roots:
        for path in sorted(_walk(root, skipped, base)):
            name = _name(path, base)
            if reason := _unfit(path, root):
                skipped.append((name, reason))
            elif files.setdefault(name, SourceFile(path, name)).path != path:
                skipped.append((name, "another file has this name"))
    return list(files.values()), skipped


def _require(path: Path, root: Path) -> None:
    try:
        there = root.exists()
    except OSError as error:
        raise RetrievalError(f"{path}: {_reason(error)}") from error
    if not there:
        raise RetrievalError(f"{path}: no such file or folder")


def _walk(root: Path, skipped: list[Skip], base: Path) -> Iterator[Path]:
    if not root.is_dir():
        yield root
        return

    def unreadable(error: OSError) -> None:
        skipped.append((_name(Path(error.filename), base), _reason(error)))

    for folder, subfolders, names in os.walk(root, onerror=unreadable):
        here = Path(folder)
        for name in subfolders.copy():
            if reason := _closed(here / name):
                subfolders.remove(name)
                skipped.append((_name(here / name, base), reason))
        yield from (here / name for name in names)


def _closed(folder: Path) -> str:
    """Say why a folder is not to be entered, or ""."""
    if folder.name.startswith("."):
        return "hidden"
    return "a link to a folder" if folder.is_symlink() else ""


def _name(path: Path, base: Path) -> str:
    """Give a path's name; what is no UTF-8 in it is spelled out, so that no two names meet."""
    name = path.relative_to(base).as_posix()
    return name.encode("utf-8", "backslashreplace").decode()


def _unfit(path: Path, root: Path) -> str:
    """Say why a file is not to be read, or ""."""
    suffix = path.suffix.lower()
    if path.name.startswith(".") and path != root:
        return "hidden"
    if suffix not in READERS:
        return f"no document format is called {suffix}" if suffix else "no document format"
    try:
        if not path.is_file():
            return NO_FILE
        if path != root and not path.resolve().is_relative_to(root.resolve()):
            return "a link to outside the folder"
        size = path.stat().st_size
    except (OSError, RuntimeError) as error:
        return _reason(error)
    if suffix != ".jsonl" and size > LARGEST_FILE:
        return TOO_LARGE
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
    title, text = _storable(title or _from_name(file.path)), _storable(text)
    for number, (start, end) in enumerate(spans(text), 1):
        yield Passage(
            id=f"{file.name}#{number}",
            text=text[start:end],
            title=title,
            source=file.name,
            start=start,
            end=end,
        )


def _text(file: SourceFile) -> str:
    with file.open() as opened:
        content = opened.read(LARGEST_FILE + 1)
    if len(content) > LARGEST_FILE:
        raise Unreadable(TOO_LARGE)
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
    return _split(file, _bare(title.group(1)) if title else "", text)


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
    title = converted.title or (_bare(heading.group(1)) if heading else "")
    return _split(file, title, converted.markdown)


def _read_corpus(file: SourceFile, skipped: list[Skip]) -> Iterator[Passage]:
    """One passage a line, never split: objects with ``text``, and ``id`` and ``title``."""
    bad: list[int] = []
    with file.open() as lines:
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
        id=_storable(_named(entry.get("id")) or f"{file.name}#{number}"),
        text=_storable(text),
        title=_storable(_named(entry.get("title"))),
        source=file.name,
        start=0,
        end=len(_storable(text)),
    )


def _named(value: object) -> str:
    """Give what a line of a corpus says it is called; lists and objects are no names."""
    return str(value) if isinstance(value, str | int | float) and value else ""


def _storable(text: str) -> str:
    """Replace what UTF-8 cannot hold, a character by a character."""
    return text.replace("\0", " ").encode("utf-8", "replace").decode()


def _bare(title: str) -> str:
    """Give a title without quotes around it, and the ``#`` that may close a heading."""
    return title.strip().rstrip("# \t").strip("\"' \t")


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
