"""Tools inside a step: what the model asks for is called, and what came back is evidence.

Only the tools that were passed in are ever called, and only when the model asks for one in the
form its backend has for that: a passage cannot. Each result is committed before anything builds
on it, so that a resumed run calls nothing again that had ended. A tool's failure is told to the
model; it never ends the step.
"""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING

from langchain_core.messages import AIMessage, ToolMessage
from langchain_core.tools import BaseTool, StructuredTool, Tool
from langchain_core.utils.function_calling import convert_to_openai_tool
from langgraph.config import get_config
from pydantic import ValidationError

from hoptrail.characters import whole
from hoptrail.errors import RequestRefused, SettingsError
from hoptrail.events import ToolUsed
from hoptrail.evidence import Evidence, Passage
from hoptrail.kept import kept_as
from hoptrail.request import StepRequest
from hoptrail.run import RUN_ID, Run
from hoptrail.secrecy import Secrets
from hoptrail.threads import in_own_thread
from hoptrail.trace import Call, StepTrace, ToolCall, ToolUse, TracedEvidence

if TYPE_CHECKING:
    from langchain_core.language_models import LanguageModelInput
    from langchain_core.runnables import Runnable, RunnableConfig

    Model = Runnable[LanguageModelInput, AIMessage]

MOST_TURNS = 3
"""How often a step may ask for tools; then it has to answer."""
MOST_AT_ONCE = 8
"""How many calls one reply may ask for."""
LONGEST_OUTPUT = 4_000
"""Characters of one result that are kept."""
ALL_OUTPUTS = 12_000
"""Characters of all results of a step together that the model is shown."""
SHORTEST_CUT = 200
"""Characters of a result that are shown even where others have taken all the room."""
_LONGEST_TITLE = 200
_LONGEST_ERROR = 300
_NOT_FINISHED = "it did not finish"


async def ask_with_tools(
    run: Run, request: StepRequest, record: StepTrace
) -> tuple[str, StepRequest]:
    """Put a step's question to the model, which may have the run's tools called first.

    Gives the reply and the request it answers: the evidence of that holds what tools returned,
    and it offers no more tools, so that a reply to it is held to the form of an answer.

    Raises:
        HoptrailError: as `Run.ask`; `SettingsError` when the tools cannot be offered at all.
    """
    model = _with_tools(run) if request.tools else None
    if model is not None:
        session = _Session(run, record, model)
        for turn in range(MOST_TURNS):
            call = await session.ask(request, turn)
            if call is None:
                break
            if not call.tool_calls:
                return call.output, _without_tools(request)
            request, is_new = await session.use(request, call.tool_calls)
            if not is_new:
                break
    request = _without_tools(request)
    if run.recalled(unusable_key(run, record), record.calls) is None:
        await run.ask("step", request, record.calls)
    return record.calls[-1].output, request


def unusable_key(run: Run, record: StepTrace, calls: int | None = None) -> str:
    """Name the reply to a step that comes after ``calls``, where it turns out to be none."""
    number = len(record.calls) if calls is None else calls
    return run.key("unusable", record.id, record.round, record.asked, number)


def _with_tools(run: Run) -> Model | None:
    """Give the model with the tools bound to it, or None where that cannot be; says so once."""
    if run.tools_refused:
        return None
    if twice := [name for name, times in Counter(run.parts.tool_names).items() if times > 1]:
        raise SettingsError(f"several tools have the name {twice[0]}: a model could not choose")
    try:
        return run.parts.model.bind_tools(list(run.parts.tools))
    except NotImplementedError:  # LangChain's base class, for a model that has no `bind_tools`
        kind = type(run.parts.model).__name__
        _refuse(run, f"{kind} cannot call tools (it has no bind_tools): answered without them")
        return None
    except Exception as error:
        # A caller's model or tool may raise anything when its arguments are described.
        why = f"{type(error).__name__}: {error}"
        raise SettingsError(f"the tools cannot be offered to the model: {why}") from error


def _refuse(run: Run, why: str) -> None:
    run.tools_refused = True
    run.warn(whole(why))


