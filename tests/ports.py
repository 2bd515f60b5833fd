"""A port for a server that has to be told one."""

from __future__ import annotations

import random
import socket

FIRST, LAST = 10_000, 30_000
"""Below those that a system gives out by itself: to whoever asks for any, at any moment."""


def free_port() -> int:
    """Give a port of this machine at which nobody listens."""
    for port in random.sample(range(FIRST, LAST), 100):
        with socket.socket() as held:
            try:
                held.bind(("127.0.0.1", port))
            except OSError:
                continue
        return port
    raise AssertionError("no port is free")
