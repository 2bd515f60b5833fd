"""A finished run: its question, plan, every step with its evidence, timings and answer."""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import Console, Group, RenderableType
from rich.rule import Rule
from rich.text import Text
from rich.tree import Tree

from hoptrail.terminal.answer import citation_line
from hoptrail.terminal.calls import Fact, call_facts
from hoptrail.terminal.card import fact_grid, step_card
from hoptrail.terminal.change import change_line
from hoptrail.terminal.marks import BAD, QUIET, WARN, status_mark, status_style
from hoptrail.terminal.plain import amount, duration, one_line, plain, spent
from hoptrail.terminal.steps import answered_by
from hoptrail.terminal.waterfall import waterfall
from hoptrail.trace import Trace


def print_record(out: Console, trace: Trace, *, prompts: bool = False) -> None:
    """Print a whole run; with ``prompts`` also what was sent to the models, and their replies."""
    out.print(Text(plain(trace.question), "bold"))
    out.print(_summary(trace))
    if origin := list(_origin(trace)):
        out.print(fact_grid(origin))
    out.print()
    out.print(_tree(trace, out.width, prompts))
    answer = list(_answer(trace))
    if answer:
        out.print(Group("", Rule(style=QUIET), *answer, Rule(style=QUIET)))
    for part in (waterfall(trace, out.width), fact_grid(_ending(trace))):
        out.print()
        out.print(part)


def _origin(trace: Trace) -> Iterator[Fact]:
    if trace.parent_run_id:
        yield "forked from", Text(one_line(trace.parent_run_id))
    if trace.change is not None:
        yield "changed", change_line(trace.change)


def _summary(trace: Trace) -> Text:
    line = status_mark(trace.status).append(f" {trace.status}", status_style(trace.status))
    if trace.degraded:
        line.append(" · degraded", WARN)
    usage = trace.usage
    facts = [amount(len(trace.steps), "step"), answered_by(trace.calls())]
    if usage.wall_ms:
        facts[:0] = [duration(usage.wall_ms)]
        facts[2:2] = [spent(usage)]
    return line.append("".join(f" · {fact}" for fact in facts if fact), QUIET)


def _tree(trace: Trace, width: int, prompts: bool) -> Tree:
    tree = Tree(_plan(trace, prompts), guide_style=QUIET)
    usual = trace.plan.calls[-1].reason if trace.plan.calls else ""
    revisions, round_ = iter(trace.plan.revisions), 0
    for step in trace.steps:
        if step.round > round_:
            round_ = step.round
            tree.add(Text(f"asked differently: {one_line(next(revisions, ''))}".rstrip(": "), WARN))
        tree.add(step_card(step, width, usual, prompts=prompts))
    for step in trace.voided:
        tree.add(Text(f"begun for a plan that broke off: {one_line(step.asked)}", WARN))
    for call in trace.synthesis:
        title = Text(f"answer written by {answered_by([call]) or 'nobody'}", QUIET)
        tree.add(Group(title, fact_grid(call_facts(call, usual, prompts=prompts))))
    return tree


def _plan(trace: Trace, prompts: bool) -> RenderableType:
    calls = trace.plan.calls
    verb = "chosen one at a time" if trace.graph == "iterative" else "planned"
    sources = {
        "model": f"{verb} by {answered_by(calls) or 'the model'}",
        "journal": f"{verb}, taken up from the journal",
        "gate": "one look-up, no plan needed",
        "given": "plan given by the caller",
        "fallback": "the plan was unreadable: asked as one step",
    }
    title = sources[trace.plan.source]
    if calls and calls[-1].error and not trace.steps:
        title = "no plan was made"
    usual = ["", *(call.reason for call in calls)]
    told = zip(calls, usual, strict=False)
    facts = [fact for call, why in told for fact in call_facts(call, why, prompts=prompts)]
    facts += [("repaired", Text(one_line(repair), WARN)) for repair in trace.plan.repairs]
    return Group(Text(title, QUIET), fact_grid(facts))


def _answer(trace: Trace) -> Iterator[Text]:
    if trace.error:
        yield Text(one_line(trace.error), BAD)
    if trace.answer:
        yield Text(plain(trace.answer), WARN if trace.abstained else "")
    for number, citation in enumerate(trace.citations, start=1):
        yield citation_line(number, citation)
    for warning in trace.warnings:
        yield Text(one_line(warning), WARN)


def _ending(trace: Trace) -> Iterator[Fact]:
    limits = [f"{name} {value:g}" for name, value in trace.budget.items() if value is not None]
    facts = {
        "run": trace.run_id,
        "graph": trace.graph,
        "started": trace.started_at,
        "documents": trace.documents,
        "backends": trace.model_policy,
        "stopped": trace.stop_reason,
        "budget": ", ".join(limits),
        "versions": ", ".join(f"{name} {value}" for name, value in trace.versions.items()),
    }
    for label, value in facts.items():
        if value:
            yield label, Text(one_line(value))
