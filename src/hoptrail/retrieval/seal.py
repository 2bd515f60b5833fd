"""The seal of a finished file: the digest of every byte before it, as its last bytes.

SQLite reads a database by the size in its header, so what follows the last page is ours.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import BinaryIO

MARK = b"hoptrail"
LENGTH = len(MARK) + hashlib.sha256().digest_size

_PIECE = 1 << 20


def seal(path: Path) -> None:
    """Put the seal on a file that is complete, and bring all of it to the disk."""
    with path.open("rb+") as file:
        digest, _ = _copied(file, path.stat().st_size, None)
        file.write(MARK + digest)
        file.flush()
        os.fsync(file.fileno())


def is_whole(file: BinaryIO) -> bool:
    """Say whether a file ends in its seal, and is what was sealed."""
    return _opened(file, None)


def copy_unsealed(source: Path, target: BinaryIO) -> bool:
    """Copy a file without its seal; say whether what was copied is what was sealed."""
    with source.open("rb") as file:
        return _opened(file, target)


def _opened(file: BinaryIO, target: BinaryIO | None) -> bool:
    digest, length = _copied(file, os.fstat(file.fileno()).st_size - LENGTH, target)
    return length > 0 and file.read(LENGTH + 1) == MARK + digest


def _copied(source: BinaryIO, length: int, target: BinaryIO | None) -> tuple[bytes, int]:
    """Give the digest of the next bytes of ``source``, and how many there were."""
    digest, done = hashlib.sha256(), 0
    while done < length and (piece := source.read(min(_PIECE, length - done))):
        digest.update(piece)
        done += len(piece)
        if target is not None:
            target.write(piece)
    return digest.digest(), done
