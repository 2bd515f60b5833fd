"""The plan: steps that refer to earlier answers as ``#1``.

A reference is ``#`` and digits, not after a word character or ``&`` and not before a word
character: ``#1``, ``#1's`` and ``(#12)`` are references, ``C#1``, ``&#39;`` and ``#1st`` are not,
and ``#1`` is never found in ``#12``.

A model's plan is read tolerantly and repaired where that is safe (`read_plan`), also while it
is still being written (`PlanReader`). In its text a step has the number it was given there, or
else its position counted from ``first_id``; ``#k`` means the step of that number. In a revision
the prompt says which number comes first, and the numbers of steps that are already answered
(``known``) always mean those steps.
"""

from __future__ import annotations

import re
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict

from hoptrail.characters import has_words
from hoptrail.plan_text import Item, ItemStream, items_of, usable

MAX_QUESTION = 1000
"""Longest question of a step, in characters, before its references are renumbered."""

_MAX_REPAIRS = 20
_VERDICTS = ("yes", "no", "true", "false")


class Step(BaseModel):
    """One sub-question. ``depends_on`` are the ids of the steps whose answers it needs."""

    model_config = ConfigDict(frozen=True)

    id: int
    question: str
    depends_on: tuple[int, ...] = ()


class Plan(BaseModel):
    """Steps in an order in which each comes after those it depends on.

    ``repairs`` says, in sentences, what was wrong with the text the plan was read from,
    ``left_out`` how many of its steps were over the limit.
    """

    model_config = ConfigDict(frozen=True)

    steps: tuple[Step, ...]
    repairs: tuple[str, ...] = ()
    left_out: int = 0


def references(text: str) -> tuple[int, ...]:
    """Give the ids that ``text`` refers to, ascending, each once."""
    return tuple(sorted({int(match[1]) for match in _REFERENCE.finditer(text)}))


def fill(text: str, answers: Mapping[int, str]) -> str:
    """Put the answers in the places that refer to them, in one pass.

    Whatever an answer contains (``#2``, ``$1``, a backslash) stays as it is, and so does a
    reference without an answer. ``#1's`` does not double a possessive: "McDonald's".
    """

    def answer(match: re.Match[str]) -> str:
        text = answers.get(int(match[1]))
        if text is None:
            return match[0]
        possessive = match[2] or ""
        return text if text.endswith(("'s", "’s")) else text + possessive

    return _FILLED.sub(answer, text)


def mentions(question: str, answer: str) -> bool:
    """Say whether a question names an answer; "yes" and "no" name nothing."""
    name = answer.strip(" .")
    return len(name) > 1 and name.casefold() not in _VERDICTS and has_words(question, name)


def ready(steps: Iterable[Step], done: Container[int], started: Container[int]) -> list[Step]:
    """Give the steps that can start now, in plan order: all they need is done."""
    return [
        step
        for step in steps
        if step.id not in started
        and step.id not in done
        and all(need in done for need in step.depends_on)
    ]


def read_plan(
    text: str,
    question: str,
    *,
    first_id: int = 1,
    known: Iterable[int] = (),
    max_steps: int = 8,
) -> Plan:
    """Read the plan a model wrote for ``question``; whatever it wrote, there is a plan.

    Its steps have the ids ``first_id``, ``first_id`` + 1, ..., at most ``max_steps`` of them,
    and need only earlier ones or ``known`` ones (ids below ``first_id``). Where the text holds
    no plan, the question itself is the only step.
    """
    known = _checked(first_id, known, max_steps)
    items, note = items_of(text, first_id)
    drafts = _Drafts(first_id, known)
    for item in items:
        drafts.add(item)
    if not drafts.questions:
        step = Step(id=first_id, question=_without_references(question))
        repairs = [*drafts.repairs, "The text holds no plan: the question is the only step."]
        return Plan(steps=(step,), repairs=_shortened(repairs))
    steps = drafts.finished(max_steps)
    notes = [note] if note else []
    left_out = len(drafts.questions) - len(steps)
    return Plan(steps=steps, repairs=_shortened([*notes, *drafts.repairs]), left_out=left_out)


