"""The gateway's log: one JSON object a line, through structlog and orjson to a buffered writer.

Event names are short words in snake_case; no password and no line of a body is ever logged. Lines
are written at the latest FLUSH_AFTER seconds after they were made and at exit, in one write, so
that a line costs no system call.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import MutableMapping
from datetime import UTC, datetime
from functools import lru_cache
from io import RawIOBase
from typing import Any

import orjson
import structlog

#: Seconds a line may wait for others before it is written.
FLUSH_AFTER = 0.05
#: Octets that may wait; beyond, they are written at once.
BUFFER_LIMIT = 64 * 1024


class LineWriter:
    """Collects lines and writes them together.

    Falls back to writing at once where no event loop runs.
    """

    def __init__(self, stream: RawIOBase) -> None:
        """Write to `stream`, an unbuffered binary stream."""
        self._stream = stream
        self._lines: list[bytes] = []
        self._size = 0
        self._scheduled = False

    def msg(self, line: bytes) -> None:
        """Take one line without its newline."""
        self._lines.append(line)
        self._size += len(line)
        if self._size > BUFFER_LIMIT:
            self.flush()
        elif not self._scheduled:
            try:
                loop = asyncio.get_running_loop()
            except RuntimeError:
                self.flush()
                return
            self._scheduled = True
            loop.call_later(FLUSH_AFTER, self._flush_scheduled)

    # structlog calls the method named after the level
    debug = info = warning = error = critical = msg

    def flush(self) -> None:
        """Write what waits. A reader that went away is no reason to stop relaying mail."""
        if not self._lines:
            return
        lines, self._lines, self._size = self._lines, [], 0
        lines.append(b"")
        data = memoryview(b"\n".join(lines))
        try:
            while data:  # an unbuffered stream may write a part
                written = self._stream.write(data)
                if written is None:  # a non-blocking stream that is full: mail goes on, lines go
                    return
                data = data[written:]
        except (OSError, ValueError):
            return

    def _flush_scheduled(self) -> None:
        self._scheduled = False
        self.flush()


def _render(_logger: Any, method: str, event: MutableMapping[str, Any]) -> bytes:
    """One line: time, level and event first, since people read from the left."""
    if "exc_info" in event:
        event = structlog.processors.format_exc_info(_logger, method, event)
    line = {"time": _timestamp(time.time()), "level": method, "event": event.pop("event")}
    line.update(event)
    return orjson.dumps(line, default=str)


@lru_cache(maxsize=2)
def _second(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")


def _timestamp(now: float) -> str:
    """RFC 3339 with milliseconds; the part up to the second is made once a second."""
    seconds = int(now)
    return f"{_second(seconds)}.{int((now - seconds) * 1000):03d}Z"


def configure(stream: RawIOBase) -> LineWriter:
    """Send all of structlog to `stream` as JSON lines; returns the writer, to be flushed at
    exit.
    """
    writer = LineWriter(stream)
    structlog.configure(
        processors=[_render],
        wrapper_class=structlog.make_filtering_bound_logger(20),
        logger_factory=lambda *_: writer,
        cache_logger_on_first_use=True,
    )
    return writer
