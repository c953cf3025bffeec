"""TLS handshakes on all connections, and a lone dot, to which no answer ever comes."""

from __future__ import annotations

import asyncio

import pytest

from mailrelay_gateway.contract.documents import TlsMode
from mailrelay_gateway.contract.status import UpstreamState
from mailrelay_gateway.couriers.smtp.deadlines import Deadlines
from mailrelay_gateway.couriers.smtp.health import Probing
from mailrelay_gateway.message.envelope import Result
from mailrelay_gateway.reasons import Reason
from tests.integration.couriers.conftest import Rig
from tests.integration.couriers.memory_work import attempt
from tests.integration.couriers.scripted_server import Peer, take_all
from tests.waiting import PATIENCE

pytestmark = pytest.mark.both_loops

DELIVERED = (Result.DELIVERED, Reason.DELIVERED)
NEVER = Probing(first=3600, longest=3600, spread=0.0)
STALLING = Deadlines(stagger=0.05, stall=0.2, tls=PATIENCE, quit=0.5)


async def test_handshakes_that_stall_hold_and_one_that_gets_on_releases(rig: Rig) -> None:
    gate = asyncio.Event()
    context = rig.authority.server_context("127.0.0.1")

    async def at_tls(peer: Peer) -> None:
        await peer.greet("PIPELINING", "STARTTLS")
        await peer.hear("STARTTLS")
        peer.writer.transport.pause_reading()  # type: ignore[attr-defined]
        await peer.say("220 go")
        await gate.wait()
        await peer.start_tls(context)
        await peer.ehlo("PIPELINING")
        await take_all(peer)

    server = await rig.serve(at_tls)
    config = rig.config(server.port, mode=TlsMode.START_TLS, connections=2)
    rig.run(config, deadlines=STALLING, probing=NEVER)
    rig.work.add(*(attempt(number) for number in range(3)))
    await rig.work.until(lambda: bool(rig.work.holds))
    [(reason, detail)] = rig.work.holds
    assert reason is Reason.UPSTREAM_TIMEOUT
    assert detail.endswith("when we awaited the TLS handshake, on all 2 connections")
    gate.set()
    await rig.work.until_finished(3)
    assert rig.work.results == [DELIVERED] * 3
    assert rig.state() is UpstreamState.UP


async def test_a_server_that_never_shakes_hands_is_held(rig: Rig) -> None:
    server = await rig.serve(lambda peer: peer.silence())
    config = rig.config(server.port, mode=TlsMode.IMPLICIT, connections=2)
    rig.run(config, deadlines=STALLING, probing=NEVER)
    rig.work.add(attempt(1))
    await rig.work.until(lambda: bool(rig.work.holds))
    [(reason, detail)] = rig.work.holds
    assert reason is Reason.UPSTREAM_TIMEOUT
    assert detail.endswith("when we awaited the TLS handshake, on all 2 connections")
    assert list(rig.work.waiting), "it waits for the next upstream, and was not tried here"


async def test_a_lone_dot_that_is_never_answered_keeps_no_refusal_waiting(rig: Rig) -> None:
    """354 after MAIL was refused: what became of the message is known before the dot."""

    async def forgetful(peer: Peer) -> None:
        await peer.greet()
        await peer.hear("MAIL", "RCPT", "DATA")
        await peer.say("550 5.1.8 no such sender domain", "503 no", "354 go")
        await peer.hear(".")
        await peer.silence()

    server = await rig.serve(forgetful)
    rig.run(rig.config(server.port), deadlines=Deadlines(session=2.0, stall=3600, quit=0.5))
    rig.work.add(attempt(1))
    [outcome] = await rig.work.until_finished(1)
    assert str(outcome.reply) == "550 5.1.8 no such sender domain"
