"""In this process: fastembed, so onnxruntime and tokenizers, without torch. Extra ``[local]``."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np

from hoptrail.embeddings.batches import BatchedEmbedder
from hoptrail.errors import BackendRefused, BackendUnavailable
from hoptrail.space import TextKind, Vectors

if TYPE_CHECKING:
    from fastembed import TextEmbedding

FILES = ("tokenizer.json", "tokenizer_config.json", "config.json")
INSTALL = "pip install 'hoptrail[local]'"
TOKENS = {"sentence-transformers/all-MiniLM-L6-v2": 256}
"""What a model was made for, where its published tokenizer cuts at another length (here 128)."""
CACHE = (
    "fastembed's cache: set HOPTRAIL_LOCAL_EMBEDDING_PATH to the model's folder, or fetch it once "
    "with fastembed.TextEmbedding"
)


@dataclass(eq=False)
class LocalEmbedder(BatchedEmbedder):
    """Embeds with an ONNX model in a worker thread; loads it on first use.

    ``path`` is a folder with ``model_file``, ``tokenizer.json``, ``tokenizer_config.json`` and
    ``config.json``: nothing is fetched then. Without it, fastembed's own catalogue is used, from
    its cache alone when ``local_files_only`` is set. A quantised ``model_file`` gives slightly
    other vectors for a text in a batch than for the same text alone.

    Raises:
        BackendRefused: fastembed is not installed, or the model's files are not there.
    """

    backend = "local"
    may_change = False

    model: str = "sentence-transformers/all-MiniLM-L6-v2"
    path: Path | str | None = None
    model_file: str = field(default="model.onnx", kw_only=True)
    cache_dir: Path | str | None = field(default=None, kw_only=True)
    local_files_only: bool = field(default=False, kw_only=True)
    threads: int | None = field(default=None, kw_only=True)
    concurrency: int = field(default=1, kw_only=True)
    """onnxruntime spreads one batch over the cores itself."""

    def __post_init__(self) -> None:
        self._loading = threading.Lock()
        self._loaded: tuple[TextEmbedding, str] | None = None

    async def embed(self, texts: Sequence[str], kind: TextKind) -> Vectors:
        """Give one unit row per text; longest first inside, so that batches pad little."""
        order = sorted(range(len(texts)), key=lambda index: -len(texts[index]))
        found = await super().embed([texts[index] for index in order], kind)
        rows = np.empty_like(found)
        rows[order] = found
        return rows

    async def _answer(self, texts: list[str], kind: TextKind) -> object:
        try:
            return await asyncio.to_thread(self._run, texts, kind)
        except BackendRefused:
            raise
        except Exception as error:  # onnxruntime's classes have no public base
            message = f"{type(error).__name__}: {error}"
            raise BackendUnavailable(message, backend=self.backend, model=self.model) from error

    async def _revision(self) -> str:
        return (await asyncio.to_thread(self._model))[1]

    def _run(self, texts: list[str], kind: TextKind) -> object:
        model, _ = self._model()
        if kind == "query":
            return np.vstack(list(model.query_embed(texts)))
        return np.vstack(list(model.passage_embed(texts, batch_size=len(texts))))

    def _model(self) -> tuple[TextEmbedding, str]:
        """Give the loaded model and the digest of its weights."""
        with self._loading:
            if self._loaded is None:
                self._loaded = self._load()
            return self._loaded

    def _load(self) -> tuple[TextEmbedding, str]:
        if find_spec("fastembed") is None:
            self._refuse(f"fastembed is not installed: {INSTALL}")
        from loguru import logger  # noqa: PLC0415 # comes with fastembed

        # What it logs to stderr is raised as well, and said once, by us.
        logger.disable("fastembed")
        try:
            model = self._from_folder() if self.path else self._from_catalogue()
            return model, _prepared(model, self.model)
        except Exception as error:  # noqa: BLE001 # onnxruntime's classes have no public base
            self._refuse(
                f"{self.model} cannot be loaded from {self.path or CACHE} "
                f"({type(error).__name__}: {error})"
            )

    def _from_catalogue(self) -> TextEmbedding:
        from fastembed import TextEmbedding  # noqa: PLC0415 # an extra, loaded when it is asked

        return TextEmbedding(
            self.model,
            cache_dir=None if self.cache_dir is None else str(self.cache_dir),
            threads=self.threads,
            local_files_only=self.local_files_only,
        )

    def _from_folder(self) -> TextEmbedding:
        """Load ``path`` under a name of its own: fastembed keeps one register per process."""
        from fastembed import TextEmbedding  # noqa: PLC0415 # an extra, loaded when it is asked
        from fastembed.common.model_description import (  # noqa: PLC0415 # as above
            ModelSource,
            PoolingType,
        )

        folder = Path(self.path or "").resolve()
        if missing := [name for name in (self.model_file, *FILES) if not (folder / name).exists()]:
            raise FileNotFoundError(f"no {', '.join(missing)} in this folder")
        name = f"{folder}/{self.model_file}"
        with contextlib.suppress(ValueError):  # registered before
            TextEmbedding.add_custom_model(
                name,
                pooling=PoolingType[_pooling(folder)],
                normalization=True,
                sources=ModelSource(hf=name),
                dim=_read(folder / "config.json")["hidden_size"],
                model_file=self.model_file,
            )
        return TextEmbedding(name, threads=self.threads, specific_model_path=str(folder))

    def _refuse(self, message: str) -> NoReturn:
        raise BackendRefused(message, backend=self.backend, model=self.model)


def _prepared(model: TextEmbedding, name: str) -> str:
    """Cut where the model was made to be cut; give the digest of the weights."""
    loaded = vars(model.model)  # fastembed tells nowhere else what it loaded from where
    folder = Path(loaded["_model_dir"])
    limits = folder / "sentence_bert_config.json"
    tokens = _read(limits).get("max_seq_length") if limits.exists() else TOKENS.get(name)
    if tokens:
        loaded["tokenizer"].enable_truncation(max_length=tokens)
    with (folder / loaded["model_description"].model_file).open("rb") as weights:
        return hashlib.file_digest(weights, "sha256").hexdigest()[:16]


def _pooling(folder: Path) -> str:
    """Give what sentence-transformers' own file says; the mean where there is none."""
    file = folder / "1_Pooling" / "config.json"
    modes = _read(file) if file.exists() else {}
    if modes.get("pooling_mode_cls_token"):
        return "CLS"
    return "LAST_TOKEN" if modes.get("pooling_mode_lasttoken") else "MEAN"


def _read(file: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(file.read_text("utf-8"))
    return found
