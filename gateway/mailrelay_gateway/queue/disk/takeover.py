"""Adds messages from other databases to this one at startup: from schema 1, and from `mailrelay
queue salvage`.

In batches, each one a transaction. A message that is already here is skipped, so the step can be
interrupted anywhere and is continued by the next start. The other database is removed when
everything is here.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import apsw
import structlog

from mailrelay_gateway.durable import sync
from mailrelay_gateway.queue.disk import damage
from mailrelay_gateway.queue.disk.accepting import (
    MESSAGE_COLUMNS,
    RECIPIENT_COLUMNS,
    bury_name,
    is_known,
)
from mailrelay_gateway.queue.disk.folder import SIDE_FILES, Layout
from mailrelay_gateway.queue.disk.foreign import ForeignMessage, Source
from mailrelay_gateway.queue.disk.schema import FLAG_BULK, IN_FILE
from mailrelay_gateway.queue.disk.sources import SchemaOne, SchemaTwo, open_for_reading
from mailrelay_gateway.queue.disk.tables import Tables
from mailrelay_gateway.queue.store import StoreError

log = structlog.get_logger()

#: A batch: so many messages, or so many octets of their bodies.
BATCH = 500
BATCH_OCTETS = 8 * 1024 * 1024
#: Dead letters of a batch: up to 256 KiB each.
LETTERS = 32


def take_over(tables: Tables, layout: Layout, *, now: float) -> None:
    """Add everything that is beside the database."""
    _migrate(tables, layout, now=now)
    _take_salvaged(tables, layout)


def _migrate(tables: Tables, layout: Layout, *, now: float) -> None:
    """The queue of schema 1. It cannot be undone."""
    former = layout.former
    if not former.exists():
        return
    try:
        connection = apsw.Connection(str(former))
        try:
            connection.set_busy_timeout(1000)
            version = connection.pragma("user_version")
            if version > 1:
                raise StoreError(
                    f"{former} has schema {version}, this mailrelay knows 1: move it away"
                )
            # An empty log has nothing that could outlive its database.
            connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)
            taken = 0
            if version == 1:
                source = SchemaOne(connection, now=now, strict=True)
                taken = take_in(tables, source, layout, tombstones=False)
        finally:
            connection.close()
    except (apsw.CorruptError, apsw.NotADBError) as error:
        # What was recovered is here. A salvage of the rest must not store it again.
        with tables.connection:
            tables.connection.execute(
                "INSERT OR IGNORE INTO tombstones SELECT id, seq, NULL FROM messages"
            )
        damage.mark_damaged(layout, former, f"{type(error).__name__}: {error}", now=now)
        damage.quarantine_marked(layout)
        return
    _remove(former)
    log.info("spool_migrated", message_count=taken, database=str(layout.database))


def _take_salvaged(tables: Tables, layout: Layout) -> None:
    for path in sorted(layout.salvaged.glob("*.db")):
        try:
            connection = open_for_reading(path)
            try:
                source = SchemaTwo(connection, strict=True)
                taken = take_in(tables, source, layout, tombstones=True)
            finally:
                connection.close()
        except (apsw.CorruptError, apsw.NotADBError) as error:
            path.rename(path.with_suffix(".unreadable"))  # removed with the next salvage
            log.error("spool_salvage_unreadable", database=str(path), error=str(error))
            continue
        _remove(path)
        log.info("spool_salvage_imported", message_count=taken, database=str(path))


def take_in(tables: Tables, source: Source, layout: Layout, *, tombstones: bool) -> int:
    """Add all messages of a source that are not known; returns how many."""
    taken = octets = 0
    connection = tables.connection
    batch: list[ForeignMessage] = []
    for message in source.messages():
        batch.append(message)
        octets += len(message.body or b"")
        if len(batch) >= BATCH or octets >= BATCH_OCTETS:
            taken += _commit(tables, batch, layout, tombstones=tombstones)
            batch, octets = [], 0
            connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_PASSIVE)
    taken += _commit(tables, batch, layout, tombstones=tombstones)
    letters = source.letters()
    while chunk := list(islice(letters, LETTERS)):
        try:
            with connection:
                for letter in chunk:
                    tables.dead.keep(letter)
            connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_PASSIVE)
        except BaseException:
            tables.rolled_back()
            raise
    return taken


def _commit(
    tables: Tables, batch: Sequence[ForeignMessage], layout: Layout, *, tombstones: bool
) -> int:
    connection = tables.connection
    new = [message for message in batch if not is_known(tables, message.queue_id)]
    if not new:
        return 0
    for message in new:
        if message.file is not None:
            _fetch_body(layout, message.file)
    tables.bodies.sync()
    try:
        with connection:
            seq: int = connection.execute("SELECT coalesce(max(seq), 0) FROM messages").get
            store_foreign(tables, seq + 1, new)
            if tombstones:
                for n, message in enumerate(new, start=seq + 1):
                    bury_name(tables, message.queue_id, n)
    except BaseException:
        tables.rolled_back()
        raise
    return len(new)


def store_foreign(tables: Tables, seq: int, batch: Sequence[ForeignMessage]) -> None:
    """The rows of messages, numbered from `seq` on, in the open transaction."""
    messages: list[tuple[Any, ...]] = []
    recipients: list[tuple[Any, ...]] = []
    for number, message in enumerate(batch, start=seq):
        identity, sender = tables.names.identity(message.identity)
        messages.append(
            (
                number,
                message.queue_id,
                message.sender,
                identity,
                message.recipient_count,
                message.listener,
                message.received_at,
                message.size,
                message.flags,
                message.message_id,
                None if message.file is None else IN_FILE + message.file,
                message.prelude,
                message.body,
            )
        )
        recipients += [
            (
                number,
                r.n,
                tables.names.route(r.route.of_class(bulk=bool(message.flags & FLAG_BULK))),
                sender,
                r.state,
                r.pinned,
                r.attempts,
                message.size,
                r.waited,
                r.first_tried_at,
                r.next_at,
                r.upstream,
                r.address,
                r.reason,
                r.reply,
            )
            for r in message.recipients
        ]
    tables.insert("messages", MESSAGE_COLUMNS, messages)
    tables.insert("recipients", RECIPIENT_COLUMNS, recipients)


def _fetch_body(layout: Layout, name: str) -> None:
    """Move a body's file to its place if it is in quarantine."""
    place, apart = layout.bodies / name, layout.quarantined_bodies / name
    if not place.exists() and apart.exists():
        apart.rename(place)
        sync(layout.quarantined_bodies)


def _remove(path: Path) -> None:
    """Remove a database whose log is empty."""
    path.unlink()
    for suffix in SIDE_FILES:
        with contextlib.suppress(FileNotFoundError):
            Path(f"{path}{suffix}").unlink()
    sync(path.parent)
