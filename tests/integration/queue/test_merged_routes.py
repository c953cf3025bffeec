"""Recipients of one message on different routes that begin with the same upstream."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from mailrelay_gateway.contract import documents
from mailrelay_gateway.contract.files import GatewayConfig
from mailrelay_gateway.message.envelope import Result
from tests.integration.queue.rig import config, running
from tests.waiting import until


def route(name: str, *upstreams: str, to: tuple[str, ...] = ()) -> documents.Route:
    return documents.Route(
        name=name,
        match=documents.RouteMatch(sender_domains=(), recipient_domains=to, namespaces=None),
        upstreams=tuple(documents.RouteUpstream(name=one, weight=None) for one in upstreams),
    )


def routed(found: GatewayConfig, *routes: documents.Route) -> GatewayConfig:
    return replace(found, relay=found.relay.model_copy(update={"routes": routes}))


async def test_recipients_on_two_routes_of_one_upstream_are_sent(tmp_path: Path) -> None:
    found = routed(
        config("first", "second", "third"),
        route("partner", "first", "second", to=("partner.example",)),
        route("rest", "first", "third"),
    )
    async with running(tmp_path, found, lambda _attempt, _index: Result.DELIVERED) as rig:
        await rig.submit("a@partner.example", "b@x.example")
        await until(lambda: len(rig.courier.delivered) == 2)
