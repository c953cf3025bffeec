"""Which fields a relay takes out of its clients' messages. Pure.

A message may take any upstream of its relay, so a field goes out if one of them is steered by it
and does not let it pass.
"""

from __future__ import annotations

from mailrelay_gateway.contract.documents import RelayDocument
from mailrelay_gateway.message.control_fields import ControlFields


def control_fields(relay: RelayDocument) -> ControlFields:
    """The fields of all upstreams, and those that we set ourselves."""
    names = {name for upstream in relay.upstreams for name in upstream.control_headers}
    names |= {one.header for upstream in relay.upstreams for one in upstream.attribution}
    steered = [upstream for upstream in relay.upstreams if upstream.control_headers]
    passed = (
        set.intersection(*({one.lower() for one in upstream.pass_headers} for upstream in steered))
        if steered
        else set()
    )
    ours = {one.header.lower() for upstream in relay.upstreams for one in upstream.attribution}
    return ControlFields(names, passed - ours)
