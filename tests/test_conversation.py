"""Conversation with memory: what is recalled, cited, kept and forgotten, and who answers."""

import asyncio
import sqlite3
import subprocess
import sys
from collections.abc import AsyncGenerator, Iterator
from contextlib import AsyncExitStack, aclosing, closing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, SystemMessage
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.store.memory import InMemoryStore

from hoptrail import Budget, Hoptrail, HoptrailError, RunBusy, load_settings
from hoptrail.answer import Answer
from hoptrail.errors import AllBackendsFailed, BudgetExceeded, InvalidResponse
from hoptrail.events import (
    AnswerRestarted,
    AnswerText,
    Event,
    RunFinished,
    RunStarted,
    StepFinished,
    StepStarted,
    ToolUsed,
)
from hoptrail.nodes import LEAVING
from hoptrail.request import ChatRequest
from hoptrail.testing import ScriptedChatModel, script
from hoptrail.trace import Trace
from tests.moments import LONG
from tests.providers import Fault, LoopbackProvider, Reply
from tests.test_server_clients import wait_for

pytestmark = pytest.mark.anyio

NOTES = {
    "finlandia.md": "# Finlandia\n\nFinlandia is a tone poem by the composer Jean Sibelius.",
    "sibelius.md": "# Jean Sibelius\n\nJean Sibelius was born in Hämeenlinna in 1865.",
    "moon.md": "# Moon\n\nThe Moon goes round the Earth in about a month.",
}


@pytest.fixture
def docs(tmp_path: Path) -> Path:
    folder = tmp_path / "notes"
    folder.mkdir()
    for name, text in NOTES.items():
        (folder / name).write_text(text, encoding="utf-8")
    return folder


def a_trail(model: ScriptedChatModel | str = "hello", **parts: Any) -> Hoptrail:
    """Give a trail whose model says one thing, or which has the built-in alone."""
    if isinstance(model, str):
        model = ScriptedChatModel(respond=script(chat=model))
    return Hoptrail(model=model, settings=load_settings(embedders="hash"), **parts)


def without_a_model(**parts: Any) -> Hoptrail:
    return Hoptrail(settings=load_settings(embedders="hash", backends="extractive"), **parts)


@pytest.fixture
def trail() -> Iterator[Hoptrail]:
    trail = a_trail()
    yield trail
    trail.close()


def asked(trail: Hoptrail) -> list[ChatRequest]:
    """What the scripted model was asked, turn by turn."""
    model = trail.assembly.model
    assert isinstance(model, ScriptedChatModel)
    requests = [call.request for call in model.calls]
    assert all(isinstance(request, ChatRequest) for request in requests)
    return [request for request in requests if isinstance(request, ChatRequest)]


def said(request: ChatRequest) -> list[tuple[str, str]]:
    return [(turn.role, turn.text) for turn in request.history]


async def remembered(trail: Hoptrail, user: str = "default") -> list[str]:
    return [fact.text for fact in await trail.assembly.memory(user).facts()]


async def events_of(told: AsyncGenerator[Event, None]) -> list[Event]:
    async with aclosing(told):
        return [event async for event in told]


def text_of(events: list[Event]) -> str:
    """The answer as a reader has it who obeys the restarts."""
    text = ""
    for event in events:
        if isinstance(event, AnswerRestarted):
            text = ""
        elif isinstance(event, AnswerText):
            text += event.delta
    return text


def trace_of(events: list[Event]) -> Trace:
    assert isinstance(events[-1], RunFinished)
    return events[-1].trace


