"""Wall time against the critical path of the calls, and own cost per question.

    python -m benchmarks.speed [--rounds 5] [--only wall|cost]

The model is the loopback Hugging Face and Ollama of the tests, in a process of its own, with
200 ms to the first token and 10 ms a token. The critical path is not computed from those nominal
figures: in every round the same calls are made bare (httpx, nothing else), their real times are
taken, and the path is laid through them: plan streamed, each step started when its line of the
plan and the answers it needs are there, synthesis after the last step. Two named alternatives
are laid through the same bare calls: the whole plan first with a barrier after each wave, and
one call after the other.

The cost is CPU time per question of a process that answers the four-step diamond from a model
without any delay, with trace and journal on, beside the same six calls made bare.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import httpx
from rich.console import Console
from rich.table import Table

from hoptrail import Budget, Hoptrail
from hoptrail.plan import references
from hoptrail.settings import load_settings

FIRST_TOKEN, TOKEN = 0.2, 0.01
SYNTHESIS = "The answer is here.\n\nIt follows from the steps that were asked before it."

SHAPES: dict[str, list[str]] = {
    "chain": ["Who wrote alpha?", "Where was #1 born?", "Who rules #2?", "How old is #3?"],
    "independent": [f"What is the colour of item {n}?" for n in range(1, 5)],
    "diamond": ["Who wrote beta?", "Where was #1 born?", "When was #1 born?", "What of #2 and #3?"],
    "uneven": ["A slow look-up of gamma?", "Who wrote delta?", "Where was #2 born?", "Why #3?"],
    "eight apart": [f"What is the weight of item {n}?" for n in range(1, 9)],
}
SLOW_TOKENS = 75
BARE = "the same 6 calls bare (httpx)"
QUESTIONS = 10


def reply_text(step: int, question: str) -> str:
    """Give a step's scripted reply; the slow one has many more tokens than the others."""
    words = SLOW_TOKENS if "slow" in question else 8
    reasoning = " ".join(["word"] * words)
    answer = {"reasoning": reasoning, "found": True, "answer": f"A{step}", "passages": []}
    return json.dumps(answer)


@dataclass(frozen=True)
class Shape:
    """A plan, its scripted texts, and the questions as they will be asked."""

    name: str
    steps: list[str]

    @property
    def question(self) -> str:
        """The question that makes the loopback provider write this plan."""
        return f"What comes of the {self.name} plan?"

    @property
    def plan_text(self) -> str:
        """The plan as the model writes it."""
        return json.dumps({"steps": self.steps})

    def asked(self, step: int) -> str:
        """The question of a step (from 1) with its references filled."""
        return re.sub(r"#(\d+)", r"A\1", self.steps[step - 1])

    def needs(self, step: int) -> tuple[int, ...]:
        """The steps that a step refers to."""
        return references(self.steps[step - 1])

    def script(self) -> dict[str, str]:
        """Answers by a part of the last user message; the synthesis is told by its heading."""
        steps = range(1, len(self.steps) + 1)
        answers = {f"Findings:\nStep 1: {self.asked(1)}": SYNTHESIS}
        answers |= {f"Question: {self.question}": self.plan_text}
        answers |= {f"Question: {self.asked(n)}": reply_text(n, self.steps[n - 1]) for n in steps}
        return answers


ALL_SHAPES = [Shape(name, steps) for name, steps in SHAPES.items()]


