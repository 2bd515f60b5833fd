"""The index: a question in, evidence out.

Words (BM25) and vectors (exact cosine) are each divided by their best score for the question and
added half and half; the passage graph then walks from what that found. All arrays are in memory,
the texts stay on disk.
"""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from hoptrail.errors import BackendError, RetrievalError
from hoptrail.evidence import Evidence, Passage, Retrieval
from hoptrail.retrieval.graph import PassageGraph
from hoptrail.retrieval.store import (
    FORMAT,
    Manifest,
    SpaceRecord,
    connect,
    damaged,
    index_file,
    read_blob,
    read_manifest,
    read_space,
    read_vectors,
    sqlite_errors,
    verify,
)
from hoptrail.retrieval.words import WordIndex
from hoptrail.space import Embedder, EmbeddingSpace, Vectors

CACHED_QUERIES = 512
NO_EMBEDDER = "no embedder of the index's embedding space is up: searched by words only"

Scores = NDArray[np.float32]


class EmbedderSource(Protocol):
    ...
