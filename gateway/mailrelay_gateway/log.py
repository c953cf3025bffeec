"""The gateway's log: one JSON object a line, through structlog and orjson to a writer's thread.

Event names are short words in snake_case; no password and no line of a body is ever logged. No line
is longer than MAX_LINE, whatever is logged: long values are cut, long lists counted, and that here,
so that no call can forget it. What libraries log, and exceptions that nobody caught, go the same
way: nothing but this may write to stdout or stderr while mail is relayed.
"""

from __future__ import annotations

import json
import logging
import sys
import threading
import time
from collections.abc import MutableMapping
from datetime import UTC, datetime
from functools import lru_cache
from io import RawIOBase
from typing import Any

import orjson
import structlog

from mailrelay_gateway.logwriter import LineWriter

#: Octets of a line with its newline. Container runtimes cut lines at 16 KiB and make two of one.
MAX_LINE = 8 * 1024
#: What is never cut: a line without them is none.
_KEPT = ("time", "level", "event")


def configure(stream: RawIOBase) -> LineWriter:
    """Send all of structlog, and what libraries log, to `stream` as JSON lines; returns the writer,
    to be closed at exit.
    """
    writer = LineWriter(stream, say_dropped=_say_dropped)
    structlog.configure(
        processors=[_render],
        wrapper_class=_Logger,
        logger_factory=lambda *_: writer,
        cache_logger_on_first_use=True,
    )
    logging.basicConfig(handlers=[_FromLibraries()], level=logging.WARNING, force=True)
    logging.captureWarnings(True)
    threading.excepthook = lambda args: _uncaught(
        args.exc_value, thread=args.thread.name if args.thread else ""
    )
    sys.unraisablehook = lambda args: _uncaught(args.exc_value, where=args.err_msg or "")
    return writer


class _Logger(structlog.BoundLoggerBase):
    """What `structlog.get_logger()` gives, from info up: two lines are written for each message,
    and structlog's own takes three calls and two copies of the fields for what is one here.
    """

    def debug(self, event: str, **fields: Any) -> None:
        """Nothing: a gateway at work has nobody who reads it."""

    def info(self, event: str, **fields: Any) -> None:
        """As it should be."""
        self._say("info", event, fields)

    def warning(self, event: str, **fields: Any) -> None:
        """Somebody may want to know."""
        self._say("warning", event, fields)

    def error(self, event: str, **fields: Any) -> None:
        """Somebody has to know."""
        self._say("error", event, fields)

    def critical(self, event: str, **fields: Any) -> None:
        """Somebody has to act."""
        self._say("critical", event, fields)

    def exception(self, event: str, **fields: Any) -> None:
        """An error, with the exception that is being handled."""
        fields.setdefault("exc_info", True)
        self._say("error", event, fields)

    def _say(self, method: str, event: str, fields: MutableMapping[str, Any]) -> None:
        line: Any = fields
        line["event"] = event
        try:
            for processor in self._processors:
                line = processor(self._logger, method, line)
        except structlog.DropEvent:
            return
        self._logger.msg(line)


def _say_dropped(count: int) -> bytes:
    return _render(None, "warning", {"event": "log_lines_dropped", "lines": count})


def _uncaught(error: BaseException | None, **more: str) -> None:
    structlog.get_logger().error("uncaught_exception", exc_info=error, **more)


class _FromLibraries(logging.Handler):
    """What asyncio, aiohttp and others log with the standard library, as lines of ours."""

    def emit(self, record: logging.LogRecord) -> None:
        log = structlog.get_logger()
        say = log.error if record.levelno >= logging.ERROR else log.warning
        more = {"exc_info": record.exc_info} if record.exc_info else {}
        say("library_message", logger=record.name, message=record.getMessage(), **more)


# --- lines


def _render(_logger: Any, method: str, event: MutableMapping[str, Any]) -> bytes:
    """One line: time, level and event first, since people read from the left."""
    if "exc_info" in event:
        event = structlog.processors.format_exc_info(_logger, method, event)
    line = {"time": _timestamp(time.time()), "level": method, "event": event.pop("event")}
    line.update(event)
    octets = _encode(line)
    return octets if len(octets) < MAX_LINE else shorten(line)


def _encode(value: Any) -> bytes:
    """As JSON, whatever it holds: a log call never raises into who calls it."""
    try:
        return orjson.dumps(value, default=str)
    except TypeError:  # a lone surrogate, an integer of more than 64 bits
        return json.dumps(value, default=str, skipkeys=True).encode()


def shorten(line: MutableMapping[str, Any], limit: int = MAX_LINE) -> bytes:
    """The line with its longest values halved until it has fewer octets than `limit`.

    Of a list the first entries stay, and `NAME_count` says how many there were; of a traceback the
    end, of any other text the beginning.
    """
    line = dict(line)
    while len(octets := _encode(line)) >= limit:
        name = max(
            (name for name in line if name not in _KEPT),
            key=lambda name: len(_encode(line[name])),
            default=None,
        )
        if name is None:  # an event of that length: a word, says the law of this file
            return _encode(
                {key: str(line.get(key))[: limit // 32] for key in _KEPT} | {"cut": True}
            )
        value = line[name]
        if isinstance(value, list | tuple | set | frozenset) and len(value) > 1:
            line.setdefault(f"{name}_count", len(value))
            line[name] = list(value)[: len(value) // 2]
        elif isinstance(value, list | tuple) and value:
            line[name] = value[0]  # one entry that is too long by itself
        else:
            text = value if isinstance(value, str) else str(value)
            if len(text) < 64:  # what is left are very many fields: whole ones go
                others = [name for name in line if name not in _KEPT]
                for name in others[len(others) // 2 :]:
                    del line[name]
                line["cut"] = True
            elif name == "exception":
                line[name] = "[...] " + text[-(len(text) // 2) :]
            else:
                line[name] = text[: len(text) // 2] + " [...]"
    return octets


@lru_cache(maxsize=2)
def _second(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")


def _timestamp(now: float) -> str:
    """RFC 3339 with milliseconds; the part up to the second is made once a second."""
    seconds = int(now)
    return f"{_second(seconds)}.{int((now - seconds) * 1000):03d}Z"
