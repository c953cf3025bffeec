"""The route of a recipient's mail. Pure: values only."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from mailrelay_gateway.message.envelope import Identity
from mailrelay_gateway.message.lane import LaneKey


@dataclass(frozen=True, slots=True)
class Route:
    """Upstreams in fail-over order, and the destination. The queue stores messages by route, so
    that holding or releasing an upstream changes nothing on disk: the lane of the first usable
    upstream of the route serves them.

    A `pinned` route stays, whatever the configuration says: the one upstream at which a recipient
    was possibly delivered, or those that are left of a route of which one cannot take the message.
    """

    upstreams: tuple[str, ...]
    destination: str = ""
    pinned: bool = False
    #: The class of the mail on it: Bulk, else Transactional. Part of the route, since lanes, claims
    #: and the store's index go by it.
    bulk: bool = False
    #: The lanes that may serve it, in order. Cached, since each message needs them.
    lanes: tuple[LaneKey, ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Compute the lanes."""
        lanes = tuple([LaneKey(name, self.destination) for name in self.upstreams])
        object.__setattr__(self, "lanes", lanes)

    def without(self, upstream: str) -> Route | None:
        """The route of a message that `upstream` cannot take, until its next attempt elsewhere;
        None: there is no other upstream. It stays as it is until then, like a pinned one.
        """
        rest = tuple([name for name in self.upstreams if name != upstream])
        return Route(rest, self.destination, pinned=True, bulk=self.bulk) if rest else None

    def pinned_to(self, upstream: str) -> Route:
        """The route of a recipient that was possibly delivered at `upstream`."""
        return Route((upstream,), self.destination, pinned=True, bulk=self.bulk)

    def of_class(self, *, bulk: bool) -> Route:
        """The same route for mail of this class."""
        if bulk is self.bulk:
            return self
        return Route(self.upstreams, self.destination, self.pinned, bulk)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sketch:
    """The parts of a message that determine the route of one recipient."""

    queue_id: str
    sender: str  # envelope sender
    address: str  # the recipient
    identity: Identity
    size: int = 0  # octets, as sent
    bulk: bool = False  # its class


#: The route for a recipient in the current configuration. Pure, and called in any thread.
Choose = Callable[[Sketch], Route]


def by_class(choose: Choose) -> Choose:
    """Choose the same way for both classes, each on routes of its own."""

    def chosen(sketch: Sketch) -> Route:
        return choose(sketch).of_class(bulk=sketch.bulk)

    return chosen