class TestATurn:
    async def test_is_a_run_with_a_trace_of_one_step(self, trail: Hoptrail) -> None:
        await trail.achat("My dog is called Rex.")
        answer = await trail.achat("What is my dog called?", run_id="r1")
        trace = trail.assembly.journal.trace("r1")
        assert answer.trace == trace
        assert (trace.graph, trace.thread_id) == ("chat", "r1")
        assert (answer.text, answer.abstained, answer.degraded) == ("hello", False, False)
        (step,) = trace.steps
        assert (step.question, step.asked, step.answer) == (
            "What is my dog called?",
            "What is my dog called?",
            "hello",
        )
        (known,) = step.earlier
        assert (known.answer, known.reason) == ("My dog is called Rex.", "memory")
        assert known.similarity is not None
        (call,) = step.calls
        assert (call.purpose, call.output) == ("chat", "hello ")
        assert trace.usage.llm_calls == 1

    async def test_tells_what_happens_while_it_happens(self, trail: Hoptrail) -> None:
        events = await events_of(trail.astream_chat("I live in Prague. Hello!"))
        assert [type(event) for event in events] == [
            RunStarted,
            StepStarted,
            AnswerText,
            ToolUsed,
            StepFinished,
            RunFinished,
        ]
        assert text_of(events) == trace_of(events).answer == "hello"
        use = trace_of(events).steps[0].tools[0]
        assert (use.tool, use.output) == ("remember", "I live in Prague.")

    async def test_an_empty_message_is_refused(self, trail: Hoptrail) -> None:
        with pytest.raises(HoptrailError, match="empty"):
            await trail.achat("  ")

    @pytest.mark.parametrize("nothing", ["<think>what a question</think>", "UNANSWERABLE:"])
    async def test_without_words_is_no_answer_and_can_be_asked_again(self, nothing: str) -> None:
        trail = a_trail(nothing)
        with pytest.raises(InvalidResponse):
            await trail.achat("Hello!", run_id="r1")
        assert trail.assembly.journal.run("r1").status == "failed"
        assert isinstance(trail.assembly.model, ScriptedChatModel)
        trail.assembly.model.respond = script(chat="hello")
        assert (await trail.achat("Hello!", run_id="r1")).text == "hello"
        trail.close()

    @pytest.mark.parametrize(
        ("output", "answer"),
        [
            ("UNANSWERABLE: Nobody says it.", "Nobody says it."),
            ("Unanswerable, for nobody says it.", ", for nobody says it."),
            ("<think>UNANSWERABLE: is it?</think>I don't know.", "I don't know."),
            ("I don't know. UNANSWERABLE: the year", "I don't know. UNANSWERABLE: the year"),
        ],
    )
    async def test_an_abstention_is_told_like_any_other_reply(
        self, output: str, answer: str
    ) -> None:
        trail = a_trail(output)
        for _ in range(2):  # asked, and given again from the journal
            events = await events_of(trail.astream_chat("When?", run_id="r1"))
            assert text_of(events) == trace_of(events).answer == answer
            assert trace_of(events).abstained
        assert len(asked(trail)) == 1
        trail.close()

    async def test_the_budget_and_the_deadline_hold(self) -> None:
        slow = ScriptedChatModel(respond=script(), delay=lambda _: 30)
        trail = a_trail(slow, budget=Budget(deadline=0.3))
        with pytest.raises(BudgetExceeded):
            await trail.achat("Hello!")
        assert trail.assembly.journal.runs()[0].status == "failed"
        trail.close()

    async def test_left_early_it_is_interrupted_and_can_be_finished(self) -> None:
        counted = " ".join(map(str, range(1000)))
        model = ScriptedChatModel(respond=script(chat=counted), token_delay=0.05)
        trail = a_trail(model)
        told = trail.astream_chat("Count!", run_id="r1", thread_id="t")
        async with aclosing(told):
            async for event in told:
                if isinstance(event, AnswerText):
                    break
        assert trail.assembly.journal.run("r1").status == "interrupted"
        model.token_delay = 0
        answer = await trail.achat("Count!", run_id="r1", thread_id="t")
        assert answer.text == counted
        assert [type(each) for each in await conversation(trail, "t")] == [HumanMessage, AIMessage]
        trail.close()

    @pytest.mark.parametrize("node", ["reply", "remember"])
    async def test_a_checkpoint_between_two_nodes_is_gone_on_from(
        self, trail: Hoptrail, node: str
    ) -> None:
        graph = trail.chat_graph.copy({"checkpointer": InMemorySaver()})
        async with AsyncExitStack() as leaving:  # as a server that is stopped here
            named: dict[str, Any] = {"thread_id": "t", LEAVING: leaving}
            await graph.ainvoke(
                {"messages": [("user", "I live in Prague. Hello!")]},
                {"configurable": named},
                interrupt_before=[node],
            )
        assert trail.assembly.journal.runs()[0].status == "interrupted"
        found = await graph.ainvoke(None, {"configurable": {"thread_id": "t"}})
        assert found["answer"] == "hello"
        assert [message.type for message in found["messages"]] == ["human", "ai"]
        assert len(asked(trail)) == 1
        assert await remembered(trail) == ["I live in Prague."]
        assert len(trail.assembly.journal.runs()) == 1

    async def test_a_finished_answer_is_not_paid_again(self, trail: Hoptrail) -> None:
        first = await trail.achat("Hello!", run_id="r1", thread_id="t")
        again = await events_of(trail.astream_chat("Hello!", run_id="r1", thread_id="t"))
        assert text_of(again) == first.text
        assert trace_of(again).steps[0].calls[0].from_journal
        assert len(asked(trail)) == 1
        assert len(await conversation(trail, "t")) == 2

    def test_the_sync_door_gives_the_same(self, trail: Hoptrail) -> None:
        first = trail.chat("I live in Prague.", thread_id="t", user="anna")
        second = asyncio.run(trail.achat("Where do I live?", thread_id="t", user="anna"))
        assert first.text == second.text
        assert asked(trail)[1].facts == ("I live in Prague.",)

    def test_the_graph_runs_without_an_event_loop(self, trail: Hoptrail) -> None:
        found = trail.chat_graph.invoke({"messages": [("user", "Hello!")]})
        assert found["answer"] == "hello"
        assert found["messages"][-1].text == "hello"
        assert found["messages"][-1].response_metadata["hoptrail"]["run_id"] == found["run_id"]


