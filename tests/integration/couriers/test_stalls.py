"""An upstream that says nothing on all of its connections is held for it, and what it has begun is
left to it.
"""

from __future__ import annotations

import asyncio
import socket

import pytest

from mailrelay_gateway.contract.documents import TlsMode
from mailrelay_gateway.contract.status import UpstreamState
from mailrelay_gateway.couriers.smtp.deadlines import Deadlines
from mailrelay_gateway.message.envelope import Result
from mailrelay_gateway.reasons import Reason
from tests.integration.couriers.conftest import Rig
from tests.integration.couriers.memory_work import attempt
from tests.integration.couriers.scripted_server import Peer, polite, take_all
from tests.integration.couriers.silences import (
    BEFORE_MAIL,
    DELIVERED,
    FROM_MAIL_ON,
    LOGIN,
    NEVER,
    STALLING,
    Gated,
    at_auth,
    at_dot,
    at_ehlo,
    black_hole,
)

pytestmark = pytest.mark.both_loops


async def until_held(rig: Rig, ending: str) -> None:
    """Until the hold in force ends with these words: on a busy machine any stage may seem silent
    for a moment, which holds the upstream until the answer comes.
    """
    await rig.work.until(lambda: rig.work.held is not None and rig.work.held[1].endswith(ending))


async def stall(rig: Rig, script: Gated, gate: asyncio.Event, *, connections: int) -> None:
    """Let every connection wait at the stage, with work for one more."""
    login = LOGIN if script is at_auth else None
    server = await rig.serve(lambda peer: script(peer, gate))
    config = rig.config(server.port, connections=connections, login=login)
    rig.run(config, deadlines=STALLING, probing=NEVER)
    rig.work.add(*(attempt(number) for number in range(connections + 1)))


@pytest.mark.parametrize(("script", "awaited"), BEFORE_MAIL + FROM_MAIL_ON)
async def test_silence_on_all_connections_holds_and_an_answer_releases(
    rig: Rig, script: Gated, awaited: str
) -> None:
    gate = asyncio.Event()
    await stall(rig, script, gate, connections=2)
    await until_held(rig, f"when we awaited {awaited}, on all 2 connections")
    assert rig.work.held is not None
    reason, detail = rig.work.held
    assert reason is Reason.UPSTREAM_TIMEOUT
    assert detail.startswith("has been silent for ")
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
    await until_held(rig, "the final dot, on the only connection")
    gate.set()
    await rig.work.until_finished(2)
    assert rig.work.results == [DELIVERED] * 2
    assert rig.state() is UpstreamState.UP


async def test_the_only_connection_may_stall_as_well(rig: Rig) -> None:
    gate = asyncio.Event()
    await stall(rig, at_dot, gate, connections=1)
    await until_held(rig, "the final dot, on the only connection")
    gate.set()
    await rig.work.until_finished(2)
    assert rig.work.results == [DELIVERED] * 2


async def test_many_connections_need_not_all_be_tried_first(rig: Rig) -> None:
    server = await rig.serve(lambda peer: peer.silence())
    rig.run(rig.config(server.port, connections=100), deadlines=STALLING, probing=NEVER)
    rig.work.add(attempt(1))
    await rig.work.until(lambda: bool(rig.work.holds))
    assert "when we awaited " in rig.work.holds[0][1]
    assert ", on all " in rig.work.holds[0][1]
    assert len(server.peers) < 20


async def test_a_connection_that_was_opened_late_is_counted_too(rig: Rig) -> None:
    server = await rig.serve(lambda peer: peer.silence())
    # Opened while the first is listened to, and by far not silent as long.
    late = Deadlines(stagger=0.5, stall=3.0, quit=0.5)
    rig.run(rig.config(server.port, connections=2), deadlines=late, probing=NEVER)
    rig.work.add(attempt(1))
    await until_held(rig, "when we awaited its greeting, on all 2 connections")


async def test_a_port_that_takes_no_connection_is_a_stall(rig: Rig) -> None:
    with black_hole("127.0.0.1") as port:
        rig.run(rig.config(port, connections=2), deadlines=STALLING, probing=NEVER)
        rig.work.add(attempt(1))
        await until_held(rig, "when we awaited an answer to our connection, on all 2 connections")
    assert [reason for reason, _ in rig.work.holds] == [Reason.UPSTREAM_TIMEOUT]


async def test_different_stages_are_all_named(rig: Rig) -> None:
    async def silent_after_greeting(peer: Peer) -> None:
        await at_ehlo(peer, asyncio.Event())

    async def silent_at_dot(peer: Peer) -> None:
        await at_dot(peer, asyncio.Event())

    server = await rig.serve(silent_at_dot, silent_after_greeting)
    rig.run(rig.config(server.port, connections=3), deadlines=STALLING, probing=NEVER)
    rig.work.add(attempt(1), attempt(2))
    await until_held(
        rig,
        "when we awaited its answer to EHLO on 2 of 3 connections"
        " and awaited its answer to the final dot on 1 of 3 connections",
    )


async def test_work_that_comes_later_meets_an_old_silence_at_once(rig: Rig) -> None:
    gate = asyncio.Event()
    server = await rig.serve(lambda peer: at_dot(peer, gate))
    rig.run(rig.config(server.port), deadlines=STALLING, probing=NEVER)
    rig.work.add(attempt(1))
    await server.until_body()
    before = len(rig.work.holds)
    await asyncio.sleep(0.25)
    assert len(rig.work.holds) == before, "nobody waits for it"
    rig.work.add(attempt(2))
    await until_held(rig, "the final dot, on the only connection")
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
            await asyncio.sleep(0.08)
            transport.resume_reading()  # type: ignore[attr-defined]
            left -= len(await peer.reader.readexactly(min(left, 60_000)))
        await peer.hear_body()
        await peer.say("250 2.0.0 stored")
        await take_all(peer)

    server = await rig.serve(slow_reader)
    # The upload takes some four seconds, and octets move each tenth of one.
    patient = Deadlines(stagger=0.05, stall=2.0, quit=0.5)
    rig.run(rig.config(server.port), deadlines=patient, probing=NEVER)
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
