"""A real gateway with routes: which upstream a recipient's mail takes, also after a reload."""

from __future__ import annotations

import smtplib
from collections.abc import Sequence

import pytest

from mailrelay_gateway.contract.documents import Route, RouteMatch, RouteUpstream
from tests.peers.client import send_logged_in, send_plain
from tests.peers.gateway import (
    GatewayProcess,
    plain_listener,
    relay,
    sandbox,
    sender,
    smarthost,
    tls_listener,
)
from tests.peers.halfdead import HalfDeadServer
from tests.ports import free_port
from tests.waiting import until


def route(
    name: str,
    *upstreams: str,
    senders: Sequence[str] = (),
    recipients: Sequence[str] = (),
    namespaces: Sequence[str] | None = None,
) -> Route:
    return Route(
        name=name,
        match=RouteMatch(
            sender_domains=tuple(senders),
            recipient_domains=tuple(recipients),
            namespaces=None if namespaces is None else tuple(namespaces),
        ),
        upstreams=tuple(RouteUpstream(name=one, weight=None) for one in upstreams),
    )


NET = route("net", "net", recipients=["example.net"])
ORG = route("org", "org", recipients=["example.org", "*.example.org"])
BOXES = [sandbox("net"), sandbox("org")]


async def delivered(gateway: GatewayProcess, upstream: str) -> float:
    return await gateway.metric(
        "mailrelay_delivery_attempts_total", upstream=upstream, result="delivered"
    )


async def unrouted(gateway: GatewayProcess) -> int:
    return int((await gateway.status())["queue"]["unrouted"])


async def until_queued(gateway: GatewayProcess, messages: int) -> None:
    """The queue is counted once a second."""

    async def queued() -> bool:
        return bool((await gateway.status())["queue"]["messages"] == messages)

    await until(queued)


async def test_recipients_of_one_message_take_different_routes(gateway: GatewayProcess) -> None:
    port = free_port()
    gateway.write(relay([plain_listener(port)], BOXES, routes=[NET, ORG]))
    await gateway.start()

    async def arrived() -> bool:
        return await delivered(gateway, "net") == 1 and await delivered(gateway, "org") == 2

    await send_plain(port, recipients=["a@example.net", "b@example.org", "c@EU.example.org"])
    await until(arrived)
    await until_queued(gateway, 0)
    assert await gateway.stop() == 0


async def test_a_recipient_that_no_route_matches_is_refused_for_now_and_the_others_are_taken(
    gateway: GatewayProcess,
) -> None:
    port = free_port()
    gateway.write(relay([plain_listener(port)], BOXES, routes=[NET, ORG]))
    await gateway.start()
    with smtplib.SMTP("127.0.0.1", port, timeout=30) as client:
        client.ehlo("client.example")
        client.mail("app@example.com")
        assert client.rcpt("a@example.net")[0] == 250
        code, text = client.rcpt("b@example.com")
        assert (code, text) == (
            451,
            b"4.4.4 No route of the MailRelay matches this mail: try again later (NoRoute)",
        )
        assert client.data(b"From: app@example.com\r\n\r\nhi\r\n")[0] == 250

    async def arrived() -> bool:
        return await delivered(gateway, "net") == 1

    await until(arrived)
    await until(lambda: gateway.log_lines("refused"))
    [refused] = gateway.log_lines("refused")
    assert refused["reason"] == "NoRoute"
    assert await gateway.stop() == 0


