"""Kept connections to one host: what was begun before the end ends, and nothing stays open after
it.
"""

from __future__ import annotations

import gc
import ssl
import warnings
from ipaddress import ip_network
from pathlib import Path

from mailrelay_gateway.egress.channel import Channel
from mailrelay_gateway.egress.client import Egress
from mailrelay_gateway.egress.rules import Rules
from tests.integration.egress.test_client import Names
from tests.peers.certificates import make_authority
from tests.peers.mail_apis import Graph


async def test_a_request_after_the_end_leaves_nothing_open(tmp_path: Path) -> None:
    authority = make_authority(tmp_path)
    rules = Rules(allowed=(ip_network("127.0.0.0/8"),), loopback=True)
    async with Graph(authority.server_context("127.0.0.1")) as peer:
        channel = Channel(
            Egress(Names(), rules),
            peer.url,
            tls=ssl.create_default_context(cadata=authority.pem),
            connections=1,
        )
        await channel.probe(30.0)
        await channel.close()
        await channel.probe(30.0)
        with warnings.catch_warnings(record=True) as found:
            warnings.simplefilter("always")
            del channel
            gc.collect()
        assert not found
