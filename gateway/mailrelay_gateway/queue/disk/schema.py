"""The tables of the disk store (schema 3), and how every connection to them is opened."""

from __future__ import annotations

import apsw

#: Stored as SQLite's user_version. Schema 1 was another file (queue.db): see takeover.py. Schema 2
#: knew no classes of mail.
VERSION = 3

#: Stored as SQLite's application_id ("MRLQ"): a foreign database is never used.
APPLICATION_ID = 0x4D524C51

DATABASE = "queue2.db"

#: 8 KiB: at 4 KiB a 100 KB body is an overflow page for each 4 KB of it and costs 1.3 times the
#: CPU; at 16 KiB a 4 KB message writes 1.6 times the octets.
PAGE_SIZE = 8192

#: Pages of log after which the writer moves them into the database: 16 MiB. 4 and 64 MiB made no
#: difference. Not SQLite's own `wal_autocheckpoint`: that forgets a failed fsync and tries again.
CHECKPOINT_AFTER = 2048
LOG_LIMIT = CHECKPOINT_AFTER * PAGE_SIZE
#: KiB of page cache: of the writer, and of the reader, which reads each page once.
WRITER_CACHE = 16 * 1024
READER_CACHE = 2 * 1024

FLAG_EIGHT_BIT = 1
FLAG_SMTPUTF8 = 2
FLAG_LONG_LINES = 4
FLAG_DSN = 8
FLAG_BULK = 16

#: In front of a file's name in `messages.place`: the body is in bodies/.
IN_FILE = "file:"

#: Some databases of schema 2 have it. By queue id, since the number of a message that has gone may
#: be given again.
DSN_TABLE = """
CREATE TABLE IF NOT EXISTS dsn (   -- DSN parameters of the few messages that have any
    id TEXT PRIMARY KEY,           -- messages.id
    parameters TEXT NOT NULL       -- smtp.dsn.to_json
) WITHOUT ROWID;
"""

_ROUTES = """
CREATE TABLE {name} (              -- Route, by number
    n INTEGER PRIMARY KEY,
    upstreams TEXT NOT NULL,       -- JSON list
    destination TEXT NOT NULL,
    pinned INTEGER NOT NULL,       -- of recipients that were perhaps delivered
    bulk INTEGER NOT NULL,         -- of mail of the class Bulk
    UNIQUE (upstreams, destination, pinned, bulk)
);
"""

#: What waits has no class in schema 2, which is Transactional. Only the small table of routes is
#: written, in one transaction: the index of what is READY goes by their numbers.
_TO_THREE = f"""
{_ROUTES.format(name="routes_of_three")}
INSERT INTO routes_of_three SELECT n, upstreams, destination, pinned, 0 FROM routes;
DROP TABLE routes;
ALTER TABLE routes_of_three RENAME TO routes;
PRAGMA user_version = 3;
"""