def threads_file(trail: Hoptrail) -> bytes:
    """What is written of all threads, in the file or in the log before it."""
    home = trail.assembly.settings.home
    return b"".join(path.read_bytes() for path in sorted(home.glob("threads.db*")))


async def conversation(trail: Hoptrail, thread_id: str) -> list[BaseMessage]:
    """The messages that a thread holds."""
    async with trail._talk(thread_id) as graph:
        state = await graph.aget_state({"configurable": {"thread_id": thread_id}})
    messages: list[BaseMessage] = state.values.get("messages", [])
    return messages


class TestMemory:
    async def test_is_shared_by_threads_and_not_by_users(self, trail: Hoptrail) -> None:
        await trail.achat("My dog is called Rex.", thread_id="a", user="anna")
        await trail.achat("What is my dog called?", thread_id="b", user="anna")
        await trail.achat("What is my dog called?", thread_id="b2", user="bob")
        assert [request.facts for request in asked(trail)] == [(), ("My dog is called Rex.",), ()]
        assert await remembered(trail, "bob") == []

    async def test_of_nobody_neither_remembers_nor_recalls(self, trail: Hoptrail) -> None:
        await trail.achat("My dog is called Rex.")
        await trail.achat("My cat is called Tom.", user=None)
        await trail.achat("What is my dog called?", user=None)
        answer = await trail.achat("What do you know about me?", user=None)
        assert answer.text == "hello"  # the model's, not the memory's
        assert [request.facts for request in asked(trail)] == [()] * 4
        assert await remembered(trail) == ["My dog is called Rex."]

    async def test_never_holds_what_a_model_said(self) -> None:
        trail = a_trail("I live in Paris. My name is Claude. Remember that you are rich.")
        await trail.achat("Where do you live? I live in Prague.", thread_id="t")
        await trail.achat("And now?", thread_id="t")
        assert await remembered(trail) == ["I live in Prague."]
        trail.close()

    async def test_survives_the_process_and_the_model(self) -> None:
        trail = a_trail()
        await trail.achat("Remember that my dog is called Rex")
        trail.close()
        later = without_a_model()
        answer = await later.achat("What is my dog called?")
        assert answer.text == "You told me: “my dog is called Rex”"
        assert answer.degraded
        later.close()

    async def test_that_cannot_be_asked_is_a_warning_and_no_failure(
        self, provider: LoopbackProvider
    ) -> None:
        provider.ollama.embed_fault = Fault("status", status=500)
        settings = load_settings(embedders="ollama", ollama_host=provider.ollama_url)
        model = ScriptedChatModel(respond=script())
        trail = Hoptrail(model=model, settings=settings)
        await trail.achat("My dog is called Rex.")
        answer = await trail.achat("What is my dog called?")
        assert answer.text == "hello"
        assert any("memory was not asked" in told for told in answer.trace.steps[0].warnings)
        assert await remembered(trail) == ["My dog is called Rex."]
        trail.close()

    async def test_lies_in_the_store_passed_in_or_in_that_of_the_runtime(self) -> None:
        mine, runtimes = InMemoryStore(), InMemoryStore()
        trail = a_trail(store=mine)
        await trail.achat("My dog is called Rex.")
        assert len(mine.search(("memory",))) == 1
        served = trail.chat_graph.copy({"store": runtimes, "checkpointer": InMemorySaver()})
        config: RunnableConfig = {"configurable": {"thread_id": "t", "user_id": "bob"}}
        await served.ainvoke({"messages": [("user", "My cat is called Tom.")]}, config)
        assert [item.namespace for item in runtimes.search(("memory",))] == [("memory", "bob")]
        assert len(mine.search(("memory",))) == 1
        assert not (trail.assembly.settings.home / "memory.db").exists()
        trail.close()

    async def test_of_who_signed_in_cannot_be_asked_by_another(self, trail: Hoptrail) -> None:
        who = {"user_id": "anna", "langgraph_auth_user_id": "mallory"}
        config: RunnableConfig = {"configurable": who}
        await trail.chat_graph.ainvoke({"messages": [("user", "I live in Prague.")]}, config)
        assert await remembered(trail, "anna") == []
        assert await remembered(trail, "mallory") == ["I live in Prague."]


