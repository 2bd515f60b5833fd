"""Trace documents full of hostile texts, and what of them a page shows."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel

from hoptrail.trace import Trace
from tests.hostile import PAYLOADS
from tests.planting import planted, planted_trace, text_fields

if TYPE_CHECKING:
    from playwright.sync_api import Frame, Page

FIELDS = text_fields(Trace)
A_PAGE = 36
"""How many payloads each outer list of one page holds."""
PARTS = A_PAGE + 3
"""What there is to walk through: the plan, what was voided, the steps, the answer."""
ENDS = ("answered", "failed")
"""How a run and its steps ended; where they failed, the error stands in the place of an answer."""

ALWAYS_SHOWN = {
    "question",
    "answer",
    "warnings[]",
    "citations[].title",
    "citations[].source",
    "steps[].question",
    "steps[].asked",
    "steps[].answer",
    "steps[].reasoning",
    "steps[].warnings[]",
    "steps[].error",
    "steps[].evidence[].passage.text",
    "steps[].evidence[].passage.title",
    "steps[].evidence[].passage.source",
    "steps[].earlier[].question",
    "steps[].earlier[].answer",
    "steps[].calls[].prompt[].content",
    "steps[].calls[].output",
    "steps[].calls[].backend",
    "steps[].calls[].model",
    "steps[].calls[].error",
    "steps[].calls[].attempts[].detail",
    "steps[].calls[].attempts[].outcome",
    "steps[].tools[].output",
    "steps[].tools[].arguments{}",
    "plan.repairs[]",
    "plan.calls[].output",
    "synthesis[].output",
}
TAGS = set(
    re.findall(
        r"\w+",
        "html head meta title style body noscript script div header nav main section article aside"
        " span p h1 h2 h3 h4 a b i ul ol li dl dt dd table caption thead tbody tr th td time button"
        " form label fieldset legend input textarea select option optgroup datalist details summary"
        " dialog svg g path circle pre code kbd mark ins del bdi small figure figcaption",
    )
)
"""What a page of ours may have; none of these can run or load by itself under our policy."""

_TIME = "started_at"
"""What can be read as a time is told as one, not as it is written."""
_OF_VALUES = {"a", "time"}
"""Elements that a page has only for some values: addresses of the web, and times."""
_AUDIT = Path(__file__).with_name("audit.js").read_text(encoding="utf-8")
_MARK = re.compile(r"⟦(\d+)\.(\d+)⟧")
_LOOSE = re.compile(r"[\s\[\],]+")
"""What a page may set otherwise: white space, and the brackets of an answer's marks."""


def batches() -> Iterator[range]:
    """Give the numbers of the payloads, a page at a time."""
    for start in range(0, len(PAYLOADS), A_PAGE):
        yield range(start, min(start + A_PAGE, len(PAYLOADS)))


def payload(field: int, number: int) -> str:
    """Give the text of a field in the item of a number: over all numbers, every payload once."""
    return PAYLOADS[(number + 31 * field) % len(PAYLOADS)]


def hostile_trace(numbers: Sequence[int], end: str, **fixed: Any) -> dict[str, Any]:
    """Give a trace document with a payload in every text; a lone text holds those of all."""
    return _trace(payload, numbers, end, **fixed)


def harmless_trace(numbers: Sequence[int], end: str, **fixed: Any) -> dict[str, Any]:
    """Give the same document with a harmless word in every text."""
    return _trace(lambda field, number: "word", numbers, end, **fixed)


def written(document: dict[str, Any]) -> str:
    """Give a document as JSON."""
    return json.dumps(document, ensure_ascii=False)


