"""What this process touches outside itself: files, addresses, other processes.

The hook that listens cannot be taken away again, so there is one for all tests; it does next to
nothing while nobody watches.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

Touched = set[tuple[str, str]]
"""Pairs of an event and what it was about: ``("open", "/home/anna/x")``."""

_EVENTS = {
    "open": 0,
    "os.listdir": 0,
    "os.scandir": 0,
    "os.mkdir": 0,
    "os.remove": 0,
    "os.rename": 1,
    "os.symlink": 1,
    "os.chmod": 0,
    "sqlite3.connect": 0,
    "socket.connect": 1,
    "socket.bind": 1,
    "socket.getaddrinfo": 0,
    "socket.sendto": 1,
    "subprocess.Popen": 0,
    "os.system": 0,
    "os.exec": 0,
    "os.posix_spawn": 0,
    "os.startfile": 0,
    "os.fork": None,
    "urllib.Request": 0,
    "webbrowser.open": 0,
    "ctypes.dlopen": 0,
    "pickle.find_class": 1,
}
_CODE = (sys.prefix, sys.base_prefix)
"""Where Python's own files are: a module that is first needed now is read from there."""
_watchers: dict[int, Touched] = {}
_is_installed: list[bool] = []


@contextmanager
def watched() -> Iterator[Touched]:
    """Give what is touched while the block runs, by whichever thread."""
    if not _is_installed:
        sys.addaudithook(_note)
        _is_installed.append(True)
    touched: Touched = set()
    _watchers[id(touched)] = touched
    try:
        yield touched
    finally:
        del _watchers[id(touched)]


def named_alike(touched: Touched, *names: str) -> Touched:
    """Give what was touched with each of some names, such as a run's id, written as ``*``."""
    either = re.compile("|".join(map(re.escape, names)))
    return {(event, either.sub("*", what)) for event, what in touched}


def _note(event: str, arguments: tuple[Any, ...]) -> None:
    if _watchers and event in _EVENTS:
        at = _EVENTS[event]
        what = "" if at is None else arguments[at]
        if isinstance(what, int):  # a file that is open already
            return
        told = os.fsdecode(what) if isinstance(what, bytes | os.PathLike) else str(what)
        if told.startswith(_CODE) and event in ("open", "os.listdir", "os.scandir"):
            return
        for touched in list(_watchers.values()):
            touched.add((event, told))
