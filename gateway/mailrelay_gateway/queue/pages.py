"""What the scheduler reads back from disk, a page at a time: rows that are ready, rows that are
due, the counts.

Runs in the writer's thread, inside its transaction, like every other operation.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import apsw

from mailrelay_gateway.queue.item import Job, State
from mailrelay_gateway.queue.operations import read_jobs
from mailrelay_gateway.reasons import Reason

#: Rows in one page: a few milliseconds of work.
PAGE = 500

_WAITING = (int(State.DEFERRED), int(State.UNCERTAIN))


@dataclass(slots=True)
class ReadyPage:
    """READY rows of one lane after a position; `short` says that there are no more."""

    upstream: str
    after: tuple[int, int]
    jobs: list[Job] = field(default_factory=list)
    last: tuple[int, int] = (0, 0)
    short: bool = True

    def read(self, connection: apsw.Connection) -> None:
        """Fill the page."""
        self.jobs = read_jobs(
            connection,
            f"WHERE (r.seq, r.n) > (?, ?) AND r.state={int(State.READY)} AND r.upstream=?"
            f" ORDER BY r.seq, r.n LIMIT {PAGE}",
            (*self.after, self.upstream),
        )
        rows = [(job.seq, r.index) for job in self.jobs for r in job.recipients]
        self.short = len(rows) < PAGE
        self.last = max(rows, default=self.after)


@dataclass(slots=True)
class DuePage:
    """Rows whose time has come at `now`: READY from here on.

    `next_at` is the time of the next one, if any.
    """

    now: float
    jobs: list[Job] = field(default_factory=list)
    next_at: float | None = None

    def read(self, connection: apsw.Connection) -> None:
        """Fill the page, and mark its rows READY."""
        self.jobs = read_jobs(
            connection, f"WHERE r.next_at <= ? ORDER BY r.next_at LIMIT {PAGE}", (self.now,)
        )
        connection.executemany(
            f"UPDATE recipients SET state={int(State.READY)}, next_at=NULL WHERE seq=? AND n=?",  # noqa: S608
            [(job.seq, r.index) for job in self.jobs for r in job.recipients],
        )
        self.next_at = connection.execute(
            "SELECT min(next_at) FROM recipients WHERE next_at IS NOT NULL"
        ).get


@dataclass(slots=True)
class Count:
    """The queue counted: by upstream recipients that are ready or wait, octets, and when the
    oldest came.
    """

    by_upstream: dict[str, tuple[int, int, int, float]] = field(default_factory=dict)
    messages: int = 0
    oldest: float | None = None
    dead_letters: int = 0
    reusable: int = 0  # octets of free pages in the database
    seconds: float = 0.0  # what counting took

    def read(self, connection: apsw.Connection) -> None:
        """Count.

        Takes some 0.15 s for a million recipients; the scheduler asks the less often for it.
        """
        started = time.perf_counter()
        found: dict[str, tuple[int, int, int, int]] = {}
        for upstream, waits, rows, octets, seq in connection.execute(
            "SELECT upstream, state IN (?, ?), count(*), sum(size), min(seq)"
            " FROM recipients GROUP BY 1, 2",
            _WAITING,
        ):
            ready, deferred, before, oldest = found.get(upstream, (0, 0, 0, seq))
            found[upstream] = (
                ready + (0 if waits else rows),
                deferred + (rows if waits else 0),
                before + octets,
                min(oldest, seq),
            )
        for upstream, (ready, deferred, octets, seq) in found.items():
            received_at = connection.execute(
                "SELECT received_at FROM messages WHERE seq=?", (seq,)
            ).get
            self.by_upstream[upstream] = (ready, deferred, octets, received_at or 0.0)
        self.oldest = min((entry[3] for entry in self.by_upstream.values()), default=None)
        self.messages = connection.execute("SELECT count(*) FROM messages").get
        self.dead_letters = connection.execute("SELECT count(*) FROM dead_letters").get
        self.reusable = connection.pragma("freelist_count") * connection.pragma("page_size")
        self.seconds = time.perf_counter() - started


@dataclass(slots=True)
class FoundLeases:
    """Attempts that were under way when a process died: perhaps delivered, so uncertain from
    `now` until `next_at`.
    """

    now: float
    next_at: float
    found: list[tuple[str, str, str]] = field(default_factory=list)  # queue id, address, upstream

    def read(self, connection: apsw.Connection) -> None:
        """Turn the leases (no more than are leased ahead); runs before anything is handed out."""
        self.found = [
            (str(queue_id), str(address), str(upstream))
            for queue_id, address, upstream in connection.execute(
                "SELECT m.id, r.address, r.upstream FROM recipients r"
                " JOIN messages m ON m.seq = r.seq WHERE r.state=?",
                (int(State.LEASED),),
            )
        ]
        connection.execute(
            "UPDATE recipients SET state=?, next_at=?, pinned=1, attempts=attempts+1, reason=?,"
            " first_tried_at=coalesce(first_tried_at, ?) WHERE state=?",
            (
                int(State.UNCERTAIN),
                self.next_at,
                Reason.LEASE_FOUND.value,
                self.now,
                int(State.LEASED),
            ),
        )


@dataclass(slots=True)
class Orphans:
    """Rows of upstreams that are not configured any more are given to the first that is."""

    names: Sequence[str]
    found: int = 0

    def read(self, connection: apsw.Connection) -> None:
        """Move the rows, but not those that an attempt may be running for."""
        if not self.names:
            return
        connection.execute(
            "UPDATE recipients SET upstream=?, pinned=0 WHERE state<>?"
            " AND upstream NOT IN (SELECT value FROM json_each(?))",
            (self.names[0], int(State.LEASED), json.dumps(list(self.names))),
        )
        self.found = connection.changes()
