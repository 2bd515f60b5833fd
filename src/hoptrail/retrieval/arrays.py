"""Named arrays as one blob, and lists of names as an array."""

from __future__ import annotations

import io
import math
import zipfile
from collections.abc import Iterable
from tokenize import TokenError
from typing import Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

_MISREAD = (
    zipfile.BadZipFile,
    EOFError,
    IndexError,
    KeyError,
    OverflowError,
    RecursionError,
    RuntimeError,
    SyntaxError,
    TokenError,
    TypeError,
)


def pack(**arrays: NDArray[Any]) -> bytes:
    """Give the arrays as one blob (uncompressed npz; its members carry checksums)."""
    blob = io.BytesIO()
    np.savez(blob, allow_pickle=False, **arrays)
    return blob.getvalue()


def unpack(blob: bytes) -> dict[str, NDArray[Any]]:
    """Give the arrays that `pack` was given, read-only; nothing in the blob is ever executed.

    NumPy's own reader makes room for as much as a header claims; this one believes no header
    that the bytes behind it do not bear out.

    Raises:
        ValueError: the blob is not what `pack` gave.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(blob)) as archive:
            return {
                member.filename.removesuffix(".npy"): _array(archive, member, len(blob))
                for member in archive.infolist()
            }
    except _MISREAD as error:
        raise ValueError(f"no arrays: {error}") from error


def _array(archive: zipfile.ZipFile, member: zipfile.ZipInfo, most: int) -> NDArray[Any]:
    if member.compress_type != zipfile.ZIP_STORED or member.file_size > most:
        raise ValueError(f"{member.filename} is not as it was packed")
    content = io.BytesIO(archive.read(member))
    if npy.read_magic(content) != (1, 0):
        raise ValueError(f"{member.filename} is of another format")
    shape, by_columns, kind = npy.read_array_header_1_0(content)
    numbers = content.read()
    if kind.hasobject or min(shape, default=0) < 0:
        raise ValueError(f"{member.filename} holds no numbers")
    if math.prod(shape) * kind.itemsize != len(numbers):
        raise ValueError(f"{member.filename} is not as long as it says")
    return np.frombuffer(numbers, kind).reshape(shape, order="F" if by_columns else "C")


def pack_names(names: Iterable[str]) -> NDArray[np.uint8]:
    """Give names, none of which contains a line break, as one array of UTF-8 bytes."""
    return np.frombuffer("\n".join(names).encode(), np.uint8)


def unpack_names(packed: NDArray[np.uint8]) -> list[str]:
    """Give the names that `pack_names` was given."""
    return packed.tobytes().decode().split("\n") if packed.size else []


def within(numbers: NDArray[Any], count: int) -> bool:
    """Say whether all numbers are whole and of 0 to ``count - 1``."""
    whole = numbers.ndim == 1 and numbers.dtype.kind == "i"
    return whole and bool(((numbers >= 0) & (numbers < count)).all())
