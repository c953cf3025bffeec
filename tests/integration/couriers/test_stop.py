"""Stopping: final dots under way are awaited, nothing new begins, and what is broken off is told
as it is.
"""

from __future__ import annotations

import asyncio

from mailrelay_gateway.message.envelope import Result
from mailrelay_gateway.reasons import Reason
from tests.integration.couriers.conftest import Rig
from tests.integration.couriers.memory_work import attempt
from tests.integration.couriers.scripted_server import Peer, gated, polite
from tests.waiting import PATIENCE


async def test_a_final_reply_under_way_is_awaited_and_nothing_new_begun(rig: Rig) -> None:
    gate = asyncio.Event()

    server = await rig.serve(gated(gate, Peer.until_quit))
    courier = rig.run(rig.config(server.port))
    rig.work.add(attempt(1), attempt(2))
    await server.until_body()
    stopping = asyncio.ensure_future(courier.stop(PATIENCE))
    await asyncio.sleep(0)
    gate.set()
    await stopping
    assert rig.work.results == [(Result.DELIVERED, Reason.DELIVERED)]
    assert [one.number for one in rig.work.waiting] == [2]
    await server.until(lambda: server.peers[0].heard[-1] == "QUIT")
    rig.work.add(attempt(3))
    await asyncio.sleep(0)
    assert len(server.peers) == 1


async def test_after_the_grace_a_message_past_its_dot_is_uncertain(rig: Rig) -> None:
    async def silent(peer: Peer) -> None:
        await peer.greet()
        await peer.take_envelope()
        await peer.hear_body()
        await peer.silence()

    server = await rig.serve(silent)
    courier = rig.run(rig.config(server.port))
    rig.work.add(attempt(1))
    await server.until_body()
    await courier.stop(0.05)
    assert rig.work.results == [(Result.UNCERTAIN, Reason.REPLY_LOST)]


async def test_after_the_grace_a_message_before_its_dot_is_given_back(rig: Rig) -> None:
    async def silent(peer: Peer) -> None:
        await peer.greet()
        await peer.hear("MAIL", "RCPT", "DATA")
        await peer.silence()

    server = await rig.serve(silent)
    courier = rig.run(rig.config(server.port))
    rig.work.add(attempt(1))
    await server.until(lambda: bool(server.peers) and "DATA" in server.peers[0].heard)
    await courier.stop(0.05)
    assert rig.work.finished == []
    assert [one.number for one in rig.work.given_back] == [1]


async def test_idle_connections_quit(rig: Rig) -> None:
    server = await rig.serve(polite)
    courier = rig.run(rig.config(server.port))
    rig.work.add(attempt(1))
    await rig.work.until_finished(1)
    await courier.stop(PATIENCE)
    await server.until(lambda: server.peers[0].heard[-1] == "QUIT")


async def test_a_server_that_ignores_quit_does_not_hold_us_up(rig: Rig) -> None:
    async def deaf(peer: Peer) -> None:
        await peer.greet()
        await peer.take_message()
        await peer.silence()

    server = await rig.serve(deaf)
    courier = rig.run(rig.config(server.port))
    rig.work.add(attempt(1))
    await rig.work.until_finished(1)
    async with asyncio.timeout(PATIENCE):
        await courier.stop(60 * PATIENCE)


async def test_a_connection_being_opened_is_given_up(rig: Rig) -> None:
    async def silent(peer: Peer) -> None:
        await peer.silence()

    server = await rig.serve(silent)
    courier = rig.run(rig.config(server.port))
    rig.work.add(attempt(1))
    await server.until(lambda: bool(server.peers))
    async with asyncio.timeout(PATIENCE):
        await courier.stop(60 * PATIENCE)
    assert rig.work.holds == []
    assert len(rig.work.waiting) == 1