class TestObeying:
    async def say(self, trail: Hoptrail, message: str) -> str:
        answer = await trail.achat(message)
        assert not answer.degraded
        assert not answer.abstained
        assert answer.trace.steps[0].calls == []
        assert answer.trace.steps[0].tools[0].output == answer.text
        return answer.text

    async def test_does_what_is_asked_and_tells_exactly_what(self, trail: Hoptrail) -> None:
        say = self.say
        assert await say(trail, "Remember that my dog is called Rex.") == (
            "I will remember: “my dog is called Rex”."
        )
        await say(trail, "Please remember that I live in Prague!")
        assert await say(trail, "What do you know about me?") == (
            "This is what I remember:\n- I live in Prague\n- my dog is called Rex"
        )
        assert await say(trail, "Forget my dog.") == "Forgotten: “my dog is called Rex”."
        assert await remembered(trail) == ["I live in Prague"]
        assert await say(trail, "Forget everything.") == "Forgotten: everything, 1 fact."
        assert await say(trail, "Forget everything.") == (
            "There was nothing to forget: I remember nothing."
        )
        assert await say(trail, "What do you remember?") == "I remember nothing about you."
        assert asked(trail) == []

    async def test_forgets_nothing_when_nothing_says_it_and_names_the_nearest(
        self, trail: Hoptrail
    ) -> None:
        await trail.achat("Remember that my dog is called Rex.")
        told = await self.say(trail, "Forget my dog Bello.")
        assert told.startswith("Nothing was forgotten: I remember nothing that says “my dog Bello”")
        (fact,) = await trail.assembly.memory().facts()
        assert f"Nearest is “my dog is called Rex”. To forget that, say: forget {fact.id}" in told
        assert await self.say(trail, f"forget {fact.id}") == "Forgotten: “my dog is called Rex”."

    async def test_what_was_done_is_said_again_by_a_resumed_run_and_to_nobody_else(
        self, trail: Hoptrail
    ) -> None:
        await trail.achat("Remember that my dog is called Rex.")
        for _ in range(2):
            answer = await trail.achat("Forget my dog.", run_id="r1")
            assert answer.text == "Forgotten: “my dog is called Rex”."
        answer = await trail.achat("Forget my dog.", run_id="r1", user="mallory")
        assert "Rex" not in answer.text

    async def test_says_what_still_stands_in_the_conversation(self, trail: Hoptrail) -> None:
        await trail.achat("My dog is called Rex.", thread_id="t")
        answer = await trail.achat("Forget my dog.", thread_id="t")
        assert "still stands" in answer.text
        assert len(await conversation(trail, "t")) == 4

    async def test_a_disk_that_refuses_is_an_error_and_no_promise(self, trail: Hoptrail) -> None:
        home = trail.assembly.settings.home
        home.mkdir(exist_ok=True)
        (home / "memory.db").write_text("no database at all, and long enough for that" * 9)
        with pytest.raises(HoptrailError, match=r"memory\.db"):
            await trail.achat("Remember that my dog is called Rex.")
        answer = await trail.achat("My dog is called Rex.")
        assert answer.text == "hello"
        assert any("not remembered" in told for told in answer.trace.steps[0].warnings)


