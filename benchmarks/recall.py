"""Recall of the product's own ingestion and search on a folder of real questions.

    python -m benchmarks.recall DATA_FOLDER --embedder minilm

DATA_FOLDER has corpus.jsonl and questions.jsonl. Prints R@2, R@5, R@10 and All@5 in percent, for
one search without and with the passage graph and, where the questions carry a gold decomposition,
for its steps' searches taken in turn at the same budget. The time of a search is the median, with
the question's vector known.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from collections.abc import Awaitable, Callable, Iterable
from functools import partial
from pathlib import Path
from statistics import mean, median
from tempfile import TemporaryDirectory

from hoptrail.embeddings import EmbedderChain, HashEmbedder, LocalEmbedder
from hoptrail.evaluation import (
    Dataset,
    Question,
    all_at,
    bootstrap_interval,
    load_dataset,
    recall_at,
    taken_in_turn,
)
from hoptrail.retrieval.index import Index
from hoptrail.retrieval.ingest import ingest
from hoptrail.space import Embedder


def main() -> None:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path, metavar="DATA_FOLDER")
    parser.add_argument("--embedder", choices=("minilm", "hash", "none"), default="minilm")
    parser.add_argument("--model-path", type=Path, default=Path(".models/all-MiniLM-L6-v2"))
    parser.add_argument("--index", type=Path, help="keep the index here, for the next time")
    asyncio.run(_measure(parser.parse_args()))


async def _measure(wanted: argparse.Namespace) -> None:
    data = load_dataset(wanted.data)
    chain = EmbedderChain(_embedders(wanted.embedder, wanted.model_path))
    if data.corpus is None:
        sys.exit(f"{wanted.data} has no corpus.jsonl")
    with TemporaryDirectory() as folder:
        place = wanted.index or Path(folder)
        report = await ingest([data.corpus], place, embedders=chain, progress=_progress)
        index = Index.open(place)
        print(f"{data.name}, n={len(data.questions)}, {report.passages} passages, {report.space}")
        print(f"ingested in {report.seconds:.1f} s")
        await _print_table(data, index, chain)
        index.close()


def _embedders(name: str, model: Path) -> list[Embedder]:
    if name == "minilm":
        return [LocalEmbedder("sentence-transformers/all-MiniLM-L6-v2", path=model)]
    return [HashEmbedder()] if name == "hash" else []


async def _print_table(data: Dataset, index: Index, chain: EmbedderChain) -> None:
    print(f"{'':25}   R@2   R@5  R@10 All@5   R@5 95 %     ms a search")
    for graph in (False, True):
        search = partial(_ranking, index, chain, graph)
        name = "passage graph" if graph else "fused"
        await _print_row(name, data.questions, lambda question: [question.question], search)
        if any(question.decomposition for question in data.questions):
            await _print_row(
                f"gold steps, {name[:13]}", data.questions, Question.gold_steps, search
            )


async def _print_row(
    name: str,
    questions: Iterable[Question],
    searches: Callable[[Question], list[str]],
    ranking: Callable[[str], Awaitable[list[str]]],
) -> None:
    measures: list[list[float]] = []
    milliseconds: list[float] = []
    for question in questions:
        found = []
        for asked in searches(question):
            found.append(await ranking(asked))
            started = time.perf_counter()
            await ranking(asked)
            milliseconds.append(1000 * (time.perf_counter() - started))
        passages, gold = taken_in_turn(found), question.supporting
        measures.append(
            [*(recall_at(k, passages, gold) for k in (2, 5, 10)), all_at(5, passages, gold)]
        )
    columns = list(zip(*measures, strict=True))
    low, high = bootstrap_interval(columns[1])
    means = " ".join(f"{100 * mean(column):5.1f}" for column in columns)
    print(f"{name:25} {means}   [{100 * low:.1f}, {100 * high:.1f}]  {median(milliseconds):.1f}")


async def _ranking(index: Index, chain: EmbedderChain, graph: bool, question: str) -> list[str]:
    found = await index.search(question, k=10, embedders=chain, graph=graph)
    return [evidence.passage.id for evidence in found.evidence]


def _progress(done: int, total: int, path: str) -> None:
    print(f"\r{path}: {done}/{total} ", end="" if done < total else "\n", file=sys.stderr)


if __name__ == "__main__":
    main()
