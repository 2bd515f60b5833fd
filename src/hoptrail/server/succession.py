"""The older system's routes stay; each answer of theirs names the route that took its place."""

from __future__ import annotations

from datetime import UTC, datetime

_SINCE = int(datetime(2026, 11, 22, tzinfo=UTC).timestamp())


def succeeded_by(path: str) -> dict[str, str]:
    """Give the headers that say so: RFC 9745's ``Deprecation``, and a link to the successor."""
    return {"Deprecation": f"@{_SINCE}", "Link": f'<{path}>; rel="successor-version"'}