class PlanReader:
    """Reads a plan while it streams in, so that its first steps can start early.

    `feed` gives each step once it is certain, in order, each once. They are exactly the first
    steps of the plan that `finish` gives, whatever comes later and however the text was cut.
    ``certain`` turns false when early reading has come to something that only the whole text
    can settle (a forward reference, a duplicate, a list of objects); `finish` gives the rest.
    """

    def __init__(
        self,
        question: str,
        *,
        first_id: int = 1,
        known: Iterable[int] = (),
        max_steps: int = 8,
    ) -> None:
        self._question = question
        self._first_id = first_id
        self._known = _checked(first_id, known, max_steps)
        self._max_steps = max_steps
        self._pieces: list[str] = []
        self._items = ItemStream(first_id)
        self._drafts = _Drafts(first_id, self._known)
        self._stuck = False

    @property
    def certain(self) -> bool:
        """Whether every step read so far was given early."""
        return not (self._stuck or self._items.gave_up)

    def feed(self, text: str) -> list[Step]:
        """Take the next piece of the text and give the steps that it made certain."""
        self._pieces.append(text)
        steps: list[Step] = []
        for item in self._items.feed(text):
            if self._stuck:
                break
            step = self._drafts.early(item, self._max_steps)
            self._stuck = step is None
            if step is not None:
                steps.append(step)
        return steps

    def finish(self) -> Plan:
        """Give the plan of the whole text."""
        return read_plan(
            "".join(self._pieces),
            self._question,
            first_id=self._first_id,
            known=self._known,
            max_steps=self._max_steps,
        )


def _checked(first_id: int, known: Iterable[int], max_steps: int) -> frozenset[int]:
    known = frozenset(known)
    if first_id < 1 or max_steps < 1 or any(id_ < 1 or id_ >= first_id for id_ in known):
        raise ValueError("ids count from 1, and known ids are below first_id")
    return known


def _shortened(repairs: Sequence[str]) -> tuple[str, ...]:
    more = len(repairs) - _MAX_REPAIRS
    if more <= 0:
        return tuple(repairs)
    return (*repairs[:_MAX_REPAIRS], f"... and {more} more repairs.")


@dataclass(frozen=True)
class _Draft:
    """A question whose references are still the labels of the text it was read from."""

    question: str
    needs: tuple[int, ...]


