"""EM and F1 of a trail's answers on questions with gold answers.

    python -m benchmarks.answers [QUESTIONS.jsonl] [--docs PATH] [--backends extractive]

Without arguments: the example questions over the example corpus, answered by the built-in reader
(no model, no key). EM and F1 are SQuAD's, over the questions that have an answer; a question
without one is right when the answer abstains.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import tempfile
from pathlib import Path

from rich.console import Console
from rich.table import Table

from hoptrail import Answer, Hoptrail, load_settings
from hoptrail.evaluation import exact_match, f1

EXAMPLES = Path(__file__).parent.parent / "examples"


async def measure(questions: Path, docs: Path, backends: str, console: Console) -> None:
    """Ask every question, and print each answer beside its gold one, and the means."""
    rows = [json.loads(line) for line in questions.read_text(encoding="utf-8").splitlines()]
    table = Table(title=f"{questions.name}, n={len(rows)}, backends: {backends}")
    for column in ("id", "type", "answer", "gold", "EM", "F1"):
        table.add_column(column, overflow="fold")
    scores: list[tuple[float, float]] = []
    right_abstentions, unanswerable = 0, 0
    with tempfile.TemporaryDirectory() as home:
        settings = load_settings(backends=backends, embedders="hash", home=Path(home))
        trail = Hoptrail(docs=docs, settings=settings)
        for row in rows:
            answer = await trail.aask(row["question"])
            if row["answer"] is None:
                unanswerable += 1
                right_abstentions += answer.abstained
                cells = ("-", "abstained" if answer.abstained else "WRONG")
            else:
                scores.append(_scores(answer, [row["answer"], *row["aliases"]]))
                cells = (f"{scores[-1][0]:.0f}", f"{scores[-1][1]:.2f}")
            table.add_row(row["id"], row["type"], answer.short, row["answer"] or "-", *cells)
        trail.close()
    console.print(table)
    exact, overlap = (100 * sum(each) / len(scores) for each in zip(*scores, strict=True))
    console.print(f"EM {exact:.1f}  F1 {overlap:.1f}  (n={len(scores)} with an answer)")
    console.print(f"abstained rightly: {right_abstentions} of {unanswerable} without an answer")


def _scores(answer: Answer, gold: list[str]) -> tuple[float, float]:
    return float(exact_match(answer.short, gold)), f1(answer.short, gold)


def main() -> None:
    """Run what was asked for and print its table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("questions", nargs="?", type=Path, default=EXAMPLES / "questions.jsonl")
    parser.add_argument("--docs", type=Path, default=EXAMPLES / "corpus")
    parser.add_argument("--backends", default="extractive", help="as HOPTRAIL_BACKENDS")
    wish = parser.parse_args()
    asyncio.run(measure(wish.questions, wish.docs, wish.backends, Console(width=110)))


if __name__ == "__main__":
    main()
