"""A real gateway that logs in by token, with everything that can go wrong meanwhile: each message
that it answered 250 is delivered once, and none comes back.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from mailrelay_gateway.contract import oauth2
from mailrelay_gateway.contract.documents import Egress, HostPort, TlsMode, UnknownKind, Upstream
from mailrelay_gateway.contract.oauth2 import OAuth2, SaslMechanism
from tests.integration.couriers.bearer import USER, Provider, a_provider
from tests.models import made
from tests.peers.client import send_plain
from tests.peers.gateway import GatewayProcess, plain_listener, relay
from tests.peers.token_endpoint import CLIENT_ID, CLIENT_SECRET, SCOPE
from tests.ports import free_port
from tests.waiting import until

RECIPIENT = "RCPT TO:<someone@example.net>"
BY_SECRET = oauth2.ClientCredentials(client_id=CLIENT_ID, client_secret=CLIENT_SECRET)
BY_REFRESH = oauth2.RefreshToken(client_id=CLIENT_ID, client_secret="", refresh_token="given")


@pytest.fixture(params=[False, True], ids=["clear", "tls"])
async def provider(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Provider]:
    async with a_provider(tmp_path, tls=request.param) as provider:
        yield provider


def upstream(provider: Provider, grant: Any) -> Upstream:
    auth = OAuth2(
        username=USER,
        mechanism=SaslMechanism.XOAUTH2,
        token_url=provider.endpoint.url,
        ca=provider.authority.pem,
        scopes=(SCOPE,),
        grant=grant,
    )
    mode = TlsMode.IMPLICIT if provider.server.tls else TlsMode.NONE
    settings = made.smarthost(
        hosts=(HostPort(host="127.0.0.1", port=provider.server.port),),
        tls=made.upstream_tls(mode=mode, ca=provider.authority.pem),
        auth=auth,
    )
    return made.upstream(name="out", settings=settings, connections=3, messages_per_connection=7)


async def taken(provider: Provider, count: int) -> None:
    """So many messages have come."""
    await until(lambda: len(provider.bodies) >= count, f"{count} messages at the provider")


def written(gateway: GatewayProcess, port: int, upstream: Upstream) -> None:
    document = relay([plain_listener(port)], [upstream])
    egress = Egress(allowed_cidrs=("127.0.0.0/8",), loopback=True, proxy="")
    gateway.write(document.model_copy(update={"egress": egress}))


def message(number: int) -> bytes:
    return f"From: app@example.com\r\nSubject: mail {number:03}.\r\n\r\nHello.\r\n".encode()


def arrived(provider: Provider, number: int) -> bool:
    """Whether this message has come, whole."""
    return any(body.endswith(message(number)) for body in provider.bodies)


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
    written(gateway, port, upstream(provider, BY_SECRET))
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
    await taken(provider, 200)
    # Each of them once and whole, behind the trace headers, and no notice.
    bodies = [body[body.index(b"From: ") :] for body in provider.bodies]
    assert sorted(bodies) == [message(number) for number in range(200)]
    heard = [line for peer in provider.server.peers for line in peer.heard]
    assert [line for line in heard if line.startswith("RCPT")] == [RECIPIENT] * len(bodies)
    assert not gateway.log_lines("dead_letter")
    assert CLIENT_SECRET not in str(gateway.log_lines())
    assert await gateway.stop() == 0


async def test_a_rotated_refresh_token_outlives_a_kill(
    gateway: GatewayProcess, provider: Provider
) -> None:
    provider.endpoint.refresh_tokens = {"given"}
    port = free_port()
    written(gateway, port, upstream(provider, BY_REFRESH))
    for number in range(3):
        await gateway.start()
        await send_plain(port, message(number))
        # Its own: what was under way at a kill comes again, and would be counted twice.
        await until(partial(arrived, provider, number), f"mail {number} at the provider")
        await gateway.kill()
    posted = [form["refresh_token"] for form in provider.endpoint.forms]
    assert posted[0] == "given"
    assert len(set(posted)) == len(posted) == 3


async def test_a_grant_that_only_a_newer_gateway_knows_holds_the_upstream(
    gateway: GatewayProcess, provider: Provider
) -> None:
    port = free_port()
    grant = UnknownKind.read({"kind": "deviceCode"})
    written(gateway, port, upstream(provider, grant))
    await gateway.start()
    await send_plain(port)

    async def held() -> bool:
        (upstream,) = (await gateway.status())["upstreams"]
        return bool(upstream["reason"] == "UpstreamKindUnknown")

    await until(held, "the hold")
    assert not provider.endpoint.forms
    assert await gateway.stop() == 0
