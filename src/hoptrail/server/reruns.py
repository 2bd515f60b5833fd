"""``POST /runs/{run_id}/rerun``: a run again, with something changed."""

from __future__ import annotations

from typing import Annotated

from fastapi import Request, Response
from pydantic import ConfigDict, Field

from hoptrail.change import Change
from hoptrail.run import new_run_id
from hoptrail.server.answer_body import AnswerBody
from hoptrail.server.problems import refusals
from hoptrail.server.reasoning import RUN_ID, told, told_as_events
from hoptrail.server.routing import router
from hoptrail.server.runs import RunId
from hoptrail.server.served import Serving

routes = router("runs", "/runs")

_OF_RUN = {"stream", "detach", "run_id"}


class RerunRequest(Change):
    """What is changed; ``run_id`` names the new run. The same fork of that id is finished.

    With a ``step``: its ``answer``, its ``question``, or passages ``pinned`` to it or ``banned``
    from it. Without one, ``question`` is the run's, and the passages are those of every step.
    ``model`` is asked what is asked anew. ``stream`` gives the events as they happen, ``detach``
    lets the run go on when you leave.
    """

    model_config = ConfigDict(
        strict=True,
        json_schema_extra={
            "examples": [
                {"step": 1, "answer": "Max Brod"},
                {"step": 2, "question": "In which town did #1 grow up?", "stream": True},
            ]
        },
    )

    stream: bool = False
    detach: bool = False
    run_id: Annotated[str, Field(pattern=RUN_ID)] | None = None

    @property
    def change(self) -> Change:
        """What is changed."""
        return Change.model_validate(self.model_dump(exclude=_OF_RUN))


@routes.post(
    "/{run_id}/rerun",
    summary="Run it again, with something changed",
    response_model=AnswerBody,
    responses={
        **refusals(404, 409, 429, 502, 504),
        200: told_as_events("The answer, or with `stream` the new run's events."),
    },
)
async def rerun(run_id: RunId, wish: RerunRequest, request: Request, serving: Serving) -> Response:
    """Answer a run's question with something changed, in a run of its own.

    What does not depend on the change is kept from the run, and not asked again. The answer says
    which run it came from (`parent_run_id`) and what was changed; `GET /runs/{run_id}/diff/...`
    compares the two.
    """
    new_id = wish.run_id or new_run_id()
    events = serving.trail.astream_rerun(run_id, wish.change, new_run_id=new_id)
    run = serving.runs.start(new_id, events, detach=wish.detach)
    return await told(run, request, stream=wish.stream)
