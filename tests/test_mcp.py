"""MCP with the SDK's own client, over stdio and over streamable HTTP, in both protocol eras."""

import asyncio
import copy
import json
import logging
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import httpx
import pytest
from mcp import Client
from mcp.client.stdio import StdioServerParameters
from mcp.shared.exceptions import MCPError
from mcp_types import CallToolResult, ResourceLink, TextContent, TextResourceContents

from hoptrail import Hoptrail, load_settings
from hoptrail.errors import TooManyRuns
from hoptrail.events import Event, PlanFinished, PlanRestarted, StepFinished, StepPlanned
from hoptrail.journal import Journal
from hoptrail.mcp_server import Events, _Progress, build_mcp_server
from hoptrail.mcp_transport import McpEndpoint
from hoptrail.testing import step_reply
from hoptrail.trace import StepTrace, read_trace
from tests import two_hops
from tests.providers import ChatRequest, Fault, LoopbackProvider, Reply
from tests.serving import served

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(180)]

LEGACY = "2025-06-18"
STREAMS = {"Accept": "application/json, text/event-stream"}


@dataclass
class Door:
    """A way in: what the SDK's client connects to, and the protocol's era."""

    server: Any
    mode: str

    def client(self) -> Client:
        """Give a client, to be entered."""
        return Client(self.server, mode=self.mode)


@pytest.fixture
def docs(tmp_path: Path) -> Path:
    return two_hops.write_documents(tmp_path / "docs")


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    journal = Journal(tmp_path / "home")
    yield journal
    journal.close()


@pytest.fixture(params=["stdio", "stdio legacy", "http", "http legacy"])
def door(request: pytest.FixtureRequest, provider: LoopbackProvider, docs: Path) -> Iterator[Door]:
    two_hops.serve(provider)
    transport, _, era = request.param.partition(" ")
    if transport == "stdio":
        yield Door(started(provider, docs), era or "auto")
        return
    with served(provider, docs=docs) as server:
        yield Door(f"{server.url}/mcp", era or "auto")


def started(provider: LoopbackProvider, docs: Path) -> StdioServerParameters:
    executable, *arguments = two_hops.command("mcp", "--docs", str(docs))
    environment = two_hops.process_environment(provider)
    return StdioServerParameters(command=executable, args=arguments, env=environment)


@contextmanager
def a_trail(provider: LoopbackProvider, docs: Path | None) -> Iterator[Hoptrail]:
    trail = Hoptrail(
        docs,
        settings=load_settings(
            ollama_host=provider.ollama_url, backends="ollama", embedders="hash"
        ),
    )
    yield trail
    trail.close()


def until(happened: Callable[[], bool], seconds: float = 60.0) -> None:
    """Wait for something; a process may take long to start where the machine is busy."""
    begun = time.monotonic()
    while not happened():
        assert time.monotonic() < begun + seconds, "it did not happen"
        time.sleep(0.01)


async def until_soon(happened: Callable[[], bool]) -> None:
    await asyncio.to_thread(until, happened)


def text_of(result: CallToolResult) -> str:
    first = result.content[0]
    assert isinstance(first, TextContent)
    return first.text


ASK: dict[str, Any] = {"question": two_hops.QUESTION}


# Each transport and each era once: what is tested is the same for both.
ONE_OF_EACH = pytest.mark.parametrize("door", ["stdio", "http legacy"], indirect=True)


@ONE_OF_EACH
async def test_a_client_sees_three_tools_that_change_nothing(door: Door) -> None:
    async with door.client() as client:
        tools = {tool.name: tool for tool in (await client.list_tools()).tools}
        assert client.server_info is not None
        assert client.server_info.name == "hoptrail"
        assert "ask" in (client.instructions or "")
    assert set(tools) == {"ask", "search", "get_trace"}
    ask = tools["ask"]
    assert ask.input_schema["required"] == ["question"]
    assert ask.input_schema["properties"]["graph"]["enum"] == ["multi-hop", "iterative"]
    assert ask.output_schema is not None
    assert {"answer", "citations", "abstained", "degraded", "run_id", "steps"} <= set(
        ask.output_schema["properties"]
    )
    for tool in tools.values():
        assert tool.description
        assert "\n  " not in tool.description
        assert tool.annotations is not None
        assert tool.annotations.read_only_hint


