"""Times as text: RFC 3339 in UTC, the format of logs, status, Events and files. Pure."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Literal


def rfc3339(
    moment: float | datetime,
    precision: Literal["seconds", "milliseconds", "microseconds"] = "seconds",
) -> str:
    """A time (Unix seconds, or an aware datetime) as `2030-01-31T10:11:12Z`."""
    return _in_utc(moment).replace(tzinfo=None).isoformat(timespec=precision) + "Z"


def parse_rfc3339(text: str) -> datetime | None:
    """The time in a text (UTC if it has no zone); None if it is invalid."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def stamp(moment: float | datetime) -> str:
    """The same without punctuation, for file names: `20300131T101112Z`."""
    return rfc3339(moment).replace("-", "").replace(":", "")


def _in_utc(moment: float | datetime) -> datetime:
    if isinstance(moment, datetime):
        return moment.astimezone(UTC)
    return datetime.fromtimestamp(moment, UTC)
