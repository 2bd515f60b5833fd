"""Facts: what memory keeps across runs and threads."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Fact(BaseModel):
    """Something worth knowing later, in the words it was said in.

    ``said_at`` is an ISO time; ``similarity`` is its cosine with what it was recalled for, and
    None where nothing was asked.
    """

    model_config = ConfigDict(frozen=True)

    id: str
    text: str
    said_at: str = ""
    similarity: float | None = None
