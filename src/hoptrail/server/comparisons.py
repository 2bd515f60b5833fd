"""Two runs side by side."""

from __future__ import annotations

from typing import Annotated

from fastapi import Path, Response

from hoptrail.comparison import Comparison, compare
from hoptrail.server.problems import refusals
from hoptrail.server.reasoning import RUN_ID
from hoptrail.server.routing import router
from hoptrail.server.runs import RunId, record_of
from hoptrail.server.served import Serving

routes = router("runs", "/runs")

OtherId = Annotated[
    str,
    Path(pattern=RUN_ID, examples=["20261122-101500-b81d03"], description="The other run's id"),
]


@routes.get(
    "/{run_id}/diff/{other_id}",
    summary="Compare two runs",
    response_model=Comparison,
    responses=refusals(404),
)
async def diff(run_id: RunId, other_id: OtherId, serving: Serving) -> Response:
    """Tell how `other_id` differs from `run_id`: what differs first, and step by step.

    What is under way is compared as far as it has come. Times and tokens are told as `measures`
    and are no difference.
    """
    before, after = await record_of(run_id, serving), await record_of(other_id, serving)
    document = serving.settings.secrets.hide_in(compare(before, after).model_dump_json())
    return Response(document, media_type="application/json")