@contextmanager
def provider(first_token: float, token: float, parallel: int = 64) -> Iterator[dict[str, str]]:
    """Start the loopback providers in a process of their own; give their addresses."""
    answers: dict[str, str] = {}
    for shape in ALL_SHAPES:
        answers |= shape.script()
    side = {"answers": answers, "reply": {"first_token_delay": first_token, "token_delay": token}}
    ollama = side | {"models": ["qwen3:8b"], "num_parallel": parallel}
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "script.json"
        file.write_text(json.dumps({"huggingface": side, "ollama": ollama}), encoding="utf-8")
        command = [sys.executable, "-m", "tests.providers", "--script", str(file)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            lines = [process.stdout.readline().strip() for _ in range(2)]
            try:
                yield dict(line.removeprefix("export ").split("=", 1) for line in lines)
            finally:
                process.terminate()


@dataclass(frozen=True)
class BareCall:
    """One call made with httpx alone: seconds to each token's arrival, and the text so far."""

    arrivals: list[float]
    texts: list[str]

    @property
    def seconds(self) -> float:
        """How long the whole call took."""
        return self.arrivals[-1]

    def until(self, part: str) -> float:
        """Give the seconds until a part of the text had arrived."""
        return next(at for at, text in zip(self.arrivals, self.texts, strict=True) if part in text)


async def bare_call(client: httpx.AsyncClient, url: str, content: str) -> BareCall:
    """Make one streaming call to the loopback Ollama, with nothing around it."""
    body = {"model": "qwen3:8b", "messages": [{"role": "user", "content": content}]}
    started, arrivals, texts, text = time.perf_counter(), [], [], ""
    async with client.stream("POST", f"{url}/api/chat", json=body) as response:
        async for line in response.aiter_lines():
            text += json.loads(line)["message"]["content"]
            arrivals.append(time.perf_counter() - started)
            texts.append(text)
    return BareCall(arrivals, texts)


@dataclass(frozen=True)
class BareRun:
    """All calls of a shape, made bare, and what schedules would make of them, in seconds."""

    shape: Shape
    plan: BareCall
    steps: list[BareCall]
    synthesis: BareCall

    def critical_path(self) -> float:
        """Plan streamed; a step starts with its line and its needs; synthesis last."""
        ends: list[float] = []
        for number, call in enumerate(self.steps, start=1):
            known = self.plan.until(self.shape.steps[number - 1] + '"')
            ready = max([known, *(ends[need - 1] for need in self.shape.needs(number))])
            ends.append(ready + call.seconds)
        return max(*ends, self.plan.seconds) + self.synthesis.seconds

    def waves(self) -> float:
        """The whole plan first, then a barrier after each wave of steps."""
        level: list[int] = []
        for number in range(1, len(self.steps) + 1):
            level.append(max((level[n - 1] + 1 for n in self.shape.needs(number)), default=0))
        pairs = list(zip(level, self.steps, strict=True))
        slowest = [
            max(call.seconds for at, call in pairs if at == wave) for wave in sorted(set(level))
        ]
        return self.plan.seconds + sum(slowest) + self.synthesis.seconds

    def in_sequence(self) -> float:
        """One call after the other."""
        calls = [self.plan, *self.steps, self.synthesis]
        return sum(call.seconds for call in calls)


async def bare_run(shape: Shape, url: str) -> BareRun:
    """Make the calls of a shape bare, one at a time, over one connection."""
    async with httpx.AsyncClient(timeout=60) as client:
        await bare_call(client, url, f"Question: {shape.question}")
        plan = await bare_call(client, url, f"Question: {shape.question}")
        numbers = range(1, len(shape.steps) + 1)
        steps = [await bare_call(client, url, f"Question: {shape.asked(n)}") for n in numbers]
        synthesis = await bare_call(client, url, f"Findings:\nStep 1: {shape.asked(1)}")
    return BareRun(shape, plan, steps, synthesis)


def trail(urls: dict[str, str], backend: str, home: Path) -> Hoptrail:
    """Give a trail over one loopback backend, without documents."""
    settings = load_settings(
        backends=(backend,),
        embedders=("hash",),
        ollama_host=urls["OLLAMA_HOST"],
        huggingface_base_url=urls["HUGGINGFACE_BASE_URL"],
        token="hf_loopback",
        home=home,
    )
    return Hoptrail(settings=settings, budget=Budget(max_steps=8))


async def measure_wall(rounds: int, console: Console) -> None:
    """Print wall time over critical path for each shape and backend."""
    table = Table(title=f"Wall time / critical path (median of {rounds}, worst in brackets)")
    table.add_column("plan")
    for column in ("critical path, s", "Ollama", "Hugging Face", "waves", "in sequence", "calls"):
        table.add_column(column, justify="right")
    with tempfile.TemporaryDirectory() as home, provider(FIRST_TOKEN, TOKEN) as urls:
        trails = {name: trail(urls, name, Path(home)) for name in ("ollama", "huggingface")}
        for shape in ALL_SHAPES:
            table.add_row(*await _wall_row(shape, trails, urls["OLLAMA_HOST"], rounds))
            console.print(f"[dim]{shape.name} done[/dim]")
        for each in trails.values():
            each.close()
    console.print(table)


async def _wall_row(
    shape: Shape, trails: dict[str, Hoptrail], url: str, rounds: int
) -> tuple[str, ...]:
    for each in trails.values():
        await each.aask(shape.question)
    ratios: dict[str, list[float]] = {name: [] for name in (*trails, "waves", "in sequence")}
    paths, calls = [], set()
    for _ in range(rounds):
        bare = await bare_run(shape, url)
        path = bare.critical_path()
        paths.append(path)
        ratios["waves"].append(bare.waves() / path)
        ratios["in sequence"].append(bare.in_sequence() / path)
        for name, each in trails.items():
            started = time.perf_counter()
            answer = await each.aask(shape.question)
            ratios[name].append((time.perf_counter() - started) / path)
            calls.add(answer.usage.llm_calls)
    cells = [_median_and_worst(ratios[name]) for name in ("ollama", "huggingface")]
    cells += [f"{statistics.median(ratios[name]):.2f}" for name in ("waves", "in sequence")]
    return shape.name, f"{statistics.median(paths):.3f}", *cells, "/".join(map(str, sorted(calls)))


def _median_and_worst(values: list[float]) -> str:
    return f"{statistics.median(values):.3f} ({max(values):.3f})"


async def measure_cost(rounds: int, console: Console) -> None:
    """Print CPU milliseconds per four-step question at zero latency, all in turn each round."""
    shape = next(shape for shape in ALL_SHAPES if shape.name == "diamond")
    costs: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as home, provider(0.0, 0.0) as urls:
        async with httpx.AsyncClient(timeout=60) as client:
            asked: dict[str, Callable[[], Awaitable[object]]] = {
                BARE: partial(_bare_calls, shape, urls["OLLAMA_HOST"], client)
            }
            trails = [trail(urls, name, Path(home)) for name in ("ollama", "huggingface")]
            for asking in trails:
                name = f"Hoptrail over {asking.assembly.settings.backends[0]}"
                asked[name] = partial(asking.aask, shape.question)
            for _ in range(rounds + 1):
                for name, ask in asked.items():
                    costs.setdefault(name, []).append(await _cpu_ms(ask))
        for asking in trails:
            asking.close()
    console.print(_cost_table({name: found[1:] for name, found in costs.items()}))


def _cost_table(costs: dict[str, list[float]]) -> Table:
    rounds = len(costs[BARE])
    table = Table(
        title=f"Own cost: diamond of 4 steps, 6 calls, no delay, trace and journal on "
        f"({rounds} rounds of {QUESTIONS} questions, in turn)"
    )
    table.add_column("CPU ms a question")
    for column in ("least", "median", "x bare (median of rounds)"):
        table.add_column(column, justify="right")
    for name, found in costs.items():
        ratio = statistics.median(
            ours / bare for ours, bare in zip(found, costs[BARE], strict=True)
        )
        row = (f"{min(found):.1f}", f"{statistics.median(found):.1f}", f"{ratio:.2f}")
        table.add_row(name, *row)
    return table


async def _bare_calls(shape: Shape, url: str, client: httpx.AsyncClient) -> None:
    await bare_call(client, url, f"Question: {shape.question}")
    for number in range(1, len(shape.steps) + 1):
        await bare_call(client, url, f"Question: {shape.asked(number)}")
    await bare_call(client, url, f"Findings:\nStep 1: {shape.asked(1)}")


async def _cpu_ms(ask: Callable[[], Awaitable[object]]) -> float:
    began = time.process_time()
    for _ in range(QUESTIONS):
        await ask()
    return (time.process_time() - began) / QUESTIONS * 1000


def main() -> None:
    """Run what was asked for and print its tables."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=5, help="rounds per plan shape")
    parser.add_argument("--only", choices=("wall", "cost"), help="one of the two tables")
    wish = parser.parse_args()
    console = Console(width=110)
    if wish.only != "cost":
        asyncio.run(measure_wall(wish.rounds, console))
    if wish.only != "wall":
        asyncio.run(measure_cost(2 * wish.rounds, console))


if __name__ == "__main__":
    main()
