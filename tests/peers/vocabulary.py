"""The vocabulary of the logs as docs/logs.md defines it, and whether a line keeps to it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

PAGE = Path(__file__).resolve().parents[2] / "docs" / "logs.md"

TYPES: Mapping[str, tuple[type, ...]] = {
    "text": (str,),
    "number": (int, float),
    "list": (list, tuple),
    "true": (bool,),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """A row of the page."""

    levels: frozenset[str]
    keys: frozenset[str]


@cache
def keys() -> Mapping[str, str]:
    """The type of each key."""
    return {row[0].strip("`"): row[1] for row in _rows() if len(row) == 3}


@cache
def events() -> Mapping[str, Event]:
    """Each event."""
    return {
        row[0].strip("`"): Event(
            levels=frozenset(row[1].split(", ")), keys=frozenset(re.findall(r"`(\w+)`", row[3]))
        )
        for row in _rows()
        if len(row) == 4
    }


@cache
def stages() -> list[str]:
    """The stages of an SMTP dialog, in the page's order."""
    return [row[0].strip("`") for row in _rows() if len(row) == 2]


def names() -> list[str]:
    """The name of every key and event: one that stands on the page twice is in it twice."""
    return [row[0].strip("`") for row in _rows() if len(row) > 2]


def _rows() -> Iterator[list[str]]:
    for line in PAGE.read_text().splitlines():
        if line.startswith("| `"):
            yield [cell.strip() for cell in line.strip("|").split("|")]


def problems(line: Mapping[str, Any]) -> list[str]:
    """What in a line is not as the page says; `line` as it was written, or as structlog's
    `capture_logs` shows it."""
    found = dict(line)
    name = str(found.pop("event", ""))
    level = str(found.pop("log_level", None) or found.pop("level", ""))
    found.pop("time", None)
    if found.pop("exc_info", None):
        found["exception"] = ""
    event = events().get(name)
    if event is None:
        return [f"unknown event {name!r}"]
    wrong = [] if level in event.levels else [f"{name} has level {level}"]
    for key, value in found.items():
        if key not in event.keys and key != "cut":
            wrong.append(f"{name} has no key {key!r}")
        elif not isinstance(value, TYPES[keys()[key]]) or (
            isinstance(value, bool) and key != "cut"
        ):
            wrong.append(f"{name}: {key}={value!r} is no {keys()[key]}")
    if "recipients" in found and "recipient_count" not in found:
        wrong.append(f"{name} has recipients and no recipient_count")
    return wrong
