"""The upstream as a whole: held and probed, released, failed over between its hosts, configured
anew.
"""

from __future__ import annotations

import asyncio

import pytest

from mailrelay_gateway.contract.documents import (
    HostPort,
    Login,
    Sandbox,
)
from mailrelay_gateway.contract.status import UpstreamState
from mailrelay_gateway.couriers.smtp.health import Probing
from mailrelay_gateway.message.envelope import Result
from mailrelay_gateway.message.lane import LaneKey
from mailrelay_gateway.reasons import Reason
from tests.integration.couriers.conftest import Rig
from tests.integration.couriers.memory_work import LANE, UPSTREAM, attempt
from tests.integration.couriers.scripted_server import Peer, gated, polite, take_all
from tests.models import made
from tests.ports import free_port

DELIVERED = (Result.DELIVERED, Reason.DELIVERED)
NEVER = Probing(first=3600, longest=3600)


async def refuse(peer: Peer) -> None:
    await peer.say("421 4.7.0 too many connections")


async def test_nothing_is_connected_without_work(rig: Rig) -> None:
    server = await rig.serve(polite)
    courier = rig.run(rig.config(server.port))
    await asyncio.sleep(0)
    assert server.peers == []
    [status] = courier.status()
    assert (status.name, status.state) == (UPSTREAM, UpstreamState.UNKNOWN)
    assert status.since.endswith("Z")


async def test_nobody_listening_holds(rig: Rig) -> None:
    port = free_port()
    rig.run(rig.config(port), probing=NEVER)
    rig.work.add(attempt(1))
    await rig.work.until(lambda: bool(rig.work.holds))
    reason, detail = rig.work.holds[0]
    assert reason is Reason.UPSTREAM_UNREACHABLE
    assert detail.startswith(f"127.0.0.1:{port} cannot be reached at 127.0.0.1: ")


async def test_a_name_without_address_holds(rig: Rig) -> None:
    rig.run(rig.config(25, host="nowhere.example.com"), probing=NEVER)
    rig.work.add(attempt(1))
    await rig.work.until(lambda: bool(rig.work.holds))
    assert rig.work.holds == [
        (
            Reason.UPSTREAM_UNRESOLVED,
            "nowhere.example.com:25 has no address: nowhere.example.com does not exist in DNS",
        )
    ]


async def test_addresses_are_tried_in_their_order(rig: Rig) -> None:
    server = await rig.serve(polite)
    rig.names.known["smtp.example.com"] = ["127.0.0.99", "127.0.0.1"]
    rig.run(rig.config(server.port, host="smtp.example.com"))
    rig.work.add(attempt(1))
    await rig.work.until_finished(1)
    assert rig.work.results == [DELIVERED]
    assert rig.work.holds == []


async def test_the_second_host_serves_while_the_first_is_down(rig: Rig) -> None:
    second = await rig.serve(polite)
    down = free_port()
    rig.run(rig.config(down, second.port, messages=1))
    rig.work.add(attempt(1), attempt(2))
    outcomes = await rig.work.until_finished(2)
    assert {outcome.host for outcome in outcomes} == {f"127.0.0.1:{second.port}"}
    assert rig.work.holds == []


async def test_a_host_that_refused_is_tried_last_for_a_while(rig: Rig) -> None:
    first = await rig.serve(refuse)
    second = await rig.serve(polite)
    rig.run(rig.config(first.port, second.port, messages=1))
    rig.work.add(attempt(1), attempt(2), attempt(3))
    await rig.work.until_finished(3)
    assert len(first.peers) == 1


async def test_of_several_failures_the_furthest_is_the_reason_and_all_are_told(rig: Rig) -> None:
    down = free_port()
    server = await rig.serve(refuse)
    rig.run(rig.config(server.port, down), probing=NEVER)
    rig.work.add(attempt(1))
    await rig.work.until(lambda: bool(rig.work.holds))
    reason, detail = rig.work.holds[0]
    assert reason is Reason.UPSTREAM_REFUSED
    assert f"127.0.0.1:{server.port} answered 421 4.7.0 too many connections; " in detail
    assert f"127.0.0.1:{down} cannot be reached" in detail


