"""The loopback Hugging Face and Ollama together, in a thread of their own."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import Counter
from types import TracebackType

from tests.providers.huggingface import HuggingFace
from tests.providers.ollama import Ollama


class LoopbackProvider:
    """Both providers, running while the ``with`` block does."""

    def __init__(self, huggingface_port: int = 0, ollama_port: int = 0) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self.huggingface = HuggingFace(self._loop, huggingface_port)
        self.ollama = Ollama(self._loop, ollama_port)

    @property
    def huggingface_url(self) -> str:
        """What stands in for ``https://router.huggingface.co``."""
        return self.huggingface.url

    @property
    def ollama_url(self) -> str:
        """What stands in for ``http://127.0.0.1:11434``."""
        return self.ollama.url

    @property
    def calls(self) -> Counter[str]:
        """How often each path was asked for, on both sides."""
        return self.huggingface.calls + self.ollama.calls

    @property
    def unexpected(self) -> list[str]:
        """What the providers were asked and had no answer for."""
        return self.huggingface.unexpected + self.ollama.unexpected

    @property
    def in_flight(self) -> int:
        """Chats and embeddings being served right now."""
        return self.huggingface.in_flight + self.ollama.in_flight

    def settle(self, seconds: float = 30.0) -> None:
        """Wait until nothing is being served (a client that left has been noticed).

        Raises:
            TimeoutError: when something still is, after ``seconds``.
        """
        deadline = time.monotonic() + seconds
        while self.in_flight:
            if time.monotonic() > deadline:
                raise TimeoutError(f"{self.in_flight} calls are still being served")
            time.sleep(0.005)

    def reset(self) -> None:
        """Make everything as new: no connection, no record, no fault; both sides listening."""
        for side in (self.huggingface, self.ollama):
            side.drop()
            side.reset()
            side.start()

    def __enter__(self) -> LoopbackProvider:
        self._thread.start()
        self.huggingface.start()
        self.ollama.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for side in (self.huggingface, self.ollama):
            side.stop()
            side.release()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()
