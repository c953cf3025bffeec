"""The gateway's JSON log as short lines for a person. Pure: octets in, text out.

A line that is no JSON object (a warning of a library) is shown as it is.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import tzinfo
from typing import Any

from mailrelay_gateway.contract.moments import parse_rfc3339

#: A terminal line is not made longer than this by one value.
MAX_VALUE = 200
# Shown first and without their names.
_LEADING = ("time", "level", "event", "queue_id")
# Left to the JSON log: nobody reads them on a terminal.
_LEFT_OUT = (
    "connect_seconds",
    "digest",
    "message_id",
    "queued_seconds",
    "transaction_seconds",
)


def humanize(line: bytes, *, zone: tzinfo | None = None) -> str:
    """`14:03:07 accepted 01JD... sender=a@example.com ...`; `zone` None is the machine's own."""
    try:
        record = json.loads(line)
    except ValueError:
        record = None
    if not isinstance(record, dict):
        return printable(line.decode("utf-8", "replace").rstrip())
    parts = [_clock(record.get("time"), zone)]
    level = str(record.get("level", ""))
    if level not in ("", "info", "debug"):
        parts.append(level.upper())
    parts.append(printable(str(record.get("event", "?"))).replace("_", " "))
    if record.get("queue_id"):
        parts.append(printable(str(record["queue_id"])))
    parts.extend(_pairs(record))
    return " ".join(part for part in parts if part)


def printable(text: str) -> str:
    """The text with control characters made visible: a log line must not steer a terminal."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def _clock(time: Any, zone: tzinfo | None) -> str:
    moment = parse_rfc3339(str(time))
    if moment is None:
        return ""
    return moment.astimezone(zone).strftime("%H:%M:%S")


def _pairs(record: Mapping[str, Any]) -> list[str]:
    pairs = []
    recipients = record.get("recipients")
    for key, value in record.items():
        if key in _LEADING + _LEFT_OUT or value in (None, "", [], {}):
            continue
        if key == "recipient_count" and isinstance(recipients, list) and len(recipients) == value:
            continue  # they are all there to see
        pairs.append(f"{key}={_value(value)}")
    return pairs


def _value(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.3f}"
    if isinstance(value, list):
        shown = ",".join(_value(member) for member in value)
    elif isinstance(value, str):
        shown = printable(value)
    else:
        shown = json.dumps(value, ensure_ascii=False)
    if len(shown) > MAX_VALUE:
        shown = shown[: MAX_VALUE - 3] + "..."
    return f'"{shown}"' if " " in shown and not isinstance(value, list) else shown