async def test_ask_search_and_trace(door: Door) -> None:
    steps: list[tuple[float, float | None, str | None]] = []

    async def told(progress: float, total: float | None, message: str | None) -> None:
        steps.append((progress, total, message))

    async with door.client() as client:
        answer = await client.call_tool("ask", ASK, progress_callback=told)
        assert not answer.is_error, text_of(answer)
        assert text_of(answer).startswith("Prague [1]")
        assert "[1] Franz Kafka (docs/people.md)" in text_of(answer)
        found = cast("dict[str, Any]", answer.structured_content)
        assert found["citations"][0]["source"] == "docs/people.md"
        assert [step["answer"] for step in found["steps"]] == ["Franz Kafka", "Prague"]
        assert (found["abstained"], found["degraded"]) == (False, False)
        (first, known, message), last = steps
        assert (first, message) == (1, "Who wrote The Trial? → Franz Kafka")
        assert known in (None, 2)  # the plan may still be written when its first step ends
        assert last == (2, 2, "Where was Franz Kafka born? → Prague")
        await check_trace(client, answer, found["run_id"])
        passages = await client.call_tool("search", {"query": "Kafka born", "k": 1})
        listed = cast("dict[str, Any]", passages.structured_content)
        assert listed["mode"] == "hybrid"
        assert listed["space"]
        assert [each["title"] for each in listed["passages"]] == ["Franz Kafka"]
        assert "born in Prague" in text_of(passages)


async def check_trace(client: Client, answer: CallToolResult, run_id: str) -> None:
    link = answer.content[1]
    assert isinstance(link, ResourceLink)
    (whole,) = (await client.read_resource(link.uri)).contents
    assert isinstance(whole, TextResourceContents)
    assert whole.mime_type == "application/json"
    trace = read_trace(whole.text)
    assert (trace.run_id, trace.short_answer) == (run_id, "Prague")

    told = await client.call_tool("get_trace", {"run_id": run_id})
    brief = cast("dict[str, Any]", told.structured_content)
    assert brief["uri"] == link.uri
    assert brief["run"]["steps"][1]["evidence"]
    assert "prompt" not in json.dumps(brief)
    assert "2. Where was Franz Kafka born? → Prague" in text_of(told)

    listed = {resource.uri: resource for resource in (await client.list_resources()).resources}
    assert listed[link.uri].title == two_hops.QUESTION
    (recent,) = (await client.read_resource("runs://recent")).contents
    assert isinstance(recent, TextResourceContents)
    assert json.loads(recent.text)[0]["run_id"] == run_id
    templates = (await client.list_resource_templates()).resource_templates
    assert [template.uri_template for template in templates] == ["trace://{run_id}"]


@ONE_OF_EACH
async def test_what_fails_is_an_error_with_its_cause_and_the_way_out(
    door: Door, provider: LoopbackProvider
) -> None:
    async with door.client() as client:
        for arguments in ({"run_id": "nope"}, {"run_id": "../../etc/passwd"}):
            unknown = await client.call_tool("get_trace", arguments)
            assert unknown.is_error
            assert "run" in text_of(unknown)
        with pytest.raises(MCPError, match="there is no run"):
            await client.read_resource("trace://nope")
        assert (await client.call_tool("search", {"query": "x", "k": 0})).is_error
        assert (await client.call_tool("ask", {"question": ""})).is_error
        provider.ollama.fault = Fault("status", status=500)
        failed = await client.call_tool("ask", ASK)
        assert failed.is_error
        assert "500" in text_of(failed)
        assert "hoptrail doctor" in text_of(failed)
        assert "Traceback" not in text_of(failed)
        await client.list_tools()


def slow(provider: LoopbackProvider) -> None:
    """Let the second step take for ever."""

    def respond(request: ChatRequest) -> Reply:
        if two_hops.kind_of(request) == "Where was Franz Kafka born?":
            return Reply(step_reply("Prague"), delay=3600)
        return two_hops.respond(request)

    provider.ollama.respond = respond


def in_the_second_step(provider: LoopbackProvider) -> bool:
    return provider.in_flight > 0 and len(provider.ollama.chats) == 3


async def check_interrupted(journal: Journal, provider: LoopbackProvider) -> None:
    """The call is cancelled, the run is let go, and whoever goes on pays nothing twice."""
    await until_soon(lambda: not provider.in_flight)
    await until_soon(lambda: journal.runs()[0].status == "interrupted")
    run = journal.runs()[0]
    await until_soon(lambda: not journal.alive(run.run_id))
    provider.ollama.respond = two_hops.respond
    done = len(provider.ollama.chats)
    settings = load_settings(ollama_host=provider.ollama_url, backends="ollama", embedders="hash")
    trail = Hoptrail(Path("docs"), settings=settings)
    answer = await trail.aask(run.question, run_id=run.run_id)
    trail.close()
    assert answer.short == "Prague"
    assert [two_hops.kind_of(chat) for chat in provider.ollama.chats[done:]] == [
        "Where was Franz Kafka born?",
        "synthesis",
    ]


