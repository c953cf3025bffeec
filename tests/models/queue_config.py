"""Configurations and replies for tests of the queue."""

from __future__ import annotations

from dataclasses import replace

from mailrelay_gateway.contract.documents import HostPort, Pace
from mailrelay_gateway.contract.files import GatewayConfig, encode_files, load
from mailrelay_gateway.message.envelope import Result
from mailrelay_gateway.reasons import Reason
from mailrelay_gateway.smtp.reply import Reply
from tests.models import made

REPLIES = {
    Result.DELIVERED: (Reason.DELIVERED, Reply(250, "2.0.0", "ok")),
    Result.DEFERRED: (Reason.UPSTREAM_DEFERRED, Reply(451, "4.3.0", "later")),
    Result.FAILED: (Reason.UPSTREAM_REJECTED, Reply(550, "5.1.1", "no such user")),
    Result.UNCERTAIN: (Reason.REPLY_LOST, None),
    Result.HELD: (Reason.UPSTREAM_UNREACHABLE, None),
}


def config(
    *upstreams: str,
    suspend: bool = False,
    connections: int = 10,
    pace: tuple[Pace, ...] = (),
    replicas: int = 1,
    **retry: float,
) -> GatewayConfig:
    """A configuration with smarthosts of these names, all of the same pace."""
    document = made.relay_document(
        relay=made.relay_reference(namespace="mail", name="relay"),
        hostname="relay.example.com",
        suspend=suspend,
        replicas=replicas,
        upstreams=tuple(
            made.upstream(
                name=name,
                settings=made.smarthost(hosts=(HostPort(host="192.0.2.1", port=25),)),
                connections=connections,
                pace=pace,
            )
            for name in upstreams
        ),
        retry=made.retry(**({"give_up_after": 3600.0, "max_interval": 0.05} | retry)),
    )
    return load(encode_files(document, ()))


def changed(found: GatewayConfig, name: str, **fields: object) -> GatewayConfig:
    """The same configuration, but for these fields of an upstream."""
    upstreams = tuple(
        upstream.model_copy(update=fields) if upstream.name == name else upstream
        for upstream in found.relay.upstreams
    )
    return replace(found, relay=found.relay.model_copy(update={"upstreams": upstreams}))
