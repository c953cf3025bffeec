"""Group commit, as seen by the event loop: waiting operations become batches for the writer's
thread, and answers come back.

What arrives during a commit is part of the next one.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable, Sequence
from queue import SimpleQueue
from typing import Any

import structlog

from mailrelay_gateway.queue.disk.batch import Finish, Operation, added
from mailrelay_gateway.queue.disk.writer import BUSY, FAILED, Answers, Writer, WriterDead

log = structlog.get_logger()

#: Operations in one transaction; the others are in the next.
MAX_BATCH = 512
#: Seconds that the end of an attempt waits for other operations, so that they share a commit.
LINGER = 0.005
#: When so many operations shared the last commit, more are on their way: wait so many seconds for
#: them (PostgreSQL: commit_siblings, commit_delay). A lone client never waits. With 20 clients 2 ms
#: cost a twentieth less CPU a message than 1 ms, and took more messages a second on busy cores; the
#: wait is only where the writer has nothing to do, so that it costs no rate where many more wait.
SIBLINGS = 6
SIBLING_WAIT = 0.002
#: Minimum seconds for the writer's thread to end: longer than SQLite waits for a lock.
_LEAST_PATIENCE = 1.5


class Group:
    """Operations on their way to a writer. Called in the loop, except where it says otherwise."""

    def __init__(
        self, *, on_failure: Callable[[str], None], on_commit: Callable[[float], None]
    ) -> None:
        """`on_failure` is called with the cause, once, when the writer cannot continue, before
        anything is answered; `on_commit` with the seconds that a commit took.
        """
        self._on_failure = on_failure
        self._on_commit = on_commit
        #: No file is touched any more.
        self.failed = False
        # bounded by the sessions, connections and pages that wait for an answer
        self._waiting: list[Operation] = []
        self._batches: SimpleQueue[list[Operation] | None] = SimpleQueue()
        self._committing = False  # a batch is with the thread
        self._committing_since = 0.0
        self._handing_over = False
        self._last_batch = 0
        self._linger: asyncio.TimerHandle | None = None
        self._idle = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._writer: Writer | None = None
        self._thread: threading.Thread | None = None

    def start(self, loop: asyncio.AbstractEventLoop, writer: Writer) -> None:
        """Start the thread."""
        self._loop = loop
        self._writer = writer
        self._thread = threading.Thread(
            target=self._write, args=(writer,), name="queue writer", daemon=True
        )
        self._thread.start()

    async def stop(self, until: float) -> bool:
        """Commit what is waiting, until the monotonic time `until`; returns whether the thread has
        ended.
        """
        if self._thread is None or self._writer is None:
            return True
        while (self._waiting or self._committing) and not self.failed:
            self._hand_over()
            self._idle.clear()
            try:
                await asyncio.wait_for(self._idle.wait(), max(0.0, until - time.monotonic()))
            except TimeoutError:
                break
        self._writer.stopping = True
        self._batches.put(None)
        # a thread in a system call that does not return is abandoned
        await asyncio.to_thread(self._thread.join, max(_LEAST_PATIENCE, until - time.monotonic()))
        return not self._thread.is_alive()

    def submit(self, operation: Operation) -> None:
        """Carry out an operation in the next transaction; its `done` is called exactly once.

        An operation without a waiting client (the end of an attempt) waits for others for LINGER
        seconds.
        """
        loop, writer = self._loop, self._writer
        assert loop is not None
        assert writer is not None
        if self.failed:
            loop.call_soon(operation.done, FAILED)
            return
        if writer.busy_long and added(operation) is not None:
            loop.call_soon(operation.done, BUSY)
            return
        self._waiting.append(operation)
        if self._committing:
            return
        if isinstance(operation, Finish):
            if self._linger is None:
                self._linger = loop.call_later(LINGER, self._hand_over)
        elif not self._handing_over:
            self._handing_over = True
            if self._last_batch < SIBLINGS:
                loop.call_soon(self._hand_over)
            else:
                loop.call_later(SIBLING_WAIT, self._hand_over)

    def waiting_seconds(self) -> float:
        """How long the current commit has been running, without another program's lock."""
        if not self._committing or (self._writer is not None and self._writer.busy):
            return 0.0
        return time.monotonic() - self._committing_since

    def tell(self, callback: Callable[..., None], *values: Any) -> None:
        """In any thread: call something in the loop."""
        assert self._loop is not None
        with contextlib.suppress(RuntimeError):  # the loop has ended: no one is waiting
            self._loop.call_soon_threadsafe(callback, *values)

    def refuse_new(self, operations: Sequence[Operation]) -> None:
        """In the writer's thread: another program's lock lasts too long for new messages, these and
        those waiting.
        """
        self.tell(self._answer_busy, operations)

    def _answer_busy(self, operations: Sequence[Operation]) -> None:
        waiting = [op for op in self._waiting if added(op) is not None]
        self._waiting = [op for op in self._waiting if added(op) is None]
        for op in (*operations, *waiting):
            op.done(BUSY)

    def _hand_over(self) -> None:
        """Pass what is waiting to the thread, as one batch."""
        self._handing_over = False
        if self._linger is not None:
            self._linger.cancel()
            self._linger = None
        if self._committing or not self._waiting:
            return
        batch, self._waiting = self._waiting[:MAX_BATCH], self._waiting[MAX_BATCH:]
        self._committing = True
        self._committing_since = time.monotonic()
        self._last_batch = len(batch)
        self._batches.put(batch)

    def _deliver(self, answers: Answers, seconds: float | None) -> None:
        """Deliver the answers of a batch, then send the next batch."""
        self._committing = False
        if seconds is not None:
            self._on_commit(seconds)
        if self.failed:
            answers = [*answers, *[(op, FAILED) for op in self._waiting]]
            self._waiting = []
        for op, answer in answers:
            try:
                op.done(answer)
            except Exception:
                log.exception("internal_error")
        if self._waiting:
            self._hand_over()
        self._idle.set()

    # --- the writer's thread

    def _write(self, writer: Writer) -> None:
        while (batch := self._batches.get()) is not None:
            if self.failed:  # handed over while a checkpoint failed
                self.tell(self._deliver, [(op, FAILED) for op in batch], None)
                continue
            try:
                started = time.perf_counter()
                answers = writer.carry_out(batch)
                self.tell(self._deliver, answers, time.perf_counter() - started)
                batch = []
                writer.checkpoint()
            except WriterDead as dead:
                self._fail(str(dead), dead.answers + [(op, FAILED) for op in dead.left])
            except BaseException as error:
                # a thread that ended silently would leave every caller waiting
                self._fail(f"{type(error).__name__}: {error}", [(op, FAILED) for op in batch])

    def _fail(self, why: str, answers: Answers) -> None:
        self.failed = True
        self.tell(self._on_failure, why)
        self.tell(self._deliver, answers, None)