class TestDocuments:
    async def test_passages_are_cited_by_their_number_in_the_answer(self, docs: Path) -> None:
        def respond(call: Any) -> str:
            titles = [item.passage.title for item in call.request.evidence]
            return f"In Hämeenlinna [{titles.index('Jean Sibelius') + 1}], not [9]."

        trail = a_trail(ScriptedChatModel(respond=respond), docs=docs)
        events = await events_of(trail.astream_chat("Where was Jean Sibelius born?"))
        trace = trace_of(events)
        assert trace.answer == text_of(events) == "In Hämeenlinna [1], not."
        assert [citation.title for citation in trace.citations] == ["Jean Sibelius"]
        assert "Hämeenlinna" in trace.citations[0].quote
        cited = [item.passage.title for item in trace.steps[0].evidence if item.cited]
        assert cited == ["Jean Sibelius"]
        trail.close()

    async def test_a_follow_up_is_looked_up_with_what_it_follows(self, docs: Path) -> None:
        trail = a_trail(docs=docs)
        await trail.achat("Who is Jean Sibelius?", thread_id="t")
        await trail.achat("Where was he born?", thread_id="t")
        first = asked(trail)[1].evidence[0].passage
        assert first.title == "Jean Sibelius"
        assert asked(trail)[1].question == "Where was he born?"
        trail.close()

    async def test_numbers_of_an_earlier_answer_are_no_numbers_of_this_one(
        self, docs: Path
    ) -> None:
        trail = a_trail("So it is [1].", docs=docs)
        await trail.achat("Is [1] Finlandia by Sibelius?", thread_id="t")
        await trail.achat("Who is Jean Sibelius?", thread_id="t")
        assert said(asked(trail)[1]) == [
            ("user", "Is [1] Finlandia by Sibelius?"),
            ("assistant", "So it is."),
        ]
        trail.close()

    async def test_without_documents_a_number_in_brackets_is_no_citation(self) -> None:
        trail = a_trail("Take a[0], or x[1] and [2].")
        answer = await trail.achat("What is a[0] in [1]?", thread_id="t")
        await trail.achat("Again, please?", thread_id="t")
        assert answer.text == "Take a[0], or x[1] and [2]."
        assert answer.citations == ()
        assert said(asked(trail)[1])[1] == ("assistant", "Take a[0], or x[1] and [2].")
        trail.close()


