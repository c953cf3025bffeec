"""Reads the queue on a second connection: counts, and one message by its queue id.

Never in the writer's transaction, and without reading bodies for a count.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from queue import SimpleQueue
from threading import Thread
from typing import Any

import apsw

from mailrelay_gateway.message.route import Route
from mailrelay_gateway.queue.disk.claiming import MESSAGE_COLUMNS, read_message
from mailrelay_gateway.queue.disk.names import read_identity, read_route
from mailrelay_gateway.queue.disk.tables import Bodies
from mailrelay_gateway.queue.item import Recipient, State
from mailrelay_gateway.queue.store import Backlog, Counts, Figures, Known

#: Recipients counted in one statement, so that its sort by route and state stays small.
WINDOW = 50_000

_END = 2**62


class Reader:
    """A thread with a read-only connection; it does one thing at a time."""

    def __init__(self, connection: apsw.Connection) -> None:
        """`start` starts it."""
        self.connection = connection
        # bounded by its callers: the gauges, and as many requests as the admin port serves
        self._requests: SimpleQueue[Callable[[apsw.Connection], None] | None] = SimpleQueue()
        self._thread = Thread(target=self._serve, name="queue reader", daemon=True)

    def start(self) -> None:
        """Begin to serve."""
        self._thread.start()

    def submit(self, request: Callable[[apsw.Connection], None]) -> None:
        """Have something read. It must not raise."""
        self._requests.put(request)

    def interrupt(self) -> None:
        """Interrupt the current read: it prevents the log from being emptied."""
        self.connection.interrupt()

    def stop(self, deadline: float) -> bool:
        """End, after `deadline` seconds without having finished; returns whether it has ended."""
        self.interrupt()
        self._requests.put(None)
        self._thread.join(deadline)
        return not self._thread.is_alive()

    def _serve(self) -> None:
        while (request := self._requests.get()) is not None:
            request(self.connection)


def count(connection: apsw.Connection, free_octets: Callable[[], int]) -> Counts:
    """The queue counted, in one read transaction."""
    started = time.perf_counter()
    connection.execute("BEGIN")
    try:
        found = _totals(connection)
        routes: dict[int, Route] = {}
        senders: dict[int, str] = {}
        by_route = {}
        for (route, deferred), (recipients, messages, octets, seq) in found.items():
            received_at = connection.execute(
                "SELECT received_at FROM messages WHERE seq=?", (seq,)
            ).get
            by_route[_route(connection, routes, route), bool(deferred)] = Figures(
                recipients=recipients, messages=messages, octets=octets, oldest=received_at
            )
        ready = {}
        for route, sender, recipients in connection.execute(
            "SELECT route, sender, count(*) FROM recipients INDEXED BY recipients_ready"
            f" WHERE state={int(State.READY)} GROUP BY route, sender"
        ):
            if sender not in senders:
                senders[sender] = connection.execute(
                    "SELECT uid FROM senders WHERE n=?", (sender,)
                ).get
            ready[Backlog(_route(connection, routes, route), senders[sender])] = recipients
        next_at = connection.execute(
            "SELECT min(next_at) FROM recipients WHERE next_at IS NOT NULL"
        ).get
        messages = connection.execute("SELECT count(*) FROM messages").get
        dead = connection.execute("SELECT count(*) FROM dead_messages").get
        free = reusable(connection) + free_octets()
    finally:
        _end(connection)
    return Counts(
        by_route=by_route,
        ready=ready,
        messages=messages,
        oldest=min((f.oldest for f in by_route.values() if f.oldest is not None), default=None),
        next_at=next_at,
        dead_letters=dead,
        free_octets=free,
        seconds=time.perf_counter() - started,
    )


def _totals(connection: apsw.Connection) -> dict[tuple[int, int], tuple[int, int, int, int]]:
    """By route, and whether it is deferred: recipients, messages, octets, and the number of the
    first message.
    """
    totals: dict[tuple[int, int], tuple[int, int, int, int]] = {}
    after = -_END
    while True:
        until = connection.execute(
            "SELECT seq FROM recipients WHERE seq > ? ORDER BY seq LIMIT 1 OFFSET ?",
            (after, WINDOW),
        ).get
        for route, deferred, recipients, messages, octets, seq in connection.execute(
            # Inside: one row for each message, so that it and its octets count once.
            "SELECT route, deferred, sum(recipients), count(*), sum(size), min(seq) FROM"
            " (SELECT route, state IN (?, ?) AS deferred, seq, count(*) AS recipients,"
            " max(size) AS size FROM recipients WHERE seq > ? AND seq <= ?"
            " GROUP BY seq, route, deferred) GROUP BY route, deferred",
            (State.DEFERRED, State.UNCERTAIN, after, _END if until is None else until),
        ):
            before = totals.get((route, deferred), (0, 0, 0, seq))
            totals[route, deferred] = (
                before[0] + recipients,
                before[1] + messages,
                before[2] + octets,
                min(before[3], seq),
            )
        if until is None:
            return totals
        after = until


def reusable(connection: apsw.Connection) -> int:
    """Octets of free pages in the database."""
    pages: int = connection.pragma("freelist_count")
    size: int = connection.pragma("page_size")
    return pages * size


def find(connection: apsw.Connection, queue_id: str, bodies: Bodies) -> Known | None:
    """A message by its queue id, or when it left."""
    connection.execute("BEGIN")
    try:
        row: tuple[Any, ...] | None = connection.execute(
            f"SELECT seq, {MESSAGE_COLUMNS} FROM messages WHERE id=?",
            (queue_id,),
        ).get
        if row is None:
            tombstone = connection.execute(
                "SELECT left_at FROM tombstones WHERE id=? AND left_at IS NOT NULL", (queue_id,)
            ).get
            if tombstone is None:
                return None
            return Known(message=None, recipients=(), left_at=tombstone)
        seq, *columns = row
        message = read_message(
            connection, tuple(columns), read_identity(connection, columns[2]), bodies
        )
        routes: dict[int, Route] = {}
        recipients = [
            (
                Recipient(n, address, attempts, first, waited, bool(pinned)),
                State(state),
                _route(connection, routes, route),
            )
            for n, address, attempts, first, waited, pinned, state, route in connection.execute(
                "SELECT n, address, attempts, first_tried_at, waited, pinned, state, route"
                " FROM recipients WHERE seq=? ORDER BY n",
                (seq,),
            )
        ]
    finally:
        _end(connection)
    return Known(message=message, recipients=recipients)


def _end(connection: apsw.Connection) -> None:
    """End the read transaction: it prevents the log from being emptied."""
    if not connection.get_autocommit():
        connection.execute("ROLLBACK")


def _route(connection: apsw.Connection, known: dict[int, Route], number: int) -> Route:
    if number not in known:
        known[number] = read_route(connection, number)
    return known[number]