async def test_a_held_upstream_is_probed_without_work_and_released(rig: Rig) -> None:
    server = await rig.serve(refuse, refuse, polite)
    rig.run(rig.config(server.port))
    rig.work.add(attempt(1))
    await rig.work.until(lambda: bool(rig.work.holds))
    taken_elsewhere = rig.work.waiting.popleft()
    await rig.work.until(lambda: rig.work.releases == 1)
    assert rig.state() is UpstreamState.UP
    assert len(rig.work.holds) == 2
    rig.work.add(taken_elsewhere)
    await rig.work.until_finished(1)
    assert len(server.peers) == 3


async def test_work_does_not_hurry_a_held_upstream(rig: Rig) -> None:
    server = await rig.serve(refuse)
    courier = rig.run(rig.config(server.port), probing=NEVER)
    rig.work.add(attempt(1))
    await rig.work.until(lambda: bool(rig.work.holds))
    for _ in range(100):
        courier.wake(LANE)
        await asyncio.sleep(0)
    assert len(server.peers) == 1


async def test_one_connection_too_many_caps_the_pool_and_holds_nothing(rig: Rig) -> None:
    gate = asyncio.Event()

    server = await rig.serve(gated(gate), refuse)
    rig.run(rig.config(server.port, connections=5))
    rig.work.add(*(attempt(number) for number in range(10)))
    await server.until(lambda: len(server.peers) == 2)
    gate.set()
    await rig.work.until_finished(10)
    assert rig.work.results == [DELIVERED] * 10
    assert rig.work.holds == []
    assert rig.state() is UpstreamState.UP
    assert len(server.peers) == 2


async def test_a_refusal_while_the_last_connection_leaves_is_no_dead_end(rig: Rig) -> None:
    async def deaf_to_quit(peer: Peer) -> None:
        await peer.greet()
        await peer.take_message()
        await peer.silence()

    server = await rig.serve(deaf_to_quit, refuse, polite)
    rig.run(rig.config(server.port, connections=2, messages=1))
    rig.work.add(attempt(1))
    await rig.work.until_finished(1)
    rig.work.add(attempt(2))
    await rig.work.until_finished(2)
    assert len(server.peers) == 3
    assert rig.work.results == [DELIVERED] * 2
    assert rig.work.holds == []


async def test_a_new_login_is_tried_at_once(rig: Rig) -> None:
    async def judge(peer: Peer) -> None:
        await peer.greet("PIPELINING", "AUTH PLAIN")
        await peer.hear("AUTH PLAIN")
        if peer.heard[-1].endswith("AHVzZXIAcmlnaHQ="):
            await peer.say("235 in")
            await take_all(peer)
        else:
            await peer.say("535 5.7.8 no")

    server = await rig.serve(judge)
    wrong = rig.config(server.port, login=Login(username="user", password="wrong"))
    right = rig.config(server.port, login=Login(username="user", password="right"))
    courier = rig.run(wrong, probing=NEVER)
    rig.work.add(attempt(1))
    await rig.work.until(lambda: bool(rig.work.holds))
    courier.configure(wrong)
    await asyncio.sleep(0)
    assert len(server.peers) == 1
    courier.configure(right)
    await rig.work.until_finished(1)
    assert rig.work.results == [DELIVERED]
    assert rig.state() is UpstreamState.UP


async def test_a_changed_upstream_finishes_its_message_and_moves(rig: Rig) -> None:
    gate = asyncio.Event()

    old = await rig.serve(gated(gate, Peer.until_quit))
    new = await rig.serve(polite)
    courier = rig.run(rig.config(old.port))
    rig.work.add(attempt(1), attempt(2))
    await old.until_body()
    courier.configure(rig.config(new.port))
    gate.set()
    outcomes = await rig.work.until_finished(2)
    assert [outcome.host for outcome in outcomes] == [
        f"127.0.0.1:{old.port}",
        f"127.0.0.1:{new.port}",
    ]
    assert old.peers[0].heard[-1] == "QUIT"


