"""The admin port of a gateway, asked over HTTPS: verified before the token leaves."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from mailrelay_operator.cluster.gateways import GatewayPods
from mailrelay_operator.cluster.port import ClusterError, Forbidden, Unavailable
from mailrelay_operator.engine.minting import mint_authority, mint_leaf
from mailrelay_operator.plan.facts import LeafWanted
from tests.models import made

NAME = "out.mail.svc"
NOW = datetime.now(UTC)
AUTHORITY = mint_authority("mail/out", now=NOW)
OTHER = mint_authority("mail/other", now=NOW)
LEAF = mint_leaf(LeafWanted(dns_names=(NAME,), addresses=()), AUTHORITY, now=NOW)
STATUS = made.gateway_status(version="1", digest="abc", started_at="2026-01-01T00:00:00Z")


class Gateway:
    """Answers what a test puts into `answers`, in order, and remembers the tokens that came."""

    def __init__(self) -> None:
        self.answers: list[tuple[int, Any]] = []
        self.tokens: list[str] = []
        self.port = 0
        self.silent = asyncio.Event()

    async def answer(self, request: web.Request) -> web.StreamResponse:
        self.tokens.append(request.headers["Authorization"])
        status, content = self.answers.pop(0)
        if content is None:
            await self.silent.wait()
        return web.json_response(content, status=status)


@pytest.fixture
async def gateway(tmp_path: Path) -> AsyncIterator[Gateway]:
    pem = tmp_path / "leaf.pem"
    pem.write_text(LEAF.chain + LEAF.key)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem)
    made = Gateway()
    application = web.Application()
    application.router.add_get("/status", made.answer)
    runner = web.AppRunner(application, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context).start()
    made.port = runner.addresses[0][1]
    try:
        yield made
    finally:
        made.silent.set()
        await runner.cleanup()


@pytest.fixture
async def pods(gateway: Gateway) -> AsyncIterator[GatewayPods]:
    made = GatewayPods(port=gateway.port, deadline=0.5)
    yield made
    await made.close()


async def test_a_gateway_is_asked_with_its_token(gateway: Gateway, pods: GatewayPods) -> None:
    trust = {"authority": AUTHORITY.certificate, "name": NAME}
    gateway.answers = [
        (200, STATUS.model_dump(mode="json", by_alias=True)),
        (401, {}),
        (503, {}),
        (200, {"nonsense": True}),
        (200, None),
    ]
    assert await pods.status("127.0.0.1", "token", **trust) == STATUS
    assert gateway.tokens == ["Bearer token"]
    refused: tuple[tuple[type[ClusterError], str], ...] = (
        (Forbidden, "it does not accept the"),
        (Unavailable, "HTTP 503"),
        (Unavailable, "not a gateway's status"),
        (Unavailable, "no answer within 0.5 s"),
    )
    for error, words in refused:
        with pytest.raises(error, match=words):
            await pods.status("127.0.0.1", "token", **trust)


async def test_a_gateway_is_asked_however_many_others_do_not_answer(gateway: Gateway) -> None:
    """Ten workers' relays may have a hundred unreachable pods each."""
    trust = {"authority": AUTHORITY.certificate, "name": NAME}
    made = GatewayPods(port=gateway.port, deadline=30.0)
    silent = 150
    gateway.answers = [(200, None)] * silent
    gateway.answers += [(200, STATUS.model_dump(mode="json", by_alias=True))]
    waiting = [
        asyncio.create_task(made.status("127.0.0.1", "token", **trust)) for _ in range(silent)
    ]
    try:
        async with asyncio.timeout(60):
            while len(gateway.tokens) < silent:
                await asyncio.sleep(0.01)
                assert not any(one.done() for one in waiting)
            assert await made.status("127.0.0.1", "token", **trust) == STATUS
    finally:
        for one in waiting:
            one.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
        await made.close()


@pytest.mark.parametrize(
    ("authority", "name"),
    [
        (OTHER.certificate, NAME),  # somebody else's gateway at that address
        (AUTHORITY.certificate, "other.mail.svc"),
        ("no certificate", NAME),
    ],
)
async def test_nobody_else_gets_the_token(
    gateway: Gateway, pods: GatewayPods, authority: str, name: str
) -> None:
    with pytest.raises(Unavailable):
        await pods.status("127.0.0.1", "token", authority=authority, name=name)
    assert gateway.tokens == []
