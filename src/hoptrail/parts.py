"""Parts: what a graph is made of, whichever graph it is."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from langchain_core.language_models import BaseChatModel

from hoptrail.budget import Budget
from hoptrail.errors import ChangeImpossible
from hoptrail.evidence import Retrieval
from hoptrail.fact import Fact
from hoptrail.journal import Journal
from hoptrail.lineage import Lineage
from hoptrail.secrecy import Secrets
from hoptrail.span_export import SpanExport

if TYPE_CHECKING:
    from langchain_core.tools import BaseTool

Search = Callable[[str, int], Awaitable[Retrieval]]
"""Gives the best ``k`` passages for a question."""
Similarity = Callable[[str, Sequence[str]], Awaitable[Sequence[float]]]
"""Gives the cosine of a text with each of some others."""
Recall = Callable[[str, int], Awaitable[Sequence[Fact]]]
"""Gives the facts of memory nearest to a text, at most ``k``, nearest first."""
NamedModel = Callable[[str], tuple[BaseChatModel, str]]
"""Gives the routed model that ``BACKEND:MODEL`` names, and its policy."""


@dataclass(frozen=True)
class Parts:
    """What a graph is made of. ``policy`` names the model, or the order of backends.

    ``routed`` is true when the model is Hoptrail's own router: it then takes the seconds that
    are left, and says on its answers which backend gave them. ``approve`` pauses each run after
    the plan; ``revisions`` is how often what found nothing may be asked differently. ``tools``
    may be called by steps; ``recall`` brings facts of memory into their context. ``spans`` takes
    each run that ends to where OpenTelemetry's spans are collected. ``named_model`` is asked for
    the model of a fork that has another one. ``context_tokens`` limits the passages of a step,
    ``prompt_tokens`` any prompt that tells of several. The known values of ``secrets`` are masked
    in whatever a run takes in, so that they are in nothing that it gives.
    """

    model: BaseChatModel
    journal: Journal
    policy: str
    search: Search | None = None
    similarity: Similarity | None = None
    budget: Budget = field(default_factory=Budget)
    documents: str = ""
    top_k: int = 5
    context_tokens: int = 1800
    prompt_tokens: int = 6144
    revisions: int = 1
    concurrency: int = 8
    approve: bool = False
    tools: tuple[BaseTool, ...] = ()
    recall: Recall | None = None
    routed: bool = False
    gate: Callable[[str], bool] | None = None
    spans: SpanExport | None = None
    named_model: NamedModel | None = None
    secrets: Secrets = field(default_factory=Secrets, repr=False)

    @property
    def tool_names(self) -> tuple[str, ...]:
        """The names of the tools, in their order."""
        return tuple(tool.name for tool in self.tools)


def asking(parts: Parts, lineage: Lineage) -> Parts:
    """Give the parts of a fork: those of any run, unless another model is to be asked.

    Raises:
        ChangeImpossible: these parts know no other model.
    """
    if lineage.model is None:
        return parts
    if parts.named_model is None:
        raise ChangeImpossible(f"this graph cannot ask {lineage.model}: it has a model of its own")
    model, policy = parts.named_model(lineage.model)
    return replace(parts, model=model, policy=policy, routed=True)
