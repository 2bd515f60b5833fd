"""What of one run is what of another: steps by what they ask, passages by their id or text.

Everything here is symmetric: the other run's point of view gives the same pairs.
"""

from __future__ import annotations

from collections import Counter, defaultdict, deque
from collections.abc import Hashable, Iterator, Mapping, Sequence

from hoptrail.plan import fill, references
from hoptrail.trace import StepTrace, Trace

Positions = tuple[int | None, int | None]
"""Where a step stands in the one run and in the other; None where it has no match."""

_ALIKE = 0.5
_SAME_ANSWER = 0.15
"""How much more alike two questions are taken to be when they got the same answer."""
_NEAR = 20
"""Questions whose likeness differs by less than a 20th are equally alike: their order decides."""
_COMPARED_CHARACTERS = 300
_MOST_COMPARISONS = 20_000
"""With many steps only those that stand near each other are compared."""


def aligned_steps(before: Trace, after: Trace) -> list[Positions]:
    """Give the steps of both runs in the order of the story, each once, the same ones paired.

    Those that ask the same are paired first, then those that ask most alike, then those whose
    answers the same questions wait for.
    """
    ours, theirs = before.steps, after.steps
    matched: dict[int, int] = {}
    changed = _changed_steps(before, after)
    texts: dict[str, int] = {}
    for our_keys, their_keys in (
        (_where(changed, ours), _where(changed, theirs)),
        (_resolved(ours, texts), _resolved(theirs, texts)),
        (_planned(ours), _planned(theirs)),
        (_asked(ours), _asked(theirs)),
    ):
        _pair_equal(matched, our_keys, their_keys)
    _pair_alike(matched, ours, theirs)
    while roles := _same_roles(matched, ours, theirs):
        matched |= roles
    return list(_in_order(matched, len(ours), len(theirs)))


def same_passages(before: Trace, after: Trace) -> dict[str, str]:
    """Give for passages of the second run the id that the same text has in the first.

    Those of one id are left out: an index under another name calls all its passages otherwise.
    """
    ours, theirs = _texts(before), _texts(after)
    by_text: defaultdict[str, deque[str]] = defaultdict(deque)
    for passage_id, text in ours.items():
        if text and passage_id not in theirs:
            by_text[text].append(passage_id)
    return {
        passage_id: by_text[text].popleft()
        for passage_id, text in theirs.items()
        if passage_id not in ours and by_text.get(text)
    }


def _texts(trace: Trace) -> dict[str, str]:
    """Give the text of each passage; of one that is only cited it is not known."""
    found: dict[str, str] = {}
    for step in trace.steps:
        for item in step.evidence:
            found.setdefault(item.passage.id, item.passage.text)
    for citation in trace.citations:
        found.setdefault(citation.passage_id, "")
    return found


def _changed_steps(before: Trace, after: Trace) -> set[int]:
    """Give the ids of the steps that a fork changed: they are the same, whatever they ask."""
    forks = [each for each in (before, after) if each.parent_run_id and each.change]
    parents = {each.parent_run_id for each in forks}
    family = {before.run_id, after.run_id} & parents or (len(forks) == 2 and len(parents) == 1)
    changes = [each.change for each in forks if each.change]
    if not family or any(change.step is None and change.question for change in changes):
        return set()
    return {change.step for change in changes if change.step is not None}


def _where(ids: set[int], steps: Sequence[StepTrace]) -> list[int | None]:
    return [step.id if step.id in ids else None for step in steps]


def _resolved(steps: Sequence[StepTrace], texts: dict[str, int]) -> list[int]:
    """Number the questions; a reference is to a question, whichever id that has."""
    numbers: list[int] = []
    known: dict[int, str] = {}
    for step in steps:
        number = texts.setdefault(_normal(fill(step.question, known)), len(texts))
        known[step.id] = f"\0{number}\0"
        numbers.append(number)
    return numbers


def _planned(steps: Sequence[StepTrace]) -> list[str]:
    return [_anyhow(step.question) for step in steps]


def _asked(steps: Sequence[StepTrace]) -> list[str]:
    return [_normal(step.asked or step.question) for step in steps]


def _anyhow(question: str) -> str:
    """Give a question in which every reference is the same."""
    return _normal(fill(question, dict.fromkeys(references(question), "#")))


def _normal(question: str) -> str:
    return " ".join(question.casefold().split()).rstrip("?!. ")


