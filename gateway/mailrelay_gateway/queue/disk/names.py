"""Routes, senders and identities by number: rows contain the number instead of a long text.

Used by the writer's thread only. What a transaction added is forgotten when it is rolled back.
"""

from __future__ import annotations

from typing import Any

import apsw
import orjson

from mailrelay_gateway.message.envelope import Identity
from mailrelay_gateway.message.route import Route

#: Entries of each kind kept in memory, some 300 octets each; others are looked up in the database.
#: A full cache is emptied: what is in use comes back.
CACHE = 20_000

_ROUTE = "upstreams, destination, pinned, bulk"


class Names:
    """The numbers of one database."""

    def __init__(self, connection: apsw.Connection) -> None:
        """Nothing is read before it is needed."""
        self._connection = connection
        self._senders: dict[str, int] = {}
        self._identities: dict[Identity, tuple[int, int]] = {}
        self._routes: dict[Route, int] = {}
        self._route_of: dict[int, Route] = {}
        self._uid_of: dict[int, str] = {}
        self._identity_of: dict[int, Identity] = {}
        self._caches: tuple[dict[Any, Any], ...] = (
            self._senders,
            self._identities,
            self._routes,
            self._route_of,
            self._uid_of,
            self._identity_of,
        )

    def forget(self) -> None:
        """Forget everything: some of it may have been rolled back."""
        for known in self._caches:
            known.clear()

    # --- numbers, made where there is none

    def route(self, route: Route) -> int:
        """The number of a route."""
        found = self._routes.get(route)
        if found is None:
            self._bound()
            found = self._number("routes", _ROUTE, _columns(route))
            self._routes[route] = found
        return found

    def sender(self, uid: str) -> int:
        """The number of a sender."""
        found = self._senders.get(uid)
        if found is None:
            self._bound()
            found = self._senders[uid] = self._number("senders", "uid", (uid,))
        return found

    def identity(self, identity: Identity) -> tuple[int, int]:
        """The numbers of an identity and of its sender."""
        found = self._identities.get(identity)
        if found is None:
            sender = self.sender(identity.uid)
            number = self._number(
                "identities",
                "sender, namespace, name, username",
                (sender, identity.namespace, identity.name, identity.username),
            )
            found = self._identities[identity] = (number, sender)
        return found

    # --- numbers that are there already

    def known_route(self, route: Route) -> int | None:
        """The number of a route, if it has one."""
        return self._routes.get(route) or self._find(
            "routes",
            _ROUTE,
            _columns(route),
        )

    def unpinned_routes(self) -> list[int]:
        """The numbers of all routes that are not pinned."""
        return [n for (n,) in self._connection.execute("SELECT n FROM routes WHERE pinned=0")]

    def known_sender(self, uid: str) -> int | None:
        """The number of a sender, if it has one."""
        return self._senders.get(uid) or self._find("senders", "uid", (uid,))

    def route_of(self, number: int) -> Route:
        """The route of a number."""
        found = self._route_of.get(number)
        if found is None:
            self._bound()
            found = self._route_of[number] = read_route(self._connection, number)
        return found

    def uid_of(self, number: int) -> str:
        """The sender of a number."""
        found = self._uid_of.get(number)
        if found is None:
            self._bound()
            found = self._uid_of[number] = str(
                self._connection.execute("SELECT uid FROM senders WHERE n=?", (number,)).get
            )
        return found

    def identity_of(self, number: int) -> Identity:
        """The identity of a number."""
        found = self._identity_of.get(number)
        if found is None:
            self._bound()
            found = self._identity_of[number] = read_identity(self._connection, number)
        return found

    # --- inside

    def _find(self, table: str, columns: str, values: tuple[str | int, ...]) -> int | None:
        same = " AND ".join(f"{column}=?" for column in columns.split(", "))
        found: int | None = self._connection.execute(
            f"SELECT n FROM {table} WHERE {same}",
            values,
        ).get
        return found

    def _number(self, table: str, columns: str, values: tuple[str | int, ...]) -> int:
        found = self._find(table, columns, values)
        if found is None:
            self._connection.execute(
                f"INSERT INTO {table} ({columns}) VALUES ({','.join('?' * len(values))})",
                values,
            )
            found = self._connection.last_insert_rowid()
        return found

    def _bound(self) -> None:
        for known in self._caches:
            if len(known) >= CACHE:
                known.clear()


def read_route(connection: apsw.Connection, number: int) -> Route:
    """The route of a number, from the table."""
    upstreams, destination, pinned, bulk = connection.execute(
        f"SELECT {_ROUTE} FROM routes WHERE n=?", (number,)
    ).get
    return Route(tuple(orjson.loads(upstreams)), destination, bool(pinned), bool(bulk))


def _columns(route: Route) -> tuple[str, str, int, int]:
    upstreams = orjson.dumps(route.upstreams).decode()
    return upstreams, route.destination, int(route.pinned), int(route.bulk)


def read_identity(connection: apsw.Connection, number: int) -> Identity:
    """The identity of a number, from the tables."""
    namespace, name, uid, username = connection.execute(
        "SELECT i.namespace, i.name, s.uid, i.username FROM identities i"
        " JOIN senders s ON s.n = i.sender WHERE i.n=?",
        (number,),
    ).get
    return Identity(namespace=namespace, name=name, uid=uid, username=username)
