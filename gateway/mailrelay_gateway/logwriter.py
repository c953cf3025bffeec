"""Writes the log's lines to a stream in its own thread: a slow, stopped or closed reader blocks
nothing.

Buffered lines are bounded in octets. Excess lines are dropped and counted, and one line reports
them once the stream accepts lines again.
"""

from __future__ import annotations

import contextlib
import select
import threading
from collections.abc import Callable
from io import RawIOBase

#: Seconds that a line may wait for others, to save system calls.
FLUSH_AFTER = 0.05
#: Octets that may be buffered: 512 of the longest lines, some seconds of ordinary ones at full
#: load. The thread may have as many again.
MAX_WAITING = 4 * 1024 * 1024
#: Seconds between two retries of a full non-blocking stream.
FULL_POLL = 1.0


class LineWriter:
    """Accepts lines from any thread without blocking; a daemon thread writes them in batches."""

    def __init__(
        self,
        stream: RawIOBase,
        *,
        say_dropped: Callable[[int], bytes],
        max_waiting: int = MAX_WAITING,
    ) -> None:
        """Write to `stream`, an unbuffered binary stream. `say_dropped(count)` makes the line about
        dropped lines.
        """
        self._stream = stream
        self._say_dropped = say_dropped
        self._max_waiting = max_waiting
        self._lock = threading.Lock()  # around the next three; never held during a write
        self._lines: list[bytes] = []
        self._size = 0
        self._dropped_untold = 0
        self.dropped = 0  # in all
        self._something = threading.Event()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="log", daemon=True)
        self._thread.start()

    def msg(self, line: bytes) -> None:
        """Add one line without its newline."""
        with self._lock:
            if self._size + len(line) > self._max_waiting:
                self._drop(1)
                return
            self._lines.append(line)
            self._size += len(line)
            if len(self._lines) > 1:
                return  # the thread is already notified
        self._something.set()

    # structlog calls the method with the level's name
    debug = info = warning = error = critical = msg

    def close(self, seconds: float) -> bool:
        """Write the buffered lines, for at most `seconds`; False if some remain."""
        self._closing.set()
        self._something.set()
        self._thread.join(seconds)
        return not self._thread.is_alive()

    # --- the thread

    def _run(self) -> None:
        while True:
            self._something.wait()
            self._closing.wait(FLUSH_AFTER)
            with self._lock:
                lines, self._lines, self._size = self._lines, [], 0
                if not self._closing.is_set():
                    self._something.clear()
            if not lines:
                if self._closing.is_set():
                    return
                continue
            if not self._write(lines):
                with self._lock:
                    self._drop(len(lines))
                continue
            with self._lock:
                untold, self._dropped_untold = self._dropped_untold, 0
            if untold and not self._write([self._say_dropped(untold)]):
                with self._lock:
                    self._dropped_untold += untold

    def _drop(self, count: int) -> None:
        self._dropped_untold += count
        self.dropped += count

    def _write(self, lines: list[bytes]) -> bool:
        """Write the lines, each with its newline. False on an error: a closed reader or a full disk
        must not stop mail.
        """
        data = memoryview(b"\n".join([*lines, b""]))
        try:
            while data:  # an unbuffered stream may write only a part
                written = self._stream.write(data)
                if written is None:  # a full non-blocking stream
                    with contextlib.suppress(ValueError):
                        select.select([], [self._stream], [], FULL_POLL)
                    continue
                data = data[written:]
        except (OSError, ValueError):
            return False
        return True
