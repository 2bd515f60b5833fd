"""Secrets in texts that leave: what is known to be one, and what looks like one, is masked.

A stub stays, so that a reader sees what stood there: ``hf_…``, ``Bearer …``, ``user:…@``.
"""

from __future__ import annotations

import json
import re
from base64 import b64encode
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cache, cached_property
from typing import TypeVar, cast
from urllib.parse import quote, quote_plus

STUB = "…"

_SHORTEST = 8
"""A shorter value stands in too many texts to be told from them."""
_WORD = re.compile(r"[a-z]+(?:[_-][a-z]+)*")
_LONGEST_WORD = 20
"""A plain word is no secret that could be kept: masked, it would garble every document."""


def _begun(literal: str, before: str = "A-Za-z0-9") -> str:
    """Give a pattern of a literal where a word begins: also after ``%3D`` and a written ``\\n``."""
    # The literal comes first: so it is looked for as fast as any text.
    escaped = rf"(?<=%[0-9A-Fa-f]{{2}}{literal})|(?<=\\[nrt]{literal})"
    return rf"{literal}(?:(?<![{before}]{literal})|{escaped})"


@dataclass(frozen=True)
class _Shape:
    """What a kind of secret looks like: group 1 of ``pattern`` stays, the rest is masked.

    ``hint`` stands, in lower case, in every text that has one. A ``mixed`` one is taken for a
    secret only with a digit in it: it could be words with hyphens.

    Each pattern takes time in proportion to the text: it matches a fixed number of characters,
    takes all that it has scanned, or begins where no other scan passes.
    """

    hint: str
    pattern: re.Pattern[str]
    mixed: bool = False

    def masked(self, text: str) -> str:
        """Give a text without secrets of this kind."""
        return self.pattern.sub(self._stub, text)

    def _stub(self, found: re.Match[str]) -> str:
        kept = found.group(1)
        if self.mixed and not any(map(str.isdigit, found.group()[len(kept) :])):
            return found.group()
        return kept + STUB


def _key(prefix: str, rest: str, *, mixed: bool = False) -> _Shape:
    return _Shape(
        prefix.lower(), re.compile(f"({_begun(prefix) if mixed else prefix}){rest}"), mixed
    )


_PEM = r"(-----BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----)"
_BREAK = r"(?:\s|\\[nr])"
_BASE64 = "[A-Za-z0-9+/=]{16,}+"
_TOKEN = "[A-Za-z0-9._~+/=-]"
_PART = "[A-Za-z0-9_-]"
_IN_USER = r"\s/?#@\"'<>\\"


@cache
def _shapes() -> tuple[_Shape, ...]:
    """Give the shapes; compiled when first needed, which few commands do."""
    return (
        _key("hf_", "[A-Za-z0-9]{20,}"),
        _key("api_org_", "[A-Za-z0-9]{20,}"),
        *(_key(f"gh{kind}_", "[A-Za-z0-9]{30,}") for kind in "pousr"),
        _key("github_pat_", "[A-Za-z0-9_]{22,}"),
        _key("glpat-", f"{_PART}{{20,}}"),
        *(
            _Shape(kind.lower(), re.compile(rf"({_begun(kind)})[0-9A-Z]{{16}}(?![0-9A-Za-z])"))
            for kind in ("AKIA", "ASIA")
        ),
        _key("AIza", f"{_PART}{{35}}"),
        _key("gsk_", "[A-Za-z0-9]{30,}"),
        _key("nvapi-", f"{_PART}{{30,}}"),
        _key("npm_", "[A-Za-z0-9]{36}"),
        _key("pypi-", f"{_PART}{{50,}}"),
        _key("lsv2_", "[A-Za-z0-9_]{30,}"),
        *(_key(f"{kind}k_live_", "[A-Za-z0-9]{16,}") for kind in "sr"),
        _Shape(
            "sk-", re.compile(rf"({_begun('sk-')}(?:ant-|proj-|or-)?){_PART}{{20,}}"), mixed=True
        ),
        *(_key(f"xox{kind}-", "[A-Za-z0-9-]{10,}", mixed=True) for kind in "abeoprs"),
        _key("xapp-", "[A-Za-z0-9-]{10,}", mixed=True),
        _Shape(
            "eyj",
            re.compile(
                rf"({_begun('eyJ', 'A-Za-z0-9_-')}){_PART}{{8,}}+\.eyJ{_PART}{{8,}}+\.{_PART}*+"
            ),
        ),
        # Atomic groups here: before Python 3.11.5 a possessive group does not match all it should.
        # Nothing of a key's own has a hyphen: a scan ends at the latest where another begins.
        _Shape("private key", re.compile(rf"{_PEM}(?>[^-]*(?:-(?!----)[^-]*)*)(?=-----END )")),
        _Shape(
            "private key",
            re.compile(rf"{_PEM}(?>{_BREAK}*){_BASE64}(?>(?:(?>{_BREAK}+){_BASE64})*)"),
        ),
        _Shape("://", re.compile(rf"(://[^:{_IN_USER}]*:)[^{_IN_USER.replace('@', '')}]+(?=@)")),
        _Shape(
            "authorization",
            re.compile(
                r"(?i)(authorization[\"']?[ \t]{0,4}[:=][ \t]{0,4}[\"']?(?:basic|token)[ \t]{1,4})"
                rf"{_TOKEN}{{8,}}"
            ),
        ),
        _Shape(
            "bearer", re.compile(rf"(?i)(bearer(?:[ \t]|%20|\+){{1,4}}){_TOKEN}{{16,}}"), mixed=True
        ),
    )


