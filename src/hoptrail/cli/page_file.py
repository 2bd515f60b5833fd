"""The file that a page is written to: whole or not at all, and never over something else."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click

STDOUT = "-"
_HEAD_BYTES = 1024


class PageFile:
    """A file for a page. Made before the work that fills the page: a bad place costs nothing.

    Raises:
        click.UsageError: something else stands at ``path``, or there is no such folder.
        OSError: what stands there cannot be read.
    """

    def __init__(self, path: Path, *, force: bool = False) -> None:
        self.path = path
        if path == Path(STDOUT):
            raise click.UsageError(
                f"stdout is the answer's: `hoptrail trace html last -o {STDOUT}` prints the page"
            )
        with _naming(path):
            _check(path, force=force)

    def write(self, page: str) -> None:
        """Write the page: the old file or the new one is there, never half."""
        partial = self.path.with_name(f".{self.path.name}.{os.getpid()}.partial")
        with _naming(self.path):
            try:
                partial.write_text(page, encoding="utf-8")
                partial.replace(self.path)
            finally:
                partial.unlink(missing_ok=True)


def _check(path: Path, *, force: bool) -> None:
    if not path.parent.is_dir():
        raise click.UsageError(f"there is no folder {path.parent}")
    if not path.exists():
        return
    if not path.is_file():
        raise click.UsageError(f"{path} is no file that could be replaced")
    if not (force or _is_page(path)):
        raise click.UsageError(f"{path} is no page of Hoptrail's: --force replaces it")


def _is_page(path: Path) -> bool:
    from hoptrail.viewer import is_page

    with path.open("rb") as file:
        return is_page(file.read(_HEAD_BYTES))


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Have a failure name the file that was asked for, and the way to another place."""
    try:
        yield
    except OSError as error:
        told = OSError(error.errno, error.strerror, str(path))
        told.add_note("`hoptrail trace html RUN_ID -o FILE` writes the page elsewhere")
        raise told from error