def _without_tools(request: StepRequest) -> StepRequest:
    return request.model_copy(update={"tools": ()})


class _Session:
    """One step's dealings with its tools: what was asked for, and what came of it."""

    def __init__(self, run: Run, record: StepTrace, model: Model) -> None:
        self._run, self._record, self._model = run, record, model
        self._tools = {tool.name: tool for tool in run.parts.tools}
        self._called: Counter[str] = Counter()
        self._answered: set[str] = set()
        self._room = ALL_OUTPUTS

    async def ask(self, request: StepRequest, turn: int) -> Call | None:
        """Give the model's reply, or None when its backend refuses to be offered tools."""
        run, record = self._run, self._record
        key = run.key("turn", record.id, record.round, record.asked, request.tools, turn)
        for kept in (key, unusable_key(run, record)):
            if (earlier := run.recalled(kept, record.calls)) is not None:
                return earlier
        try:
            await run.ask("step", request, record.calls, model=self._model)
        except RequestRefused as refused:
            _refuse(run, f"answered without tools: {refused}")
            return None
        call = record.calls[-1]
        if call.degraded:
            run.warn("the built-in reader calls no tools: answered without them")
        if call.tool_calls:
            await run.keep(key, call.model_dump_json())
        return call

    async def use(
        self, request: StepRequest, wanted: Sequence[ToolCall]
    ) -> tuple[StepRequest, bool]:
        """Have tools called; give the request with what came of it, and whether that is new.

        Raises:
            BudgetExceeded: the run's deadline passed before all had ended.
        """
        if len(wanted) > MOST_AT_ONCE:
            left_out = f"{len(wanted) - MOST_AT_ONCE} of {len(wanted)} tool calls left out"
            self._record.warnings.append(f"{left_out}: a reply may ask for {MOST_AT_ONCE}")
        uses = [use for call in wanted[:MOST_AT_ONCE] if (use := self._begun(call))]
        await self._call_all(uses)
        evidence = [*request.evidence]
        for use in uses:
            if not use.error:
                self._answered.add(_name_of(use))
                evidence.append(self._evidence(use, len(evidence) + 1))
        failures = [f"{_title(use)}: {use.error}" for use in uses if use.error]
        update = {"evidence": tuple(evidence), "failures": (*request.failures, *failures)}
        return request.model_copy(update=update), bool(uses)

    def _begun(self, call: ToolCall) -> ToolUse | None:
        """Enter a call into the record; None for one whose result the model has been shown."""
        use = ToolUse(tool=call.tool, arguments=call.arguments, started_ms=self._run.now())
        if _name_of(use) in self._answered:
            self._record.warnings.append(f"asked again for {_title(use)}: not called again")
            return None
        use.error = (call.error or self._fault(call))[:_LONGEST_ERROR] or _NOT_FINISHED
        self._record.tools.append(use)
        return use

    def _fault(self, call: ToolCall) -> str:
        """Say why a call cannot be made; the tool itself checks the values of its arguments."""
        tool = self._tools.get(call.tool)
        if tool is None:
            return f"there is no tool of this name, only {', '.join(self._tools)}"
        offered = convert_to_openai_tool(tool)["function"].get("parameters", {})
        known = offered.get("properties", {})
        unknown = sorted(call.arguments.keys() - known.keys())
        if unknown and not offered.get("additionalProperties"):
            return f"it has no argument {', '.join(unknown)}, only {', '.join(known) or 'none'}"
        return ""

    async def _call_all(self, uses: Sequence[ToolUse]) -> None:
        try:
            async with self._run.until_deadline("step"), asyncio.TaskGroup() as group:
                for use in uses:
                    if use.error == _NOT_FINISHED:
                        name = _name_of(use)
                        self._called[name] += 1
                        key = self._key(name, self._called[name])
                        group.create_task(self._call(use, self._tools[use.tool], key))
                    else:
                        self._run.tell(ToolUsed(self._record.id, use))
        except BaseExceptionGroup as failed:
            raise failed.exceptions[0] from None

    async def _call(self, use: ToolUse, tool: BaseTool, key: str) -> None:
        run = self._run
        if (kept := run.kept.get(key)) is not None:
            earlier = kept_as(ToolUse, kept)
            use.output, use.error, use.from_journal = earlier.output, earlier.error, True
        else:
            use.output, use.error = await _outcome(tool, use, key, run.parts.secrets)
            use.ms = round(run.now() - use.started_ms, 3)
            await run.keep(key, use.model_dump_json())
        if not use.error:
            use.passage_id = self._passage_id(use)
        run.tell(ToolUsed(self._record.id, use))

    def _key(self, name: str, occurrence: int) -> str:
        record = self._record
        return self._run.key("tool", record.id, record.round, record.asked, name, occurrence)

    def _passage_id(self, use: ToolUse) -> str:
        """Name a result; steps count their own, so that a resumed run names it alike."""
        of_tool = [each for each in self._record.tools if each.tool == use.tool]
        number = next(at for at, each in enumerate(of_tool, start=1) if each is use)
        return f"tool:{use.tool}:{self._record.id}.{number}"

    def _evidence(self, use: ToolUse, rank: int) -> Evidence:
        room = max(self._room, SHORTEST_CUT)
        text = use.output[:room] or "(nothing)"
        self._room = max(0, self._room - len(text))
        if len(use.output) > room or len(use.output) == LONGEST_OUTPUT:
            self._record.warnings.append(f"{_title(use)} returned much: the model saw the start")
        passage = Passage(
            id=use.passage_id,
            text=text,
            title=_title(use),
            source=f"tool:{use.tool}",
            end=len(text),
        )
        item = Evidence(passage=passage, rank=rank, score=1.0)
        self._record.evidence.append(TracedEvidence(**dict(item)))
        return item