async def test_a_cancelled_call_cancels_its_run(
    door: Door, provider: LoopbackProvider, journal: Journal
) -> None:
    slow(provider)
    async with door.client() as client:
        async with asyncio.TaskGroup() as group:
            call = group.create_task(client.call_tool("ask", ASK))
            await until_soon(lambda: in_the_second_step(provider))
            call.cancel()
        await check_interrupted(journal, provider)
        assert len((await client.list_tools()).tools) == 3


@ONE_OF_EACH
async def test_twenty_questions_at_once(door: Door) -> None:
    steps: dict[int, list[float]] = {}

    async def ask(client: Client, number: int) -> CallToolResult:
        async def told(progress: float, total: float | None, message: str | None) -> None:
            steps.setdefault(number, []).append(progress)

        return await client.call_tool("ask", ASK, progress_callback=told)

    async with door.client() as client:
        answers = await asyncio.gather(*(ask(client, number) for number in range(20)))
    found = [cast("dict[str, Any]", answer.structured_content) for answer in answers]
    assert {each["answer"].splitlines()[0] for each in found} == {"Prague [1]"}
    assert len({each["run_id"] for each in found}) == 20
    assert [steps[number] for number in range(20)] == [[1, 2]] * 20


class Process:
    """The server as a process, spoken to in bare frames."""

    def __init__(self, command: Sequence[str], environment: dict[str, str]) -> None:
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment,
        )
        self.lines: list[str] = []

    def send(self, frame: bytes | dict[str, Any]) -> None:
        assert self.process.stdin is not None
        line = frame if isinstance(frame, bytes) else json.dumps(frame).encode()
        self.process.stdin.write(line + b"\n")
        self.process.stdin.flush()

    def call(self, number: int, method: str, **params: Any) -> dict[str, Any]:
        """Send a request and give its response; what comes before it is kept in `lines`."""
        self.send(request(number, method, **params))
        assert self.process.stdout is not None
        while line := self.process.stdout.readline():
            self.lines.append(line.decode())
            told: dict[str, Any] = json.loads(line)
            if told.get("id") == number and "method" not in told:
                return told
        raise AssertionError(f"no answer to {method}: {self.end()}")

    def open(self) -> None:
        self.call(0, "initialize", **hello())
        self.send({"jsonrpc": "2.0", "method": "notifications/initialized"})

    def end(self) -> tuple[int, str, str]:
        """Close stdin; gives the exit code and what else was written."""
        out, err = self.process.communicate(timeout=60)
        return self.process.returncode, out.decode(), err.decode()


def request(number: int, method: str, **params: Any) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": number, "method": method, "params": params}


def hello() -> dict[str, Any]:
    client = {"name": "test", "version": "1"}
    return {"protocolVersion": LEGACY, "capabilities": {}, "clientInfo": client}


@pytest.fixture
def process(provider: LoopbackProvider, docs: Path) -> Iterator[Process]:
    two_hops.serve(provider)
    process = Process(
        two_hops.command("mcp", "--docs", str(docs)), two_hops.process_environment(provider)
    )
    yield process
    process.process.kill()
    process.process.communicate()


def ask_slowly(process: Process, provider: LoopbackProvider) -> None:
    slow(provider)
    process.open()
    process.send(request(1, "tools/call", name="ask", arguments=ASK))
    until(lambda: in_the_second_step(provider))


@pytest.mark.promise("signals-leave-runs-resumable")
@pytest.mark.parametrize(
    ("end", "code"),
    [("stdin", 0), (signal.SIGTERM, 130), (signal.SIGINT, 130)],
    ids=["stdin ends", "SIGTERM", "SIGINT"],
)
async def test_the_end_of_the_server_interrupts_its_runs(
    process: Process, provider: LoopbackProvider, journal: Journal, end: Any, code: int
) -> None:
    await asyncio.to_thread(ask_slowly, process, provider)
    if end != "stdin":
        process.process.send_signal(end)
        assert await asyncio.to_thread(process.process.wait, 60) == code
    returncode, _out, err = await asyncio.to_thread(process.end)
    assert returncode == code
    assert "Traceback" not in err, err
    await check_interrupted(journal, provider)


