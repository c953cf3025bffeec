"""Writes a message's octets to a file off the event loop: in order, bounded, and durable before
anything depends on it.

Only about the file: the caller decides what is written, and when it is too much. One job at a time
runs for a file, in a thread pool that all files share; what arrives meanwhile waits in memory and
is written by the next job.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from concurrent.futures import Executor
from pathlib import Path

#: Octets that may wait for the disk before the client has to wait: two reads of uvloop (256 KiB).
WINDOW = 512 * 1024


class BodyFile:
    """One file being written. `on_progress(octets)` is called in the loop after each job."""

    def __init__(
        self,
        path: Path,
        *,
        loop: asyncio.AbstractEventLoop,
        pool: Executor,
        on_progress: Callable[[int], None],
    ) -> None:
        """Write to `path`, which must not exist; it is created by the first job."""
        self.path = path
        self.error: OSError | None = None
        self._loop = loop
        self._pool = pool
        self._on_progress = on_progress
        self._descriptor = -1  # of the open file; touched by jobs only, as are the next two
        self._created = False
        self._removed = False
        self._waiting: list[bytes] = []
        self._waiting_octets = 0
        self._busy = False
        self._dropped = False
        self._finish: Callable[[OSError | None], None] | None = None

    @property
    def crowded(self) -> bool:
        """Whether the client should wait until the disk has caught up."""
        return self._waiting_octets > WINDOW

    def write(self, octets: bytes) -> None:
        """Append `octets` in the background."""
        self._waiting.append(octets)
        self._waiting_octets += len(octets)
        self._work()

    def finish(self, then: Callable[[OSError | None], None]) -> None:
        """Write the rest, fsync and close; then call `then` in the loop with the error, if any."""
        self._finish = then
        self._work()

    def drop(self) -> None:
        """Close and remove the file; nothing is called any more."""
        self._dropped = True
        self._finish = None
        self._waiting, self._waiting_octets = [], 0
        self._work()

    def _work(self) -> None:
        if self._busy:
            return
        octets, self._waiting = self._waiting, []
        count, self._waiting_octets = self._waiting_octets, 0
        final = self._finish is not None
        if not (octets or final or self._dropped):
            return
        self._busy = True
        job = self._pool.submit(self._run, octets, final, self._dropped)
        job.add_done_callback(lambda _: self._report(count, final))

    def _report(self, count: int, final: bool) -> None:
        """In the pool's thread: continue in the loop, unless it is closed (a stop past its
        deadline).
        """
        try:
            self._loop.call_soon_threadsafe(self._done, count, final)
        except RuntimeError:
            return

    def _done(self, count: int, final: bool) -> None:
        self._busy = False
        if self._dropped:
            if not self._removed:
                self._work()
            return
        self._on_progress(count)
        if final:
            then, self._finish = self._finish, None
            assert then is not None  # it existed when the job began, and only drop removes it
            then(self.error)
        else:
            self._work()

    def _run(self, octets: list[bytes], final: bool, dropped: bool) -> None:
        """In a thread of the pool: the only code that touches the file."""
        try:
            if dropped:
                self._remove()
                return
            if self.error is not None:
                return
            if not self._created:
                flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
                self._descriptor = os.open(self.path, flags, 0o600)
                self._created = True
            view = memoryview(b"".join(octets))
            while view:
                view = view[os.write(self._descriptor, view) :]
            if final:
                os.fsync(self._descriptor)
                os.close(self._descriptor)
                self._descriptor = -1
        except OSError as error:
            self.error = error
        except Exception as error:  # out of memory, or a defect of ours: not written, either
            self.error = OSError(f"{type(error).__name__}: {error}")

    def _remove(self) -> None:
        self._removed = True
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
        if self._created:
            self.path.unlink(missing_ok=True)