async def _outcome(tool: BaseTool, use: ToolUse, call_id: str, secrets: Secrets) -> tuple[str, str]:
    """Call a tool; give what it returned, or why it failed, without any key of ours."""
    call = {"type": "tool_call", "name": use.tool, "args": use.arguments, "id": call_id}
    try:
        returned = await _called(tool, call)
    except ValidationError as error:
        return "", _in_short(error)
    except Exception as error:  # noqa: BLE001 # a caller's tool may raise anything
        why = f"{type(error).__name__}: {error}"
        return "", whole(secrets.hide_start(why, _LONGEST_ERROR))
    text = str(returned.text if isinstance(returned, ToolMessage) else returned)
    text = whole(secrets.hide_start(text, LONGEST_OUTPUT))
    if not isinstance(returned, ToolMessage):
        return text, ""
    if returned.status == "error":
        return "", text[:_LONGEST_ERROR] or "it failed"
    return text, ""


async def _called(tool: BaseTool, call: Mapping[str, object]) -> object:
    config = _config_of_tools()
    if _blocks(tool):
        return await in_own_thread(partial(tool.invoke, dict(call), config))
    return await tool.ainvoke(dict(call), config)


def _blocks(tool: BaseTool) -> bool:
    """Say whether a tool has nothing but blocking code of its own."""
    kind, bases = type(tool), (BaseTool, StructuredTool, Tool)
    return (
        not getattr(tool, "coroutine", None)
        and kind.ainvoke in [base.ainvoke for base in bases]
        and kind._arun in [base._arun for base in bases]
    )


def _config_of_tools() -> RunnableConfig:
    """Give what tools are called with; a graph of ours inside one is a run of its own."""
    given = get_config().get("configurable", {})
    return {"configurable": {name: value for name, value in given.items() if name != RUN_ID}}


def _in_short(error: ValidationError) -> str:
    faults = error.errors(include_url=False, include_input=False, include_context=False)
    told = (f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in faults)
    return whole(f"not valid: {'; '.join(told)}")[:_LONGEST_ERROR]


def _name_of(use: ToolUse) -> str:
    """Give what makes two calls the same."""
    return f"{use.tool} {json.dumps(use.arguments, sort_keys=True)}"


def _title(use: ToolUse) -> str:
    written = " ".join(use.written.split())
    is_long = len(written) > _LONGEST_TITLE
    return f"{written[: _LONGEST_TITLE - 1]}…" if is_long else written