async def test_a_namespace_and_a_sender_domain_choose_the_route(gateway: GatewayProcess) -> None:
    port = free_port()
    senders = [
        sender(namespace=space, addresses=["*@example.com", "*@news.example.com"])
        for space in ("team-a", "team-b")
    ]
    routes = [
        route("news", "org", senders=["news.example.com"]),
        route("gold", "net", namespaces=["team-a"]),
    ]
    gateway.write(relay([tls_listener(port)], BOXES, routes=routes), senders)
    await gateway.start()
    await send_logged_in(port, username="team-a.app")
    with pytest.raises(smtplib.SMTPRecipientsRefused, match="NoRoute"):
        await send_logged_in(port, username="team-b.app")
    news = b"From: app@news.example.com\r\nSubject: hello\r\n\r\nHello.\r\n"
    for name in ("team-a.app", "team-b.app"):
        await send_logged_in(port, news, username=name, sender="app@news.example.com")

    async def arrived() -> bool:
        return await delivered(gateway, "net") == 1 and await delivered(gateway, "org") == 2

    await until(arrived)
    assert await gateway.stop() == 0


async def test_a_queued_recipient_whose_route_is_removed_waits_until_there_is_one_again(
    gateway: GatewayProcess,
) -> None:
    port = free_port()
    dead = smarthost("org", free_port())
    listeners = [plain_listener(port)]
    gateway.write(relay(listeners, [sandbox("net"), dead], routes=[NET, ORG]))
    await gateway.start()
    await send_plain(port, recipients=["a@example.net", "b@example.org"])

    async def held() -> bool:
        states = {one["name"]: one["state"] for one in (await gateway.status())["upstreams"]}
        return states["org"] == "Held" and await delivered(gateway, "net") == 1

    async def waits() -> bool:
        return await unrouted(gateway) == 1

    await until(held)
    await until_queued(gateway, 1)
    assert await unrouted(gateway) == 0, "its upstream is held, but it has one"
    # Its route is gone, although the upstream is still there and works.
    gateway.write(relay(listeners, BOXES, routes=[NET]))
    await until(waits)
    assert await gateway.metric("mailrelay_queue_unrouted_recipients") == 1
    # Also over a restart.
    assert await gateway.stop() == 0
    await gateway.start()
    await until(waits)
    assert (await delivered(gateway, "net"), await delivered(gateway, "org")) == (0, 0)
    with pytest.raises(smtplib.SMTPRecipientsRefused):
        await send_plain(port, recipients=["b@example.org"])

    async def arrived() -> bool:
        return await delivered(gateway, "org") == 1 and await unrouted(gateway) == 0

    gateway.write(relay(listeners, BOXES, routes=[NET, ORG]))
    await until(arrived)
    await until_queued(gateway, 0)
    assert await gateway.stop() == 0


async def test_queued_mail_takes_the_route_in_effect_at_its_next_attempt(
    gateway: GatewayProcess,
) -> None:
    """Also while the upstream of its old route is there, and would be tried again."""
    port = free_port()
    listeners = [plain_listener(port)]
    async with HalfDeadServer(seed=1, sick=0.0) as living:
        upstreams = [smarthost("dead", free_port()), smarthost("living", living.port)]
        gateway.write(relay(listeners, upstreams, routes=[route("all", "dead")]))
        await gateway.start()
        for number in range(20):
            await send_plain(port, f"From: a@example.com\r\nX-Test: {number}\r\n\r\n".encode())
        gateway.write(relay(listeners, upstreams, routes=[route("all", "living")]))
        await until(lambda: set(living.taken) == {str(number) for number in range(20)})
        assert await gateway.stop() == 0


async def test_a_route_falls_over_to_its_next_upstream_and_to_no_other(
    gateway: GatewayProcess,
) -> None:
    port = free_port()
    upstreams = [*BOXES, smarthost("dead", free_port())]
    routes = [
        route("lonely", "dead", recipients=["alone.example"]),
        route("rest", "dead", "org"),
    ]
    gateway.write(relay([plain_listener(port)], upstreams, routes=routes))
    await gateway.start()
    await send_plain(port, recipients=["a@alone.example", "b@example.net"])

    async def arrived() -> bool:
        return await delivered(gateway, "org") == 1

    await until(arrived)
    await until_queued(gateway, 1)
    assert await delivered(gateway, "net") == 0
    assert await gateway.stop() == 0
