"""Chooses the upstreams for a recipient's mail, in fail-over order. Pure.

Currently all upstreams in order, without those that are too small for the message (`sizes`);
`routes` of the MailRelay will be evaluated here.
"""

from __future__ import annotations

from mailrelay_gateway.contract.files import GatewayConfig
from mailrelay_gateway.message.route import Choose, Route, Sketch
from mailrelay_gateway.policy.sizes import all_fitting, bounds, by_size


def all_routes(config: GatewayConfig) -> frozenset[Route]:
    """Every route that this configuration can choose."""
    route = Route(tuple(upstream.name for upstream in config.relay.upstreams))
    return all_fitting([route], bounds(config.relay))


def chooser(config: GatewayConfig) -> Choose:
    """The function that chooses the route for a recipient."""
    route = Route(tuple(upstream.name for upstream in config.relay.upstreams))

    def choose(sketch: Sketch) -> Route:
        del sketch
        return route

    return by_size(choose, bounds(config.relay))


def changed_upstreams(before: GatewayConfig | None, after: GatewayConfig) -> list[str]:
    """The upstreams whose target or login has changed: what is known about them under the same name
    is obsolete.
    """
    if before is None:
        return []
    known = {u.name: u.settings for u in before.relay.upstreams}
    return [
        u.name for u in after.relay.upstreams if u.name in known and known[u.name] != u.settings
    ]


def single_route(config: GatewayConfig) -> Route | None:
    """The route of all mail, if this configuration has only one."""
    routes = all_routes(config)
    return next(iter(routes)) if len(routes) == 1 else None