class _Drafts:
    """The questions of a plan before they are put in order.

    Everything that `add` decides depends only on the items before; that is what makes steps
    read early the same as those read at the end.
    """

    def __init__(self, first_id: int, known: frozenset[int]) -> None:
        self.questions: list[_Draft] = []
        self.repairs: list[str] = []
        self._first_id = first_id
        self._known = known
        self._place = first_id - 1
        self._where: dict[int, int] = {}
        self._seen: dict[object, int] = {}

    def add(self, item: Item) -> bool:
        """Take an item; say whether it became a new question."""
        self._place += 1
        label = self._label(item)
        question = self._respelled(item.text or "")
        if not question or len(question) > MAX_QUESTION:
            problem = "is too long" if question else "has no question"
            self.repairs.append(f"Entry {label} {problem}: left out.")
            return False
        index = len(self.questions)
        twin = self._seen.setdefault(self._identity(question, item.needs), index)
        self._where.setdefault(label, twin)
        if twin < index:
            first = self._first_id + twin
            self.repairs.append(f"Entry {label} repeats entry {first}: they became one step.")
            return False
        self.questions.append(_Draft(question, item.needs))
        return True

    def early(self, item: Item, max_steps: int) -> Step | None:
        """Give the step that ``item`` will be in any plan that begins like this, or None."""
        index = len(self.questions)
        id_ = self._first_id + index
        if index >= max_steps or not self.add(item):
            return None
        draft = self.questions[index]
        needs = {*references(draft.question), *draft.needs} - self._known
        if self._where.get(id_) != index or any(self._where.get(k, index) >= index for k in needs):
            return None
        return self._step(draft, id_, {place: self._first_id + place for place in range(index)})

    def finished(self, max_steps: int) -> tuple[Step, ...]:
        """Give the steps in order, renumbered, at most ``max_steps``."""
        order = _ordered([self._needed(draft) for draft in self.questions])
        if len(order) > max_steps:
            self.repairs.append(f"The plan has {len(order)} steps: only {max_steps} were kept.")
        if order != sorted(order):
            self.repairs.append("Steps came before those they need: they were put in order.")
        ids = {index: self._first_id + place for place, index in enumerate(order[:max_steps])}
        return tuple(self._step(self.questions[index], id_, ids) for index, id_ in ids.items())

    def _label(self, item: Item) -> int:
        """Give the number that the text calls an item by: its own, or else its position."""
        label = item.label
        if label is None or label in self._known:
            return self._place
        if label in self._where:
            self.repairs.append(f"Two entries have the number {label}: the first one keeps it.")
            return self._place
        return label

    def _respelled(self, text: str) -> str:
        """Write every spelling of a reference as ``#k``.

        ``$5`` and "step 5" are references only where an earlier step has that number: in
        "costs $5" and "step 1 of glycolysis" nothing is meant.
        """
        if len(text) > MAX_QUESTION:
            return text

        def spelled(match: re.Match[str]) -> str:
            number = int(match[match.lastindex or 0])
            return f"#{number}" if number in self._known or number in self._where else match[0]

        text = _SPELLINGS.sub(lambda match: f"#{match[match.lastindex or 0]}", text)
        return _LOOSE_SPELLINGS.sub(spelled, text)

    def _identity(self, question: str, needs: tuple[int, ...]) -> object:
        """Say what makes a question the same as another; one with a bare pronoun never is."""
        resolved = _REFERENCE.sub(lambda match: f"#{self._resolved(int(match[1]))}", question)
        if bare_pronoun(question):
            return len(self.questions)
        return resolved.casefold(), frozenset(map(self._resolved, needs))

    def _resolved(self, label: int) -> str:
        if label in self._known:
            return f"known {label}"
        return f"{self._where[label]}" if label in self._where else f"later {label}"

    def _needed(self, draft: _Draft) -> list[int]:
        """Give the indexes of the questions that ``draft`` needs, ascending."""
        labels = {*references(draft.question), *draft.needs} - self._known
        return sorted({self._where[label] for label in labels if label in self._where})

    def _step(self, draft: _Draft, id_: int, ids: Mapping[int, int]) -> Step:
        """Write a question with the ids of its plan; ``ids`` are those by index."""

        def resolved(label: int) -> int | None:
            if label in self._known:
                return label
            found = ids.get(self._where.get(label, -1), id_)
            return found if found < id_ else None

        lost: list[str] = []

        def rewritten(match: re.Match[str]) -> str:
            found = resolved(int(match[1]))
            if found is not None:
                return f"#{found}"
            words = _readable(match, self._has_before(id_))
            lost.append(words)
            self.repairs.append(
                f'Step {id_} referred to {match[0]}, which no earlier step answers: now "{words}".'
            )
            return words

        question = _REFERENCE.sub(rewritten, draft.question)
        explicit = {resolved(label) for label in draft.needs}
        if None in explicit:
            self.repairs.append(f"Step {id_} needs steps that do not come before it: ignored.")
        needs = {need for need in explicit if need is not None} | {*references(question)}
        word = _THE_ANSWER if _THE_ANSWER in lost else bare_pronoun(question)
        if not needs and word and id_ > self._first_id:
            needs = {id_ - 1}
            self.repairs.append(f'Step {id_} says only "{word}": it waits for step {id_ - 1}.')
        return Step(id=id_, question=question, depends_on=tuple(sorted(needs)))

    def _has_before(self, id_: int) -> bool:
        return id_ > self._first_id or bool(self._known)


