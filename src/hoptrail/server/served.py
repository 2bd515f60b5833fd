"""What the routes of one server share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request

from hoptrail.server.live_runs import LiveRuns
from hoptrail.settings import Settings
from hoptrail.trail import Hoptrail


@dataclass(frozen=True)
class Served:
    """A trail and its runs; in ``app.state.served``, and in an endpoint as `Serving`."""

    trail: Hoptrail
    runs: LiveRuns

    @property
    def settings(self) -> Settings:
        """The settings of the trail."""
        return self.trail.assembly.settings


async def served_by(request: Request) -> Served:
    """Give what the app of a request serves."""
    served: Served = request.app.state.served
    return served


Serving = Annotated[Served, Depends(served_by)]
