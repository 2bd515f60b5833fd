"""What a status other than 200 means: which error it is, and when to come back.

The class follows the status (and a machine-readable field), never the wording of a message.
"""

from __future__ import annotations

import math
import re
import time
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from http import HTTPStatus

from hoptrail.characters import whole
from hoptrail.connections import HttpRefusal
from hoptrail.errors import (
    BackendBusy,
    BackendError,
    BackendRefused,
    BackendUnavailable,
    InvalidResponse,
    RequestRefused,
    RequestTooLarge,
)
from hoptrail.foreign_json import read_foreign

LONGEST_RETRY_AFTER = 120.0
LONGEST_LOADING = 60.0

_REQUEST_IS_WRONG = frozenset({400, 405, 409, 415, 422})
_COME_BACK_LATER = frozenset({408, 429})
_BROKEN_BEHIND = frozenset({424, 425, 499})
_RATE_LIMIT_RESETS = re.compile(r";\s*t=(\d{1,9})\b")
SHOWN = 300
"""Characters of a server's words that an error repeats."""


def kind_of(status: int, *, loading: bool = False) -> type[BackendError]:
    """Give the class of error a status stands for; ``loading`` says a model is on its way."""
    if status in _COME_BACK_LATER or (status == HTTPStatus.SERVICE_UNAVAILABLE and loading):
        return BackendBusy
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR or status in _BROKEN_BEHIND:
        return BackendUnavailable
    if status == HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
        return RequestTooLarge
    if status in _REQUEST_IS_WRONG:
        return RequestRefused
    if status < HTTPStatus.MULTIPLE_CHOICES:
        return InvalidResponse
    return BackendRefused


def wait_of(refusal: HttpRefusal, *, now: float | None = None) -> float | None:
    """Give the seconds the server asks to wait, or None when it does not say.

    Read from ``Retry-After`` (seconds or a date; ``now`` is the Unix time it is compared with),
    the ``RateLimit`` header, or ``estimated_time``. Clamped, so that no server can bench
    itself for a day or be asked in a loop.
    """
    asked = _retry_after(refusal.headers, time.time() if now is None else now)
    if asked is not None:
        return min(max(asked, 1.0), LONGEST_RETRY_AFTER)
    estimate = _finite(body_of(refusal.text).get("estimated_time"))
    return None if estimate is None else min(max(estimate, 1.0), LONGEST_LOADING)


def body_of(text: str) -> dict[str, object]:
    """Give the JSON object of an error's body, or an empty one."""
    try:
        body = read_foreign(text.encode())
    except ValueError:
        return {}
    return body if isinstance(body, dict) else {}


def is_loading(body: Mapping[str, object]) -> bool:
    """Say whether a body tells of a model that is on its way, whenever it thinks to be there."""
    return body.get("estimated_time") is not None


def words_of(text: str) -> str:
    """Give what the server said, from any of the envelopes in use, on one line.

    Whoever shows it cuts it to `SHOWN` after the key is masked: half a key must not stay.
    """
    body = body_of(text)
    said = body.get("error") or body.get("message") or body.get("detail") or text
    if isinstance(said, dict):
        said = said.get("message") or said
    # Escapes in the server's JSON may stand for characters that cannot be stored.
    line = " ".join(whole(str(said)).replace("\0", "").split())
    return "" if line.startswith("<") else line


def code_of(text: str) -> str:
    """Give the machine-readable code of an error's body (``model_not_supported``), or ``""``."""
    error = body_of(text).get("error")
    code = error.get("code") if isinstance(error, dict) else None
    return code if isinstance(code, str) else ""


def _retry_after(headers: Mapping[str, str], now: float) -> float | None:
    value = headers.get("retry-after", "").strip()
    if value:
        seconds = _finite(value)
        return seconds if seconds is not None else _until(value, now)
    reset = _RATE_LIMIT_RESETS.search(headers.get("ratelimit", ""))
    return float(reset.group(1)) if reset else None


def _until(date: str, now: float) -> float | None:
    try:
        return parsedate_to_datetime(date).timestamp() - now
    except (ValueError, OverflowError, TypeError, OSError):
        return None


def _finite(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        seconds = float(value)
    except (ValueError, OverflowError):
        return None
    return seconds if math.isfinite(seconds) and seconds >= 0 else None