def _ordered(needs: Sequence[Sequence[int]]) -> list[int]:
    """Give all indexes so that each comes after those it needs, otherwise as they were.

    Depth first, in the given order; a need that closes a cycle is ignored, so its index comes
    later than the one that needs it.
    """
    order: list[int] = []
    entered = [False] * len(needs)
    for root in range(len(needs)):
        path: list[tuple[int, Iterator[int]]] = []
        if not entered[root]:
            entered[root] = True
            path.append((root, iter(needs[root])))
        while path:
            index, rest = path[-1]
            need = next((need for need in rest if not entered[need]), None)
            if need is None:
                order.append(index)
                path.pop()
            else:
                entered[need] = True
                path.append((need, iter(needs[need])))
    return order


# Words


_REFERENCE = re.compile(r"(?<![\w&])#([0-9]{1,9})(?!\w)")
_FILLED = re.compile(_REFERENCE.pattern + r"('s\b|’s\b)?")

_SPELLINGS = re.compile(
    r"(?<![\w&])(?:"
    r"\[?(?:the )?(?:answer|result|output)s? (?:of|to|from)"
    r" (?:step|(?:sub-?)?question) #?E?([0-9]{1,9})\]?"
    r"|\[?(?:the )?answers? (?:of|to|from) #E?([0-9]{1,9})\]?"
    r"|\[#E?([0-9]{1,9})\]"
    r"|#[ESQ]([0-9]{1,9})"
    r"|\$\{ ?([0-9]{1,9}) ?\}"
    r"|\{{1,2} ?(?:step|answer|result|output|[esq#])?[ _]?#?([0-9]{1,9})(?:\.\w+)? ?\}{1,2}"
    r")(?!\w)",
    re.IGNORECASE,
)
_LOOSE_SPELLINGS = re.compile(
    r"(?<![\w&$])\$([0-9]{1,3})"
    r"(?!\w|[.,][0-9]| (?:hundred|thousand|million|billion|trillion|dollars?)\b)"
    r"|\b(?:the [\w-]+ (?:(?:identified|found|named|mentioned|given|obtained) )?(?:in|from) )?"
    r"step #?([0-9]{1,3})(?:'s (?:answer|result|output))?\b",
    re.IGNORECASE,
)

_PRONOUN = re.compile(
    r"\b(?:he|she|him|his|hers?|they|them|theirs?|its|these|those"
    r"|it(?! (?:take|rain|snow|mean|cost|true|possible|called)s?\b)"
    r"|(?:this|that) (?:person|man|woman|place|city|town|country|state|region|river|lake"
    r"|film|movie|book|novel|song|album|band|team|club|company|school|university|event|year"
    r"|author|writer|artist|actor|composer|director|founder|inventor|scientist|work)"
    r"|the (?:latter|former)|there(?=\W*$))\b",
    re.IGNORECASE,
)
_WHERE_WORDS = frozenset(("in", "at", "on", "from", "near", "to", "during"))
_THE_ANSWER = "the answer"


def bare_pronoun(question: str) -> str:
    """Give the pronoun whose antecedent is in no reference and no name before it, or ""."""
    match = _PRONOUN.search(question)
    if match is None or _REFERENCE.search(question) or _names_something(question[: match.start()]):
        return ""
    return match[0]


def _names_something(words: str) -> bool:
    """Say whether a name is among the words, other than the place or time of "In Finland"."""
    placed = False
    for index, word in enumerate(words.split()):
        capital = index > 0 and word.strip("\"'“‘(")[:1].isupper()
        if capital and not placed:
            return True
        placed = word.lower() in _WHERE_WORDS or (capital and placed)
    return False


def _readable(match: re.Match[str], has_before: bool) -> str:
    """Give words for a reference to nothing: "Symphony #9" is a number, "#9" an answer."""
    before = match.string[: match.start()].split()
    named = len(before) > 1 and before[-1][:1].isupper()
    return f"number {int(match[1])}" if named or not has_before else _THE_ANSWER


def _without_references(question: str) -> str:
    """Give the user's question with nothing in it that reads as a reference."""
    return _REFERENCE.sub(lambda match: f"number {int(match[1])}", usable(question))
