"""A change to a run that was: what somebody wants to be otherwise, all else being equal."""

from __future__ import annotations

from typing import Self

from pydantic import BaseModel, ConfigDict, Field, model_validator


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

    step: int | None = Field(default=None, ge=1)
    answer: str | None = None
    question: str | None = None
    model: str | None = None
    pinned: tuple[str, ...] = ()
    banned: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        asks = self.question is not None or self.pinned or self.banned
        if self.answer is None and self.model is None and not asks:
            raise ValueError("nothing is changed: give an answer, a question, a model, or passages")
        if self.answer is not None and self.step is None:
            raise ValueError("an answer is that of a step: say which")
        if self.answer is not None and asks:
            raise ValueError("a step whose answer is given is not asked: change one of them")
        for text in (self.answer, self.question):
            if text is not None and not text.strip():
                raise ValueError("what is given in place of it is empty")
        if both := set(self.pinned) & set(self.banned):
            raise ValueError(f"pinned and banned at once: {', '.join(sorted(both))}")
        return self