@dataclass
class Way:
    """A way to look at a trace: ``show`` a document, then look at what is ``there``.

    It is ``checked`` where a model reads the document; ``told`` gives a text as it is kept.
    """

    name: str
    show: Callable[[dict[str, Any]], None]
    there: Callable[[], Page | Frame]
    checked: bool = False
    told: Callable[[str], str] = str
    ends: Sequence[str] = ENDS[:1]

    def try_all(self) -> set[str]:
        """Look at every payload in every field, at each end; give the fields that are shown.

        Raises:
            AssertionError: something became more than text, or is not shown as it is.
        """
        planted = shown = 0
        fields = set[int]()
        for end in self.ends:
            harmless = self._seen(harmless_trace(range(A_PAGE), end, **self._fixed(end)))
            places = _places(harmless["texts"])
            fields |= {field for field, _ in places}
            for numbers in batches():
                document = hostile_trace(numbers, end, **self._fixed(f"{end}-{numbers[0]}"))
                seen = self._seen(document)
                known = {*harmless["tags"], *_OF_VALUES}
                assert not [each for each in seen["tags"] if each not in known]
                exact = _exact(seen["texts"], self.told)
                expected = [(f, numbers[0] + at) for f, at in places if at < len(numbers)]
                assert not [(FIELDS[f], n) for f, n in expected if (f, n) not in exact]
                planted += len(_MARK.findall(written(document)))
                shown += len(exact)
        sys.stdout.write(
            f"{self.name}: {len(PAYLOADS)} payloads in {len(FIELDS)} fields, {planted} planted,"
            f" {shown} of them, in {len(fields)} fields, shown letter by letter\n"
        )
        return {FIELDS[field] for field in fields}

    def _seen(self, document: dict[str, Any]) -> dict[str, Any]:
        self.show(document)
        seen = audit(self.there(), PARTS)
        assert not seen["bad"]
        return seen

    def _fixed(self, run_id: str) -> dict[str, Any]:
        return {"checked": True, "run_id": run_id} if self.checked else {}


def hostile(model: type[BaseModel], numbers: Sequence[int]) -> tuple[dict[str, Any], set[str]]:
    """Give a document of another model with a payload in every text, and these payloads."""
    fields, texts = text_fields(model), set[str]()

    def write(path: str, number: int | None) -> str:
        text = payload(fields.index(path), numbers[0] if number is None else number)
        texts.add(text)
        return text

    return planted(model, write, numbers), texts


def audit(page: Page | Frame, steps: int) -> dict[str, Any]:
    """Walk through all steps of a page, with everything unfolded; give what was seen."""
    seen: dict[str, Any] = page.evaluate(f"({_AUDIT}\n)({steps})")
    return seen


def _trace(
    text: Callable[[int, int], str], numbers: Sequence[int], end: str, **fixed: Any
) -> dict[str, Any]:
    def write(path: str, number: int | None) -> str:
        field = FIELDS.index(path)
        each = numbers if number is None else [number]
        return "\n".join(f"{text(field, n)}⟦{field}.{n}⟧" for n in each)

    document = planted_trace(Trace, write, numbers, status=end, **fixed)
    for part in (document, *document["steps"], *document["voided"]):
        part |= {"status": end} | ({} if end == "failed" else {"error": ""})
    return document


def _places(texts: str) -> set[tuple[int, int]]:
    """Give field and place in its list of every text that was seen."""
    found = {(int(mark[1]), int(mark[2])) for mark in _MARK.finditer(texts)}
    return {(field, at) for field, at in found if FIELDS[field] != _TIME}


def missing(texts: str, wanted: Iterable[str]) -> list[str]:
    """Give the texts that are not shown letter by letter."""
    loose = _LOOSE.sub("", texts)
    return [each for each in wanted if _LOOSE.sub("", each) not in loose]


def _exact(texts: str, told: Callable[[str], str]) -> set[tuple[int, int]]:
    """Give field and number of every payload that was seen letter by letter."""
    loose = _LOOSE.sub("", texts)
    found = set()
    for mark in _MARK.finditer(loose):
        field, number = int(mark[1]), int(mark[2])
        wanted = told(payload(field, number))
        as_json = json.dumps(wanted, ensure_ascii=False)[1:-1]  # as an argument of a tool is
        if any(loose.endswith(_LOOSE.sub("", each), 0, mark.start()) for each in (wanted, as_json)):
            found.add((field, number))
    return found
