"""Formats the gateway's JSON log as short lines of text. Pure: octets in, text out.

A line that is not a JSON object (a library's warning) is shown unchanged.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from datetime import tzinfo
from typing import Any

from mailrelay_gateway.contract.moments import parse_rfc3339

#: Maximum length of one value in a line.
MAX_VALUE = 200
#: Maximum length of a positive reply: some providers send a paragraph.
MAX_THANKS = 60
# Shown first and without keys.
_LEADING = ("time", "level", "event", "queue_id")
# Shown only in the JSON log.
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
    clock = _clock(record.get("time"), zone)
    if short := _SHORT.get(str(record.get("event"))):
        return " ".join(part for part in (clock, *short(record)) if part)
    parts = [clock]
    level = str(record.get("level", ""))
    if level not in ("", "info", "debug"):
        parts.append(level.upper())
    parts.append(printable(str(record.get("event", "?"))).replace("_", " "))
    if record.get("queue_id"):
        parts.append(printable(str(record["queue_id"])))
    parts.extend(_pairs(record))
    return " ".join(part for part in parts if part)


# --- the events of every message: one short line each; the rest is in the JSON log


def _accepted(record: Mapping[str, Any]) -> Iterator[str]:
    yield "accepted"
    yield _text(record, "queue_id")
    yield f"from {_text(record, 'envelope_sender') or '<>'}"
    yield _to(record)


def _captured(record: Mapping[str, Any]) -> Iterator[str]:
    yield "captured"
    yield _text(record, "queue_id")
    yield _to(record)


def _delivery(record: Mapping[str, Any]) -> Iterator[str]:
    result = _text(record, "result")
    yield result
    yield _text(record, "queue_id")
    yield _to(record)
    yield f"at {_text(record, 'host') or _text(record, 'upstream')}:"
    words = _text(record, "reply") or _text(record, "reason")
    yield words if result != "delivered" else cut(words, MAX_THANKS)


def _refused(record: Mapping[str, Any]) -> Iterator[str]:
    yield "refused"
    yield f"at {_text(record, 'stage').upper()}"
    yield f"from {_text(record, 'client')}:"
    # A reply ends with the reason.
    if "reply" in record:
        yield _text(record, "reply")
    else:
        yield f"{_text(record, 'detail')} ({_text(record, 'reason')})".strip()


_SHORT: Mapping[str, Callable[[Mapping[str, Any]], Iterator[str]]] = {
    "accepted": _accepted,
    "captured": _captured,
    "delivery": _delivery,
    "refused": _refused,
}


def _text(record: Mapping[str, Any], key: str) -> str:
    value = record.get(key)
    return cut(printable(str(value)), MAX_VALUE) if value not in (None, "") else ""


def _to(record: Mapping[str, Any]) -> str:
    recipients = record.get("recipients")
    listed = recipients if isinstance(recipients, list) else []
    count = record.get("recipient_count")
    others = (count if isinstance(count, int) else len(listed)) - 1
    first = cut(printable(str(listed[0])), MAX_VALUE) if listed else "?"
    return f"to {first} +{others}" if others > 0 else f"to {first}"


def cut(text: str, limit: int) -> str:
    """The text in at most `limit` characters."""
    return text if len(text) <= limit else text[: limit - 3] + "..."


def printable(text: str) -> str:
    """The text with control characters escaped: a log line must not control the terminal."""
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
            continue  # all are shown already
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
