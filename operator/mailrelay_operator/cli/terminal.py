"""The destinations of a gateway's log: a bounded file and the terminal. Neither may block it.

The gateway writes its log to a pipe, and would block if the pipe were not read (a terminal stopped
by Ctrl-S, a full disk); so excess lines for the terminal are dropped and counted, and a file that
cannot be written is closed.
"""

from __future__ import annotations

import contextlib
import io
import os
import queue
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TextIO

#: Two files of this size are kept: some hundred thousand messages.
LOG_FILE_OCTETS = 16 * 1024 * 1024
#: Lines buffered for the terminal; more are dropped and counted.
WAITING_LINES = 2000
#: Seconds for the last lines at the end.
CLOSE_AFTER = 1.0


class LogFile:
    """An append-only file that is rotated at a size and keeps one predecessor, `NAME.1`."""

    def __init__(self, path: Path, *, limit: int = LOG_FILE_OCTETS) -> None:
        """Append to `path`, created with mode 0600; `limit` in octets."""
        self._path = path
        self._limit = limit
        self._stream: io.FileIO | None = None
        self._size = 0

    def write(self, data: bytes) -> None:
        """Append whole lines. A disk error ends the log, but not mail delivery."""
        try:
            if self._stream is None or self._size > self._limit:
                self._open()
            if self._stream is not None:
                self._stream.write(data)
                self._size += len(data)
        except OSError:
            self.close()

    def close(self) -> None:
        """Close the file; a later write opens it again."""
        stream, self._stream = self._stream, None
        if stream is not None:
            with contextlib.suppress(OSError):
                stream.close()

    def _open(self) -> None:
        rotate = self._stream is not None
        self.close()
        if rotate:
            self._path.replace(self._path.with_name(self._path.name + ".1"))
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
        stream = io.FileIO(os.open(self._path, flags, 0o600), "ab")
        self._size = os.fstat(stream.fileno()).st_size
        self._stream = stream


class Terminal:
    """Writes lines from its own thread, so that a stopped terminal blocks nothing else."""

    def __init__(self, stream: TextIO, *, waiting: int = WAITING_LINES) -> None:
        """Write to `stream`; at most `waiting` lines are buffered."""
        self._stream = stream
        self._lines: queue.Queue[str | None] = queue.Queue(waiting)
        self._dropped = 0
        self._thread = threading.Thread(target=self._run, name="terminal", daemon=True)
        self._thread.start()

    def line(self, text: str) -> None:
        """Write a line, or count it as dropped."""
        try:
            self._lines.put_nowait(text)
        except queue.Full:
            self._dropped += 1

    def close(self) -> None:
        """Write the last lines, within a deadline."""
        with contextlib.suppress(queue.Full):
            self._lines.put(None, timeout=CLOSE_AFTER)
        self._thread.join(CLOSE_AFTER)

    def _run(self) -> None:
        while (text := self._lines.get()) is not None:
            dropped, self._dropped = self._dropped, 0
            if dropped:
                text = f"({dropped} log lines were not shown: the terminal is too slow)\n{text}"
            try:
                self._stream.write(text + "\n")
                self._stream.flush()
            except (OSError, ValueError):
                return  # the terminal is gone; the gateway keeps running


class LineSplitter:
    """Splits a stream of octets into lines; one longer than `limit` is split into parts."""

    def __init__(self, take: Callable[[list[bytes]], None], *, limit: int = 1 << 20) -> None:
        """Call `take` with whole lines, without their newlines."""
        self._take = take
        self._limit = limit
        self._rest = b""

    def feed(self, data: bytes) -> None:
        """Add octets of the stream."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        if len(self._rest) > self._limit:
            lines.append(self._rest)
            self._rest = b""
        if lines:
            self._take(lines)

    def close(self) -> None:
        """End the stream; the rest is passed on as a line."""
        if self._rest:
            self._take([self._rest])
            self._rest = b""
