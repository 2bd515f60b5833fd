"""No text takes a parser long: its time grows with the text's length, not with its square.

A megabyte would take a quadratic parser hours. Here a tenth of that is far below a second for a
linear one, and ten seconds or more for a quadratic one, so that the limit can be generous.
"""

import json
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

from hoptrail.citations import citations_for
from hoptrail.errors import InvalidResponse, SettingsError
from hoptrail.evidence import Evidence, Passage
from hoptrail.loose_json import read_json
from hoptrail.plan import PlanReader
from hoptrail.reply import FinalStream, read_final, read_step_reply
from hoptrail.request import StepReply
from hoptrail.retrieval.documents import SourceFile, read
from hoptrail.retrieval.entities import mentions
from hoptrail.settings import load_settings, origins
from hoptrail.trace import read_trace

pytestmark = pytest.mark.promise("parsers-survive")

LENGTH = 120_000
SECONDS = 4.0


def assert_quick(work: Callable[[], object]) -> None:
    """The processor time of this thread counts, so that a busy machine changes nothing."""
    began = time.thread_time()
    work()
    assert time.thread_time() - began < SECONDS


def pumped(unit: str, before: str = "", after: str = "") -> str:
    return before + unit * (LENGTH // len(unit)) + after


REPLIES = [
    pumped(" ", "Prague", "x"),
    pumped(" ", "Prague [1]"),
    pumped("\n", "Prague", "[1]"),
    pumped("1,", "Prague ["),
    pumped("[1"),
    pumped("["),
    pumped("[[1]"),
    pumped("[9] ", "["),
    pumped("<th"),
    pumped("<think>", "a"),
    pumped("</think>"),
    pumped("!"),
    pumped('{"a":'),
    pumped("[{"),
    pumped("```json"),
    pumped("{'a'"),
    pumped('"\\'),
]


@pytest.mark.parametrize("text", REPLIES, ids=lambda text: repr(text[:8] + "…" + text[-3:]))
class TestReplies:
    def test_a_reply_is_read_in_the_time_of_its_length(self, text: str) -> None:
        def work() -> None:
            read_json(text)
            read_final(text, 3)
            try:
                read_step_reply(text)
            except InvalidResponse:
                return

        assert_quick(work)

    @pytest.mark.parametrize("size", [3, LENGTH])
    def test_and_so_is_one_that_is_streamed(self, text: str, size: int) -> None:
        def work() -> None:
            stream = FinalStream(3)
            for at in range(0, len(text), size):
                stream.feed(text[at : at + size])
            stream.rest()

        assert_quick(work)


@pytest.mark.parametrize(
    "text",
    [
        pumped(" ", '["Who?", "'),
        pumped('"\n', "["),
        pumped("} ", "["),
        pumped("-", "1"),
        pumped("1*.*", "1"),
        pumped("#1 ", '["'),
        pumped("\n[a"),
        pumped("<think>"),
    ],
    ids=lambda text: repr(text[:12]),
)
def test_a_plan_is_read_in_the_time_of_its_length(text: str) -> None:
    def work() -> None:
        reader = PlanReader("Who?")
        for at in range(0, len(text), 3):
            reader.feed(text[at : at + 3])
        reader.finish()

    assert_quick(work)


def evidence(*texts: str) -> list[Evidence]:
    passages = [Passage(id=f"p{rank}", text=text) for rank, text in enumerate(texts)]
    return [Evidence(passage=passage, rank=1, score=1) for passage in passages]


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        (pumped("x"), pumped("A. ")),
        (pumped("東", after="京"), pumped("東", after="東" * LENGTH)),
        (pumped("a ", after="b"), pumped("a ", after="a " * LENGTH)),
        ("a", pumped('."')),
        ("a", pumped("\n ", "\n", "x")),
        ("a", pumped("# \n")),
    ],
    ids=lambda text: repr(text[:4]),
)
@pytest.mark.parametrize("numbers", [(1,), ()])
def test_a_citation_is_found_in_the_time_of_its_texts(
    answer: str, text: str, numbers: tuple[int, ...]
) -> None:
    reply = StepReply(answer=answer, passages=numbers)
    assert_quick(lambda: citations_for(reply, evidence(text), 1))


