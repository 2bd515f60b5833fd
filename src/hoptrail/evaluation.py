"""Data sets of multi-hop questions, and the field's measures: exact match, F1, recall.

Answers are compared as SQuAD does (Rajpurkar et al., 2016): lower case, without punctuation,
articles and extra spaces; of several right answers the nearest counts.
"""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence
from itertools import chain, zip_longest
from pathlib import Path

import numpy as np
from pydantic import BaseModel, ConfigDict, ValidationError

from hoptrail.errors import RetrievalError
from hoptrail.plan import fill

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_PUNCTUATION = str.maketrans("", "", string.punctuation)


class GoldStep(BaseModel):
    """One step of a gold decomposition; ``supporting`` is the id of its passage.

    ``answer`` is None where the corpus does not say.
    """

    model_config = ConfigDict(frozen=True)

    question: str
    answer: str | None
    supporting: str = ""


class Question(BaseModel):
    """A question with its right answers; ``supporting`` are the ids of its gold passages.

    ``answer`` is None when the corpus does not answer it: then an abstention is right.
    """

    model_config = ConfigDict(frozen=True, coerce_numbers_to_str=True)

    id: str
    question: str
    answer: str | None
    aliases: tuple[str, ...] = ()
    type: str = ""
    supporting: tuple[str, ...] = ()
    decomposition: tuple[GoldStep, ...] = ()

    @property
    def answers(self) -> tuple[str, ...]:
        """Every right answer, the preferred one first; none when it cannot be answered."""
        return () if self.answer is None else (self.answer, *self.aliases)

    def gold_steps(self) -> list[str]:
        """Give the gold sub-questions, with the gold answers in place of ``#k``.

        MuSiQue's relation form (``X >> capital``) becomes words.
        """
        gold = {number: step.answer for number, step in enumerate(self.decomposition, 1)}
        answers = {number: answer for number, answer in gold.items() if answer is not None}
        return [fill(step.question.replace(" >> ", " "), answers) for step in self.decomposition]


class Dataset(BaseModel):
    """Questions, and the corpus their supporting passages are in, if there is one."""

    model_config = ConfigDict(frozen=True)

    name: str
    questions: tuple[Question, ...]
    corpus: Path | None = None


def load_dataset(path: Path | str) -> Dataset:
    """Read a folder with ``questions.jsonl`` and maybe ``corpus.jsonl``, or a file of questions.

    Raises:
        RetrievalError: there is no such file, or a line is not a question.
    """
    path = Path(path)
    folder = path if path.is_dir() else path.parent
    file = path / "questions.jsonl" if path.is_dir() else path
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise RetrievalError(f"{file}: no questions can be read: {error}") from error
    questions = [_question(file, at, line) for at, line in enumerate(lines, 1) if line.strip()]
    corpus = folder / "corpus.jsonl"
    return Dataset(
        name=path.resolve().stem,
        questions=tuple(questions),
        corpus=corpus if corpus.is_file() else None,
    )


def _question(file: Path, number: int, line: str) -> Question:
    try:
        return Question.model_validate_json(line)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise RetrievalError(f"{file}:{number}: not a question: {where} {first['msg']}") from error


def normalise_answer(text: str) -> str:
    """Give the form in which answers are compared."""
    return " ".join(_ARTICLES.sub(" ", text.lower().translate(_PUNCTUATION)).split())


def exact_match(prediction: str, answers: Iterable[str]) -> float:
    """Give 1 if the prediction is one of the answers, else 0."""
    return _best(prediction, answers, lambda ours, theirs: float(ours == theirs))


def f1(prediction: str, answers: Iterable[str]) -> float:
    """Give the best harmonic mean of precision and recall in words, 0 to 1."""
    return _best(prediction, answers, _word_f1)


def _best(prediction: str, answers: Iterable[str], measure: Callable[[str, str], float]) -> float:
    ours = normalise_answer(prediction)
    return max((measure(ours, normalise_answer(answer)) for answer in answers), default=0.0)


def _word_f1(ours: str, theirs: str) -> float:
    mine, right = ours.split(), theirs.split()
    if not mine or not right:
        return float(mine == right)
    shared = (Counter(mine) & Counter(right)).total()
    return 2 * shared / (len(mine) + len(right))


def recall_at(k: int, ranked: Sequence[str], gold: Collection[str]) -> float:
    """Give the share of the gold passages that is among the first ``k``."""
    return len(set(ranked[:k]) & set(gold)) / len(set(gold)) if gold else 0.0


def all_at(k: int, ranked: Sequence[str], gold: Collection[str]) -> float:
    """Give 1 if every gold passage is among the first ``k``, else 0."""
    return float(bool(gold) and set(gold) <= set(ranked[:k]))


def taken_in_turn(rankings: Sequence[Sequence[str]]) -> list[str]:
    """Give the first of each ranking, then the second of each, and so on, without repeats."""
    rounds = chain.from_iterable(zip_longest(*rankings))
    return list(dict.fromkeys(passage for passage in rounds if passage is not None))


def bootstrap_interval(
    values: Sequence[float], *, level: float = 0.95, draws: int = 2000, seed: int = 0
) -> tuple[float, float]:
    """Give the percentile bootstrap interval of the mean (Efron, 1979)."""
    if not values:
        return (0.0, 0.0)
    sample = np.asarray(values, dtype=np.float64)
    random = np.random.default_rng(seed)
    means = [sample[random.integers(0, len(sample), len(sample))].mean() for _ in range(draws)]
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)
