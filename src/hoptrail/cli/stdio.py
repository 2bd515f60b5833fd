"""Standard input and output, kept for a protocol alone."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import AsyncIterator
from contextlib import suppress
from io import TextIOWrapper


class ProtocolStdio:
    """The two ends of a protocol, taken from the process.

    From then on whatever reads standard input finds its end, and whatever is printed, by
    Python, a library or a child, goes to standard error.
    """

    def __init__(self) -> None:
        self._in = open(os.dup(0), "rb")  # noqa: SIM115 # closed by the process's end
        self.out = TextIOWrapper(open(os.dup(1), "wb"), encoding="utf-8")  # noqa: SIM115 # as above
        nothing = os.open(os.devnull, os.O_RDONLY)
        os.dup2(nothing, 0)
        os.close(nothing)
        os.dup2(2, 1)

    async def lines(self) -> AsyncIterator[str]:
        """Give what comes in, line by line, until the other side ends it.

        It is read in a thread that holds up neither the event loop nor the process's end; none
        of asyncio's ways does that for pipes, files and terminals alike.
        """
        loop = asyncio.get_running_loop()
        came: asyncio.Queue[bytes] = asyncio.Queue()
        room = threading.Semaphore()

        def read() -> None:
            line = b"-"
            while line:
                room.acquire()
                line = self._in.readline()
                with suppress(RuntimeError):  # the loop has ended
                    loop.call_soon_threadsafe(came.put_nowait, line)

        threading.Thread(target=read, name="hoptrail-stdin", daemon=True).start()
        while line := await came.get():
            room.release()
            yield line.decode("utf-8", "replace")