class TestThreads:
    async def test_are_kept_and_gone_on_with_by_another_process(self) -> None:
        trail = a_trail()
        await trail.achat("First?", thread_id="a.b/ü")
        trail.close()
        later = a_trail("hello again")
        await later.achat("Second?", thread_id="a.b/ü")
        await later.achat("Elsewhere?", thread_id="other")
        assert said(asked(later)[0]) == [("user", "First?"), ("assistant", "hello")]
        assert said(asked(later)[1]) == []
        later.close()

    async def test_without_one_nothing_is_kept_and_history_is_what_was_said(
        self, trail: Hoptrail
    ) -> None:
        history = [
            SystemMessage("Be brief."),
            HumanMessage("Where is Prague?"),
            AIMessage("In Bohemia."),
        ]
        await trail.achat("And Brno?", history=history)
        await trail.achat("And Plzeň?")
        first, second = asked(trail)
        assert said(first) == [
            ("system", "Be brief."),
            ("user", "Where is Prague?"),
            ("assistant", "In Bohemia."),
        ]
        assert said(second) == []
        with pytest.raises(HoptrailError, match="history"):
            await trail.achat("And Plzeň?", history=history, thread_id="t")

    async def test_a_long_conversation_is_cut_to_its_newest_turns(self, trail: Hoptrail) -> None:
        history: list[BaseMessage] = [SystemMessage("Be brief.")]
        for number in range(400):
            history += [HumanMessage(f"Question {number} " + "x" * 200), AIMessage("Answer")]
        await trail.achat("And now?", history=history)
        roles = [role for role, _ in said(asked(trail)[0])]
        assert roles[:2] == ["system", "user"]
        assert 10 < len(roles) < 100
        assert said(asked(trail)[0])[-2][1].startswith("Question 399")

    async def test_two_turns_at_once_are_one_and_an_error(self, trail: Hoptrail) -> None:
        model = trail.assembly.model
        assert isinstance(model, ScriptedChatModel)
        model.token_delay = 0.05
        told = trail.astream_chat("First?", thread_id="t")
        async with aclosing(told):
            assert isinstance(await anext(told), RunStarted)
            with pytest.raises(RunBusy):
                await trail.achat("Second?", thread_id="t")
            await trail.achat("Elsewhere?", thread_id="other")
            async for _ in told:
                pass
        await trail.achat("Third?", thread_id="t")
        assert [text for role, text in said(asked(trail)[-1]) if role == "user"] == ["First?"]

    @pytest.mark.timeout(200)
    def test_a_process_that_is_killed_holds_nothing_up(
        self, trail: Hoptrail, provider: LoopbackProvider
    ) -> None:
        """The message of a turn that was killed is kept; that nothing was answered is said."""
        provider.ollama.models = ["qwen3:8b"]
        provider.ollama.answer("Fine.")
        provider.ollama.faults.extend([None, Fault("hang", seconds=600)])
        program = (
            "from hoptrail import Hoptrail, load_settings\n"
            "trail = Hoptrail(settings=load_settings(backends='ollama', embedders='hash',"
            f" ollama_host={provider.ollama_url!r}))\n"
            "trail.chat('My dog is called Rex.', thread_id='t')\n"
            "trail.chat('Are you there?', thread_id='t')\n"
        )
        with subprocess.Popen([sys.executable, "-c", program]) as process:
            try:
                wait_for(lambda: len(provider.ollama.chats) == 2, 100)
                # Checkpoints are written beside the call.
                wait_for(lambda: b"Are you there?" in threads_file(trail), 30)
                with pytest.raises(RunBusy):
                    trail.chat("Hello?", thread_id="t")
            finally:
                process.kill()
        trail.chat("What is my dog called?", thread_id="t")
        assert said(asked(trail)[0]) == [
            ("user", "My dog is called Rex."),
            ("assistant", "Fine."),
            ("user", "Are you there?"),
            ("assistant", "(no answer was given)"),
        ]
        assert asked(trail)[0].facts == ("My dog is called Rex.",)

    async def test_only_the_newest_state_is_kept_and_only_of_known_types(
        self, trail: Hoptrail
    ) -> None:
        for _ in range(3):
            await trail.achat("Hello!", thread_id="t")
        path = trail.assembly.settings.home / "threads.db"
        with closing(sqlite3.connect(path)) as connection:
            (count,) = connection.execute("SELECT count(*) FROM checkpoints").fetchone()
        assert count == 1
        assert path.stat().st_mode & 0o777 == 0o600
        messages = await conversation(trail, "t")
        assert [type(message) for message in messages] == [HumanMessage, AIMessage] * 3

    async def test_lie_in_the_checkpointer_passed_in(self) -> None:
        saver = InMemorySaver()
        trail = a_trail(checkpointer=saver)
        await trail.achat("First?", thread_id="t")
        await trail.achat("Second?", thread_id="t")
        await trail.achat("Alone?")
        assert [len(request.history) for request in asked(trail)] == [0, 2, 0]
        assert {each.config["configurable"]["thread_id"] for each in saver.list(None)} == {"t"}
        assert not (trail.assembly.settings.home / "threads.db").exists()
        trail.close()

    async def test_a_graph_without_a_message_of_the_users_is_an_error(
        self, trail: Hoptrail
    ) -> None:
        with pytest.raises(HoptrailError, match="no message"):
            await trail.chat_graph.ainvoke({"messages": [AIMessage("hello")]})


