"""A moment, as one says it on a command line: ``2h`` ago, ``3d`` ago, or a date."""

from __future__ import annotations

import re
from datetime import datetime, timedelta

import click

_AGO = re.compile(r"(\d{1,6}) ?([mhdw])", re.IGNORECASE)
_UNITS = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


class Moment(click.ParamType[datetime]):
    """A moment in the past; a date without a zone is of this machine's."""

    name = "WHEN"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> datetime:
        """Give the moment."""
        text = str(value).strip()
        try:
            if ago := _AGO.fullmatch(text):
                unit = _UNITS[ago.group(2).lower()]
                return datetime.now().astimezone() - timedelta(**{unit: int(ago.group(1))})
            return datetime.fromisoformat(text).astimezone()
        except (ValueError, OverflowError):
            self.fail("write it as 30m, 2h, 3d, 1w, or 2026-11-22, or 2026-11-22T09:15", param, ctx)
