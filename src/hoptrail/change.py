"""A change to a run that was: what somebody wants to be otherwise, all else being equal."""

from __future__ import annotations

import re
from typing import Annotated, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from hoptrail.characters import whole


def _kept(text: object) -> object:
    return whole(text).strip() if isinstance(text, str) else text


_Text = Annotated[str, Field(max_length=10_000), BeforeValidator(_kept)]
_MODEL = r"^[a-z]+:\S+$"


def _named(model: object) -> object:
    if isinstance(model, str) and not re.fullmatch(_MODEL, model):
        raise ValueError("write it as BACKEND:MODEL, as in ollama:qwen3:8b")
    return model


_Model = Annotated[str, Field(pattern=_MODEL, max_length=500), BeforeValidator(_named)]
_PassageIds = Annotated[
    # Not strict: in JSON they are a list.
    tuple[Annotated[str, Field(min_length=1, max_length=500), BeforeValidator(_kept)], ...],
    Field(max_length=100, strict=False),
]


class Change(BaseModel):
    """What a fork of a run has otherwise than its parent.

    With a ``step`` the change is that step's: its ``answer``, its ``question``, or the passages
    it is given: those ``pinned`` are among them, those ``banned`` are not (passage ids). Without
    one, ``question`` is the whole run's, and the passages are those of every step. ``model`` is
    ``BACKEND:MODEL``, who is asked instead, wherever something is asked anew.

    Raises:
        ValueError: nothing is changed, or what is changed contradicts itself.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    step: Annotated[int, Field(ge=1)] | None = None
    answer: _Text | None = None
    question: _Text | None = None
    model: _Model | None = None
    pinned: _PassageIds = ()
    banned: _PassageIds = ()

    @property
    def is_new_question(self) -> bool:
        """Whether the run itself asks another question, so that nothing of it can be kept."""
        return self.step is None and self.question is not None

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        asks = self.question is not None or self.pinned or self.banned
        if self.answer is None and self.model is None and not asks:
            raise ValueError(
                "nothing is changed: give an answer, a question, a model, or passages to pin or ban"
            )
        if self.answer is not None and self.step is None:
            raise ValueError("an answer is one step's: say which with `step`")
        if self.answer is not None and asks:
            raise ValueError(
                "a step whose answer is given is not asked: leave out question and passages"
            )
        for name, text in (("answer", self.answer), ("question", self.question)):
            if text is not None and not text:
                raise ValueError(f"the {name} that is given is empty")
        if both := set(self.pinned) & set(self.banned):
            raise ValueError(f"pinned and banned at once: {', '.join(sorted(both))}")
        return self
