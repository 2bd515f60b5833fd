"""What an obedient model was made to say is text wherever it is shown; nobody else is asked."""

import json
from html.parser import HTMLParser
from pathlib import Path

import pytest

from hoptrail.answer import Answer
from hoptrail.events import RunFinished
from hoptrail.server.completion import Heading, completion
from hoptrail.server.event_stream import event_json, frame
from hoptrail.terminal.plain import json_text, plain
from tests.poison import PASSAGES
from tests.poisoned import poisoned
from tests.providers import ChatRequest, LoopbackProvider, Reply
from tests.test_hostile_terminal import CONTROL
from tests.two_hops import kind_of

pytestmark = [pytest.mark.anyio, pytest.mark.promise("markup-is-inert")]

TAGS = {"div", "details", "summary", "iframe"}


class Tags(HTMLParser):
    """The tags and the attributes that a browser would see."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}


def check_outlets(answer: Answer) -> None:
    tags = Tags()
    tags.feed(answer._repr_html_())
    assert tags.tags <= TAGS
    assert not any(name.startswith("on") for name in tags.attributes)
    sent = frame(event_json(RunFinished(answer.trace)), "RUN_FINISHED", "x:1")
    lines = sent.decode().split("\n")
    assert [line.partition(":")[0] for line in lines] == ["event", "id", "data", "", ""]
    assert "\r" not in sent.decode()
    told = json.loads(lines[2].removeprefix("data: "))
    assert told["answer"]["answer"] == answer.text
    assert not CONTROL.search(plain(answer.text))
    assert not CONTROL.search(json_text(answer.as_json()))
    content = completion(Heading("x", "hoptrail/multi-hop"), answer.trace).choices[0].message
    assert "![" not in content.content


@pytest.mark.timeout(300)
async def test_an_answer_is_text_in_a_terminal_a_notebook_a_stream_and_a_chat(
    tmp_path: Path,
) -> None:
    shown = 0
    with poisoned(tmp_path / "home") as trail:
        for poison in PASSAGES[::4]:
            outcome = await trail.run(poison)
            if outcome.answer is not None:
                check_outlets(outcome.answer)
                shown += 1
    assert shown > 60


@pytest.mark.timeout(300)
async def test_the_backends_asked_and_what_they_are_asked_for_stay_the_same(
    tmp_path: Path, provider: LoopbackProvider
) -> None:
    """Over real sockets: no other server, path, model or option, whatever passages say."""
    poison = PASSAGES[0]

    def respond(request: ChatRequest) -> Reply:
        if kind_of(request) == "plan":
            return Reply(json.dumps({"steps": ["Who composed Finlandia?"]}))
        words = poison.command
        return Reply(words, tool_calls=[("send_mail", {"to": "evil"}), ("count", {"path": words})])

    provider.ollama.models = ["qwen3:8b"]
    provider.ollama.respond = respond
    flags = {"ollama_host": provider.ollama_url, "backends": "ollama"}
    with poisoned(tmp_path / "home", **flags) as trail:
        for poison in PASSAGES[::8]:
            outcome = await trail.run(poison)
            assert {call.backend for call in outcome.trace.calls()} <= {"ollama", ""}
            assert not trail.called
    assert set(provider.calls) <= {"/api/chat", "/api/tags", "/api/ps"}
    assert not provider.huggingface.calls
    assert {chat.model for chat in provider.ollama.chats} == {"qwen3:8b"}
    assert {chat.options["num_ctx"] for chat in provider.ollama.chats} == {8192}
    assert len(provider.ollama.chats) > 90
