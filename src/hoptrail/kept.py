"""What a journal keeps of a run, read back."""

from __future__ import annotations

from typing import TypeVar

from pydantic import BaseModel, ValidationError

from hoptrail.errors import StorageFailed

M = TypeVar("M", bound=BaseModel)


def kept_as(model: type[M], text: str) -> M:
    """Give a finished piece of work as it was kept.

    Raises:
        StorageFailed: somebody else has written there, or the file is damaged.
    """
    try:
        return model.model_validate_json(text)
    except ValidationError as error:
        raise StorageFailed(
            f"what the journal keeps of this run is damaged (no {model.__name__}): "
            "ask the question in a new run"
        ) from error
