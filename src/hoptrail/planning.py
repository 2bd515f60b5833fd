"""Planning: the steps of a question, each given out the moment it is certain."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from dataclasses import dataclass
from types import AsyncGeneratorType
from typing import Literal, cast

from hoptrail.events import PlanFinished, PlanRestarted, StepPlanned
from hoptrail.kept import kept_as
from hoptrail.plan import Plan, PlanReader, Step
from hoptrail.request import PlanRequest
from hoptrail.run import Key, Restarted, Run
from hoptrail.trace import Call, StepTrace


@dataclass(frozen=True)
class Voided:
    """All steps given out so far are void: the plan is being written anew."""


class KeptPlan(Plan):
    """The steps a fork takes over as they are, in place of what its parent's model wrote."""

    source: Literal["journal", "gate", "given"] = "journal"


def plan_key(key: Key) -> str:
    """Name the plan of a run."""
    return key("plan")


def steps_key(reply: str) -> str:
    """Name the steps that are taken in place of those that the reply of this key holds."""
    return f"steps:{reply}"


def kept_plan(run: Run, reply: str) -> KeptPlan | None:
    """Give the steps that are taken in place of those that the reply of this key holds."""
    kept = run.kept.get(steps_key(reply))
    return None if kept is None else kept_as(KeptPlan, kept)


class Planning:
    """The plan of a run while it is being made.

    It is opened by one node of the graph and read on by the next, so that the first step is
    answered while the last one is still being written. It has no task of its own: whoever asks
    for the next step drives it.
    """

    def __init__(self, run: Run, given: Sequence[str] = ()) -> None:
        self.run = run
        self._given = given
        self.plan: Plan | None = None
        self._steps = cast("AsyncGeneratorType[Step | Voided, None]", self._make())
        self._waiting: list[Step] = []

    async def open(self, *, whole: bool = False) -> tuple[Step, ...]:
        """Wait for the first step, or for the whole plan, and give what is known."""
        async for item in self._steps:
            if isinstance(item, Voided):
                self._waiting.clear()
            else:
                self._waiting.append(item)
                if not whole:
                    break
        return tuple(self._waiting)

    async def steps(self) -> AsyncIterator[Step | Voided]:
        """Give each step as it becomes certain, from the first one on."""
        waiting, self._waiting = self._waiting, []
        for step in waiting:
            yield step
        async for item in self._steps:
            yield item

    async def leave(self) -> None:
        """Close the plan, and let go of a run that nobody sees through."""
        try:
            # Being read, it ends with the node that reads it, whose task is cancelled.
            if not self._steps.ag_running:
                await self._steps.aclose()
        finally:
            await self.run.leave()

    async def _make(self) -> AsyncGenerator[Step | Voided, None]:
        plan = await self._without_asking()
        if plan is None:
            async for item in self._ask():
                yield item
        else:
            for step in self._finished(plan, given=0):
                yield step

    async def _without_asking(self) -> Plan | None:
        run, question = self.run, self.run.trace.question
        key, made = plan_key(run.key), run.trace.plan
        if self._given:
            made.source = "given"
            call = Call(purpose="plan", output=json.dumps({"steps": list(self._given)}))
            await run.keep(key, call.model_dump_json())
            return self._read(call.output)
        earlier, kept = run.recalled(key, made.calls), kept_plan(run, key)
        if kept is not None:
            made.source = kept.source
            return kept
        if earlier is not None:
            made.source = "journal"
            return self._read(earlier.output)
        if run.parts.gate is not None and run.parts.gate(question):
            made.source = "gate"
            return Plan(steps=(Step(id=1, question=question),))
        return None

    def _reader(self) -> PlanReader:
        return PlanReader(self.run.trace.question, max_steps=self.run.parts.budget.max_steps)

    def _read(self, text: str) -> Plan:
        reader = self._reader()
        reader.feed(text)
        return reader.finish()

    async def _ask(self) -> AsyncIterator[Step | Voided]:
        run, question = self.run, self.run.trace.question
        request = PlanRequest(
            question=question,
            max_steps=run.parts.budget.max_steps,
            tools=run.parts.tool_names,
        )
        reader = self._reader()
        given = 0
        async for piece in run.stream("plan", request, run.trace.plan.calls):
            if isinstance(piece, Restarted):
                reader = self._reader()
                given = 0
                run.trace.voided += run.trace.steps
                run.trace.steps.clear()
                run.failures.clear()
                run.tell(PlanRestarted(piece.why))
                yield Voided()
                continue
            for step in reader.feed(piece):
                given += 1
                yield enter_step(run, step)
        plan = reader.finish()
        if plan.repairs and [step.question for step in plan.steps] == [question]:
            run.trace.plan.source = "fallback"
        await run.keep(plan_key(run.key), run.trace.plan.calls[-1].model_dump_json())
        for step in self._finished(plan, given):
            yield step

    def _finished(self, plan: Plan, given: int) -> list[Step]:
        self.plan = plan
        note_repairs(self.run, plan)
        late = [enter_step(self.run, step) for step in plan.steps[given:]]
        self.run.tell(PlanFinished(plan.repairs, self.run.trace.plan.source))
        return late


def note_repairs(run: Run, plan: Plan) -> None:
    """Enter into the trace what was wrong with a plan; one that was cut spent the budget."""
    run.trace.plan.repairs += plan.repairs
    if plan.left_out:
        run.ledger.stopped_by = run.ledger.stopped_by or "steps"


def enter_step(run: Run, step: Step, round_: int = 0) -> Step:
    """Enter a planned step into the trace, and tell about it."""
    depends_on = list(step.depends_on)
    record = StepTrace(id=step.id, question=step.question, depends_on=depends_on, round=round_)
    record.planned_ms = run.now()
    run.trace.steps.append(record)
    run.tell(StepPlanned(step.id, step.question, step.depends_on, round_))
    return step