def _pair_equal(
    matched: dict[int, int], ours: Sequence[Hashable], theirs: Sequence[Hashable]
) -> None:
    taken = set(matched.values())
    waiting: defaultdict[Hashable, deque[int]] = defaultdict(deque)
    for there, key in enumerate(theirs):
        if there not in taken and key is not None:
            waiting[key].append(there)
    for here, key in enumerate(ours):
        if here not in matched and waiting.get(key):
            matched[here] = waiting[key].popleft()


def _pair_alike(
    matched: dict[int, int], ours: Sequence[StepTrace], theirs: Sequence[StepTrace]
) -> None:
    taken = set(matched.values())
    left = [here for here in range(len(ours)) if here not in matched]
    right = [there for there in range(len(theirs)) if there not in taken]
    alike = _alike([ours[here] for here in left], [theirs[there] for there in right])
    # Two pairs that share a step never tie: the best first is the same from either side.
    for _likeness, _apart, _along, at, to in sorted(alike):
        if left[at] not in matched and right[to] not in taken:
            matched[left[at]] = right[to]
            taken.add(right[to])


def _alike(
    ours: Sequence[StepTrace], theirs: Sequence[StepTrace]
) -> Iterator[tuple[int, int, int, int, int]]:
    """Give what is alike, to be sorted: the most alike first, then what stands in one order."""
    reach = max(1, _MOST_COMPARISONS // max(len(ours), len(theirs), 1))
    pieces = [_pieces(step) for step in theirs]
    for at, step in enumerate(ours):
        own = _pieces(step)
        for to in range(max(0, at - reach), min(len(theirs), at + reach + 1)):
            likeness = max(map(_likeness, own, pieces[to]))
            if step.answer and _normal(step.answer) == _normal(theirs[to].answer):
                likeness += _SAME_ANSWER
            if likeness >= _ALIKE:
                yield -round(likeness * _NEAR), abs(at - to), at + to, at, to


def _same_roles(
    matched: Mapping[int, int], ours: Sequence[StepTrace], theirs: Sequence[StepTrace]
) -> dict[int, int]:
    """Give the steps that both steps of a pair wait for: they may ask quite different things."""
    taken = set(matched.values())
    our_needs, their_needs = _needs(ours), _needs(theirs)
    proposed = {
        (here, there)
        for pair in matched.items()
        for here, there in _zipped(our_needs[pair[0]], their_needs[pair[1]])
        if here not in matched and there not in taken
    }
    from_here = Counter(here for here, _ in proposed)
    from_there = Counter(there for _, there in proposed)
    return {here: there for here, there in proposed if from_here[here] == from_there[there] == 1}


def _needs(steps: Sequence[StepTrace]) -> list[list[int]]:
    where = {step.id: at for at, step in reversed(list(enumerate(steps)))}
    return [sorted({where[need] for need in step.depends_on if need in where}) for step in steps]


def _zipped(ours: Sequence[int], theirs: Sequence[int]) -> Iterator[tuple[int, int]]:
    return zip(ours, theirs, strict=True) if len(ours) == len(theirs) else iter(())


def _pieces(step: StepTrace) -> tuple[frozenset[str], frozenset[str]]:
    """Give the three-letter pieces of a question as planned and as asked."""
    planned = _anyhow(step.question)
    asked = _normal(step.asked) if step.asked else planned
    return _threes(planned), _threes(asked)


def _threes(text: str) -> frozenset[str]:
    text = f"  {text[:_COMPARED_CHARACTERS]} "
    return frozenset(text[at : at + 3] for at in range(len(text) - 2))


def _likeness(ours: frozenset[str], theirs: frozenset[str]) -> float:
    """Give Dice's coefficient: 1 for the same, 0 for nothing in common."""
    return 2 * len(ours & theirs) / (len(ours) + len(theirs))


def _in_order(matched: Mapping[int, int], ours: int, theirs: int) -> Iterator[Positions]:
    """Follow the second run; what only the first has comes after what it came after there."""
    gone: defaultdict[int, list[int]] = defaultdict(list)
    last = -1
    for here in range(ours):
        if here in matched:
            last = matched[here]
        else:
            gone[last].append(here)
    of_ours = {there: here for here, there in matched.items()}
    for there in range(-1, theirs):
        if there >= 0:
            yield of_ours.get(there), there
        yield from ((here, None) for here in gone[there])
