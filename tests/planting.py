"""Documents in which every text is chosen by a test: found by walking the model's fields.

A field that is added to a model later is planted without a change here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel

Write = Callable[[str, int | None], str]
"""Gives the text of a field: its path, and the number of the item of the list it is in."""

ALIKE = {
    "steps[].citations[].passage_id": "steps[].evidence[].passage.id",
    "steps[].tools[].passage_id": "steps[].evidence[].passage.id",
    "citations[].passage_id": "steps[].evidence[].passage.id",
}
"""Fields that name what another field is the name of: they must agree, or nothing is linked."""


def text_fields(model: type[BaseModel]) -> list[str]:
    """Give the path of every text in a model: ``steps[].evidence[].passage.text``."""
    return list(dict.fromkeys(_texts(model, "")))


def planted(model: type[BaseModel], write: Write, numbers: Sequence[int]) -> dict[str, Any]:
    """Give a document whose outer lists have one item for each number, and all texts written."""
    document: dict[str, Any] = _value(model, "", write, None, numbers)
    return document


def planted_trace(
    model: type[BaseModel],
    write: Write,
    numbers: Sequence[int],
    *,
    checked: bool = False,
    **fixed: object,
) -> dict[str, Any]:
    """Give a trace document with texts planted, whose ids and times make it one that is shown.

    It is ``checked`` where a model reads it: what contradicts itself is left out.
    """
    document = planted(model, lambda path, at: write(ALIKE.get(path, path), at), numbers)
    for at, step in enumerate(document["steps"], start=1):
        start = at * 100.0
        step |= {"id": at, "depends_on": [at - 1] if at > 1 else [], "status": "answered"}
        step |= {"planned_ms": 1.0, "ready_ms": start, "started_ms": start, "round": 0}
        step |= {"retrieved_ms": start + 20, "finished_ms": start + 90, "given": False}
    document["voided"] = document["voided"][:1]  # it is shown as a step is
    if checked:  # a change has limits of its own
        document["change"] = {"question": document["question"][:10_000]}
    for at, citation in enumerate(document["citations"], start=1):
        citation["step"] = at
    return document | {"status": "answered", "trace_version": 2} | fixed


def leaves(document: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """Give the way to every value of a document that holds no others."""
    items: list[tuple[str | int, Any]] = []
    if isinstance(document, dict):
        items = list(document.items())
    elif isinstance(document, list):
        items = list(enumerate(document))
    else:
        yield path
    for key, value in items:
        yield from leaves(value, (*path, key))


def _texts(of: Any, path: str) -> Iterator[str]:
    kind, inside = get_origin(of), get_args(of)
    if kind in (Union, UnionType, Annotated):
        yield from _texts(_present(inside), path)
    elif isinstance(of, type) and issubclass(of, BaseModel):
        for name, field in of.model_fields.items():
            yield from _texts(field.annotation, f"{path}.{name}".removeprefix("."))
    elif kind in (list, tuple):
        yield from _texts(inside[0], f"{path}[]")
    elif kind in (dict, Mapping):
        yield f"{path}{{}}"
        yield from _texts(inside[1], f"{path}{{}}=")
    elif of in (str, object):
        yield path


def _value(of: Any, path: str, write: Write, number: int | None, numbers: Sequence[int]) -> Any:
    kind, inside = get_origin(of), get_args(of)
    if kind in (Union, UnionType, Annotated):
        return _value(_present(inside), path, write, number, numbers)
    if isinstance(of, type) and issubclass(of, BaseModel):
        return {
            name: _value(
                field.annotation, f"{path}.{name}".removeprefix("."), write, number, numbers
            )
            for name, field in of.model_fields.items()
        }
    if kind in (list, tuple):
        items = numbers if number is None else [number]
        return [_value(inside[0], f"{path}[]", write, each, numbers) for each in items]
    if kind in (dict, Mapping):
        key = write(f"{path}{{}}", number)
        return {key: _value(inside[1], f"{path}{{}}=", write, number, numbers)}
    return _leaf(of, path, write, number)


def _leaf(of: Any, path: str, write: Write, number: int | None) -> Any:
    if get_origin(of) is Literal:
        return get_args(of)[0]
    if of in (str, object):
        return write(path, number)
    return of(1)


def _present(kinds: Sequence[Any]) -> Any:
    return next(kind for kind in kinds if kind is not type(None))
