"""TLS towards upstreams: STARTTLS and implicit, always verified, and nothing said in the clear
survives it.
"""

from __future__ import annotations

import asyncio
import ssl
from typing import Any, cast

import pytest

from mailrelay_gateway.contract.documents import Login, TlsMode
from mailrelay_gateway.contract.status import UpstreamState
from mailrelay_gateway.couriers.replies.reply_rules import RULES
from mailrelay_gateway.couriers.smtp.connection import Connection
from mailrelay_gateway.couriers.smtp.connection_settings import ConnectionSettings
from mailrelay_gateway.couriers.smtp.deadlines import Deadlines
from mailrelay_gateway.message.attribution import Attributor
from mailrelay_gateway.message.envelope import Result
from mailrelay_gateway.message.lane import LaneKey
from mailrelay_gateway.reasons import Reason
from mailrelay_gateway.smtp.client.client import ClientSettings
from tests.integration.couriers.conftest import Rig
from tests.integration.couriers.memory_work import attempt
from tests.integration.couriers.scripted_server import Peer, Script, polite
from tests.peers.certificates import certificate, make_authority

DELIVERED = (Result.DELIVERED, Reason.DELIVERED)
LOGIN = Login(username="user", password="word")
NOTHING = cast(Any, None)  # where a session never begins

pytestmark = pytest.mark.both_loops


def starttls(rig: Rig, *names: str, expired: bool = False) -> Script:
    """A server that takes mail over STARTTLS, with a login."""
    context = rig.authority.server_context(*names, expired=expired)

    async def script(peer: Peer) -> None:
        await peer.greet("PIPELINING", "AUTH PLAIN", "STARTTLS")
        await peer.hear("STARTTLS")
        await peer.say("220 go")
        await peer.start_tls(context)
        await peer.ehlo("PIPELINING", "AUTH PLAIN")
        await peer.hear("AUTH PLAIN")
        await peer.say("235 in")
        await peer.take_message()
        await peer.take_message()
        await peer.until_quit()

    return script


async def test_starttls_with_a_login(rig: Rig) -> None:
    server = await rig.serve(starttls(rig, "smtp.example.com"))
    rig.names.known["smtp.example.com"] = ["127.0.0.1"]
    rig.run(rig.config(server.port, mode=TlsMode.START_TLS, host="smtp.example.com", login=LOGIN))
    rig.work.add(attempt(1), attempt(2))
    await rig.work.until_finished(2)
    assert rig.work.results == [DELIVERED] * 2
    assert server.peers[0].heard[:4] == [
        "EHLO mail.example.com",
        "STARTTLS",
        "EHLO mail.example.com",
        "AUTH PLAIN AHVzZXIAd29yZA==",
    ]


async def test_a_body_over_tls_arrives_whole(rig: Rig) -> None:
    body = b"Subject: x\r\n\r\n" + b".%0100d\r\n" % 7 * 2000
    server = await rig.serve(polite, tls=("127.0.0.1",))
    rig.run(rig.config(server.port, mode=TlsMode.IMPLICIT))
    server.peers.clear()

    rig.work.add(attempt(1, body=body[:60_000] + b"\r\n"))
    await rig.work.until_finished(1)
    assert rig.work.results == [DELIVERED]
    assert server.peers[0].bodies == [(body[:60_000] + b"\r\n").replace(b"\r\n.", b"\r\n..")]


@pytest.mark.parametrize(
    ("names", "server_name"),
    [(("127.0.0.1",), None), (("relay.example.com",), "relay.example.com")],
)
async def test_implicit_tls(rig: Rig, names: tuple[str, ...], server_name: str | None) -> None:
    server = await rig.serve(polite, tls=names)
    rig.run(rig.config(server.port, mode=TlsMode.IMPLICIT, server_name=server_name))
    rig.work.add(attempt(1))
    await rig.work.until_finished(1)
    assert rig.work.results == [DELIVERED]


async def held(rig: Rig) -> tuple[Reason, str]:
    rig.work.add(attempt(1))
    await rig.work.until(lambda: bool(rig.work.holds))
    assert rig.state() is UpstreamState.HELD
    assert rig.work.finished == []
    return rig.work.holds[0]


