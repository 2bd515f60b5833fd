"""EM and F1 of a trail's answers on questions with gold answers.

    python -m benchmarks.answers [QUESTIONS.jsonl] [--docs PATH] [--backends extractive]
                                 [--graph multi-hop|iterative]

Without arguments: the example questions over the example corpus, answered by the built-in reader
(no model, no key). EM and F1 are SQuAD's, over the questions that have an answer; a question
without one is right when the answer abstains.
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
from pathlib import Path
from typing import get_args

from rich.console import Console
from rich.progress import track
from rich.table import Table

from hoptrail import Hoptrail, load_settings
from hoptrail.evaluation import Dataset, exact_match, f1, load_dataset
from hoptrail.trail import QuestionGraph

EXAMPLES = Path(__file__).parent.parent / "examples"


async def measure(wish: argparse.Namespace, dataset: Dataset, console: Console) -> None:
    """Ask every question, and print each answer beside its gold one, and the means."""
    questions, backends = dataset.questions, wish.backends
    table = Table(title=f"{dataset.name}, n={len(questions)}, {wish.graph}, backends: {backends}")
    for column in ("id", "type", "answer", "gold", "EM", "F1"):
        table.add_column(column, overflow="fold")
    scores: list[tuple[float, float]] = []
    abstained = 0
    with tempfile.TemporaryDirectory() as home:
        settings = load_settings(backends=backends, embedders="hash", home=Path(home))
        trail = Hoptrail(docs=wish.docs, settings=settings)
        for question in track(questions, "asking", console=Console(stderr=True)):
            answer = await trail.aask(question.question, graph=wish.graph)
            if question.answers:
                scores.append(
                    (
                        exact_match(answer.short, question.answers),
                        f1(answer.short, question.answers),
                    )
                )
                cells = (f"{scores[-1][0]:.0f}", f"{scores[-1][1]:.2f}")
            else:
                abstained += answer.abstained
                cells = ("-", "abstained" if answer.abstained else "WRONG")
            gold = question.answer or "-"
            table.add_row(question.id, question.type, answer.short, gold, *cells)
        trail.close()
    console.print(table)
    exact, overlap = (100 * sum(each) / len(scores) for each in zip(*scores, strict=True))
    console.print(f"EM {exact:.1f}  F1 {overlap:.1f}  (n={len(scores)} with an answer)")
    console.print(f"abstained rightly: {abstained} of {len(questions) - len(scores)} without one")


def main() -> None:
    """Run what was asked for and print its table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("questions", nargs="?", type=Path, default=EXAMPLES / "questions.jsonl")
    parser.add_argument("--docs", type=Path, default=EXAMPLES / "corpus")
    parser.add_argument("--backends", default="extractive", help="as HOPTRAIL_BACKENDS")
    parser.add_argument("--graph", default="multi-hop", choices=get_args(QuestionGraph))
    wish = parser.parse_args()
    asyncio.run(measure(wish, load_dataset(wish.questions), Console(width=110)))


if __name__ == "__main__":
    main()