async def test_a_client_that_is_killed_takes_its_runs_with_it(
    provider: LoopbackProvider, docs: Path, journal: Journal
) -> None:
    two_hops.serve(provider)
    slow(provider)
    server = two_hops.command("mcp", "--docs", str(docs))
    client = Process(
        [sys.executable, "-c", ASKING, *server], two_hops.process_environment(provider)
    )
    await until_soon(lambda: in_the_second_step(provider))
    client.process.kill()
    await check_interrupted(journal, provider)
    await asyncio.to_thread(client.end)


ASKING = f"""
import asyncio, os, sys
from mcp import Client
from mcp.client.stdio import StdioServerParameters

async def main():
    command, *arguments = sys.argv[1:]
    server = StdioServerParameters(command=command, args=arguments, env=dict(os.environ))
    async with Client(server) as client:
        await client.call_tool("ask", {ASK!r})

asyncio.run(main())
"""


@pytest.mark.parametrize("era", ["modern", "legacy"])
async def test_an_http_client_that_leaves_takes_its_run_with_it(
    era: str, provider: LoopbackProvider, docs: Path, journal: Journal
) -> None:
    two_hops.serve(provider)
    slow(provider)
    with served(provider, docs=docs) as server:
        url = f"{server.url}/mcp"
        async with httpx.AsyncClient(headers=STREAMS, timeout=60) as client:
            post = await (modern if era == "modern" else legacy)(client, url)
            async with asyncio.TaskGroup() as group:
                call = group.create_task(post())
                await until_soon(lambda: in_the_second_step(provider))
                call.cancel()
            await check_interrupted(journal, provider)
            assert server.live == 0


async def modern(client: httpx.AsyncClient, url: str) -> Callable[[], Any]:
    meta = {
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientCapabilities": {},
    }
    frame = request(1, "tools/call", name="ask", arguments=ASK, _meta=meta)
    headers = {
        "MCP-Protocol-Version": "2026-07-28",
        "Mcp-Method": "tools/call",
        "Mcp-Name": "ask",
    }
    return lambda: client.post(url, json=frame, headers=headers)


async def legacy(client: httpx.AsyncClient, url: str) -> Callable[[], Any]:
    headers = await legacy_session(client, url)
    frame = request(1, "tools/call", name="ask", arguments=ASK)
    return lambda: client.post(url, json=frame, headers=headers)


async def legacy_session(
    client: httpx.AsyncClient, url: str, more: dict[str, str] | None = None
) -> dict[str, str]:
    opened = await client.post(url, json=request(0, "initialize", **hello()), headers=more)
    headers = {"Mcp-Session-Id": opened.headers["mcp-session-id"], "MCP-Protocol-Version": LEGACY}
    ready = {"jsonrpc": "2.0", "method": "notifications/initialized"}
    told = await client.post(url, json=ready, headers=headers | (more or {}))
    assert told.status_code == 202
    return headers


NOISY = """
import os, sys, warnings
print("printed while loading")
import hoptrail.corpus
search = hoptrail.corpus.Corpus.search

async def noisy(self, *arguments):
    print("printed by a tool")
    os.system("echo printed by a child")
    os.write(1, b"written to the descriptor\\n")
    warnings.warn("a warning")
    return await search(self, *arguments)

hoptrail.corpus.Corpus.search = noisy
"""
STRAY = (
    "printed by a tool",
    "printed by a child",
    "written to the descriptor",
    "a warning",
)


def test_stdout_carries_nothing_but_the_protocol(
    provider: LoopbackProvider, docs: Path, tmp_path: Path
) -> None:
    two_hops.serve(provider)
    # Loaded with the journal, which `hoptrail mcp` loads after it has taken stdout.
    (tmp_path / "langgraph_noise.py").write_text(NOISY, encoding="utf-8")
    start = (
        "import sys, importlib.abc\n"
        "class Noise(importlib.abc.MetaPathFinder):\n"
        "    def find_spec(self, name, path, target=None):\n"
        "        if name == 'hoptrail.mcp_server':\n"
        "            sys.meta_path.remove(self)\n"
        "            import langgraph_noise\n"
        "sys.meta_path.insert(0, Noise())\n"
        f"sys.path.insert(0, {str(tmp_path)!r})\n"
        "from hoptrail.cli import main\n"
        f"main(['mcp', '--docs', {str(docs)!r}])\n"
    )
    environment = two_hops.process_environment(provider)
    del environment["PYTHONUNBUFFERED"]  # so that what is printed is written at the very end
    process = Process([sys.executable, "-c", start], environment)
    process.open()
    told = process.call(1, "tools/call", name="search", arguments={"query": "Kafka"})
    assert not told["result"]["isError"]
    code, out, err = process.end()
    assert code == 0
    assert out == ""
    for line in process.lines:
        assert json.loads(line)["jsonrpc"] == "2.0"
    for stray in (*STRAY, "printed while loading"):
        assert stray in err


