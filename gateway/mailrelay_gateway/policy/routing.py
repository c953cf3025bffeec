"""Which upstreams may take a recipient's mail, in fail-over order. Pure.

No routes means all upstreams in order; `routes` of the MailRelay will narrow it here.
"""

from __future__ import annotations

from mailrelay_gateway.contract.files import GatewayConfig
from mailrelay_gateway.message.route import Choose, Route, Sketch


def all_routes(config: GatewayConfig) -> frozenset[Route]:
    """Every route that this configuration can give."""
    return frozenset({Route(tuple(upstream.name for upstream in config.relay.upstreams))})


def chooser(config: GatewayConfig) -> Choose:
    """How this configuration chooses the route for a recipient."""
    route = Route(tuple(upstream.name for upstream in config.relay.upstreams))

    def choose(sketch: Sketch) -> Route:
        del sketch
        return route

    return choose


def changed_upstreams(before: GatewayConfig | None, after: GatewayConfig) -> list[str]:
    """The upstreams that lead elsewhere, or whose login is another one, than under the same name
    before: what they said then counts no more.
    """
    if before is None:
        return []
    known = {u.name: u.settings for u in before.relay.upstreams}
    return [
        u.name for u in after.relay.upstreams if u.name in known and known[u.name] != u.settings
    ]


def single_route(config: GatewayConfig) -> Route | None:
    """The route of all mail, if this configuration has only one: then nobody need be asked."""
    routes = all_routes(config)
    return next(iter(routes)) if len(routes) == 1 else None
