"""Ollama: ``/api/embed``, and the digest of the model it has under a name."""

from __future__ import annotations

from dataclasses import dataclass, field
from http import HTTPStatus
from typing import NoReturn

from hoptrail.embeddings.batches import BatchedEmbedder
from hoptrail.embeddings.endpoint import Clients, Endpoint
from hoptrail.errors import (
    BackendBusy,
    BackendRefused,
    BackendUnavailable,
    InvalidResponse,
    RequestRefused,
)
from hoptrail.space import TextKind


@dataclass(eq=False)
class OllamaEmbedder(BatchedEmbedder):
    """Embeds with a model that an Ollama server has; its digest is the space's revision.

    It speaks HTTP itself because langchain's ``OllamaEmbeddings`` sends any number of texts in
    one call, waits without limit, and loses which status an error had. Texts longer than the
    model takes are cut by the server, as everywhere.
    """

    backend = "ollama"

    model: str = "all-minilm"
    host: str = "http://127.0.0.1:11434"
    client: Clients = field(kw_only=True, repr=False)
    timeout: float = field(default=60.0, kw_only=True)
    """Seconds for one batch; the first one may have to load the model."""
    concurrency: int = field(default=2, kw_only=True)
    """Ollama runs an embedding model in one slot: the second request only hides the way."""

    def __post_init__(self) -> None:
        self._endpoint = Endpoint(self.backend, self.model, self.client, self.timeout)
        self._base = self.host.rstrip("/")

    async def _answer(self, texts: list[str], kind: TextKind) -> object:
        body = {"model": self.model, "input": texts, "truncate": True}
        try:
            answer = await self._endpoint.ask("POST", f"{self._base}/api/embed", body)
        except RequestRefused as error:
            # Every error without a status of its own becomes 400 here, a dead runner's too.
            self._endpoint.fail(BackendUnavailable, str(error), status=error.status)
        except BackendUnavailable as error:
            if error.status != HTTPStatus.SERVICE_UNAVAILABLE:
                raise
            # Ollama's only 503 is its full queue.
            self._endpoint.fail(BackendBusy, str(error), status=error.status)
        except BackendRefused as error:
            if error.status != HTTPStatus.NOT_FOUND:
                raise
            self._missing()
        return answer.get("embeddings") if isinstance(answer, dict) else answer

    async def _revision(self) -> str:
        answer = await self._endpoint.ask("GET", f"{self._base}/api/tags")
        models = answer.get("models") if isinstance(answer, dict) else None
        if not isinstance(models, list):
            self._endpoint.fail(InvalidResponse, "the answer is not a list of models")
        tagged = ":" in self.model.rpartition("/")[2]
        wanted = self.model if tagged else f"{self.model}:latest"
        for model in models:
            if isinstance(model, dict) and str(model.get("name")).lower() == wanted.lower():
                return str(model.get("digest", ""))
        self._missing()

    def _missing(self) -> NoReturn:
        self._endpoint.fail(
            BackendRefused,
            f"Ollama has no model {self.model}: run `ollama pull {self.model}`",
            status=404,
        )
