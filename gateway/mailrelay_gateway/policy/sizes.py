"""Which upstreams are large enough for a message, and how large one may be at most. Pure.

An upstream that takes no message of that size is skipped; a message that is too large for all of
them is refused at once, so that its sender hears it from us and not by a notice.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from mailrelay_gateway.contract.documents import RelayDocument
from mailrelay_gateway.message.route import Choose, Route, Sketch

#: Octets that we may add to a message: the trace and other fields of ours.
ROOM = 4096


def largest(relay: RelayDocument) -> int:
    """The octets that a message may have: the relay's limit, or what the upstream that takes most
    leaves for it.
    """
    sizes = [upstream.max_size for upstream in relay.upstreams if upstream.max_size is not None]
    if len(sizes) < len(relay.upstreams) or not sizes:
        return relay.limits.max_size
    return max(1, min(relay.limits.max_size, max(sizes) - ROOM))


def bounds(relay: RelayDocument) -> Mapping[str, int]:
    """By name of upstream, the octets of the largest message that it takes; without those that
    take whatever we accept.
    """
    most = largest(relay) + ROOM
    return {
        upstream.name: upstream.max_size
        for upstream in relay.upstreams
        if upstream.max_size is not None and upstream.max_size < most
    }


def fitting(route: Route, size: int, most: Mapping[str, int]) -> Route:
    """The route without upstreams that are too small; as it is, if all are."""
    names = tuple([name for name in route.upstreams if size <= most.get(name, size)])
    if not names or len(names) == len(route.upstreams):
        return route
    return Route(names, route.destination)


def all_fitting(routes: Iterable[Route], most: Mapping[str, int]) -> frozenset[Route]:
    """Every route that `fitting` can make of these."""
    sizes = [0, *(size + 1 for size in most.values())]
    return frozenset(fitting(route, size, most) for route in routes for size in sizes)


def by_size(choose: Choose, most: Mapping[str, int]) -> Choose:
    """The choice of a route, without upstreams that are too small for the message."""
    if not most:
        return choose

    def choose_fitting(sketch: Sketch) -> Route:
        return fitting(choose(sketch), sketch.size, most)

    return choose_fitting
