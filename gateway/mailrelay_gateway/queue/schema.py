"""The spool's tables: their SQL, their number, and how an older spool becomes a newer one."""

from __future__ import annotations

import apsw

#: Stored as SQLite's user_version. A minor may add columns and tables that the minor before does
#: not read.
VERSION = 1

#: 16 KiB pages: a 4 KB message does not overflow its page, and several of a group commit share one.
PAGE_SIZE = 16384

#: What a spool of version N needs to become N + 1.
_MIGRATIONS: dict[int, str] = {
    0: """
    CREATE TABLE messages (
        seq INTEGER PRIMARY KEY,       -- order of acceptance
        id TEXT NOT NULL,
        sender TEXT NOT NULL,
        recipients TEXT NOT NULL,      -- JSON list, as accepted
        namespace TEXT NOT NULL,
        name TEXT NOT NULL,
        uid TEXT NOT NULL,
        username TEXT NOT NULL,
        listener TEXT NOT NULL,
        received_at REAL NOT NULL,
        size INTEGER NOT NULL,
        flags INTEGER NOT NULL,        -- 1: eight bit, 2: SMTPUTF8
        message_id TEXT NOT NULL,
        file TEXT,                     -- name in bodies/, when the body is not in the row
        body BLOB
    );
    CREATE TABLE recipients (
        seq INTEGER NOT NULL,
        n INTEGER NOT NULL,
        address TEXT NOT NULL,
        state INTEGER NOT NULL,        -- queue.item.State
        attempts INTEGER NOT NULL,
        first_tried_at REAL,
        next_at REAL,                  -- set while it waits for a time
        pinned INTEGER NOT NULL,
        upstream TEXT NOT NULL,        -- of the last or next attempt
        size INTEGER NOT NULL,         -- of the message, for the gauges
        reason TEXT NOT NULL,          -- of the last attempt
        reply TEXT NOT NULL,           -- of the last attempt, verbatim
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
        message BLOB NOT NULL          -- the message, cut to 256 KiB
    );
    """,
}


class SchemaTooNew(RuntimeError):
    """The spool was written by a newer mailrelay, whose tables this one cannot read safely."""


def connect(path: str) -> apsw.Connection:
    """Open the spool's database as every writer must: WAL, an fsync for each commit, our page
    size.
    """
    connection = apsw.Connection(path)
    connection.set_busy_timeout(10_000)
    connection.pragma("page_size", PAGE_SIZE)
    connection.pragma("journal_mode", "wal")
    connection.pragma("synchronous", "full")
    connection.pragma("wal_autocheckpoint", 1000)  # pages: 16 MiB of log
    connection.pragma("journal_size_limit", 16 * 1024 * 1024)
    connection.pragma("cache_size", -16 * 1024)  # KiB
    return connection


def migrate(connection: apsw.Connection) -> None:
    """Bring the tables to VERSION, one transaction a step; SchemaTooNew if they are beyond it."""
    found = connection.pragma("user_version")
    if found > VERSION:
        raise SchemaTooNew(
            f"the spool has schema {found}, this mailrelay knows {VERSION}:"
            " start the newer mailrelay again"
        )
    for step in range(found, VERSION):
        with connection:
            connection.execute(_MIGRATIONS[step])
            connection.pragma("user_version", step + 1)
