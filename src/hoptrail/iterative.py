"""One step at a time: each is chosen from what the ones before it found."""

from __future__ import annotations

from typing import Any

from langgraph.graph import StateGraph

from hoptrail.run import Parts


def build_iterative(parts: Parts) -> StateGraph[Any, None, Any, Any]:
    """Give the iterative graph, not yet compiled."""
    raise NotImplementedError
