"""A database as schema 2 had it: without classes of mail."""

from __future__ import annotations

import apsw

_TO_TWO = """
CREATE TABLE routes_of_two (
    n INTEGER PRIMARY KEY,
    upstreams TEXT NOT NULL,
    destination TEXT NOT NULL,
    pinned INTEGER NOT NULL,
    UNIQUE (upstreams, destination, pinned)
);
INSERT INTO routes_of_two SELECT n, upstreams, destination, pinned FROM routes;
DROP TABLE routes;
ALTER TABLE routes_of_two RENAME TO routes;
PRAGMA user_version = 2;
"""


def make_schema_two(connection: apsw.Connection) -> None:
    """Take the classes out of a database, as the version before would have written it."""
    with connection:
        connection.execute(_TO_TWO)