MARKUP = [
    "<a ", '<a b="', "<a b=", "<a\n", "<a/", "<a b c", "<!--", "<!-", "<!", "<![", "<?", "<",
    "</", "<p", "&#", "&", "<h1>a", "<h1></h1>a", "<svg>", "</svg>", "<title>x", "<script>",
    "<style></", "</script", "<a =\">\"", "<script></script x", "<!---->", "&#9999999999;",
]  # fmt: skip
DOCUMENTS = [
    (".md", pumped(" ", "---\ntitle:")),
    (".md", pumped("title:\n", "---\n")),
    (".md", pumped(" #", "# a", "x")),
    (".md", pumped(" ", "# a", "x")),
    (".md", pumped("\t", "#", "x")),
    (".md", pumped("# \n")),
    (".txt", pumped(". ")),
    (".txt", pumped("\n\n")),
    (".txt", pumped("a")),
    (".txt", pumped("\na.")),
    (".jsonl", json.dumps({"text": pumped(" ", "A", "B"), "title": pumped(" ", "A", "b")})),
    (".jsonl", json.dumps({"text": pumped("A and "), "title": pumped("(", "A")})),
    (".jsonl", json.dumps({"text": pumped("A of the "), "title": pumped("A (b) ")})),
    (".jsonl", json.dumps({"text": pumped("A's "), "title": pumped(" ", "A (b)", "c")})),
    (".jsonl", pumped("[")),
    (".jsonl", pumped('{"text":')),
    *((".html", pumped(unit)) for unit in MARKUP),
    *((".html", pumped(unit, "<p>", "<p>x")) for unit in MARKUP),
]


@pytest.mark.parametrize(
    ("suffix", "text"), DOCUMENTS, ids=[f"{text[:12]!r}{suffix}" for suffix, text in DOCUMENTS]
)
def test_a_document_is_read_in_the_time_of_its_length(
    suffix: str, text: str, tmp_path: Path
) -> None:
    path = tmp_path / f"a{suffix}"
    path.write_text(text, encoding="utf-8")

    def work() -> None:
        for passage in read(SourceFile(path, path.name), []):
            mentions(passage.title, passage.text)

    assert_quick(work)


def test_an_earlier_trace_is_brought_up_in_the_time_of_its_length() -> None:
    calls = [{"purpose": "plan", "started_ms": at, "ms": 1} for at in range(8000)]
    steps = [{"id": at, "question": "q", "ready_ms": at + 0.5} for at in range(8000)]
    document = {"trace_version": 1, "run_id": "r", "question": "q"}
    text = json.dumps({**document, "plan": {"calls": calls}, "steps": steps})
    began = time.thread_time()
    trace = read_trace(text)
    assert time.thread_time() - began < SECONDS
    assert [step.planned_ms for step in trace.steps[:4]] == [0.5, 1, 2, 3]


def lines(of: Iterable[str]) -> str:
    return "\n".join(of)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("hoptrail.toml", "max_steps = '" + "x" * 60_000 + "'"),
        ("hoptrail.toml", "x" * 65_537),
        ("hoptrail.toml", "a=" + "[" * 30_000),
        ("hoptrail.toml", "a=" + "{a=" * 20_000),
        (".env", "HOPTRAIL_MAX_STEPS=" + "x" * 60_000),
        (".env", "A=b" + " " * 10_000_000 + "c"),
        (".env", lines(["A0=xxxxxxxx", *(f"A{n + 1}=${{A{n}}}${{A{n}}}" for n in range(60))])),
    ],
    ids=["value", "large", "nested", "tables", "variable", "blank", "doubled"],
)
def test_settings_that_are_none_are_refused_at_once_and_in_few_words(
    name: str, text: str, tmp_path: Path
) -> None:
    (tmp_path / name).write_text(text, encoding="utf-8")

    def work() -> None:
        with pytest.raises(SettingsError) as refusal:
            load_settings()
        assert len(str(refusal.value)) < 600

    assert_quick(work)


def test_a_long_value_that_can_be_used_is_shown() -> None:
    name = "m" * 50_000
    settings = load_settings(hf_model=name)
    assert name in {each.value for each in origins(settings)}