@pytest.mark.parametrize("mode", [TlsMode.START_TLS, TlsMode.IMPLICIT])
async def test_a_certificate_of_another_name_holds(rig: Rig, mode: TlsMode) -> None:
    if mode is TlsMode.IMPLICIT:
        server = await rig.serve(polite, tls=("other.example.com",))
    else:
        server = await rig.serve(starttls(rig, "other.example.com"))
    rig.names.known["smtp.example.com"] = ["127.0.0.1"]
    rig.run(rig.config(server.port, mode=mode, host="smtp.example.com"))
    reason, detail = await held(rig)
    assert reason is Reason.UPSTREAM_TLS_FAILED
    assert "is not valid for smtp.example.com" in detail
    assert all("AUTH" not in line for peer in server.peers for line in peer.heard)


async def test_an_unknown_authority_holds(rig: Rig) -> None:
    server = await rig.serve(polite, tls=("127.0.0.1",))
    other = make_authority(rig.authority.folder)
    rig.run(rig.config(server.port, mode=TlsMode.IMPLICIT, ca=other.pem))
    reason, detail = await held(rig)
    assert reason is Reason.UPSTREAM_TLS_FAILED
    assert "is not valid for 127.0.0.1" in detail


async def test_an_expired_certificate_holds(rig: Rig) -> None:
    server = await rig.serve(starttls(rig, "127.0.0.1", expired=True))
    rig.run(rig.config(server.port, mode=TlsMode.START_TLS))
    reason, detail = await held(rig)
    assert reason is Reason.UPSTREAM_TLS_FAILED
    assert "expired" in detail


async def test_a_bundle_that_is_none_holds_and_says_so(rig: Rig) -> None:
    server = await rig.serve(polite, tls=("127.0.0.1",))
    rig.run(rig.config(server.port, mode=TlsMode.IMPLICIT, ca="not PEM"))
    reason, detail = await held(rig)
    assert reason is Reason.UPSTREAM_TLS_FAILED
    assert "tls.caRef" in detail
    assert server.peers == []


async def test_a_server_without_starttls_holds(rig: Rig) -> None:
    server = await rig.serve(polite)
    rig.run(rig.config(server.port, mode=TlsMode.START_TLS))
    reason, _ = await held(rig)
    assert reason is Reason.UPSTREAM_TLS_MISSING
    assert all("MAIL" not in line for peer in server.peers for line in peer.heard)


async def test_implicit_tls_on_a_plain_port_says_what_to_change(rig: Rig) -> None:
    async def plain(peer: Peer) -> None:
        await peer.say("220 speak SMTP")
        await peer.silence()

    server = await rig.serve(plain)
    rig.run(rig.config(server.port, mode=TlsMode.IMPLICIT))
    reason, detail = await held(rig)
    assert reason is Reason.UPSTREAM_TLS_FAILED
    assert "StartTLS" in detail