FRAMES: list[dict[str, Any]] = [
    request(9, "tools/call", name="search", arguments={"query": "Kafka"}),
    request(9, "tools/call", name="get_trace", arguments={"run_id": "r"}),
    request(9, "resources/read", uri="trace://x"),
    request(9, "initialize", **hello()),
    {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 9}},
    {"jsonrpc": "2.0", "id": 9, "result": {}},
]
WRONG = (
    *(b"", b"\xff\xfe", b"null", b"[]", b"[" * 20_000, b'{"a":' * 20_000, b"1" * 10_000),
    b'{"jsonrpc":"2.0","id":NaN,"method":"ping"}',
    b'{"jsonrpc":"2.0","id":1e999,"method":"ping"}',
    b'{"jsonrpc":"2.0","id":"\\ud800","method":"\\ud800"}',
    b'{"jsonrpc":"2.0","id":8,"method":"tools/call","params":{"name":"\\ud800"}}',
    json.dumps(request(8, "tools/call", name="x" * 100_000)).encode(),
    json.dumps(request(8, "tools/call", name="search", arguments={"query": "\0"})).encode(),
)
VALUES: tuple[Any, ...] = (
    None,
    True,
    -1,
    1e300,
    10**30,
    "",
    "x",
    "\0",
    [],
    [[]],
    {},
    {"": None},
    "é" * 1000,
)


def mutated(seed: int) -> Iterator[bytes]:
    """Give frames that are wrong in all kinds of ways; none holds a line's end."""
    chance = random.Random(seed)
    yield from WRONG
    while True:
        yield misshapen(chance)
        yield garbled(chance)


def misshapen(chance: random.Random) -> bytes:
    """Give a frame in which a value is another, or a key."""
    frame = copy.deepcopy(chance.choice(FRAMES))
    inside = [frame, *(value for value in frame.values() if isinstance(value, dict))]
    inside += [value for value in inside[-1].values() if isinstance(value, dict)]
    place = chance.choice(inside)
    if place and chance.random() < 0.8:
        place[chance.choice(list(place))] = chance.choice(VALUES)
    else:
        place[str(chance.choice(VALUES))] = chance.choice(VALUES)
    return json.dumps(frame).encode()


def garbled(chance: random.Random) -> bytes:
    """Give a frame in which some bytes are others, too many or too few."""
    frame = bytearray(json.dumps(chance.choice(FRAMES)).encode())
    for _ in range(chance.randint(1, 3)):
        at = chance.randrange(len(frame))
        match chance.randrange(4):
            case 0:
                frame[at] = chance.randrange(256)
            case 1:
                del frame[at : at + chance.randint(1, 20)]
            case 2:
                frame[at:at] = bytes(chance.randrange(256) for _ in range(3))
            case _:
                frame[at:at] = frame[: chance.randint(1, 30)]
        frame = frame or bytearray(b"{")
    return bytes(frame).translate(None, b"\r\n")


def test_frames_that_are_wrong_do_not_stop_the_server_on_stdio(process: Process) -> None:
    process.open()
    for number, frame in zip(range(400), mutated(1), strict=False):
        process.send(frame)
        if number % 50 == 49:
            assert process.call(1000 + number, "ping")["result"] == {}
    assert process.call(2000, "tools/list")["result"]["tools"]
    code, _out, err = process.end()
    assert code == 0
    assert "Traceback" not in err, err