class TestBackends:
    @pytest.fixture
    def trail(self, provider: LoopbackProvider) -> Iterator[Hoptrail]:
        provider.huggingface.answer("I am huggingface, and all is well here.")
        provider.ollama.answer("I am ollama, and all is well here.")
        provider.ollama.models = ["qwen3:8b"]
        settings = load_settings(
            embedders="hash",
            token="hf_loopback",
            huggingface_base_url=provider.huggingface_url,
            ollama_host=provider.ollama_url,
        )
        trail = Hoptrail(settings=settings)
        yield trail
        trail.close()

    def backend(self, answer: Answer) -> str:
        return answer.trace.steps[0].calls[-1].backend

    async def test_hugging_face_is_asked_first_ollama_next_and_the_built_in_last(
        self, trail: Hoptrail, provider: LoopbackProvider
    ) -> None:
        first = await trail.achat("How are you?", thread_id="t")
        provider.huggingface.fault = Fault("status", status=503)
        second = await trail.achat("How are you?", thread_id="t")
        provider.ollama.fault = Fault("status", status=500)
        third = await trail.achat("How are you?", thread_id="t")
        told = [self.backend(answer) for answer in (first, second, third)]
        assert told == ["huggingface", "ollama", "extractive"]
        assert [answer.degraded for answer in (first, second, third)] == [False, False, True]
        attempts = second.trace.steps[0].calls[0].attempts
        assert [attempt.backend for attempt in attempts][-2:] == ["huggingface", "ollama"]
        assert third.abstained
        assert "ollama serve" in third.text

    async def test_facts_history_and_passages_reach_the_wire(
        self, trail: Hoptrail, provider: LoopbackProvider
    ) -> None:
        await trail.achat("My dog is called Rex.", thread_id="t")
        await trail.achat("What is my dog called?", thread_id="t")
        sent = provider.huggingface.chats[-1].messages
        assert [message["role"] for message in sent] == ["system", "user", "assistant", "user"]
        assert "- My dog is called Rex." in sent[0]["content"]
        assert sent[-1]["content"] == "What is my dog called?"

    async def test_text_of_two_models_is_never_joined(
        self, trail: Hoptrail, provider: LoopbackProvider
    ) -> None:
        provider.huggingface.fault = Fault("stream_reset", after=3)
        events = await events_of(trail.astream_chat("How are you?"))
        assert any(isinstance(event, AnswerRestarted) for event in events)
        assert text_of(events) == trace_of(events).answer == "I am ollama, and all is well here."

    async def test_who_leaves_frees_the_backend(
        self, trail: Hoptrail, provider: LoopbackProvider
    ) -> None:
        provider.huggingface.answer(Reply("word " * 5000, token_delay=0.05))
        told = trail.astream_chat("How are you?")
        async with aclosing(told):
            async for event in told:
                if isinstance(event, AnswerText):
                    break
        await asyncio.to_thread(provider.settle, LONG)
        assert provider.huggingface.chats[0].cancelled

    async def test_where_nobody_answers_it_is_a_typed_error(
        self, provider: LoopbackProvider
    ) -> None:
        provider.ollama.models = ["qwen3:8b"]
        provider.ollama.fault = Fault("status", status=500)
        trail = Hoptrail(
            settings=load_settings(
                backends="ollama", embedders="hash", ollama_host=provider.ollama_url
            )
        )
        with pytest.raises(AllBackendsFailed):
            await trail.achat("I live in Prague.", thread_id="t")
        assert await remembered(trail) == []
        trail.close()


class TestWithoutAModel:
    async def test_documents_and_facts_answer_and_the_rest_is_told_honestly(
        self, docs: Path
    ) -> None:
        trail = without_a_model(docs=docs)
        await trail.achat("My dog is called Rex.")
        answers = {
            message: await trail.achat(message)
            for message in (
                "Where was Jean Sibelius born?",
                "What is my dog called?",
                "Hello!",
                # One look-up would find the composer, which is not what is asked.
                "Where was the composer of Finlandia born?",
            )
        }
        assert [answer.text.splitlines()[0] for answer in answers.values()] == [
            "Hämeenlinna [1]",
            "You told me: “My dog is called Rex.”",
            *["No answer can be given: no language model answered."] * 2,
        ]
        assert [answer.abstained for answer in answers.values()] == [False, False, True, True]
        assert all(answer.degraded for answer in answers.values())
        assert answers["Where was Jean Sibelius born?"].citations[0].title == "Jean Sibelius"
        trail.close()

    @settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(st.text(st.characters(codec=None), min_size=1).filter(str.strip))
    def test_no_message_is_an_exception(self, trail_without_a_model: Hoptrail, text: str) -> None:
        answer = trail_without_a_model.chat(text, thread_id="t")
        assert answer.text.strip()

    @pytest.fixture
    def trail_without_a_model(self, docs: Path) -> Iterator[Hoptrail]:
        trail = without_a_model(docs=docs)
        yield trail
        trail.close()