Mask = Callable[[str], str]
T = TypeVar("T")


class Secrets:
    """Masks texts: the ``known`` values in every form they travel in, and what looks like one.

    A known value goes unnoticed if it is shorter than eight characters, or a plain word.
    """

    def __init__(self, known: Iterable[str] = ()) -> None:
        held = sorted(filter(_can_be_kept, set(known)), key=len, reverse=True)
        self._forms = {form: _stub(value) for value in held for form in _forms(value)}
        self._in_json = tuple({escaped for form in self._forms for escaped in _in_json(form)})

    @cached_property
    def begun(self) -> frozenset[str]:
        """Every beginning of every form of a known value."""
        return frozenset(form[:end] for form in self._forms for end in range(1, len(form)))

    def hide(self, text: str) -> str:
        """Give a text with the known values masked, and nothing else."""
        for form, stub in self._forms.items():
            if form in text:
                text = text.replace(form, stub)
        return text

    def hide_start(self, text: str, length: int) -> str:
        """Give the start of a text with the known values masked: also one that is cut there."""
        stream = HiddenStream(self)
        start = stream.feed(text[:length])
        return start if len(text) > length else start + stream.rest()

    def hide_each(self, value: T) -> T:
        """Give a JSON value with the known values masked in its keys and texts."""
        return cast("T", _each(value, self.hide)) if self._forms else value

    def hide_in(self, document: str) -> str:
        """Give a JSON document with the known values masked; one without any as it is."""
        if not any(form in document for form in self._in_json):
            return document
        return _walked(document, self.hide)

    def masked(self, text: str) -> str:
        """Give a text without known values, and without what looks like a secret."""
        return _shapes_masked(self.hide(text))

    def masked_in(self, document: str) -> str:
        """Give a JSON document without known values, and without what looks like a secret."""
        if not any(form in document for form in self._in_json) and not _hints(document):
            return document
        return _walked(document, self.masked)


class HiddenStream:
    """A text that comes in pieces, with the known values of some secrets masked.

    A piece that may be the beginning of a value is held back until more of the text has come.
    """

    def __init__(self, secrets: Secrets) -> None:
        self._hide, self._begun = secrets.hide, secrets.begun
        self._longest = max(map(len, self._begun), default=0)
        self._held = ""

    def feed(self, piece: str) -> str:
        """Take a piece of the text; give what can be shown now."""
        text = self._hide(self._held + piece)
        longest = min(self._longest, len(text))
        begin = next(
            (at for at in range(len(text) - longest, len(text)) if text[at:] in self._begun),
            len(text),
        )
        self._held = text[begin:]
        return text[:begin]

    def rest(self) -> str:
        """Give what was held back, at the end of the text."""
        rest, self._held = self._held, ""
        return rest


def without_key(text: str, key: str | None) -> str:
    """Give a server's words without a key that it was sent, in whatever form it repeats it."""
    return Secrets([key]).hide(text).replace(key, STUB) if key else text


def masked(text: str) -> str:
    """Give a text without what looks like a secret."""
    return _shapes_masked(text)


def masked_in(document: str) -> str:
    """Give a JSON document without what looks like a secret in its keys and strings."""
    return Secrets().masked_in(document)


def _can_be_kept(value: str) -> bool:
    word = len(value) <= _LONGEST_WORD and _WORD.fullmatch(value)
    return len(value) >= _SHORTEST and not word


def _stub(value: str) -> str:
    return ("hf_" if value.startswith("hf_") else "") + STUB


def _forms(value: str) -> Iterator[str]:
    """Give a value as it stands in texts, addresses, JSON (also in JSON), and base64."""
    yield value
    for escaped in _in_json(value):
        yield escaped
        yield from _in_json(escaped)
    for form in (quote(value, safe="", errors="replace"), quote_plus(value, errors="replace")):
        yield form
        yield re.sub("%..", lambda found: found.group().lower(), form)
    yield from _in_base64(value)


def _in_json(text: str) -> set[str]:
    return {json.dumps(text, ensure_ascii=ascii_only)[1:-1] for ascii_only in (True, False)}


def _in_base64(value: str) -> Iterator[str]:
    """Give what of a value is the same wherever in a longer text it was encoded."""
    data = value.encode("utf-8", "replace")
    for before in range(3):
        encoded = b64encode(bytes(before) + data).decode().rstrip("=")
        begin = (0, 2, 3)[before]
        end = len(encoded) - bool((before + len(data)) % 3)
        if end - begin >= _SHORTEST:
            yield encoded[begin:end]
            yield encoded[begin:end].translate({ord("+"): "-", ord("/"): "_"})


def _hints(text: str) -> bool:
    lowered = text.lower()
    return any(shape.hint in lowered for shape in _shapes())


def _shapes_masked(text: str) -> str:
    lowered = text.lower()
    for shape in _shapes():
        if shape.hint in lowered:
            text = shape.masked(text)
    return text


def _walked(document: str, mask: Mask) -> str:
    return json.dumps(_each(json.loads(document), mask), ensure_ascii=False, separators=(",", ":"))


def _each(value: object, mask: Mask) -> object:
    if isinstance(value, str):
        return mask(value)
    if isinstance(value, list):
        return [_each(each, mask) for each in value]
    if isinstance(value, dict):
        return {mask(key): _each(each, mask) for key, each in value.items()}
    return value
