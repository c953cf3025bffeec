"""The spool: a folder with a SQLite database and large bodies, written by one thread that commits
in groups.

250 means stored: `submit` calls an operation's `done(None)` in the event loop only after the
transaction that holds it was committed with an fsync. A failed fsync is never tried again, since
the kernel may have dropped the pages: the spool closes itself and says so, and the process starts
afresh from what is on disk.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import queue
import shutil
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import apsw
import structlog

from mailrelay_gateway.metrics import Metrics
from mailrelay_gateway.policy.problem import Problem
from mailrelay_gateway.policy.refusals import refuse
from mailrelay_gateway.queue.operations import (
    Call,
    Effects,
    Finish,
    Lease,
    Operation,
    Store,
    run_batch,
)
from mailrelay_gateway.queue.schema import SchemaTooNew, connect, migrate
from mailrelay_gateway.reasons import Reason

log = structlog.get_logger()

#: Operations in one transaction; more wait for the next.
MAX_BATCH = 512
#: Seconds that the end of an attempt waits for other operations, so that they share a commit.
LINGER = 0.005
#: When so many operations shared the last commit, more are on their way: wait so many seconds for
#: them (PostgreSQL: commit_siblings, commit_delay). A lone client never waits.
SIBLINGS = 6
SIBLING_WAIT = 0.001
#: File systems on which two gateways could write one spool, or on which locks and fsync mean
#: little.
REFUSED_FILE_SYSTEMS = frozenset({"nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "fuse.sshfs"})
#: Octets set aside, so that removals can be committed on a full volume.
RESERVE = 16 * 1024 * 1024
#: Below so much free space nothing is accepted.
LOW_WATER = 128 * 1024 * 1024
#: Seconds for which nothing is accepted after the volume was found full.
FULL_FOR = 3.0
#: Seconds between two looks at the free space; longer where a look takes long, so that looking
#: costs at most one hundredth of the time.
SPACE_INTERVAL = 1.0
LONGEST_SPACE_INTERVAL = 5.0

FAILED = refuse(Reason.SPOOL_FAILED, 451, "4.3.0", "Could not store the message; try again later")
FULL = refuse(Reason.INSUFFICIENT_STORAGE, 452, "4.3.1", "Insufficient storage; try again later")


class SpoolError(RuntimeError):
    """The spool cannot be used; the text is a sentence with the folder and what to do."""


@dataclass(frozen=True, slots=True)
class Recovered:
    """What was found at start: messages in the queue, and the next number."""

    messages: int
    next_seq: int


class Spool:
    """One gateway's spool in `folder`. Everything is called from the event loop's thread."""

    def __init__(
        self,
        folder: Path,
        *,
        metrics: Metrics,
        on_failure: Callable[[str], None],
        low_water: int = LOW_WATER,
        size: int | None = None,
        reserve: int = RESERVE,
    ) -> None:
        """Prepare; `open` does the work.

        `on_failure` is called in the loop, once, when the spool can go on no more. `size` are the
        octets that the folder may hold, where the volume is larger: beyond it somebody else would
        act, as a kubelet does that evicts the pod.
        """
        self.folder = folder
        self.bodies = folder / "bodies"
        self._metrics = metrics
        self._on_failure = on_failure
        self._low_water = low_water
        self._size = size
        self._reserve = reserve
        self._reserve_path = folder / "reserve"
        # bounded by the sessions, connections and pages that wait for an answer of it
        self._waiting: list[Operation] = []
        self._batches: queue.SimpleQueue[list[Operation] | None] = queue.SimpleQueue()
        self._committing = False  # a batch is with the thread
        self._committing_since = 0.0
        self._handing_over = False
        self._last_batch = 0
        self._linger: asyncio.TimerHandle | None = None
        self._idle: asyncio.Event = asyncio.Event()
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._lock_file: int | None = None
        self._failed = False
        self._full_until = 0.0
        self._space_look_at = 0.0
        self._space_problem: Problem | None = None
        self._reusable = 0

    def open(self) -> Recovered:
        """Lock the folder and bring the tables up to date.

        Raises SpoolError. Blocks: called before the loop serves.
        """
        self._take_folder()
        path = self.folder / "queue.db"
        try:
            self._connection = connect(str(path))
            migrate(self._connection)
            recovered = self._recover()
        except SchemaTooNew as error:
            raise SpoolError(f"{path}: {error}") from None
        except apsw.FullError:
            raise SpoolError(
                f"{path}: the volume is full; free some space and start again"
            ) from None
        except apsw.Error as error:
            raise SpoolError(
                f"{path}: SQLite says {type(error).__name__}: {error};"
                " restore the volume, or move the folder away"
            ) from None
        except OSError as error:
            raise SpoolError(f"{self.folder}: {error.strerror}; check the volume") from None
        self._make_reserve()
        return recovered

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Start the writer's thread; `done` callbacks run in `loop`."""
        self._loop = loop
        self._thread = threading.Thread(target=self._write, name="spool", daemon=True)
        self._thread.start()

    def submit(self, operation: Operation) -> None:
        """Have an operation done in the next transaction; its `done` is called in the loop exactly
        once.

        What comes while a commit runs goes into the next. What nobody waits for (the end of an
        attempt) gives others LINGER seconds to join it.
        """
        assert self._loop is not None
        if self._failed:
            self._loop.call_soon(operation.done, FAILED)
            return
        self._waiting.append(operation)
        if self._committing:
            return
        if isinstance(operation, Finish):
            if self._linger is None:
                self._linger = self._loop.call_later(LINGER, self._hand_over)
        elif not self._handing_over:
            self._handing_over = True
            if self._last_batch < SIBLINGS:
                self._loop.call_soon(self._hand_over)
            else:
                self._loop.call_later(SIBLING_WAIT, self._hand_over)

    def _hand_over(self) -> None:
        """Give the writer's thread all that waits, as one batch; a Call goes by itself, in its
        place.
        """
        self._handing_over = False
        if self._linger is not None:
            self._linger.cancel()
            self._linger = None
        if self._committing or not self._waiting:
            return
        waiting = self._waiting
        end = min(len(waiting), MAX_BATCH)
        calls = next((n for n in range(end) if isinstance(waiting[n], Call)), end)
        self._committing = True
        self._committing_since = time.monotonic()
        batch, self._waiting = waiting[: max(calls, 1)], waiting[max(calls, 1) :]
        self._last_batch = len(batch)
        self._batches.put(batch)

    def problem(self, now: float) -> Problem | None:
        """Why nothing can be accepted at the monotonic time `now`, if so: asked before each
        message, looks seldom.
        """
        if self._failed:
            return FAILED
        if now < self._full_until:
            return FULL
        if now >= self._space_look_at:
            began = time.monotonic()
            try:
                free = self.free_octets()
            except OSError:
                return FAILED
            took = time.monotonic() - began
            self._space_look_at = now + min(max(SPACE_INTERVAL, 100 * took), LONGEST_SPACE_INTERVAL)
            self._metrics.spool_free_bytes.set(free)
            self._space_problem = FULL if free < self._low_water else None
            if free > self._low_water + 2 * self._reserve and not self._reserve_path.exists():
                self.submit(Call(lambda _: self._make_reserve(), lambda _: None))
        return self._space_problem

    def free_octets(self) -> int:
        """Free space for new messages: of the volume, and pages in the database that are free to
        be used again.
        """
        free = shutil.disk_usage(self.folder).free
        if self._size is not None:
            free = min(free, self._size - _octets_in(self.folder) - _octets_in(self.bodies))
        return free + self._reusable

    def too_small(self) -> str:
        """Why no message can ever be taken, however empty the queue is; empty if that is not so."""
        total = shutil.disk_usage(self.folder).total
        total = total if self._size is None else min(total, self._size)
        if total > self._low_water:
            return ""
        return (
            f"the queue's volume has {total >> 20} MiB, and below {self._low_water >> 20} MiB of"
            " free space nothing is taken: make it larger"
        )

    def body_path(self, queue_id: str) -> Path:
        """Where the body of a large message is written."""
        return self.bodies / queue_id

    async def close(self) -> None:
        """Commit what waits, stop the thread, give the folder back."""
        if self._thread is not None:
            while (self._waiting or self._committing) and not self._failed:
                self._hand_over()
                self._idle.clear()
                await self._idle.wait()
            self._batches.put(None)
            await asyncio.to_thread(self._thread.join)
            self._thread = None
        connection = getattr(self, "_connection", None)
        if connection is not None and not self._failed:
            connection.close()
        if self._lock_file is not None:
            os.close(self._lock_file)
            self._lock_file = None

    # --- opening

    def _take_folder(self) -> None:
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self.bodies.mkdir(mode=0o700, exist_ok=True)
            kind = file_system_of(self.folder, Path("/proc/self/mounts").read_text())
            if kind in REFUSED_FILE_SYSTEMS:
                raise SpoolError(
                    f"{self.folder} lies on {kind}: two gateways could write it; use a block volume"
                )
            self._lock_file = os.open(self.folder / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            raise SpoolError(
                f"{self.folder} cannot be written ({error.strerror});"
                " give this user a folder it may write"
            ) from None
        try:
            fcntl.flock(self._lock_file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise SpoolError(
                f"{self.folder} is in use by another gateway;"
                " stop that one, or choose another folder"
            ) from None

    def _recover(self) -> Recovered:
        connection = self._connection
        messages, newest = connection.execute(
            "SELECT count(*), coalesce(max(seq), 0) FROM messages"
        ).get
        self._remove_strays()
        return Recovered(messages=messages, next_seq=newest + 1)

    def _remove_strays(self) -> None:
        """Files whose message was never committed, or whose removal outran their unlinking."""
        known = {
            file
            for (file,) in self._connection.execute("SELECT file FROM messages WHERE file NOT NULL")
        }
        for path in self.bodies.iterdir():
            if path.name not in known:
                path.unlink()

    def _make_reserve(self) -> None:
        path = self._reserve_path
        try:
            if not path.exists() or path.stat().st_size < self._reserve:
                with path.open("wb") as file:
                    os.posix_fallocate(file.fileno(), 0, self._reserve)
        except OSError:
            path.unlink(missing_ok=True)  # too full for it now; tried again when there is room

    # --- the writer's thread

    def _write(self) -> None:
        while (batch := self._batches.get()) is not None:
            try:
                self._commit_batch(batch)
            except Exception as error:  # a thread that ends silently would leave everyone waiting
                self._fail(batch, f"{type(error).__name__}: {error}")

    def _commit_batch(self, batch: list[Operation]) -> None:
        if self._failed:
            self._answer([(op, FAILED) for op in batch])
            return
        started = time.perf_counter()
        try:
            self._commit(batch)
        except apsw.FullError:
            self._commit_without_stores(batch)
        except (
            apsw.IOError,
            apsw.CorruptError,
            apsw.NotADBError,
            apsw.CantOpenError,
            OSError,
        ) as error:
            self._fail(batch, f"{type(error).__name__}: {error}")
        # One operation that cannot be done must not take the others along
        except Exception as error:
            self._commit_one_by_one(batch, error)
        else:
            self._answer([(op, None) for op in batch], time.perf_counter() - started)

    def _commit(self, batch: Sequence[Operation]) -> None:
        connection = self._connection
        connection.execute("BEGIN IMMEDIATE")
        try:
            effects = run_batch(connection, batch, self.bodies)
            if effects.sync_folder:
                _sync_folder(self.bodies)
            connection.execute("COMMIT")
        except BaseException:
            if not connection.get_autocommit():
                connection.execute("ROLLBACK")
            raise
        self._after_commit(effects)

    def _after_commit(self, effects: Effects) -> None:
        for path in effects.unlink:
            with contextlib.suppress(OSError):  # what stays is removed at the next start
                path.unlink()

    def _commit_without_stores(self, batch: list[Operation]) -> None:
        """The volume is full: refuse what is new; what makes room gets the log's space, and then
        the reserve.
        """
        self._full_until = time.monotonic() + FULL_FOR
        refused: list[tuple[Operation, Problem | None]] = [
            (op, FULL) for op in batch if isinstance(op, Store)
        ]
        rest = [op for op in batch if not isinstance(op, Store)]
        try:
            if rest and not self._commit_in_less_space(rest):
                self._reserve_path.unlink(missing_ok=True)
                if not self._commit_in_less_space(rest):
                    self._fail(batch, "the volume is full, and removals cannot be committed either")
                    return
        except Exception as error:
            self._fail(batch, f"{type(error).__name__}: {error}")
            return
        self._answer(refused + [(op, None) for op in rest])

    def _commit_in_less_space(self, batch: Sequence[Operation]) -> bool:
        """Move the log into the database, which gives its space back, and try again; False if
        that was not enough.
        """
        try:
            self._connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)
            self._commit(batch)
        except apsw.FullError:
            return False
        return True

    def _commit_one_by_one(self, batch: list[Operation], error: Exception) -> None:
        answers: list[tuple[Operation, Problem | None]] = []
        for n, op in enumerate(batch):
            try:
                self._commit([op])
            except (apsw.ConstraintError, apsw.SQLError, TypeError, ValueError) as again:
                log.error("spool_operation_failed", error=f"{type(again).__name__}: {again}")
                if isinstance(op, Finish | Lease):
                    self._fail(batch[n:], f"{type(error).__name__}: {error}")
                    break
                answers.append((op, FAILED))
            except Exception as again:
                self._fail(batch[n:], f"{type(again).__name__}: {again}")
                break
            else:
                answers.append((op, None))
        self._answer(answers)

    def _fail(self, batch: Sequence[Operation], why: str) -> None:
        """Give up this process's spool: nothing more is stored or removed until it is opened
        again.
        """
        self._failed = True
        self._answer([(op, FAILED) for op in batch])
        assert self._loop is not None
        self._loop.call_soon_threadsafe(self._on_failure, f"{self.folder}: {why}")

    def _answer(
        self, answers: Sequence[tuple[Operation, Problem | None]], seconds: float | None = None
    ) -> None:
        assert self._loop is not None
        self._loop.call_soon_threadsafe(self._deliver_answers, answers, seconds)

    def _deliver_answers(
        self, answers: Sequence[tuple[Operation, Problem | None]], seconds: float | None
    ) -> None:
        self._committing = False
        if seconds is not None:
            self._metrics.spool_commit_seconds.observe(seconds)
        for op, problem in answers:
            try:
                op.done(problem)
            except Exception:
                log.exception("spool_callback_failed")
        if self._failed:
            waiting, self._waiting = self._waiting, []
            for op in waiting:
                op.done(FAILED)
        elif self._waiting:
            self._hand_over()
        self._idle.set()

    def waiting_seconds(self) -> float:
        """For how long the commit that runs now has been running; 0 when none does."""
        return time.monotonic() - self._committing_since if self._committing else 0.0

    def note_reusable(self, octets: int) -> None:
        """Take note of how much of the database is free pages (the scheduler's gauges find it
        out).
        """
        self._reusable = octets


def file_system_of(folder: Path, mounts: str) -> str:
    """The type of the file system that holds `folder`, given the text of /proc/self/mounts."""
    best, kind = "", ""
    path = str(folder.resolve())
    for line in mounts.splitlines():
        fields = line.split(" ")
        if len(fields) < 3:
            continue
        point = fields[1].replace("\\040", " ")
        inside = path == point or path.startswith(point.rstrip("/") + "/")
        if inside and len(point) >= len(best):
            best, kind = point, fields[2]
    return kind


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _octets_in(folder: Path) -> int:
    """What the files of a folder take; one that vanishes meanwhile takes nothing."""
    total = 0
    with os.scandir(folder) as entries:
        for entry in entries:
            with contextlib.suppress(FileNotFoundError):
                found = entry.stat(follow_symlinks=False)
                total += found.st_blocks * 512  # sparse or preallocated: what the disk gives
    return total
