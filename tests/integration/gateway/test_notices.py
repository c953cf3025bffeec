"""A real gateway tells senders what became of their mail, and only those who want to know."""

from __future__ import annotations

import asyncio
import email
import email.policy
import smtplib
from collections.abc import AsyncIterator
from email.message import EmailMessage

import pytest

from mailrelay_gateway.contract.documents import RelayDocument
from tests.integration.couriers.scripted_server import Peer, Script, ScriptedServer
from tests.models import made
from tests.peers.gateway import GatewayProcess, plain_listener, relay, smarthost
from tests.ports import free_port
from tests.waiting import PATIENCE, until

REPLIES = {"later": "451 4.3.0 come back later", "gone": "550 5.1.1 no such user"}
BODY = b"From: app@example.com\r\nSubject: hello\r\n\r\nHello.\r\n"


def judging(*extensions: str, nobody: str = "250 2.1.0 ok") -> Script:
    """Refuses recipients by their names; `nobody` is what it answers to MAIL FROM:<>."""

    async def script(peer: Peer) -> None:
        await peer.greet("8BITMIME", *extensions)
        while line := await peer.reader.readline():
            said = peer.note(line)
            if said == "DATA":
                await peer.say("354 go")
                await peer.hear_body()
                await peer.say("250 2.6.0 queued")
            elif said.startswith("MAIL FROM:<>"):
                await peer.say(nobody)
            elif said.startswith("RCPT"):
                local = said.partition("<")[2].partition("@")[0]
                await peer.say(REPLIES.get(local, "250 2.1.5 ok"))
            else:
                await peer.say("250 ok" if said != "QUIT" else "221 bye")

    return script


@pytest.fixture
async def upstreams() -> AsyncIterator[list[ScriptedServer]]:
    servers: list[ScriptedServer] = []
    yield servers
    for server in servers:
        await server.stop()


async def serve(upstreams: list[ScriptedServer], script: Script) -> ScriptedServer:
    server = ScriptedServer([script])
    await server.start()
    upstreams.append(server)
    return server


def document(port: int, server: ScriptedServer, null_sender: str = "") -> RelayDocument:
    """A relay that tells of a delay with the first one."""
    retry = made.retry(give_up_after=3600.0, max_interval=600.0, warn_after=1.0)
    made_ = relay([plain_listener(port)], [smarthost("only", server.port)], retry=retry)
    return made_.model_copy(update={"null_sender": null_sender})


async def send(
    port: int, *recipients: tuple[str, tuple[str, ...]], mail: tuple[str, ...] = ()
) -> None:
    """Each recipient with its parameters."""

    def transact() -> None:
        with smtplib.SMTP("127.0.0.1", port, timeout=PATIENCE) as client:
            client.ehlo("client.example")
            assert client.mail("app@example.com", mail)[0] == 250
            for address, parameters in recipients:
                assert client.rcpt(address, parameters)[0] == 250
            assert client.data(BODY)[0] == 250

    await asyncio.to_thread(transact)


def received(server: ScriptedServer) -> list[bytes]:
    return [body for peer in server.peers for body in peer.bodies]


def notices(server: ScriptedServer) -> list[EmailMessage]:
    read = [email.message_from_bytes(b, policy=email.policy.default) for b in received(server)]
    return [each for each in read if each.get_content_type() == "multipart/report"]


def blocks(notice: EmailMessage) -> list[EmailMessage]:
    """Of its recipients."""
    report = list(notice.iter_parts())[1]
    return list(report.get_payload())[1:]


async def test_delays_and_failures_are_told_unless_unwanted(
    gateway: GatewayProcess, upstreams: list[ScriptedServer]
) -> None:
    server = await serve(upstreams, judging())
    port = free_port()
    gateway.write(document(port, server))
    await gateway.start()
    never, failure = ("NOTIFY=NEVER",), ("NOTIFY=FAILURE",)
    await send(port, ("later@example.net", never), ("gone@example.net", never))
    await send(port, ("later@example.net", failure), ("gone@example.net", ("NOTIFY=DELAY",)))
    await send(port, ("fine@example.net", ()), ("later@example.net", ()), ("gone@example.net", ()))
    await until(lambda: len(notices(server)) == 2)
    await until(lambda: len(gateway.log_lines("delivery")) >= 9)
    delayed, failed = sorted(notices(server), key=lambda each: str(each["Subject"]))
    assert [dict(each)["Action"] for each in blocks(delayed)] == ["delayed"]
    assert blocks(delayed)[0]["Final-Recipient"] == "rfc822; later@example.net"
    assert blocks(delayed)[0]["Status"] == "4.3.0"
    assert blocks(delayed)[0]["Will-Retry-Until"]
    assert [dict(each)["Action"] for each in blocks(failed)] == ["failed"]
    assert blocks(failed)[0]["Final-Recipient"] == "rfc822; gone@example.net"
    for kind in ("delayed", "failed"):
        assert await gateway.metric("mailrelay_dsn_total", kind=kind) == 1
    assert await gateway.metric("mailrelay_dsn_total") == 2, "nobody else is told anything"


async def test_what_was_passed_on_is_told_to_who_asked_where_the_upstream_does_not(
    gateway: GatewayProcess, upstreams: list[ScriptedServer]
) -> None:
    server = await serve(upstreams, judging())
    port = free_port()
    gateway.write(document(port, server))
    await gateway.start()
    asked = ("NOTIFY=SUCCESS", "ORCPT=rfc822;Fine+2B@example.net")
    await send(port, ("fine@example.net", asked), ("two@example.net", ()), mail=("ENVID=id+3D1",))
    await until(lambda: len(notices(server)) == 1)
    [notice] = notices(server)
    [block] = blocks(notice)
    assert (block["Action"], block["Status"]) == ("relayed", "2.6.0")
    assert block["Original-Recipient"] == "rfc822; Fine+@example.net"
    assert "Original-Envelope-Id: id=1" in notice.as_string()
    assert await gateway.metric("mailrelay_dsn_total", kind="relayed") == 1


async def test_an_upstream_that_offers_dsn_is_told_what_the_sender_wants(
    gateway: GatewayProcess, upstreams: list[ScriptedServer]
) -> None:
    server = await serve(upstreams, judging("DSN"))
    port = free_port()
    gateway.write(document(port, server))
    await gateway.start()
    await send(port, ("fine@example.net", ("NOTIFY=SUCCESS,FAILURE",)), mail=("RET=HDRS",))
    await until(lambda: len(gateway.log_lines("delivery")) == 1)
    [peer] = server.peers
    assert "MAIL FROM:<app@example.com> RET=HDRS" in [
        line.replace(" BODY=8BITMIME", "") for line in peer.heard
    ]
    assert "RCPT TO:<fine@example.net> NOTIFY=SUCCESS,FAILURE" in peer.heard
    assert await gateway.metric("mailrelay_dsn_total") == 0


async def test_a_provider_without_null_sender_gets_the_one_that_stands_in_for_it(
    gateway: GatewayProcess, upstreams: list[ScriptedServer]
) -> None:
    """And nobody is told when that notice fails."""
    server = await serve(upstreams, judging(nobody="501 Invalid MAIL FROM address provided"))
    port = free_port()
    gateway.write(document(port, server, null_sender="bounces@example.com"))
    await gateway.start()
    await send(port, ("gone@example.net", ()))
    await until(lambda: len(notices(server)) == 1)
    heard = [line for peer in server.peers for line in peer.heard if line.startswith("MAIL")]
    assert [line.split()[1] for line in heard] == [
        "FROM:<app@example.com>",
        "FROM:<bounces@example.com>",
    ]
