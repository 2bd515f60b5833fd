"""Read what a backend calls vectors, and take nothing on trust."""

from __future__ import annotations

import numpy as np

from hoptrail.space import Vectors

SHORTEST, LONGEST = 1e-6, 1e6
"""Plausible lengths of an embedding before it is normalised. Outside of them it is no direction
but a fault: zeros, underflow, or numbers from memory that was never written."""


def unit_rows(rows: object, count: int, width: int | None = None) -> Vectors:
    """Give one unit row per text, shape (count, width), float32.

    Raises:
        ValueError: the rows are not ``count`` finite, non-zero vectors of numbers, all ``width``
            wide; the message says what they are instead.
    """
    found = _numbers(rows)
    if found.ndim != 2 or found.shape[1] < 2:  # one number has no direction
        raise ValueError(f"the answer has the shape {found.shape}, not one vector per text")
    if found.shape[0] != count:
        raise ValueError(f"{found.shape[0]} vectors came back for {count} texts")
    if width is not None and found.shape[1] != width:
        raise ValueError(f"the vectors are {found.shape[1]} wide, not {width}")
    if not np.isfinite(found).all():
        raise ValueError("a vector holds NaN or infinity")
    norms = np.linalg.norm(found, axis=1, keepdims=True)
    if not ((norms > SHORTEST) & (norms < LONGEST)).all():
        raise ValueError(f"a vector has the length {norms.min():.3g} or {norms.max():.3g}")
    unit: Vectors = (found / norms).astype(np.float32)
    return unit


def _numbers(rows: object) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    try:
        found = np.asarray(rows)
    except (ValueError, OverflowError):
        raise ValueError("the vectors differ in width") from None
    if found.dtype.kind not in "fiu":
        raise ValueError("the answer holds something other than numbers")
    return found.astype(np.float64)
