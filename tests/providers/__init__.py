"""A loopback Hugging Face and a loopback Ollama that speak as the real ones do.

::

    with LoopbackProvider() as provider:
        provider.huggingface_url, provider.ollama_url       # base URLs, no path
        provider.ollama.models = ["qwen3:8b", "all-minilm"]
        provider.huggingface.answer({"capital of France": "Paris"})
        ...
        provider.huggingface.chats[0].messages

Or in a process of its own: ``python -m tests.providers --port 8801 --script file.json``.

**Sides.** ``provider.huggingface`` and ``provider.ollama`` have in common: ``url``, ``models``,
``answer(script)``, ``respond``, ``fault`` / ``embed_fault`` / ``probe_fault`` (hold until
cleared), ``faults`` / ``embed_faults`` / ``probe_faults`` (deques used up first, one per call,
None = healthy), the records ``chats``, ``embeddings``, ``probes`` (paths), ``calls`` (Counter of
paths), ``in_flight``, ``peak``, ``connections``, and ``stop()`` / ``start()`` / ``drop()`` (these
three block for a moment, as ``settle()`` does: call them in a thread from asynchronous tests).
Beyond that:

* Hugging Face: ``dialect`` (a name of ``DIALECTS``, or a ``Dialect``), ``any_model``,
  ``embedding_models``, ``embedding_shape``, ``token``, ``role``, ``permissions``,
  ``openai_embeddings``, ``tei_permits``.
* Ollama: ``version``, ``num_parallel``, ``load_delay``, ``max_queue``, ``default_context``,
  ``overflow``, ``store``.

**Scripts.** A text, a ``Reply`` (with its pace), a mapping from a part of the last user message
to an answer, a sequence (in turn), or a function of the ``ChatRequest``. A request without an
answer gets 500 and is named in ``provider.unexpected``, which the ``provider`` fixture checks.

**Faults.** ``Fault(kind, ...)``, see ``fault.py`` for the names; an unknown name is refused.
"""

from tests.providers.dialect import DIALECTS, Dialect
from tests.providers.fault import (
    BODY,
    CONNECTION,
    EMBEDDING,
    ERRORS,
    KINDS,
    STREAM,
    TRANSFER,
    VARIATION,
    Fault,
)
from tests.providers.huggingface import HuggingFace
from tests.providers.loopback import LoopbackProvider
from tests.providers.ollama import Ollama
from tests.providers.script import (
    ChatRequest,
    EmbeddingRequest,
    Reply,
    UnexpectedRequest,
    scripted,
)
from tests.providers.vectors import unit_vector

__all__ = [
    "BODY",
    "CONNECTION",
    "DIALECTS",
    "EMBEDDING",
    "ERRORS",
    "KINDS",
    "STREAM",
    "TRANSFER",
    "VARIATION",
    "ChatRequest",
    "Dialect",
    "EmbeddingRequest",
    "Fault",
    "HuggingFace",
    "LoopbackProvider",
    "Ollama",
    "Reply",
    "UnexpectedRequest",
    "scripted",
    "unit_vector",
]
