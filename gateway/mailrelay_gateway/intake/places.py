"""Who has a place at a listener: so many in all and from one client address, counted from the
moment a connection is accepted, before any handshake.

On a listener that requires a login, a client without one is a stranger. Strangers have half of the
places, and no right to one: when those are taken, the one that came first goes (OpenSSH's
MaxStartups, without the dice), so that silence cannot shut others out.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from mailrelay_gateway.reasons import Reason
from mailrelay_gateway.smtp.refusal import Problem, refuse

#: Why a client without a login is disconnected.
MAKE_ROOM = "Too many sessions without a login"

#: How many times the free places the sessions of one login may have: a single login gets three
#: quarters of all, two get three sevenths each, and there is always one for another.
LOGIN_SHARE = 3

Evict = Callable[[], None]


def _nobody() -> None:
    """Nobody to evict."""


def too_many(sentence: str) -> Problem:
    """The refusal of a session for which there is no place."""
    return refuse(Reason.TOO_MANY_CONNECTIONS, why=sentence)


@dataclass(frozen=True, slots=True, kw_only=True)
class Caps:
    """How many sessions a listener serves at once, in total and per client address, and how much of
    a refused message it reads.
    """

    connections: int = 1000
    #: For all listeners together: as many as the file descriptors suffice for; set by the process.
    total: int = 4000
    # Postfix, smtpd_client_connection_count_limit: 50. Here a node's pods may share one address.
    per_client: int = 100
    # Octets above `limits.message.maxSize` that are read and dropped before the session ends.
    # Postfix reads any number.
    drain: int = 256 * 1024 * 1024

    @property
    def strangers(self) -> int:
        """How many of them may be without a login."""
        return max(1, self.connections // 2)


class Place:
    """One connection's place; returned only once."""

    __slots__ = ("_places", "client", "evict", "login")

    def __init__(self, places: Places, client: str, evict: Evict) -> None:
        """`evict` ends the connection when its place is needed."""
        self._places: Places | None = places
        self.client = client
        self.login = ""  # the UID of the sender that logged in
        self.evict = evict

    @property
    def stranger(self) -> bool:
        """Whether a login is still required."""
        return self._places is not None and self in self._places.strangers

    @property
    def gone(self) -> bool:
        """Whether it was returned."""
        return self._places is None

    def settle(self, login: str) -> str:
        """A client logged in and keeps the place: "", or why not."""
        return "" if self._places is None else self._places.settle(self, login)

    def give_back(self) -> None:
        """The connection is gone."""
        places, self._places = self._places, None
        self.evict = _nobody  # the connection and its place no longer refer to each other
        if places is not None:
            places.give_back(self)


class Tally:
    """How many places are taken on all listeners together."""

    __slots__ = ("taken",)

    def __init__(self) -> None:
        """None yet."""
        self.taken = 0


class Places:
    """The places of one listener."""

    __slots__ = ("_all", "_by_client", "_by_login", "_caps", "_taken", "strangers")

    def __init__(self, caps: Caps, tally: Tally) -> None:
        """All are free; `tally` is shared by all listeners."""
        self._caps = caps
        self._all = tally
        self._taken = 0
        self._by_client: dict[str, int] = {}
        self._by_login: dict[str, int] = {}
        self.strangers: dict[Place, None] = {}  # in the order they came

    def take(self, client: str, evict: Evict, *, stranger: bool) -> Place | str:
        """A place for a client's address, or why there is none."""
        caps, strangers = self._caps, self.strangers
        here = self._by_client.get(client, 0)
        if here >= caps.per_client:
            return f"Your address has {caps.per_client} sessions open"
        full = self._taken >= caps.connections or self._all.taken >= caps.total
        if strangers and (full or (stranger and len(strangers) >= caps.strangers)):
            first = next(iter(strangers))
            evict_first = first.evict
            first.give_back()
            evict_first()
            here = self._by_client.get(client, 0)
        elif self._taken >= caps.connections:
            return f"This listener serves {caps.connections} sessions at once"
        elif full:
            return f"This gateway serves {caps.total} sessions at once"
        place = Place(self, client, evict)
        self._taken += 1
        self._all.taken += 1
        self._by_client[client] = here + 1
        if stranger:
            strangers[place] = None
        return place

    def settle(self, place: Place, login: str) -> str:
        """Called by the place."""
        has = self._by_login.get(login, 0)
        free = min(self._caps.connections - self._taken, self._caps.total - self._all.taken)
        if has > LOGIN_SHARE * max(free, 0):
            return f"Your login has {has} sessions open, its share of the limit"
        self.strangers.pop(place, None)
        self._by_login[login] = has + 1
        place.login = login
        return ""

    def give_back(self, place: Place) -> None:
        """Called by the place."""
        self._taken -= 1
        self._all.taken -= 1
        self.strangers.pop(place, None)
        _one_less(self._by_client, place.client)
        if place.login:
            _one_less(self._by_login, place.login)


def _one_less(counts: dict[str, int], key: str) -> None:
    left = counts[key] - 1
    if left:
        counts[key] = left
    else:
        del counts[key]
