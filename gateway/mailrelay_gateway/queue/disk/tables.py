"""What the writer's thread works on: the connection, the names, the bodies' folder, and the work
that a transaction leaves for after its commit.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import apsw

from mailrelay_gateway.file_body import FileBody
from mailrelay_gateway.message.body import Body
from mailrelay_gateway.queue.disk.dead_letters import DeadLetters
from mailrelay_gateway.queue.disk.names import Names
from mailrelay_gateway.queue.disk.schema import IN_FILE

#: Rows per statement when many are inserted at once: each statement releases Python's lock and has
#: to get it back, which under load costs more than the statement itself.
_ROW_CHUNKS = (32, 16, 8, 4, 2, 1)


class Bodies:
    """The folder of large bodies. Its descriptor stays open, so that it can be synced when no more
    descriptors are available.
    """

    def __init__(self, path: Path, *, sync: Callable[[int], None] = os.fsync) -> None:
        """Open the folder, which exists."""
        self.path = path
        self._sync = sync
        self._descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)

    def sync(self) -> None:
        """Make its directory entries durable."""
        self._sync(self._descriptor)

    def close(self) -> None:
        """Close the descriptor."""
        os.close(self._descriptor)

    def place(self, body: Body) -> str | None:
        """How a message's row says where its body is; None: in the row."""
        if isinstance(body, bytes):
            return None
        if not isinstance(body, FileBody) or body.path.parent != self.path:
            raise ValueError(f"{body!r} is not in {self.path}")
        return IN_FILE + body.path.name

    def file(self, place: str) -> Path:
        """The file of a place."""
        if not place.startswith(IN_FILE) or "/" in place:
            raise ValueError(f"unknown place of a body: {place}")
        return self.path / place.removeprefix(IN_FILE)


@dataclass(slots=True)
class Effects:
    """What to do after the transaction has been committed."""

    unlink: list[Path] = field(default_factory=list)
    sync_folder: bool = False  # before the commit
    adopted: set[int] = field(default_factory=set)
    left: set[int] = field(default_factory=set)
    #: Messages whose body cannot be read: queue id, and why.
    damaged: list[tuple[str, str]] = field(default_factory=list)


@dataclass(slots=True, eq=False)
class Tables:
    """One open database. Used by one thread at a time."""

    connection: apsw.Connection
    names: Names
    bodies: Bodies
    dead: DeadLetters
    #: Messages that are here and have a tombstone: their removal is recorded.
    adopted: set[int] = field(default_factory=set)

    def rolled_back(self) -> None:
        """What memory knows of the transaction is no longer true."""
        self.names.forget()
        self.dead.forget()

    def insert(self, table: str, columns: int, rows: Sequence[tuple[Any, ...]]) -> None:
        """Insert rows with as few statements as the chunk sizes allow."""
        start = 0
        one = "(" + ",".join("?" * columns) + ")"
        for chunk in _ROW_CHUNKS:
            while len(rows) - start >= chunk:
                values: list[Any] = []
                for row in rows[start : start + chunk]:
                    values.extend(row)
                self.connection.execute(
                    f"INSERT INTO {table} VALUES " + ",".join([one] * chunk),
                    values,
                )
                start += chunk
