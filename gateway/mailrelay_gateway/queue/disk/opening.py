"""What happens before anything is served: the steps of `DiskStore.open`, in order.

Every step can be interrupted by a crash and is continued by the next start.
"""

from __future__ import annotations

import json
import secrets
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import apsw
import structlog

from mailrelay_gateway.durable import sync
from mailrelay_gateway.queue.disk import damage, waiting
from mailrelay_gateway.queue.disk.damage import Run
from mailrelay_gateway.queue.disk.dead_letters import DeadLetters
from mailrelay_gateway.queue.disk.finishing import remove_empty
from mailrelay_gateway.queue.disk.folder import Layout
from mailrelay_gateway.queue.disk.names import Names
from mailrelay_gateway.queue.disk.schema import IN_FILE, ForeignDatabase, SchemaTooNew, connect
from mailrelay_gateway.queue.disk.space import Space
from mailrelay_gateway.queue.disk.tables import Bodies, Tables
from mailrelay_gateway.queue.disk.takeover import take_over
from mailrelay_gateway.queue.store import FoundLease, Opened, StoreError

log = structlog.get_logger()

#: Seconds to wait for another program's lock at startup.
LOCK_PATIENCE = 10.0
#: Tombstones: how long, and how many.
TOMBSTONE_SECONDS = 7 * 86400.0
TOMBSTONES = 100_000


@dataclass(slots=True)
class Found:
    """An open store: its parts, and what was found."""

    tables: Tables
    opened: Opened
    run: Run


def open_store(
    layout: Layout,
    space: Space,
    *,
    vfs: str | None,
    sync_bodies: Callable[[int], None],
    now: float,
    uncertain_until: float,
) -> Found:
    """Open the database of a folder that is locked by us. Raises StoreError.

    A damaged database is quarantined and a new one created; on a full volume the reserve is
    released.
    """
    path = layout.database
    fresh = False
    while True:
        try:
            if not path.exists() and _size(Path(f"{path}-wal")):
                # SQLite would delete the log, which may contain mail of a database that was moved
                damage.mark_damaged(layout, path, "its log remains", now=now)
            damage.quarantine_marked(layout)
            return _open(
                layout,
                space,
                vfs=vfs,
                sync_bodies=sync_bodies,
                now=now,
                uncertain_until=uncertain_until,
            )
        except (apsw.CorruptError, apsw.NotADBError) as error:
            if fresh:
                raise StoreError(
                    f"{path}: a fresh database is damaged at once ({error}): replace the volume"
                ) from None
            fresh = True
            damage.mark_damaged(layout, path, f"{type(error).__name__}: {error}", now=now)
        except (SchemaTooNew, ForeignDatabase) as error:
            raise StoreError(f"{path}: {error}") from None
        except apsw.BusyError:
            raise StoreError(
                f"{path} is locked by another program (a shell, a backup): end that program"
            ) from None
        except apsw.Error as error:
            full = isinstance(error, apsw.FullError) or (
                getattr(error, "extendedresult", 0) == apsw.SQLITE_IOERR_SHMSIZE
            )
            if full and space.give_up_reserve():
                log.warning("spool_reserve_given_up", folder=str(layout.root))
            elif full:
                raise StoreError(
                    f"{path}: the volume is full: free some space, or grow it"
                ) from None
            else:
                raise StoreError(
                    f"{path}: SQLite says {type(error).__name__}: {error}; check the volume and"
                    " the rights of the file"
                ) from None
        except OSError as error:
            raise StoreError(f"{layout.root}: {error}; check the volume") from None


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def _open(
    layout: Layout,
    space: Space,
    *,
    vfs: str | None,
    sync_bodies: Callable[[int], None],
    now: float,
    uncertain_until: float,
) -> Found:
    last = Run.read(layout)
    with_log = Path(f"{layout.database}-wal").exists()
    connection = _connect(layout, vfs)
    bodies = None
    try:
        bodies = Bodies(layout.bodies, sync=sync_bodies)
        tables = Tables(
            connection,
            Names(connection),
            bodies,
            DeadLetters(connection, volume=shutil.disk_usage(layout.root).total),
        )
        _drop_refused(tables, layout)
        take_over(tables, layout, now=now)
        found, tables.adopted = _begin(tables, now=now, uncertain_until=uncertain_until)
        # A crash leaves the log of the database that ran; a database without it has lost what was
        # in it.
        ordinary = last is not None and _same(connection, last) and (last.clean or with_log)
        damage.put_away_strays(layout, _files(connection), last, now=now, ordinary=ordinary)
        run = _note_run(tables, layout, now=now)
        opened = Opened(
            next_seq=connection.execute("SELECT coalesce(max(seq), 0) + 1 FROM messages").get,
            ready=waiting.ready_by_backlog(tables),
            next_at=waiting.next_time(connection),
            messages=connection.execute("SELECT count(*) FROM messages").get,
            found=found,
            quarantine=damage.survey(layout),
        )
    except BaseException:
        if bodies is not None:
            bodies.close()
        connection.close()
        raise
    return Found(tables=tables, opened=opened, run=run)


