"""A real gateway that is older than its configuration: what it does not know holds its mail."""

from __future__ import annotations

import asyncio
from typing import Any

from mailrelay_gateway.contract.documents import UnknownKind, Upstream
from tests.models import made
from tests.peers.client import send_plain
from tests.peers.gateway import (
    GatewayProcess,
    plain_listener,
    relay,
    sandbox,
    smarthost,
)
from tests.ports import free_port
from tests.waiting import PATIENCE


def newer(name: str) -> Upstream:
    """An upstream that only a gateway of the future knows."""
    settings = UnknownKind.read({"kind": "pigeon", "lofts": [{"name": "north"}]})
    return made.upstream(name=name, settings=settings)


async def captured(gateway: GatewayProcess, recipients: int) -> None:
    async with asyncio.timeout(PATIENCE):
        while (
            await gateway.metric("mailrelay_delivery_attempts_total", upstream="capture")
            != recipients
        ):
            await asyncio.sleep(0.02)


async def held(gateway: GatewayProcess, name: str) -> dict[str, Any]:
    """The upstream's status once it is held, and the queue knows."""
    async with asyncio.timeout(PATIENCE):
        while not any(line["upstream"] == name for line in gateway.log_lines("upstream_held")):
            await asyncio.sleep(0.02)
    found: dict[str, Any] = next(
        one for one in (await gateway.status())["upstreams"] if one["name"] == name
    )
    assert found["state"] == "Held"
    return found


async def test_mail_waits_for_an_upstream_of_an_unknown_kind(gateway: GatewayProcess) -> None:
    port = free_port()
    gateway.write(relay([plain_listener(port)], [newer("out")]))
    await gateway.start()
    status = await held(gateway, "out")
    assert status["reason"] == "UpstreamKindUnknown"
    assert "'pigeon'" in status["message"] and ": upgrade the gateway" in status["message"]
    assert await gateway.metric("mailrelay_upstream_up", upstream="out") == 0
    (unknown,) = gateway.log_lines("config_field_unknown")
    assert unknown["field"] == "relay: upstreams[0].settings.kind=pigeon"
    await send_plain(port)
    gateway.write(relay([plain_listener(port)], [sandbox("capture")]))
    await captured(gateway, 1)
    assert await gateway.stop() == 0


async def test_the_next_upstream_of_the_route_takes_its_mail(gateway: GatewayProcess) -> None:
    port = free_port()
    gateway.write(relay([plain_listener(port)], [newer("out"), sandbox("capture")]))
    await gateway.start()
    await send_plain(port)
    await captured(gateway, 1)
    await held(gateway, "out")
    assert await gateway.stop() == 0


async def test_it_is_held_no_more_once_its_kind_is_known(gateway: GatewayProcess) -> None:
    port = free_port()
    gateway.write(relay([plain_listener(port)], [newer("capture")]))
    await gateway.start()
    await held(gateway, "capture")
    await send_plain(port)
    gateway.write(relay([plain_listener(port)], [sandbox("capture")]))
    await captured(gateway, 1)
    (status,) = (await gateway.status())["upstreams"]
    assert status["state"] == "Up"
    assert await gateway.metric("mailrelay_upstream_up", upstream="capture") == 1
    assert await gateway.stop() == 0


async def test_without_a_login_that_it_knows_it_does_not_even_connect(
    gateway: GatewayProcess,
) -> None:
    port = free_port()
    connected = asyncio.Event()

    async def note(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connected.set()
        writer.close()

    server = await asyncio.start_server(note, "127.0.0.1", 0)
    plain = smarthost("out", server.sockets[0].getsockname()[1])
    auth = UnknownKind.read({"kind": "kerberos"})
    settings = plain.settings.model_copy(update={"auth": auth})
    gateway.write(relay([plain_listener(port)], [plain.model_copy(update={"settings": settings})]))
    await gateway.start()
    await send_plain(port)
    status = await held(gateway, "out")
    assert status["reason"] == "UpstreamKindUnknown"
    assert "'kerberos'" in status["message"]
    assert not connected.is_set()
    assert await gateway.stop() == 0
    server.close()