async def test_bodies_that_are_wrong_do_not_stop_the_server_on_http(
    provider: LoopbackProvider, docs: Path
) -> None:
    two_hops.serve(provider)
    with served(provider, docs=docs) as server:
        url = f"{server.url}/mcp"
        async with httpx.AsyncClient(headers=STREAMS, timeout=60) as client:
            headers = await legacy_session(client, url)
            eras: tuple[dict[str, str], ...] = (headers, {"MCP-Protocol-Version": "2026-07-28"}, {})
            for number, body in zip(range(400), mutated(2), strict=False):
                sent = {"Content-Type": "application/json", **eras[number % 3]}
                told = await client.post(url, content=body, headers=sent)
                assert told.status_code < 500, body
                if number % 50 == 49:
                    ping = await client.post(url, json=request(9, "ping"), headers=headers)
                    assert '"result":{}' in ping.text
        async with Client(url) as whole:
            assert len((await whole.list_tools()).tools) == 3


async def test_whom_the_server_lets_in_mcp_lets_in(provider: LoopbackProvider, docs: Path) -> None:
    flags: dict[str, Any] = {
        "allowed_hosts": ("hoptrail.example",),
        "api_token": "secret-of-the-test",
    }
    token = {"Authorization": "Bearer secret-of-the-test"}
    ping = request(1, "ping")
    with served(provider, docs=docs, **flags) as server:
        url = f"{server.url}/mcp"
        async with httpx.AsyncClient(headers=STREAMS, timeout=60) as client:

            async def status(headers: dict[str, str]) -> int:
                return (await client.post(url, json=ping, headers=headers)).status_code

            session = await legacy_session(client, url, token | {"Host": "hoptrail.example"})
            assert await status(session | token | {"Host": "hoptrail.example"}) == 200
            assert await status(session | token) == 200
            assert await status(session) == 401
            assert await status(session | token | {"Host": "elsewhere.example"}) == 421
            assert await status(session | token | {"Origin": "http://elsewhere.example"}) == 403
            large = await client.post(url, content=b"x" * 2**21, headers=session | token)
            assert large.status_code == 413


async def test_a_host_may_admit_the_runs(provider: LoopbackProvider, docs: Path) -> None:
    def full(_events: Events) -> Events:
        raise TooManyRuns(1)

    two_hops.serve(provider)
    with a_trail(provider, docs) as trail:
        async with Client(build_mcp_server(trail, full)) as client:
            told = await client.call_tool("ask", ASK)
    assert told.is_error
    assert "ask again shortly" in text_of(told)


async def test_without_documents_a_search_says_how_to_give_some(
    provider: LoopbackProvider,
) -> None:
    with a_trail(provider, None) as trail:
        async with Client(build_mcp_server(trail)) as client:
            told = await client.call_tool("search", {"query": "Kafka"})
    assert told.is_error
    assert "HOPTRAIL_DOCS" in text_of(told)


def test_an_endpoint_lives_as_often_as_its_application(
    provider: LoopbackProvider, docs: Path
) -> None:
    async def twice(endpoint: McpEndpoint) -> None:
        for _ in range(2):
            async with endpoint.running():
                pass

    with a_trail(provider, docs) as trail:
        asyncio.run(twice(McpEndpoint(trail)))


def test_the_root_logger_is_left_alone(provider: LoopbackProvider) -> None:
    root = logging.getLogger()
    before, root.handlers[:] = root.handlers[:], []
    try:
        with a_trail(provider, None) as trail:
            build_mcp_server(trail)
        assert root.handlers == []
        assert root.level == logging.WARNING
    finally:
        root.handlers[:] = before


def test_progress_rises_and_its_total_is_told_when_the_plan_is_whole() -> None:
    progress = _Progress(total_known=True)
    seen: list[tuple[int, int | None]] = []
    ended = [StepFinished(StepTrace(id=number, question="?")) for number in range(4)]
    events: list[Event] = [
        StepPlanned(1, "a"),
        ended[1],
        PlanRestarted("broke off"),
        StepPlanned(1, "a"),
        StepPlanned(2, "b"),
        PlanFinished(),
        ended[1],
        StepPlanned(3, "c", round=1),
        ended[2],
        ended[3],
    ]
    for event in events:
        if progress.finished(event) is not None:
            seen.append((progress.done, progress.total))
    assert seen == [(1, None), (2, 3), (3, 4), (4, 4)]


def test_without_the_extra_the_command_names_it() -> None:
    hide = (
        "import sys, importlib.util as u\n"
        "find = u.find_spec\n"
        "u.find_spec = lambda name, *a: None if name == 'mcp' else find(name, *a)\n"
        "from hoptrail.cli import main\n"
        "main(['mcp'])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", hide], capture_output=True, text=True, env=os.environ, check=False
    )
    assert done.returncode == 1
    assert 'pip install "hoptrail[mcp]"' in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""