def _connect(layout: Layout, vfs: str | None) -> apsw.Connection:
    """The database, with an empty log.

    After a failed fsync the kernel may show pages of the log that it has dropped. Moving them into
    the database, with an fsync, is the only way to know what is there, before anything is appended
    behind a gap.
    """
    until = time.monotonic() + LOCK_PATIENCE
    while True:
        connection = None
        try:
            connection = connect(str(layout.database), vfs=vfs)
            connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)
        except BaseException as error:
            if connection is not None:
                connection.close()
            if not isinstance(error, apsw.BusyError) or time.monotonic() > until:
                raise
            time.sleep(0.1)
        else:
            sync(layout.root)  # the name of a database that was just made
            return connection


def _drop_refused(tables: Tables, layout: Layout) -> None:
    """Drop messages that were answered 451 when the disk failed, though the log had them."""
    try:
        refused = [str(queue_id) for queue_id in json.loads(layout.refused.read_text())]
    except FileNotFoundError:
        return
    except (ValueError, TypeError):
        refused = []
    connection = tables.connection
    with connection:
        seqs = [
            int(seq)
            for (seq,) in connection.execute(
                "SELECT seq FROM messages WHERE id IN (SELECT value FROM json_each(?))",
                (json.dumps(refused),),
            )
        ]
        connection.execute(
            "DELETE FROM recipients WHERE seq IN (SELECT value FROM json_each(?))",
            (json.dumps(seqs),),
        )
        files = remove_empty(tables, seqs)
        connection.execute(
            "DELETE FROM tombstones WHERE id IN (SELECT value FROM json_each(?))",
            (json.dumps(refused),),
        )
    for _, file in files:
        if file is not None:
            file.unlink(missing_ok=True)
    layout.refused.unlink()
    sync(layout.root)
    log.warning("spool_refused_dropped", message_count=len(seqs))


def _begin(
    tables: Tables, *, now: float, uncertain_until: float
) -> tuple[list[FoundLease], set[int]]:
    """Leases that were found, and the messages that have a tombstone. Removes names that are
    unused.
    """
    connection = tables.connection
    try:
        with connection:
            found = waiting.turn_leases(tables, now=now, until=uncertain_until)
            connection.execute("DELETE FROM routes WHERE n NOT IN (SELECT route FROM recipients)")
            connection.execute(
                "DELETE FROM identities WHERE sender NOT IN (SELECT sender FROM recipients)"
            )
            connection.execute("DELETE FROM senders WHERE n NOT IN (SELECT sender FROM identities)")
            # An older gateway, which does not know them, may have been started meanwhile.
            connection.execute("DELETE FROM dsn WHERE id NOT IN (SELECT id FROM messages)")
            prune_tombstones(connection, now=now)
    finally:
        tables.names.forget()  # numbers that went
    adopted = {
        seq for (seq,) in connection.execute("SELECT seq FROM tombstones WHERE left_at IS NULL")
    }
    return found, adopted


def prune_tombstones(connection: apsw.Connection, *, now: float) -> None:
    """Remove the ids of messages that left long ago, or that are too many."""
    connection.execute("DELETE FROM tombstones WHERE left_at < ?", (now - TOMBSTONE_SECONDS,))
    connection.execute(
        "DELETE FROM tombstones WHERE id IN (SELECT id FROM tombstones WHERE left_at IS NOT NULL"
        " ORDER BY left_at DESC LIMIT -1 OFFSET ?)",
        (TOMBSTONES,),
    )


def _files(connection: apsw.Connection) -> set[str]:
    """The names of all body files that messages have."""
    return {
        place.removeprefix(IN_FILE)
        for (place,) in connection.execute("SELECT place FROM messages WHERE place IS NOT NULL")
    }


def _same(connection: apsw.Connection, run: Run) -> bool:
    meta = _meta(connection)
    return meta.get("database") == run.database and meta.get("epoch") == run.epoch


def _meta(connection: apsw.Connection) -> dict[str, Any]:
    return {str(key): value for key, value in connection.execute("SELECT key, value FROM meta")}


def _note_run(tables: Tables, layout: Layout, *, now: float) -> Run:
    """Begin the next epoch, first in the database."""
    connection = tables.connection
    with connection:
        connection.execute(
            "INSERT INTO meta VALUES ('database', ?) ON CONFLICT DO NOTHING",
            (secrets.token_hex(8),),
        )
        connection.execute(
            "INSERT INTO meta VALUES ('epoch', 1) ON CONFLICT DO UPDATE SET value = value + 1"
        )
    meta = _meta(connection)
    run = Run(database=meta["database"], epoch=meta["epoch"], started_at=now, clean=False)
    run.write(layout)
    return run
