"""The file that is to take an index file's place: made by one writer at a time, then put there.

Whatever happens before the last step, the index stays as it was; that step is one rename.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain, count
from pathlib import Path
from typing import BinaryIO

from filelock import FileLock, Timeout

from hoptrail.errors import RetrievalError
from hoptrail.retrieval.seal import copy_unsealed, seal
from hoptrail.retrieval.store import damaged

_OF_THE_FIRST_FORMAT = ("-wal", "-shm")


class Replacement:
    """A file beside the index that nobody reads until `publish` puts it in the index's place.

    `claim` comes first, `close` last. Not for concurrent use.
    """

    def __init__(self, file: Path) -> None:
        self.file = file
        self.path = file.with_suffix(".draft")
        self._lock = FileLock(file.with_suffix(".lock"), 0, mode=0o600, thread_local=False)

    def claim(self) -> bool:
        """Become the only writer, and clear away what a killed one left; False while another is.

        Raises:
            RetrievalError: nothing can be written here.
        """
        try:
            self.file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._lock.acquire()
        except Timeout:
            return False
        except OSError as error:
            raise self._unwritable(error) from error
        with self._disk_errors():
            self._clear()
        return True

    def empty(self) -> None:
        """Begin with nothing."""
        with self._disk_errors():
            self._clear()
            self._create().close()

    def copy(self) -> None:
        """Begin with what the index holds.

        Raises:
            IndexDamaged: the index is not what was written.
        """
        with self._disk_errors():
            self._clear()
            with self._create() as target:
                whole = copy_unsealed(self.file, target)
        if not whole:
            raise damaged(self.file, "its checksum is wrong")

    def publish(self, *, keep: bool = False) -> Path | None:
        """Make this the index; give where the one before is kept, when it is to be.

        Raises:
            RetrievalError: it cannot be put there.
        """
        with self._disk_errors():
            seal(self.path)
            kept = self._keep() if keep else None
            os.replace(self.path, self.file)
            _bring_to_disk(self.file.parent)
            for rest in _OF_THE_FIRST_FORMAT:
                self.file.with_name(self.file.name + rest).unlink(missing_ok=True)
        return kept

    def close(self) -> None:
        """Let others write; what was not published is gone."""
        if self._lock.is_locked:
            try:
                self._clear()
            finally:
                self._lock.release()

    @contextmanager
    def _disk_errors(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise self._unwritable(error) from error

    def _unwritable(self, error: OSError) -> RetrievalError:
        return RetrievalError(f"{self.file}: cannot be written: {error.strerror}")

    def _create(self) -> BinaryIO:
        # Its mode is there before its content: what documents say is private.
        return os.fdopen(os.open(self.path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "wb")

    def _keep(self) -> Path:
        """Give the index a second name that was free, for whoever wants to look at it."""
        names = chain([".damaged"], (f".damaged-{number}" for number in count(2)))
        for kept in map(self.file.with_suffix, names):
            try:
                os.link(self.file, kept)
            except FileExistsError:
                if not kept.samefile(self.file):  # else: its keeper was killed at once after that
                    continue
            break
        return kept

    def _clear(self) -> None:
        for rest in ("", "-journal", *_OF_THE_FIRST_FORMAT):
            self.path.with_name(self.path.name + rest).unlink(missing_ok=True)


def _bring_to_disk(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
