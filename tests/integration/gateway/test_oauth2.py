"""A real gateway that logs in by token, with everything that can go wrong meanwhile: each message
that it answered 250 is delivered once, and none comes back.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from mailrelay_gateway.contract import oauth2
from mailrelay_gateway.contract.documents import Egress, HostPort, TlsMode, UnknownKind, Upstream
from mailrelay_gateway.contract.oauth2 import OAuth2, SaslMechanism
from tests.integration.couriers.bearer import USER, asks_for
from tests.integration.couriers.certificates import Authority, make_authority
from tests.integration.couriers.scripted_server import ScriptedServer
from tests.models import made
from tests.peers.client import send_plain
from tests.peers.gateway import GatewayProcess, plain_listener, relay
from tests.peers.token_endpoint import CLIENT_ID, CLIENT_SECRET, SCOPE, TokenEndpoint
from tests.ports import free_port
from tests.waiting import until

BY_SECRET = oauth2.ClientCredentials(client_id=CLIENT_ID, client_secret=CLIENT_SECRET)
BY_REFRESH = oauth2.RefreshToken(client_id=CLIENT_ID, client_secret="", refresh_token="given")


@dataclass
class Provider:
    """A token endpoint, and a server that takes its tokens."""

    endpoint: TokenEndpoint
    server: ScriptedServer
    authority: Authority

    def upstream(self, grant: Any) -> Upstream:
        auth = OAuth2(
            username=USER,
            mechanism=SaslMechanism.XOAUTH2,
            token_url=self.endpoint.url,
            ca=self.authority.pem,
            scopes=(SCOPE,),
            grant=grant,
        )
        settings = made.smarthost(
            hosts=(HostPort(host="127.0.0.1", port=self.server.port),),
            tls=made.upstream_tls(mode=TlsMode.NONE),
            auth=auth,
        )
        return made.upstream(
            name="out", settings=settings, connections=3, messages_per_connection=7
        )

    async def taken(self, count: int) -> None:
        """So many messages have come."""
        await until(lambda: len(self.bodies) >= count, f"{count} messages at the provider")

    @property
    def bodies(self) -> list[bytes]:
        return [body for peer in self.server.peers for body in peer.bodies]


@pytest.fixture
async def provider(tmp_path: Path) -> AsyncIterator[Provider]:
    authority = make_authority(tmp_path)
    async with TokenEndpoint(authority.server_context("127.0.0.1")) as endpoint:
        server = ScriptedServer([asks_for(endpoint, "XOAUTH2")])
        await server.start()
        yield Provider(endpoint, server, authority)
        await server.stop()


def written(gateway: GatewayProcess, port: int, upstream: Upstream) -> None:
    document = relay([plain_listener(port)], [upstream])
    egress = Egress(allowed_cidrs=("127.0.0.0/8",), loopback=True, proxy="")
    gateway.write(document.model_copy(update={"egress": egress}))


def message(number: int) -> bytes:
    return f"From: app@example.com\r\nSubject: mail {number:03}.\r\n\r\nHello.\r\n".encode()


async def submit(port: int, numbers: range) -> None:
    for number in numbers:
        await send_plain(port, message(number))


async def expired(gateway: GatewayProcess) -> bool:
    """Whether there is no token."""
    return await gateway.metric("mailrelay_oauth_token_expiry_seconds", upstream="out") == 0


async def test_200_mails_and_everything_that_happens_to_tokens(
    gateway: GatewayProcess, provider: Provider
) -> None:
    endpoint = provider.endpoint
    endpoint.life = 3.0
    port = free_port()
    written(gateway, port, provider.upstream(BY_SECRET))
    await gateway.start()
    await submit(port, range(50))
    endpoint.revoke()  # before their time
    await submit(port, range(50, 100))
    endpoint.fault = lambda: web.Response(status=503)
    # Sessions that are open go on: seven messages each, then they would have to log in again.
    await until(lambda: expired(gateway), "the last token's end")
    await submit(port, range(100, 150))  # taken, and kept
    await until(lambda: bool(gateway.log_lines("upstream_held")), "the hold")
    endpoint.fault = lambda: None
    await submit(port, range(150, 200))
    await provider.taken(200)
    subjects = {f"mail {number:03}.".encode() for number in range(200)}
    arrived = [body.partition(b"Subject: ")[2].partition(b"\r\n")[0] for body in provider.bodies]
    assert sorted(arrived) == sorted(subjects)  # each of them once, and no notice
    assert not gateway.log_lines("dead_letter")
    assert CLIENT_SECRET not in str(gateway.log_lines())
    assert await gateway.stop() == 0


async def test_a_rotated_refresh_token_outlives_a_kill(
    gateway: GatewayProcess, provider: Provider
) -> None:
    provider.endpoint.refresh_tokens = {"given"}
    port = free_port()
    written(gateway, port, provider.upstream(BY_REFRESH))
    for number in range(3):
        await gateway.start()
        await send_plain(port, message(number))
        await provider.taken(number + 1)
        await gateway.kill()
    posted = [form["refresh_token"] for form in provider.endpoint.forms]
    assert posted[0] == "given"
    assert len(set(posted)) == len(posted) == 3


async def test_a_grant_that_only_a_newer_gateway_knows_holds_the_upstream(
    gateway: GatewayProcess, provider: Provider
) -> None:
    port = free_port()
    grant = UnknownKind.read({"kind": "deviceCode"})
    written(gateway, port, provider.upstream(grant))
    await gateway.start()
    await send_plain(port)

    async def held() -> bool:
        (upstream,) = (await gateway.status())["upstreams"]
        return bool(upstream["reason"] == "UpstreamKindUnknown")

    await until(held, "the hold")
    assert not provider.endpoint.forms
    assert await gateway.stop() == 0