TABLES = f"""
CREATE TABLE meta (
    key TEXT PRIMARY KEY,
    value NOT NULL
) WITHOUT ROWID;
CREATE TABLE senders (             -- Identity.uid, by number: whose turn it is
    n INTEGER PRIMARY KEY,
    uid TEXT NOT NULL UNIQUE
);
CREATE TABLE identities (          -- Identity, by number: one more when a username changes
    n INTEGER PRIMARY KEY,
    sender INTEGER NOT NULL,
    namespace TEXT NOT NULL,
    name TEXT NOT NULL,
    username TEXT NOT NULL,
    UNIQUE (sender, namespace, name, username)
);
{_ROUTES.format(name="routes")}
CREATE TABLE messages (
    seq INTEGER PRIMARY KEY,       -- order of acceptance
    id TEXT NOT NULL UNIQUE,       -- queue id
    sender TEXT NOT NULL,          -- reverse-path
    identity INTEGER NOT NULL,     -- identities.n
    recipient_count INTEGER NOT NULL, -- as accepted
    listener TEXT NOT NULL,
    received_at REAL NOT NULL,
    size INTEGER NOT NULL,         -- octets of prelude and body
    flags INTEGER NOT NULL,        -- 1: eight bit, 2: SMTPUTF8, 4: long lines, 8: in dsn,
                                   -- 16: of the class Bulk
    message_id TEXT NOT NULL,
    place TEXT,                    -- of the body; NULL: in this row; else file:NAME in bodies/
    prelude BLOB NOT NULL,         -- these two last: who asks for other columns reads no body
    body BLOB
);
CREATE INDEX messages_in_files ON messages (place) WHERE place IS NOT NULL;
CREATE TABLE recipients (
    seq INTEGER NOT NULL,
    n INTEGER NOT NULL,            -- index in the message
    route INTEGER NOT NULL,        -- routes.n
    sender INTEGER NOT NULL,       -- senders.n
    state INTEGER NOT NULL,        -- queue.item.State
    pinned INTEGER NOT NULL,       -- perhaps delivered
    attempts INTEGER NOT NULL,
    size INTEGER NOT NULL,         -- of the message, for counting and claiming without it
    waited REAL NOT NULL,          -- Recipient.waited
    first_tried_at REAL,
    next_at REAL,                  -- set while it waits for a time
    upstream TEXT NOT NULL,        -- of the last attempt, or the one under way
    address TEXT NOT NULL,
    reason TEXT NOT NULL,          -- of the last attempt
    reply TEXT NOT NULL,           -- of the last attempt, verbatim
    PRIMARY KEY (seq, n)
) WITHOUT ROWID;
-- Partial: what is leased with its acceptance and delivered at once never touches them.
CREATE INDEX recipients_ready ON recipients (route, sender, seq) WHERE state = 0;
CREATE INDEX recipients_due ON recipients (next_at) WHERE next_at IS NOT NULL;
CREATE TABLE dead_messages (       -- one copy, however many of its recipients failed
    n INTEGER PRIMARY KEY,         -- the oldest has the lowest
    id TEXT NOT NULL UNIQUE,
    namespace TEXT NOT NULL,
    name TEXT NOT NULL,
    sender TEXT NOT NULL,
    received_at REAL NOT NULL,
    size INTEGER NOT NULL,
    octets INTEGER NOT NULL,       -- what it and its recipients take here
    message BLOB NOT NULL          -- prelude and body, cut
);
CREATE INDEX dead_messages_kept ON dead_messages (namespace, n, octets);
CREATE TABLE dead_letters (        -- a recipient that failed
    message INTEGER NOT NULL,      -- dead_messages.n
    recipient INTEGER NOT NULL,
    address TEXT NOT NULL,
    upstream TEXT NOT NULL,
    reason TEXT NOT NULL,
    reply TEXT NOT NULL,
    attempts INTEGER NOT NULL,
    failed_at REAL NOT NULL,
    PRIMARY KEY (message, recipient)
) WITHOUT ROWID;
CREATE TABLE tombstones (          -- messages taken over from elsewhere: not a second time
    id TEXT PRIMARY KEY,
    seq INTEGER NOT NULL,
    left_at REAL                   -- NULL while it is here
) WITHOUT ROWID;
CREATE INDEX tombstones_left ON tombstones (left_at) WHERE left_at IS NOT NULL;
{DSN_TABLE}
PRAGMA application_id = {APPLICATION_ID};
PRAGMA user_version = {VERSION};
"""


class SchemaTooNew(RuntimeError):
    """The database was written by a newer mailrelay, whose tables this one cannot read safely."""


class ForeignDatabase(RuntimeError):
    """A healthy database that is not a mailrelay queue."""


def connect(path: str, *, vfs: str | None = None) -> apsw.Connection:
    """Open the database as its writer, and create the tables if there are none.

    Never checkpoints when it is closed: after a failed fsync no file may be touched.
    """
    connection = apsw.Connection(path, vfs=vfs)
    try:
        connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
        connection.set_busy_timeout(1000)
        _check(connection)
        connection.pragma("page_size", PAGE_SIZE)
        connection.pragma("journal_mode", "wal")
        connection.pragma("synchronous", "full")
        connection.wal_autocheckpoint(0)
        connection.pragma("journal_size_limit", LOG_LIMIT)
        connection.pragma("cache_size", -WRITER_CACHE)
        connection.pragma("temp_store", "memory")  # no file is opened later: none may be left
        version = connection.pragma("user_version")
        if version == 0:
            with connection:
                connection.execute(TABLES)
        elif version < VERSION:
            with connection:
                connection.execute(DSN_TABLE + _TO_THREE)
    except BaseException:
        connection.close()
        raise
    return connection


def connect_reader(path: str, *, vfs: str | None = None) -> apsw.Connection:
    """A second connection that cannot change anything."""
    connection = apsw.Connection(path, flags=apsw.SQLITE_OPEN_READONLY, vfs=vfs)
    connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
    connection.set_busy_timeout(1000)
    connection.pragma("query_only", True)
    connection.pragma("cache_size", -READER_CACHE)
    connection.pragma("temp_store", "memory")
    return connection


def _check(connection: apsw.Connection) -> None:
    """Raise SchemaTooNew or ForeignDatabase, before anything is changed."""
    version = connection.pragma("user_version")
    application = connection.pragma("application_id")
    if application == 0 and version == 0:
        if connection.execute("SELECT count(*) FROM sqlite_schema").get:
            raise ForeignDatabase("it is not a mailrelay queue: move it away")
        return
    if application != APPLICATION_ID:
        raise ForeignDatabase("it is not a mailrelay queue: move it away")
    if version > VERSION:
        raise SchemaTooNew(
            f"the queue has schema {version}, this mailrelay knows {VERSION}:"
            " start the newer mailrelay again"
        )
