"""An ingestion that is killed where it is told to be: at its n-th point, or after a while.

``python -m tests.mortal_ingestion`` imports everything once, then reads a `Job` a line from
stdin, forks a process for each, and answers with how many points it reached. Nothing of the
product knows of this: what touches the disk is wrapped from outside, in the forked process.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from hoptrail.embeddings import EmbedderChain, HashEmbedder
from hoptrail.retrieval.ingest import ingest

WIDTH = 64
"""Of the vectors, which hashing makes."""

ON_DISK = ("replace", "link", "fsync", "open", "unlink", "mkdir")


@dataclass(frozen=True)
class Job:
    """One ingestion; with neither ``die_at`` nor ``after`` it lives."""

    docs: str
    place: str
    die_at: int = 0
    after: float = 0.0


class Points:
    """Counts the points an ingestion reaches, and kills it at one of them."""

    def __init__(self, die_at: int, told: int) -> None:
        self._die_at, self._told, self._reached = die_at, told, 0

    def reach(self) -> None:
        self._reached += 1
        os.pwrite(self._told, str(self._reached).encode(), 0)
        if self._reached == self._die_at:
            os.kill(os.getpid(), signal.SIGKILL)

    def around(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def reached(*arguments: Any, **named: Any) -> Any:
            self.reach()
            result = call(*arguments, **named)
            self.reach()
            return result

        return reached


class TornFile:
    """A file whose writes have a point before, in the middle of, and after their bytes."""

    def __init__(self, file: Any, points: Points) -> None:
        self._file, self._points = file, points

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    def __enter__(self) -> TornFile:
        return self

    def __exit__(self, *ended: object) -> None:
        self._file.close()

    def write(self, content: bytes) -> int:
        self._points.reach()
        self._file.write(content[: len(content) // 2])
        self._file.flush()
        self._points.reach()
        self._file.write(content[len(content) // 2 :])
        self._file.flush()
        self._points.reach()
        return len(content)


def wrap(points: Points) -> None:
    """Put a point at every write, flush, rename, link and SQL statement on the way."""
    for name in ON_DISK:
        setattr(os, name, points.around(getattr(os, name)))
    connect, fdopen, open_path = sqlite3.connect, os.fdopen, Path.open

    def connected(database: str, **named: Any) -> sqlite3.Connection:
        connection: sqlite3.Connection = connect(database, **named)
        if database != ":memory:":
            connection.set_trace_callback(lambda _: points.reach())
        return connection

    def opened(path: Path, mode: str = "r", **named: Any) -> Any:
        file = open_path(path, mode, **named)
        return file if mode == "rb" else TornFile(file, points)

    def of_descriptor(descriptor: int, mode: str) -> Any:
        file = fdopen(descriptor, mode)
        return file if mode == "rb" else TornFile(file, points)

    for place, name, wrapper in (
        (sqlite3, "connect", connected),
        (os, "fdopen", of_descriptor),
        (Path, "open", opened),
    ):
        setattr(place, name, wrapper)


def live(job: Job, told: int) -> None:
    """Ingest, in a process of its own that may end at any moment."""
    wrap(Points(job.die_at, told))
    chain = EmbedderChain([HashEmbedder(WIDTH)])
    asyncio.run(ingest([job.docs], job.place, embedders=chain))


def main() -> None:
    """Take jobs until there are no more."""
    counter = os.memfd_create("points")
    for line in sys.stdin:
        job = Job(**json.loads(line))
        os.pwrite(counter, b"0" + b" " * 9, 0)
        child = os.fork()
        if not child:
            status = 1
            try:
                live(job, counter)
                status = 0
            finally:
                os._exit(status)
        if job.after:
            time.sleep(job.after)
            os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        reached = int(os.pread(counter, 10, 0))
        sys.stdout.write(json.dumps([reached, os.waitstatus_to_exitcode(status)]) + "\n")
        sys.stdout.flush()


class Mortals:
    """The process that lets ingestions live and die."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def __call__(self, docs: Path, place: Path, die_at: int = 0, after: float = 0.0) -> int:
        """Let one live until it is killed; give how many points it reached."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        job = Job(str(docs), str(place), die_at, after)
        self._process.stdin.write(json.dumps(asdict(job)) + "\n")
        self._process.stdin.flush()
        reached, code = json.loads(self._process.stdout.readline())
        ends = {-signal.SIGKILL, 0} if after else {-signal.SIGKILL if die_at else 0}
        assert code in ends
        return int(reached)


@contextmanager
def mortals() -> Iterator[Mortals]:
    """Start the process."""
    command = [sys.executable, "-m", "tests.mortal_ingestion"]
    root = Path(__file__).parents[1]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=root
    ) as process:
        try:
            yield Mortals(process)
        finally:
            assert process.stdin is not None
            process.stdin.close()
            process.wait(30)


if __name__ == "__main__":
    main()
