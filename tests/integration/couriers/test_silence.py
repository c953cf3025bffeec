"""An upstream that says nothing on some of its connections, at any stage, holds up no other
message; one that says nothing on all of them is held for it, and what it has begun is left to it.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager

import pytest

from mailrelay_gateway.contract.documents import Login, TlsMode
from mailrelay_gateway.contract.status import UpstreamState
from mailrelay_gateway.couriers.smtp.deadlines import Deadlines
from mailrelay_gateway.couriers.smtp.health import Probing
from mailrelay_gateway.message.envelope import Result
from mailrelay_gateway.reasons import Reason
from tests.integration.couriers.conftest import Rig
from tests.integration.couriers.memory_work import attempt
from tests.integration.couriers.scripted_server import Peer, polite, take_all

pytestmark = pytest.mark.both_loops

DELIVERED = (Result.DELIVERED, Reason.DELIVERED)
NEVER = Probing(first=3600, longest=3600, spread=0.0)
#: Quick to ask the next one, and in no hurry otherwise.
STAGGERED = Deadlines(stagger=0.05, stall=3600, quit=0.5)
STALLING = Deadlines(stagger=0.05, stall=0.2, quit=0.5)
LOGIN = Login(username="user", password="word")

#: Says its lines up to a stage, awaits the gate there, and takes all mail from there on.
Gated = Callable[[Peer, asyncio.Event], Awaitable[None]]


async def at_greeting(peer: Peer, gate: asyncio.Event) -> None:
    await gate.wait()
    await polite(peer)


async def at_ehlo(peer: Peer, gate: asyncio.Event) -> None:
    await peer.say("220 script ESMTP")
    await peer.hear("EHLO")
    await gate.wait()
    await peer.say("250-script", "250 PIPELINING")
    await take_all(peer)


async def at_auth(peer: Peer, gate: asyncio.Event) -> None:
    await peer.greet("PIPELINING", "AUTH PLAIN")
    await peer.hear("AUTH")
    await gate.wait()
    await peer.say("235 in")
    await take_all(peer)


async def logged_in(peer: Peer) -> None:
    gate = asyncio.Event()
    gate.set()
    await at_auth(peer, gate)


async def at_mail(peer: Peer, gate: asyncio.Event) -> None:
    await peer.greet()
    await peer.hear("MAIL", "RCPT", "DATA")
    await gate.wait()
    await peer.say("250 ok", "250 ok", "354 go")
    await peer.hear_body()
    await peer.say("250 2.0.0 stored")
    await take_all(peer)


async def at_rcpt(peer: Peer, gate: asyncio.Event) -> None:
    await peer.greet()
    await peer.hear("MAIL", "RCPT", "DATA")
    await peer.say("250 ok")
    await gate.wait()
    await peer.say("250 ok", "354 go")
    await peer.hear_body()
    await peer.say("250 2.0.0 stored")
    await take_all(peer)


async def at_data(peer: Peer, gate: asyncio.Event) -> None:
    await peer.greet()
    await peer.hear("MAIL", "RCPT", "DATA")
    await peer.say("250 ok", "250 ok")
    await gate.wait()
    await peer.say("354 go")
    await peer.hear_body()
    await peer.say("250 2.0.0 stored")
    await take_all(peer)


async def at_dot(peer: Peer, gate: asyncio.Event) -> None:
    await peer.greet()
    await peer.take_envelope()
    await peer.hear_body()
    await gate.wait()
    await peer.say("250 2.0.0 stored")
    await take_all(peer)


BEFORE_MAIL = [
    (at_greeting, "its greeting"),
    (at_ehlo, "its answer to EHLO"),
    (at_auth, "its answer to AUTH"),
]
FROM_MAIL_ON = [
    (at_mail, "its answer to MAIL"),
    (at_rcpt, "its answer to RCPT"),
    (at_data, "its answer to DATA"),
    (at_dot, "its answer to the final dot"),
]


@contextmanager
def black_hole(host: str, port: int = 0) -> Iterator[int]:
    """A port at which connections are never established: its queue is full."""
    with socket.socket() as listening:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((host, port))
        listening.listen(0)
        port = listening.getsockname()[1]
        fillers = [socket.socket() for _ in range(4)]
        for filler in fillers:
            filler.setblocking(False)
            filler.connect_ex((host, port))
        yield port
        for filler in fillers:
            filler.close()


# --- on one of several connections


@pytest.mark.parametrize(("script", "awaited"), BEFORE_MAIL + FROM_MAIL_ON)
async def test_one_silent_connection_holds_up_no_other_message(
    rig: Rig, script: Gated, awaited: str
) -> None:
    login = LOGIN if script is at_auth else None
    server = await rig.serve(
        lambda peer: script(peer, asyncio.Event()), logged_in if login else polite
    )
    rig.run(rig.config(server.port, connections=2, login=login), deadlines=STAGGERED)
    rig.work.add(attempt(1), attempt(2), attempt(3))
    stuck = 1 if (script, awaited) in FROM_MAIL_ON else 0
    await rig.work.until_finished(3 - stuck)
    assert set(rig.work.results) == {DELIVERED}
    assert rig.work.holds == []
    assert rig.state() is UpstreamState.UP


@pytest.mark.parametrize("mode", [TlsMode.START_TLS, TlsMode.IMPLICIT])
async def test_a_silent_handshake_holds_up_no_message(rig: Rig, mode: TlsMode) -> None:
    context = rig.authority.server_context("127.0.0.1")

    async def secure(peer: Peer) -> None:
        if mode is TlsMode.IMPLICIT:
            await peer.start_tls(context)
            await peer.greet()
        else:
            await peer.greet("PIPELINING", "STARTTLS")
            await peer.hear("STARTTLS")
            await peer.say("220 go")
            await peer.start_tls(context)
            await peer.ehlo("PIPELINING")
        await take_all(peer)

    async def silent(peer: Peer) -> None:
        if mode is TlsMode.START_TLS:
            await peer.greet("PIPELINING", "STARTTLS")
            await peer.hear("STARTTLS")
            await peer.say("220 go")
        await peer.silence()

    server = await rig.serve(silent, secure)
    rig.run(rig.config(server.port, connections=2, mode=mode), deadlines=STAGGERED)
    rig.work.add(attempt(1), attempt(2))
    await rig.work.until_finished(2)
    assert rig.work.results == [DELIVERED] * 2
    assert rig.work.holds == []


async def test_an_address_that_takes_no_connection_is_not_waited_for(rig: Rig) -> None:
    server = await rig.serve(polite)
    rig.names.known["smtp.example.com"] = ["127.0.0.2", "127.0.0.1"]
    with black_hole("127.0.0.2", server.port):
        rig.run(rig.config(server.port, host="smtp.example.com"), deadlines=STAGGERED)
        rig.work.add(attempt(1))
        await rig.work.until_finished(1)
    assert rig.work.results == [DELIVERED]
    assert rig.work.holds == []


async def test_a_host_that_says_nothing_is_not_waited_for_and_tried_last(rig: Rig) -> None:
    silent = await rig.serve(lambda peer: peer.silence())
    second = await rig.serve(polite)
    rig.run(rig.config(silent.port, second.port, messages=1), deadlines=STAGGERED)
    rig.work.add(*(attempt(number) for number in range(3)))
    await rig.work.until_finished(3)
    assert rig.work.results == [DELIVERED] * 3
    assert len(silent.peers) == 1
    assert rig.work.holds == []


async def test_a_name_that_is_not_answered_does_not_keep_the_next_host_waiting(rig: Rig) -> None:
    server = await rig.serve(polite)

    async def addresses(host: str) -> list[str]:
        if host == "stuck.example.com":
            await asyncio.Event().wait()
        return ["127.0.0.1"]

    rig.names.addresses = addresses  # type: ignore[method-assign]
    config = rig.config_of_hosts(("stuck.example.com", 25), ("127.0.0.1", server.port))
    rig.run(config, deadlines=STAGGERED)
    rig.work.add(attempt(1))
    await rig.work.until_finished(1)
    assert rig.work.results == [DELIVERED]


async def test_of_two_that_become_ready_the_second_says_quit(rig: Rig) -> None:
    gate = asyncio.Event()
    late = await rig.serve(lambda peer: at_greeting(peer, gate))
    second = await rig.serve(polite)
    rig.run(rig.config(late.port, second.port), deadlines=STAGGERED)
    rig.work.add(attempt(1))
    await late.until(lambda: bool(late.peers))
    await rig.work.until_finished(1)
    assert [peer.heard for peer in late.peers] == [[]]
    assert rig.metric("upstream_connections", upstream="smarthost") == 1


# --- on all of them


async def stall(rig: Rig, script: Gated, gate: asyncio.Event, *, connections: int) -> None:
    """Let every connection wait at the stage, with work for one more."""
    login = LOGIN if script is at_auth else None
    server = await rig.serve(lambda peer: script(peer, gate))
    config = rig.config(server.port, connections=connections, login=login)
    rig.run(config, deadlines=STALLING, probing=NEVER)
    rig.work.add(*(attempt(number) for number in range(connections + 1)))
    await rig.work.until(lambda: bool(rig.work.holds))


@pytest.mark.parametrize(("script", "awaited"), BEFORE_MAIL + FROM_MAIL_ON)
async def test_silence_on_all_connections_holds_and_an_answer_releases(
    rig: Rig, script: Gated, awaited: str
) -> None:
    gate = asyncio.Event()
    await stall(rig, script, gate, connections=2)
    [(reason, detail)] = rig.work.holds
    assert reason is Reason.UPSTREAM_TIMEOUT
    assert detail.startswith("has been silent for ")
    assert detail.endswith(f"when we awaited {awaited}, on all 2 connections")
    assert rig.courier is not None
    [status] = rig.courier.status()
    assert (status.state, status.reason) == (UpstreamState.HELD, Reason.UPSTREAM_TIMEOUT)
    assert rig.metric("upstream_up", upstream="smarthost") == 0
    assert rig.work.finished == [], "what is under way is left to its own deadline"
    gate.set()
    await rig.work.until_finished(3)
    assert rig.work.results == [DELIVERED] * 3
    assert rig.work.releases >= 1
    assert rig.state() is UpstreamState.UP


async def test_silence_under_tls_is_noticed_as_well(rig: Rig) -> None:
    gate = asyncio.Event()
    server = await rig.serve(lambda peer: at_dot(peer, gate), tls=("127.0.0.1",))
    config = rig.config(server.port, mode=TlsMode.IMPLICIT)
    rig.run(config, deadlines=STALLING, probing=NEVER)
    rig.work.add(attempt(1), attempt(2))
    await rig.work.until(lambda: bool(rig.work.holds))
    assert rig.work.holds[0][1].endswith("the final dot, on the only connection")
    gate.set()
    await rig.work.until_finished(2)
    assert rig.work.results == [DELIVERED] * 2
    assert rig.state() is UpstreamState.UP


async def test_the_only_connection_may_stall_as_well(rig: Rig) -> None:
    gate = asyncio.Event()
    await stall(rig, at_dot, gate, connections=1)
    assert rig.work.holds[0][1].endswith("the final dot, on the only connection")
    gate.set()
    await rig.work.until_finished(2)
    assert rig.work.results == [DELIVERED] * 2


async def test_many_connections_need_not_all_be_tried_first(rig: Rig) -> None:
    server = await rig.serve(lambda peer: peer.silence())
    rig.run(rig.config(server.port, connections=100), deadlines=STALLING, probing=NEVER)
    rig.work.add(attempt(1))
    await rig.work.until(lambda: bool(rig.work.holds))
    assert "when we awaited its greeting, on all " in rig.work.holds[0][1]
    assert len(server.peers) < 20


async def test_a_connection_that_was_opened_late_is_counted_too(rig: Rig) -> None:
    server = await rig.serve(lambda peer: peer.silence())
    late = Deadlines(stagger=0.75, stall=1.0, quit=0.5)
    rig.run(rig.config(server.port, connections=2), deadlines=late, probing=NEVER)
    rig.work.add(attempt(1))
    await rig.work.until(lambda: bool(rig.work.holds))
    assert rig.work.holds[0][1].endswith("when we awaited its greeting, on all 2 connections")


async def test_a_port_that_takes_no_connection_is_a_stall(rig: Rig) -> None:
    with black_hole("127.0.0.1") as port:
        rig.run(rig.config(port, connections=2), deadlines=STALLING, probing=NEVER)
        rig.work.add(attempt(1))
        await rig.work.until(lambda: bool(rig.work.holds))
    [(reason, detail)] = rig.work.holds
    assert reason is Reason.UPSTREAM_TIMEOUT
    assert detail.endswith("when we awaited an answer to our connection, on all 2 connections")


async def test_different_stages_are_all_named(rig: Rig) -> None:
    async def silent_after_greeting(peer: Peer) -> None:
        await at_ehlo(peer, asyncio.Event())

    async def silent_at_dot(peer: Peer) -> None:
        await at_dot(peer, asyncio.Event())

    server = await rig.serve(silent_at_dot, silent_after_greeting)
    rig.run(rig.config(server.port, connections=3), deadlines=STALLING, probing=NEVER)
    rig.work.add(attempt(1), attempt(2))
    await rig.work.until(lambda: bool(rig.work.holds))
    assert rig.work.holds[0][1].endswith(
        "when we awaited its answer to EHLO on 2 of 3 connections"
        " and awaited its answer to the final dot on 1 of 3 connections"
    )


async def test_work_that_comes_later_meets_an_old_silence_at_once(rig: Rig) -> None:
    gate = asyncio.Event()
    server = await rig.serve(lambda peer: at_dot(peer, gate))
    rig.run(rig.config(server.port), deadlines=STALLING, probing=NEVER)
    rig.work.add(attempt(1))
    await server.until_body()
    await asyncio.sleep(0.25)
    assert rig.work.holds == [], "nobody waits for it"
    rig.work.add(attempt(2))
    await rig.work.until(lambda: bool(rig.work.holds))
    gate.set()
    await rig.work.until_finished(2)


async def test_a_new_session_releases_what_has_stalled(rig: Rig) -> None:
    async def silent_at_dot(peer: Peer) -> None:
        await at_dot(peer, asyncio.Event())

    server = await rig.serve(silent_at_dot, polite)
    deadlines = Deadlines(stagger=0.05, stall=0.2, final=0.6, quit=0.5)
    rig.run(rig.config(server.port), deadlines=deadlines)
    rig.work.add(attempt(1), attempt(2))
    await rig.work.until(lambda: bool(rig.work.holds))
    await rig.work.until_finished(2)
    assert rig.work.results == [(Result.UNCERTAIN, Reason.REPLY_LOST), DELIVERED]
    assert rig.state() is UpstreamState.UP


async def test_an_upload_that_takes_long_is_no_stall(rig: Rig) -> None:
    async def slow_reader(peer: Peer) -> None:
        # Otherwise the kernel would take all of it at once in the reader's place.
        buffer = peer.writer.get_extra_info("socket")
        buffer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        await peer.greet()
        await peer.take_envelope()
        transport = peer.writer.transport
        left = 3_000_000
        while left:
            transport.pause_reading()  # type: ignore[attr-defined]
            await asyncio.sleep(0.02)
            transport.resume_reading()  # type: ignore[attr-defined]
            left -= len(await peer.reader.readexactly(min(left, 60_000)))
        await peer.hear_body()
        await peer.say("250 2.0.0 stored")
        await take_all(peer)

    server = await rig.serve(slow_reader)
    rig.run(rig.config(server.port), deadlines=STALLING, probing=NEVER)
    body = b"Subject: long\r\n\r\n" + (b"x" * 62 + b"\r\n") * 50_000
    rig.work.add(attempt(1, body=body), attempt(2))
    await rig.work.until_finished(2)
    assert rig.work.results == [DELIVERED] * 2
    assert rig.work.holds == []


async def test_one_blip_on_many_openings_is_one_failure(rig: Rig) -> None:
    gate = asyncio.Event()

    async def refuse_later(peer: Peer) -> None:
        await gate.wait()
        await peer.say("421 4.3.2 going down")

    server = await rig.serve(refuse_later)
    at_once = Deadlines(stagger=0.0, stall=3600)
    rig.run(rig.config(server.port, connections=8), deadlines=at_once, probing=NEVER)
    rig.work.add(attempt(1))
    await server.until(lambda: len(server.peers) == 8)
    gate.set()
    await rig.work.until(lambda: bool(rig.work.holds))
    await asyncio.gather(*(peer.reader.read() for peer in server.peers))
    await asyncio.sleep(0)
    assert len(rig.work.holds) == 1
