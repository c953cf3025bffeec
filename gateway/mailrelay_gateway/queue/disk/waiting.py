"""Waiting recipients: for a time, or on a route that is no longer configured; and the leases of a
gateway that died. Runs in the writer's thread, inside its transaction.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import apsw
import orjson

from mailrelay_gateway.message.route import Choose, Route, Sketch
from mailrelay_gateway.queue.disk.tables import Tables
from mailrelay_gateway.queue.item import State
from mailrelay_gateway.queue.store import Backlog, Due, FoundLease, Rerouted
from mailrelay_gateway.reasons import Reason

#: Recipients that one page of `reroute` looks at, whether they are on a stale route or not: some
#: 5 ms.
LOOKED_AT = 20_000

#: Before the first recipient, and after the last.
_START = (-(2**62), 0)
_END = (2**62, 0)

_MADE_READY = f"UPDATE recipients SET state={int(State.READY)}, next_at=NULL"


def due(tables: Tables, *, now: float, latest: float, most: int) -> Due:
    """Make READY what is due at `now`, or due after `latest`."""
    ready: Counter[tuple[int, int]] = Counter()
    found = _promote(tables, "next_at <= ? ORDER BY next_at", now, most, ready)
    if found < most:
        found += _promote(tables, "next_at > ? ORDER BY next_at DESC", latest, most - found, ready)
    return Due(
        ready={backlog(tables, key): count for key, count in ready.items()},
        next_at=next_time(tables.connection),
        more=found == most,
    )


def _promote(
    tables: Tables, which: str, time: float, most: int, ready: Counter[tuple[int, int]]
) -> int:
    found = 0
    for key in tables.connection.execute(
        f"{_MADE_READY} WHERE (seq, n) IN (SELECT seq, n FROM recipients WHERE next_at IS NOT NULL"
        f" AND {which} LIMIT ?) RETURNING route, sender",
        (time, most),
    ):
        ready[key] += 1
        found += 1
    return found


def next_time(connection: apsw.Connection) -> float | None:
    """When the next recipient is due."""
    found: float | None = connection.execute(
        "SELECT min(next_at) FROM recipients WHERE next_at IS NOT NULL"
    ).get
    return found


def backlog(tables: Tables, key: tuple[int, int]) -> Backlog:
    """The backlog for the numbers of a route and a sender."""
    return Backlog(tables.names.route_of(key[0]), tables.names.uid_of(key[1]))


def ready_by_backlog(tables: Tables) -> dict[Backlog, int]:
    """All that is READY, counted: reads `recipients_ready` only."""
    rows: list[Any] = tables.connection.execute(
        "SELECT route, sender, count(*) FROM recipients INDEXED BY recipients_ready"
        f" WHERE state={int(State.READY)} GROUP BY route, sender"
    ).fetchall()
    return {backlog(tables, (route, sender)): count for route, sender, count in rows}


def turn_leases(tables: Tables, *, now: float, until: float) -> list[FoundLease]:
    """Leases of a gateway that died: perhaps delivered, so UNCERTAIN, and pinned to the upstream
    at which they were tried.
    """
    connection = tables.connection
    rows: list[Any] = connection.execute(
        "SELECT r.seq, r.n, m.id, r.address, r.upstream, r.route FROM recipients r"
        f" JOIN messages m ON m.seq = r.seq WHERE r.state={int(State.LEASED)}"
    ).fetchall()
    connection.executemany(
        f"UPDATE recipients SET state={int(State.UNCERTAIN)}, next_at=?, pinned=1, route=?,"
        " attempts=attempts+1, waited=waited+?, first_tried_at=coalesce(first_tried_at, ?),"
        " reason=?, reply='' WHERE seq=? AND n=?",
        [
            (
                until,
                tables.names.route(tables.names.route_of(route).pinned_to(upstream)),
                max(0.0, until - now),
                now,
                Reason.LEASE_FOUND.value,
                seq,
                n,
            )
            for seq, n, _, _, upstream, route in rows
        ],
    )
    return [FoundLease(ident, address, upstream) for _, _, ident, address, upstream, _ in rows]


@dataclass(slots=True)
class Rerouting:
    """A run of pages over the recipients on stale routes (None: on all): where the next page
    begins.
    """

    stale: frozenset[Route] | None = frozenset()
    after: tuple[int, int] = _START

    def page(
        self, tables: Tables, stale: Sequence[Route] | None, choose: Choose, most: int
    ) -> Rerouted:
        """One page. A run ends with the page that finds no more; other routes begin another."""
        routes = None if stale is None else frozenset(stale)
        if self.stale != routes:
            self.stale, self.after = routes, _START
        moved, changed, last = self._look(tables, choose, most)
        if last is None:
            self.stale, self.after = frozenset(), _START
        else:
            self.after = last
        return Rerouted(ready=moved, recipients=changed, more=last is not None)

    def _look(
        self, tables: Tables, choose: Choose, most: int
    ) -> tuple[dict[tuple[Backlog, Backlog], int], int, tuple[int, int] | None]:
        """What was moved, how many, and the last recipient looked at (None: there are no more)."""
        names, connection = tables.names, tables.connection
        if self.stale is None:
            numbers = names.unpinned_routes()
        else:
            numbers = [n for route in self.stale if (n := names.known_route(route)) is not None]
        if not numbers:
            return {}, 0, None
        last = until = connection.execute(
            "SELECT seq, n FROM recipients WHERE (seq, n) > (?, ?) ORDER BY seq, n"
            " LIMIT 1 OFFSET ?",
            (*self.after, LOOKED_AT),
        ).get
        rows = connection.execute(
            "SELECT r.seq, r.n, r.route, r.sender, r.state, r.address, m.id, m.sender, m.identity,"
            " m.size"
            " FROM recipients r CROSS JOIN messages m ON m.seq = r.seq"
            f" WHERE (r.seq, r.n) > (?, ?) AND (r.seq, r.n) <= (?, ?)"
            f" AND r.state <> {int(State.LEASED)}"
            " AND r.route IN (SELECT value FROM json_each(?)) ORDER BY r.seq, r.n",
            (*self.after, *(until or _END), orjson.dumps(numbers).decode()),
        )
        moves: list[tuple[int, int, int]] = []
        ready: Counter[tuple[tuple[int, int], tuple[int, int]]] = Counter()
        previous = self.after
        for row in rows:
            seq, n, route, sender, state, address, queue_id, envelope_sender, identity, size = row
            if len(moves) >= most:
                last = previous
                break
            previous = (seq, n)
            chosen = choose(
                Sketch(
                    queue_id=queue_id,
                    sender=envelope_sender,
                    address=address,
                    identity=names.identity_of(identity),
                    size=size,
                    bulk=names.route_of(route).bulk,
                )
            )
            if chosen == names.route_of(route) or (self.stale is not None and chosen in self.stale):
                continue
            number = names.route(chosen)
            moves.append((number, seq, n))
            if state == State.READY:
                ready[((route, sender), (number, sender))] += 1
        connection.executemany("UPDATE recipients SET route=?, pinned=0 WHERE seq=? AND n=?", moves)
        counted = {
            (backlog(tables, old), backlog(tables, new)): count
            for (old, new), count in ready.items()
        }
        return counted, len(moves), last