async def test_what_the_old_one_still_holds_does_not_keep_the_new_one_waiting(rig: Rig) -> None:
    gate = asyncio.Event()

    old, new = await rig.serve(gated(gate, Peer.until_quit)), await rig.serve(polite)
    courier = rig.run(rig.config(old.port))
    rig.work.add(attempt(1), attempt(2))
    await old.until_body()
    courier.configure(rig.config(new.port))
    await rig.work.until_finished(1)
    assert rig.work.outcomes[0].host == f"127.0.0.1:{new.port}"
    gate.set()
    await rig.work.until_finished(2)
    assert rig.work.results == [DELIVERED] * 2


@pytest.mark.parametrize(
    "refusal", ["535 5.7.8 no", "454 4.7.0 Daily message quota exceeded", "451 4.7.1 slow down"]
)
async def test_what_the_old_one_says_late_is_not_held_against_the_new_one(
    rig: Rig, refusal: str
) -> None:
    gate = asyncio.Event()

    async def refuses_late(peer: Peer) -> None:
        await peer.greet()
        await peer.hear("MAIL", "RCPT", "DATA")
        await gate.wait()
        await peer.say(refusal, "503 no", "503 no")
        await peer.until_quit()

    old, new = await rig.serve(refuses_late), await rig.serve(polite)
    courier = rig.run(rig.config(old.port), probing=NEVER)
    rig.work.add(attempt(1))
    await old.until(lambda: bool(old.peers) and "DATA" in old.peers[0].heard)
    courier.configure(rig.config(new.port))
    gate.set()
    await rig.work.until_finished(1)
    assert (rig.work.holds, rig.work.slowed) == ([], [])
    rig.work.add(attempt(2))
    await rig.work.until_finished(2)
    assert rig.work.results[-1] == DELIVERED


async def test_an_unchanged_upstream_keeps_its_connections(rig: Rig) -> None:
    server = await rig.serve(polite)
    courier = rig.run(rig.config(server.port))
    rig.work.add(attempt(1))
    await rig.work.until_finished(1)
    courier.configure(rig.config(server.port, connections=7, messages=9))
    rig.work.add(attempt(2))
    await rig.work.until_finished(2)
    assert len(server.peers) == 1


async def test_an_upstream_that_goes_finishes_its_message(rig: Rig) -> None:
    gate = asyncio.Event()

    server = await rig.serve(gated(gate, Peer.until_quit))
    courier = rig.run(rig.config(server.port))
    rig.work.add(attempt(1))
    await server.until_body()
    courier.configure(rig.config_of())
    assert courier.status() == ()
    courier.wake(LANE)
    gate.set()
    await rig.work.until_finished(1)
    assert rig.work.results == [DELIVERED]


async def test_an_upstream_that_goes_does_not_hold_its_successor(rig: Rig) -> None:
    gate = asyncio.Event()

    async def refuses_late(peer: Peer) -> None:
        await peer.greet()
        await peer.hear("MAIL", "RCPT", "DATA")
        await gate.wait()
        await peer.say("535 5.7.8 no", "503 no", "503 no")
        await peer.until_quit()

    old, new = await rig.serve(refuses_late), await rig.serve(polite)
    courier = rig.run(rig.config(old.port), probing=NEVER)
    rig.work.add(attempt(1))
    await old.until(lambda: bool(old.peers) and "DATA" in old.peers[0].heard)
    courier.configure(rig.config_of())
    courier.configure(rig.config(new.port))
    gate.set()
    await rig.work.until_finished(1)
    rig.work.add(attempt(2))
    await rig.work.until_finished(2)
    assert rig.work.results[-1] == DELIVERED
    assert rig.work.holds == []


async def test_other_kinds_of_upstream_are_left_alone(rig: Rig) -> None:
    courier = rig.run(
        rig.config_of(
            made.upstream(name="captured", settings=Sandbox(keep=100)),
            made.upstream(
                name="out", settings=made.smarthost(hosts=(HostPort(host="x", port=25),))
            ),
        )
    )
    courier.wake(LaneKey("captured"))
    assert [status.name for status in courier.status()] == ["out"]
