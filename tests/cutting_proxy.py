"""A way to a server on which the first connections break."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from socketserver import BaseRequestHandler, ThreadingTCPServer

WHOLE = 1 << 40


@dataclass
class Cuts:
    """After how many bytes of the server's each of the first connections breaks."""

    port: int
    after: list[int]
    url: str = ""
    connections: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def next(self) -> int:
        """Count a connection, and give how many bytes it lives for."""
        with self.lock:
            self.connections += 1
            place = self.connections - 1
        return self.after[place] if place < len(self.after) else WHOLE


@contextmanager
def cutting_proxy(port: int, after: list[int]) -> Iterator[Cuts]:
    """Pass connections on to a port of this machine while the block runs."""
    cuts = Cuts(port, after)

    class Handler(BaseRequestHandler):
        def handle(self) -> None:
            with socket.create_connection(("127.0.0.1", cuts.port)) as server:
                up = threading.Thread(target=_pass_on, args=(self.request, server, WHOLE))
                up.start()
                _pass_on(server, self.request, cuts.next())
                up.join()

    with ThreadingTCPServer(("127.0.0.1", 0), Handler) as proxy:
        cuts.url = f"http://127.0.0.1:{proxy.server_address[1]}"
        serving = threading.Thread(target=proxy.serve_forever, kwargs={"poll_interval": 0.05})
        serving.start()
        try:
            yield cuts
        finally:
            proxy.shutdown()
            serving.join()


def _pass_on(source: socket.socket, target: socket.socket, left: int) -> None:
    with suppress(OSError):  # the other direction has ended
        while left > 0 and (some := source.recv(min(left, 65536))):
            target.sendall(some)
            left -= len(some)
    for each in (source, target):
        with suppress(OSError):
            each.shutdown(socket.SHUT_RDWR)
