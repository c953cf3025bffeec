"""DiskStore: the queue store of one gateway, in its own folder.

250 means stored: `accept` calls `done(None)` in the event loop only after the transaction with the
message was committed with an fsync. One thread writes (writer.py), and what arrives during a commit
is part of the next one.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import apsw
import structlog

from mailrelay_gateway.file_body import FileBody
from mailrelay_gateway.message.route import Choose, Route
from mailrelay_gateway.metrics import Metrics
from mailrelay_gateway.queue.disk import claiming, damage, reading, waiting
from mailrelay_gateway.queue.disk.accepting import adopt
from mailrelay_gateway.queue.disk.batch import Accept, Call, Finish
from mailrelay_gateway.queue.disk.folder import Layout, take
from mailrelay_gateway.queue.disk.group import Group
from mailrelay_gateway.queue.disk.opening import Found, open_store, prune_tombstones
from mailrelay_gateway.queue.disk.reading import Reader
from mailrelay_gateway.queue.disk.schema import CHECKPOINT_AFTER, connect_reader
from mailrelay_gateway.queue.disk.space import LOOK_INTERVAL, LOW_WATER, RESERVE, Space
from mailrelay_gateway.queue.disk.tables import Effects, Tables
from mailrelay_gateway.queue.disk.writer import BUSY, FAILED, Writer
from mailrelay_gateway.queue.item import Job, Move
from mailrelay_gateway.queue.store import (
    Counts,
    Done,
    Due,
    Ended,
    Entry,
    Known,
    Lease,
    Opened,
    Rerouted,
    StoreError,
    Want,
)
from mailrelay_gateway.smtp.refusal import Problem

log = structlog.get_logger()

#: Messages taken over between two looks at the tombstones.
_PRUNE_AFTER = 1_000
#: Seconds that `close` gives the reader.
_READER_PATIENCE = 2.0


class DiskStore:
    """See QueueStore. Everything is called in the event loop's thread."""

    def __init__(
        self,
        folder: Path,
        *,
        metrics: Metrics,
        on_failure: Callable[[str], None],
        low_water: int = LOW_WATER,
        size: int | None = None,
        reserve: int = RESERVE,
        clock: Callable[[], float] = time.time,
        checkpoint_after: int = CHECKPOINT_AFTER,
        vfs: str | None = None,
        sync_bodies: Callable[[int], None] = os.fsync,
    ) -> None:
        """Prepare; `open` does the work.

        `on_failure` is called in the loop, once, when the store cannot continue. `size` is how many
        octets the folder may contain if the volume is larger. `vfs` (SQLite's name of a file
        system) and `sync_bodies` are for tests of power loss.
        """
        self.folder = folder
        self._layout = Layout(folder)
        self._metrics = metrics
        self._clock = clock
        self._checkpoint_after = checkpoint_after
        self._vfs = vfs
        self._sync_bodies = sync_bodies
        self._space = Space(
            folder,
            self._layout.reserve,
            low_water=low_water,
            size=size,
            reserve=reserve,
            on_look=metrics.spool_free_bytes.set,
        )
        self._group = Group(
            on_failure=lambda why: on_failure(f"{folder}: {why}"),
            on_commit=metrics.spool_commit_seconds.observe,
        )
        self._loop: asyncio.AbstractEventLoop | None = None
        self._lock: int | None = None
        self._closed = False
        self._looked_at = 0.0
        self._adoptions = 0
        self._rerouting = waiting.Rerouting()
        self._found: Found | None = None
        self._writer: Writer | None = None
        self._reader: Reader | None = None

    # --- life

    def open(self, *, now: float, uncertain_until: float) -> Opened:
        """See QueueStore."""
        self._lock = take(self._layout)
        try:
            found = open_store(
                self._layout,
                self._space,
                vfs=self._vfs,
                sync_bodies=self._sync_bodies,
                now=now,
                uncertain_until=uncertain_until,
            )
            try:
                reader = Reader(connect_reader(str(self._layout.database), vfs=self._vfs))
            except apsw.Error as error:
                found.tables.connection.close()
                found.tables.bodies.close()
                raise StoreError(
                    f"{self._layout.database}: SQLite says {type(error).__name__}: {error}"
                ) from None
        except BaseException:
            os.close(self._lock)
            self._lock = None
            raise
        self._found, self._reader = found, reader
        self._space.make_reserve()
        self._writer = Writer(
            found.tables,
            self._space,
            self._layout,
            refuse_new=self._group.refuse_new,
            interrupt_reader=reader.interrupt,
            checkpoint_after=self._checkpoint_after,
            clock=self._clock,
        )
        self._show_quarantine(found.opened)
        return found.opened

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """See QueueStore."""
        assert self._writer is not None
        assert self._reader is not None
        self._loop = loop
        self._group.start(loop, self._writer)
        self._reader.start()

    async def close(self, deadline: float) -> None:
        """See QueueStore."""
        until = time.monotonic() + deadline
        self._closed = True
        ended = await self._group.stop(until)
        if self._reader is not None:
            if self._loop is not None:
                ended = await asyncio.to_thread(self._reader.stop, _READER_PATIENCE) and ended
            if ended:
                self._reader.connection.close()
            self._reader = None
        if self._found is not None and ended:
            self._give_back(self._found)
        self._found = None
        if self._lock is not None and ended:  # else a thread may still write
            os.close(self._lock)
            self._lock = None

    def _give_back(self, found: Found) -> None:
        """Close the database; after a failure without touching a file."""
        connection = found.tables.connection
        if not self.failed:
            try:
                connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)
                damage.Run(
                    database=found.run.database,
                    epoch=found.run.epoch,
                    started_at=found.run.started_at,
                    clean=True,
                ).write(self._layout)
            except (apsw.Error, OSError) as error:  # the next start finds the log
                log.warning("spool_not_checkpointed", error=f"{type(error).__name__}: {error}")
        connection.close()
        found.tables.bodies.close()

    @property
    def failed(self) -> bool:
        """See QueueStore."""
        return self._group.failed

    # --- accepting

    def problem(self, octets: int = 0) -> Problem | None:
        """See QueueStore."""
        if self._group.failed or self._writer is None:
            return FAILED
        if self._writer.busy_long:
            return BUSY
        now = time.monotonic()
        try:
            problem = self._space.problem(octets, now)
        except OSError:
            return FAILED
        if now - self._looked_at >= LOOK_INTERVAL:
            self._looked_at = now
            self._read(self._look_at_space)
        return problem

    def body_path(self, queue_id: str) -> Path:
        """See QueueStore."""
        return self._layout.bodies / queue_id

    def accept(self, entry: Entry, done: Done) -> None:
        """See QueueStore."""
        body = entry.message.body
        if isinstance(body, FileBody):
            done = partial(self._answer_accept, body.path, done)
        self._group.submit(Accept(entry, done))

    def _answer_accept(self, body: Path, done: Done, problem: Problem | None) -> None:
        """A message that was not stored leaves no file, unless its record may be on disk."""
        if problem is not None and not self.failed:
            with contextlib.suppress(OSError):
                body.unlink()
        done(problem)

    # --- delivering

    def claim(
        self, wants: Sequence[Want], lease: Lease, done: Callable[[Sequence[Job] | Problem], None]
    ) -> None:
        """See QueueStore. One gateway owns the folder: the lease has no end."""

        def run(tables: Tables, effects: Effects) -> list[Job]:
            return claiming.claim(tables, wants, put_off_until=lease.put_off_until, effects=effects)

        self._group.submit(Call(run, done))

    def finish(self, ended: Ended, done: Done) -> None:
        """See QueueStore."""
        self._group.submit(Finish(ended, done))

    def due(
        self, *, now: float, latest: float, most: int, done: Callable[[Due | Problem], None]
    ) -> None:
        """See QueueStore."""

        def run(tables: Tables, _effects: Effects) -> Due:
            return waiting.due(tables, now=now, latest=latest, most=most)

        self._group.submit(Call(run, done))

    # --- looking

    def count(self, done: Callable[[Counts | Problem], None]) -> None:
        """See QueueStore."""
        self._ask(lambda connection: reading.count(connection, self._space.free_octets), done)

    def find(self, queue_id: str, done: Callable[[Known | Problem | None], None]) -> None:
        """See QueueStore."""
        found = self._found
        if found is None:
            self._answer_later(done, FAILED)
            return
        bodies = found.tables.bodies
        self._ask(lambda connection: reading.find(connection, queue_id, bodies), done)

    def reroute(
        self,
        stale: Sequence[Route] | None,
        choose: Choose,
        most: int,
        done: Callable[[Rerouted | Problem], None],
    ) -> None:
        """See QueueStore."""

        def run(tables: Tables, _effects: Effects) -> Rerouted:
            return self._rerouting.page(tables, stale, choose, most)

        self._group.submit(Call(run, done))

    def adopt(self, entry: Entry, states: Mapping[int, Move], done: Done) -> None:
        """See QueueStore."""

        def run(tables: Tables, effects: Effects) -> None:
            self._adoptions += 1
            if self._adoptions % _PRUNE_AFTER == 0:
                prune_tombstones(tables.connection, now=self._clock())
            adopt(tables, entry, states, effects)

        self._group.submit(Call(run, done, queue_id=entry.message.queue_id))

    def too_small(self) -> str:
        """Why the volume can never accept a message, if so. Raises OSError."""
        return self._space.too_small()

    def waiting_seconds(self) -> float:
        """See QueueStore."""
        return self._group.waiting_seconds()

    # --- the reader

    def _ask(self, read: Callable[[apsw.Connection], Any], done: Callable[[Any], None]) -> None:
        def answer(connection: apsw.Connection) -> None:
            if self.failed:
                self._group.tell(done, FAILED)
                return
            try:
                found = read(connection)
            except Exception as error:
                log.warning("spool_read_failed", error=f"{type(error).__name__}: {error}")
                if isinstance(error, (apsw.CorruptError, apsw.NotADBError)):
                    self._note_damage(f"{type(error).__name__}: {error}")
                found = FAILED
            self._group.tell(done, found)

        if not self._read(answer):
            self._answer_later(done, FAILED)

    def _note_damage(self, why: str) -> None:
        """A read found damage: the writer must mark the database and end."""

        def run(_tables: Tables, _effects: Effects) -> None:
            raise apsw.CorruptError(why)

        self._group.tell(self._group.submit, Call(run, lambda _: None))

    def _read(self, request: Callable[[apsw.Connection], None]) -> bool:
        if self.failed or self._closed or self._reader is None or self._loop is None:
            return False
        self._reader.submit(request)
        return True

    def _look_at_space(self, connection: apsw.Connection) -> None:
        """In the reader's thread: free pages, and the reserve that was released."""
        if self.failed:
            return
        with contextlib.suppress(apsw.Error):
            self._space.reusable = reading.reusable(connection)
        if self._space.may_reserve:
            self._space.make_reserve()

    def _answer_later(self, done: Callable[[Any], None], answer: Any) -> None:
        assert self._loop is not None
        self._loop.call_soon(done, answer)

    def _show_quarantine(self, opened: Opened) -> None:
        found = opened.quarantine
        self._metrics.spool_quarantined_databases.set(found.databases)
        self._metrics.spool_quarantined_bodies.set(found.bodies)
        self._metrics.spool_quarantined_bytes.set(found.octets)
        if found.databases or found.bodies:
            log.warning(
                "spool_quarantine",
                folder=str(self._layout.quarantine),
                database_count=found.databases,
                body_count=found.bodies,
                size=found.octets,
                hint=f"To recover readable messages: {damage.command(self._layout)}",
            )