class SpeaksAtOnce(Connection):
    """A connection whose server's words arrive together with the connection itself."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self.data_received(b"220 speak SMTP\r\n")


class Waits:
    """What an owner is told where a session never begins."""

    def __init__(self) -> None:
        self.gone = asyncio.Event()

    def connection_idle(self, connection: Connection) -> None: ...

    def connection_leaving(self, connection: Connection) -> None: ...

    def connection_closed(self, connection: Connection) -> None:
        self.gone.set()

    def backlog(self) -> None: ...


async def test_words_that_arrive_before_the_handshake_begins_are_no_error_of_ours(
    rig: Rig,
) -> None:
    async def silent(peer: Peer) -> None:
        await peer.silence()

    server = await rig.serve(silent)
    loop = asyncio.get_running_loop()
    errors: list[object] = []
    loop.set_exception_handler(lambda _, context: errors.append(context))
    owner = Waits()
    settings = ConnectionSettings(
        lane=LaneKey("out"),
        host="mx.example:25",
        client=ClientSettings(hostname="relay.example", tls=TlsMode.IMPLICIT),
        tls_context=ssl.create_default_context(),
        server_name="mx.example",
        deadlines=Deadlines(),
        rules=RULES,
        attributor=Attributor(()),
        messages=1,
    )
    _, connection = await loop.create_connection(
        lambda: SpeaksAtOnce(settings, owner=cast(Any, owner), work=NOTHING, reporter=NOTHING),
        "127.0.0.1",
        server.port,
    )
    failure = await connection.ready
    assert failure is not None
    assert failure.reason is Reason.UPSTREAM_TLS_FAILED
    assert "does not speak TLS on this port" in failure.detail
    await owner.gone.wait()
    await asyncio.sleep(0)  # where the handshake would have begun
    await asyncio.sleep(0)
    assert errors == []


async def test_a_stalled_handshake_ends_at_its_deadline(rig: Rig) -> None:
    async def stall(peer: Peer) -> None:
        await peer.greet("STARTTLS")
        await peer.hear("STARTTLS")
        await peer.say("220 go")
        await peer.silence()

    server = await rig.serve(stall)
    rig.run(rig.config(server.port, mode=TlsMode.START_TLS), deadlines=Deadlines(tls=0.1))
    reason, detail = await held(rig)
    assert reason is Reason.UPSTREAM_TLS_FAILED
    assert "the TLS handshake timed out" in detail


async def test_a_server_that_hangs_up_amid_the_handshake_holds(rig: Rig) -> None:
    async def hang_up(peer: Peer) -> None:
        await peer.greet("STARTTLS")
        await peer.hear("STARTTLS")
        await peer.say("220 go")
        await peer.reader.read(1)

    server = await rig.serve(hang_up)
    rig.run(rig.config(server.port, mode=TlsMode.START_TLS))
    reason, _ = await held(rig)
    assert reason is Reason.UPSTREAM_TLS_FAILED


@pytest.mark.parametrize("together", [True, False])
async def test_what_is_injected_in_the_clear_is_never_taken_for_the_server(
    rig: Rig, together: bool
) -> None:
    """A man in the middle adds lines to the 220, in the same segment or in one of its own."""
    context = rig.authority.server_context("127.0.0.1")
    injected = b"250-script\r\n250 AUTH PLAIN\r\n235 in\r\n"

    async def script(peer: Peer) -> None:
        await peer.greet("STARTTLS", "PIPELINING")
        await peer.hear("STARTTLS")
        if together:
            await peer.send(b"220 go\r\n" + injected)
        else:
            await peer.send(b"220 go\r\n")
            await asyncio.sleep(0)
            await peer.send(injected)
        await peer.start_tls(context)
        await peer.ehlo("PIPELINING")
        await peer.until_quit()

    server = await rig.serve(script)
    rig.run(rig.config(server.port, mode=TlsMode.START_TLS, login=LOGIN))
    reason, _ = await held(rig)
    assert reason in (Reason.UPSTREAM_PROTOCOL_ERROR, Reason.UPSTREAM_TLS_FAILED)
    assert (reason is Reason.UPSTREAM_PROTOCOL_ERROR) or not together
    assert all("AUTH" not in line for peer in server.peers for line in peer.heard)


def asking(rig: Rig, seen: list[object], *, version: ssl.TLSVersion) -> Script:
    """A server that takes mail over STARTTLS from who shows the client's certificate."""
    context = rig.authority.server_context("127.0.0.1", clients=CLIENT.chain)
    context.maximum_version = version

    async def script(peer: Peer) -> None:
        await peer.greet("STARTTLS")
        await peer.hear("STARTTLS")
        await peer.say("220 go")
        await peer.start_tls(context)
        seen.append(peer.writer.get_extra_info("peercert"))
        await peer.ehlo("PIPELINING")
        await peer.take_message()
        await peer.until_quit()

    return script


CLIENT = certificate("relay.example.com")
VERSIONS = [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3]


@pytest.mark.parametrize("version", VERSIONS)
async def test_a_client_certificate_is_shown(rig: Rig, version: ssl.TLSVersion) -> None:
    seen: list[object] = []
    server = await rig.serve(asking(rig, seen, version=version))
    rig.run(rig.config(server.port, mode=TlsMode.START_TLS, certificate=CLIENT))
    rig.work.add(attempt(1))
    await rig.work.until_finished(1)
    assert rig.work.results == [DELIVERED]
    [shown] = seen
    assert isinstance(shown, dict)
    assert shown["subjectAltName"] == (("DNS", "relay.example.com"),)


@pytest.mark.parametrize("version", VERSIONS)
async def test_a_server_that_asks_for_one_in_vain_is_held(
    rig: Rig, version: ssl.TLSVersion
) -> None:
    server = await rig.serve(asking(rig, [], version=version))
    rig.run(rig.config(server.port, mode=TlsMode.START_TLS))
    rig.work.add(attempt(1))
    await rig.work.until(lambda: rig.work.held is not None)
    assert rig.work.finished == []


async def test_a_client_certificate_without_its_key_is_named(rig: Rig) -> None:
    server = await rig.serve(polite)
    broken = CLIENT.model_copy(update={"key": certificate("other.example.com").key})
    rig.run(rig.config(server.port, mode=TlsMode.START_TLS, certificate=broken))
    rig.work.add(attempt(1))
    await rig.work.until(lambda: rig.work.held is not None)
    assert rig.work.held is not None
    reason, detail = rig.work.held
    assert reason is Reason.UPSTREAM_TLS_FAILED
    assert "tls.certificateRef has a key in tls.key that does not match" in detail
