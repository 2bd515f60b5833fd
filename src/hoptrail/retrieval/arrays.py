"""Named arrays as one blob, and lists of names as an array."""

from __future__ import annotations

import io
from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray


def pack(**arrays: NDArray[Any]) -> bytes:
    """Give the arrays as one blob (uncompressed npz; its members carry checksums)."""
    blob = io.BytesIO()
    np.savez(blob, allow_pickle=False, **arrays)
    return blob.getvalue()


def unpack(blob: bytes) -> dict[str, NDArray[Any]]:
    """Give the arrays that `pack` was given; nothing in the blob is ever executed."""
    with np.load(io.BytesIO(blob), allow_pickle=False) as arrays:
        return dict(arrays)


def pack_names(names: Iterable[str]) -> NDArray[np.uint8]:
    """Give names, none of which contains a line break, as one array of UTF-8 bytes."""
    return np.frombuffer("\n".join(names).encode(), np.uint8)


def unpack_names(packed: NDArray[np.uint8]) -> list[str]:
    """Give the names that `pack_names` was given."""
    return packed.tobytes().decode().split("\n") if packed.size else []
