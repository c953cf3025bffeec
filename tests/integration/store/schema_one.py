"""The tables of schema 1 as they were, and a spool written with them."""

from __future__ import annotations

import json
from pathlib import Path

import apsw

TABLES = """
    CREATE TABLE messages (
        seq INTEGER PRIMARY KEY,
        id TEXT NOT NULL,
        sender TEXT NOT NULL,
        recipients TEXT NOT NULL,
        namespace TEXT NOT NULL,
        name TEXT NOT NULL,
        uid TEXT NOT NULL,
        username TEXT NOT NULL,
        listener TEXT NOT NULL,
        received_at REAL NOT NULL,
        size INTEGER NOT NULL,
        flags INTEGER NOT NULL,
        message_id TEXT NOT NULL,
        file TEXT,
        body BLOB
    );
    CREATE TABLE recipients (
        seq INTEGER NOT NULL,
        n INTEGER NOT NULL,
        address TEXT NOT NULL,
        state INTEGER NOT NULL,
        attempts INTEGER NOT NULL,
        first_tried_at REAL,
        next_at REAL,
        pinned INTEGER NOT NULL,
        upstream TEXT NOT NULL,
        size INTEGER NOT NULL,
        reason TEXT NOT NULL,
        reply TEXT NOT NULL,
        PRIMARY KEY (seq, n)
    ) WITHOUT ROWID;
    CREATE INDEX recipients_due ON recipients (next_at) WHERE next_at IS NOT NULL;
    CREATE TABLE dead_letters (
        n INTEGER PRIMARY KEY,
        id TEXT NOT NULL,
        recipient INTEGER NOT NULL,
        address TEXT NOT NULL,
        sender TEXT NOT NULL,
        namespace TEXT NOT NULL,
        name TEXT NOT NULL,
        upstream TEXT NOT NULL,
        reason TEXT NOT NULL,
        reply TEXT NOT NULL,
        attempts INTEGER NOT NULL,
        received_at REAL NOT NULL,
        failed_at REAL NOT NULL,
        size INTEGER NOT NULL,
        message BLOB NOT NULL
    );
    PRAGMA user_version = 1;
"""

READY, LEASED, DEFERRED, UNCERTAIN = range(4)


class FormerSpool:
    """Writes a spool as the version before did; `bodies` are its messages by queue id."""

    def __init__(self, folder: Path, now: float) -> None:
        self.folder = folder
        self.now = now
        self.bodies: dict[str, bytes] = {}
        (self.folder / "bodies").mkdir(parents=True, exist_ok=True)
        self._connection = apsw.Connection(str(self.folder / "queue.db"))
        self._connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)  # as a crash leaves it
        self._connection.pragma("page_size", 16384)
        self._connection.pragma("journal_mode", "wal")
        self._connection.pragma("synchronous", "off")
        self._connection.execute(TABLES)

    def put(
        self,
        queue_id: str,
        body: bytes,
        *states: tuple[int, int, float | None, float | None, bool, str],
        uid: str = "uid-1",
    ) -> None:
        """A message. Of each recipient: state, attempts, first try, next time, pin, upstream."""
        seq = len(self.bodies) + 1
        self.bodies[queue_id] = body
        addresses = [f"{n}@example.com" for n in range(len(states))]
        large = len(body) > 256 * 1024
        if large:
            (self.folder / "bodies" / queue_id).write_bytes(body)
        with self._connection:
            self._connection.execute(
                "INSERT INTO messages VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)",
                (
                    seq,
                    queue_id,
                    "sender@example.org",
                    json.dumps(addresses),
                    "team",
                    "app",
                    uid,
                    "team.app",
                    "submission",
                    self.now - 5000,
                    len(body),
                    3,
                    f"<{queue_id}@example.org>",
                    queue_id if large else None,
                    None if large else body,
                ),
            )
            self._connection.executemany(
                "INSERT INTO recipients VALUES (?,?,?,?,?,?,?,?,?,?,?,?)",
                [
                    (
                        *(seq, n, addresses[n], *states[n], len(body)),
                        *("UpstreamDeferred" if states[n][1] else "", "451 later"),
                    )
                    for n in range(len(states))
                ],
            )

    def bury(self, queue_id: str, n: int, message: bytes) -> None:
        """A dead letter."""
        with self._connection:
            self._connection.execute(
                "INSERT INTO dead_letters (id, recipient, address, sender, namespace, name,"
                " upstream, reason, reply, attempts, received_at, failed_at, size, message)"
                " VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?)",
                (
                    *(queue_id, n, f"{n}@example.com", "sender@example.org", "team", "app", "a"),
                    *("UpstreamRejected", "550 no", 1, self.now - 9, self.now - 5, 7, message),
                ),
            )

    def close(self) -> None:
        """End without emptying the log."""
        self._connection.close()
