"""An upstream that says nothing on some of its connections, at any stage, holds up no other
message.
"""

from __future__ import annotations

import asyncio

import pytest

from mailrelay_gateway.contract.documents import TlsMode
from mailrelay_gateway.contract.status import UpstreamState
from tests.integration.couriers.conftest import Rig
from tests.integration.couriers.memory_work import attempt
from tests.integration.couriers.scripted_server import Peer, polite, take_all
from tests.integration.couriers.silences import (
    BEFORE_MAIL,
    DELIVERED,
    FROM_MAIL_ON,
    LOGIN,
    STAGGERED,
    Gated,
    at_auth,
    at_greeting,
    black_hole,
    logged_in,
)

pytestmark = pytest.mark.both_loops


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
