"""Moments as text: RFC 3339 in UTC, the one form for logs, status, Events and files. Pure."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Literal


def rfc3339(
    moment: float | datetime,
    precision: Literal["seconds", "milliseconds", "microseconds"] = "seconds",
) -> str:
    """A moment (Unix seconds, or a datetime with its zone) as `2030-01-31T10:11:12Z`."""
    if not isinstance(moment, datetime):
        moment = datetime.fromtimestamp(moment, UTC)
    return moment.astimezone(UTC).replace(tzinfo=None).isoformat(timespec=precision) + "Z"
