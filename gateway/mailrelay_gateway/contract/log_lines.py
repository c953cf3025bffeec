"""One line of the log, for gateway and operator: a JSON object of at most MAX_LINE octets.
docs/logs.md lists the events and their keys. Pure.

Long values are truncated and long lists shortened and counted here, for all log calls.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, MutableMapping
from functools import lru_cache
from typing import Any

import orjson

from mailrelay_gateway.contract.moments import rfc3339

#: Octets of a line with its newline. Container runtimes split lines at 16 KiB.
MAX_LINE = 8 * 1024
#: Never truncated.
_KEPT = ("time", "level", "event")


def log_line(level: str, event: str, fields: Mapping[str, Any], *, now: float) -> bytes:
    """One line without its newline; time, level and event come first. `now` is Unix time."""
    time = _timestamp(int(now * 1000))
    line: dict[str, Any] = {"time": time, "level": level, "event": event, **fields}
    octets = _encode(line)
    return octets if len(octets) < MAX_LINE else shorten(line)


def _encode(value: Any) -> bytes:
    """JSON of any value: a log call never raises."""
    try:
        return orjson.dumps(value, default=str)
    except TypeError:  # a lone surrogate, an integer of more than 64 bits
        return json.dumps(value, default=str, skipkeys=True).encode()


def shorten(line: Mapping[str, Any], limit: int = MAX_LINE) -> bytes:
    """The line with its longest values halved until it is shorter than `limit` octets.

    A list keeps its first entries, with a count of all; a traceback keeps its end, any other text
    its beginning.
    """
    line = dict(line)
    while len(octets := _encode(line)) >= limit:
        name = max(
            (name for name in line if name not in _KEPT),
            key=lambda name: len(_encode(line[name])),
            default=None,
        )
        if name is None:  # only an overlong event, which docs/logs.md excludes
            return _encode(
                {key: str(line.get(key))[: limit // 32] for key in _KEPT} | {"cut": True}
            )
        value = line[name]
        if isinstance(value, list | tuple | set | frozenset) and len(value) > 1:
            line.setdefault(count_key(name), len(value))
            line[name] = list(value)[: len(value) // 2]
        elif isinstance(value, list | tuple) and value:
            line[name] = value[0]  # a single overlong entry
        else:
            _shorten_text(line, name)
    return octets


def _shorten_text(line: MutableMapping[str, Any], name: str) -> None:
    value = line[name]
    text = value if isinstance(value, str) else str(value)
    if len(text) < 64:  # very many fields: drop whole ones
        others = [other for other in line if other not in _KEPT]
        for other in others[len(others) // 2 :]:
            del line[other]
        line["cut"] = True
    elif name == "exception":
        line[name] = "[...] " + text[-(len(text) // 2) :]
    else:
        line[name] = text[: len(text) // 2] + " [...]"


def count_key(name: str) -> str:
    """The key for a list's length: `recipient_count` for `recipients`."""
    return f"{name.removesuffix('s')}_count"


@lru_cache(maxsize=2)
def _second(seconds: int) -> str:
    return rfc3339(seconds).removesuffix("Z")


@lru_cache(maxsize=2)
def _timestamp(milliseconds: int) -> str:
    """RFC 3339 with milliseconds: many lines are of the same one, and nearly all of the same
    second.
    """
    seconds, rest = divmod(milliseconds, 1000)
    return f"{_second(seconds)}.{rest:03d}Z"
