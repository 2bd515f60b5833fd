"""Multi-hop reasoning over whichever of Hugging Face and Ollama is up.

::

    from hoptrail import Hoptrail

    answer = Hoptrail(docs="notes/").ask("Which river flows through the birthplace of …?")

Importing the package loads none of its parts: each name is loaded when it is first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hoptrail.answer import Answer
    from hoptrail.budget import Budget
    from hoptrail.change import Change
    from hoptrail.errors import (
        AllBackendsFailed,
        BackendError,
        BudgetExceeded,
        ChangeImpossible,
        HoptrailError,
        NoBackend,
        RetrievalError,
        RunBusy,
        RunNotFound,
        SettingsError,
    )
    from hoptrail.events import (
        AnswerRestarted,
        AnswerText,
        Event,
        PlanFinished,
        PlanProposed,
        PlanRestarted,
        RunFinished,
        RunStarted,
        StepFinished,
        StepPlanned,
        StepStarted,
    )
    from hoptrail.evidence import Citation, Evidence, Passage
    from hoptrail.graph import build_graph
    from hoptrail.huggingface_client import HuggingFaceClient, get_huggingface_client
    from hoptrail.router import RoutedChatModel
    from hoptrail.settings import Settings, load_settings
    from hoptrail.trace import Trace, read_trace
    from hoptrail.trail import Hoptrail

    __version__: str

__all__ = [
    "AllBackendsFailed",
    "Answer",
    "AnswerRestarted",
    "AnswerText",
    "BackendError",
    "Budget",
    "BudgetExceeded",
    "Change",
    "ChangeImpossible",
    "Citation",
    "Event",
    "Evidence",
    "Hoptrail",
    "HoptrailError",
    "HuggingFaceClient",
    "NoBackend",
    "Passage",
    "PlanFinished",
    "PlanProposed",
    "PlanRestarted",
    "RetrievalError",
    "RoutedChatModel",
    "RunBusy",
    "RunFinished",
    "RunNotFound",
    "RunStarted",
    "Settings",
    "SettingsError",
    "StepFinished",
    "StepPlanned",
    "StepStarted",
    "Trace",
    "__version__",
    "build_graph",
    "get_huggingface_client",
    "load_settings",
    "read_trace",
]

_NAMES = {
    "answer": ("Answer",),
    "budget": ("Budget",),
    "change": ("Change",),
    "errors": (
        "AllBackendsFailed",
        "BackendError",
        "BudgetExceeded",
        "ChangeImpossible",
        "HoptrailError",
        "NoBackend",
        "RetrievalError",
        "RunBusy",
        "RunNotFound",
        "SettingsError",
    ),
    "events": (
        "AnswerRestarted",
        "AnswerText",
        "Event",
        "PlanFinished",
        "PlanProposed",
        "PlanRestarted",
        "RunFinished",
        "RunStarted",
        "StepFinished",
        "StepPlanned",
        "StepStarted",
    ),
    "evidence": ("Citation", "Evidence", "Passage"),
    "graph": ("build_graph",),
    "huggingface_client": ("HuggingFaceClient", "get_huggingface_client"),
    "router": ("RoutedChatModel",),
    "settings": ("Settings", "load_settings"),
    "trace": ("Trace", "read_trace"),
    "trail": ("Hoptrail",),
}
_HOME_OF = {name: module for module, names in _NAMES.items() for name in names}


if not TYPE_CHECKING:  # a type checker shall know the names above, and no others

    def __getattr__(name: str) -> object:
        if name == "__version__":
            from importlib.metadata import version  # noqa: PLC0415 - slower than all the rest

            value = version("hoptrail")
        elif name in _HOME_OF:
            value = getattr(import_module(f"hoptrail.{_HOME_OF[name]}"), name)
        else:
            raise AttributeError(f"module 'hoptrail' has no attribute {name!r}")
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
