"""Which upstreams may take a message, in fail-over order. Pure.

No routes means all upstreams in order; `routes` of the MailRelay will narrow it here.
"""

from __future__ import annotations

from mailrelay_gateway.config import GatewayConfig
from mailrelay_gateway.message.envelope import Message


def route(config: GatewayConfig, message: Message) -> tuple[str, ...]:
    """The names of the upstreams for `message`, the first that works is taken; never empty for a
    valid relay.
    """
    del message
    return tuple(upstream.name for upstream in config.relay.upstreams)
