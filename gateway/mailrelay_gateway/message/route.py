"""Where a recipient's mail may go. Pure: values only."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from mailrelay_gateway.message.envelope import Identity
from mailrelay_gateway.message.lane import LaneKey


@dataclass(frozen=True, slots=True)
class Route:
    """Upstreams in fail-over order, and the destination. The queue keeps its messages by route, so
    that an upstream that is held or works again changes nothing on disk: the lane of whichever
    upstream of the route works now serves them.

    A recipient that was perhaps delivered is `pinned`: its route is the upstream at which it was
    tried, whatever the configuration says.
    """

    upstreams: tuple[str, ...]
    destination: str = ""
    pinned: bool = False
    #: The lanes that may serve it, in order. Made once: each message asks for them.
    lanes: tuple[LaneKey, ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Name the lanes."""
        lanes = tuple([LaneKey(name, self.destination) for name in self.upstreams])
        object.__setattr__(self, "lanes", lanes)

    def pinned_to(self, upstream: str) -> Route:
        """The route of a recipient that was perhaps delivered at `upstream`."""
        return Route((upstream,), self.destination, pinned=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sketch:
    """As much of a message as the route of one recipient depends on."""

    sender: str  # envelope sender
    address: str  # the recipient
    identity: Identity


#: The route for a recipient by the configuration in force. Pure, and called in any thread.
Choose = Callable[[Sketch], Route]
