"""What an upstream's words mean for what comes next: slower, fewer connections, another one, fewer
recipients, and a hold when every new connection is closed on us.
"""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest

from mailrelay_gateway.contract.status import UpstreamState
from mailrelay_gateway.couriers.smtp.deadlines import Deadlines
from mailrelay_gateway.couriers.smtp.health import Probing
from mailrelay_gateway.couriers.smtp.slowing import LONGEST_OF_ONE
from mailrelay_gateway.message.effect import PauseUntil, Slow
from mailrelay_gateway.message.envelope import Result
from mailrelay_gateway.reasons import Reason
from tests.integration.couriers.conftest import Rig
from tests.integration.couriers.memory_work import LANE, attempt
from tests.integration.couriers.scripted_server import Peer, Script, polite, take_all
from tests.waiting import PATIENCE

pytestmark = pytest.mark.both_loops

DELIVERED = (Result.DELIVERED, Reason.DELIVERED)
NEVER = Probing(first=3600, longest=3600, spread=0.0)
STAGGERED = Deadlines(stagger=0.02, stall=3600, quit=0.5)


def answering(final: str, times: int = 1) -> Script:
    """Gives this answer to the first final dots, and takes all mail after them."""

    async def script(peer: Peer) -> None:
        await peer.greet()
        for _ in range(times):
            await peer.take_message(final=final)
        await take_all(peer)

    return script


# --- slow, pause


async def test_throttling_is_told_once_a_transaction_and_the_pool_does_not_grow(rig: Rig) -> None:
    gate = asyncio.Event()

    async def throttling(peer: Peer) -> None:
        await peer.greet()
        await peer.take_message(2, final="454 4.7.0 slow down")
        await peer.take_envelope()
        await peer.hear_body()
        await gate.wait()
        await peer.say("250 2.0.0 stored")
        await take_all(peer)

    server = await rig.serve(throttling, polite)
    # A first opening that is slow is no reason for a second one here.
    rig.run(rig.config(server.port, connections=5), deadlines=Deadlines(stagger=3600, quit=0.5))
    rig.work.add(attempt(0, recipients=["a@example.net", "b@example.net"]))
    await rig.work.until_finished(1)
    rig.work.add(*(attempt(number) for number in range(1, 5)))
    await server.until(lambda: bool(server.peers) and len(server.peers[0].bodies) == 2)
    await asyncio.sleep(0.1)
    assert len(server.peers) == 1
    gate.set()
    await rig.work.until_finished(5)
    assert rig.work.slowed == [(Slow(), None)]


async def test_one_sender_that_is_deferred_makes_nobody_else_wait(rig: Rig) -> None:
    async def deferring(peer: Peer) -> None:
        await peer.greet("SIZE")
        while (line := (await peer.reader.readline()).decode()).startswith("MAIL"):
            if "bad" in line:
                await peer.say("451 4.1.8 the domain does not resolve")
                continue
            await peer.say("250 ok")
            await peer.hear("RCPT")
            await peer.say("250 ok")
            await peer.hear("DATA")
            await peer.say("354 go")
            await peer.hear_body()
            await peer.say("250 2.0.0 stored")

    server = await rig.serve(deferring)
    rig.run(rig.config(server.port))
    rig.work.add(
        *(
            attempt(number, sender=f"app@{name}.example", uid=name)
            for number, name in enumerate(["good", "bad", "good", "bad", "bad", "good", "bad"])
        )
    )
    await rig.work.until_finished(7)
    assert rig.work.slowed == [(Slow(longest=LONGEST_OF_ONE), None)]
    assert rig.work.results.count((Result.DEFERRED, Reason.UPSTREAM_DEFERRED)) == 4


async def test_a_lane_that_rests_is_asked_again_when_its_time_has_come(rig: Rig) -> None:
    server = await rig.serve(polite)
    rig.work.rests_until = time.time() + 0.2
    rig.run(rig.config(server.port))
    rig.work.add(attempt(1))
    await asyncio.sleep(0)
    assert rig.work.finished == []
    rig.work.wake = lambda lane: None
    await rig.work.until_finished(1)
    assert time.time() >= rig.work.rests_until


async def test_the_seconds_of_a_pause_are_counted_once(rig: Rig) -> None:
    server = await rig.serve(answering("452 4.7.1 rate limit exceeded, retry in 2 seconds", 2))
    rig.work.pause_by = 3600
    rig.run(rig.config(server.port))
    rig.work.add(attempt(1), attempt(2), attempt(3))
    for count in (1, 2):
        await rig.work.until(lambda c=count: len(rig.work.slowed) == len(rig.work.finished) == c)  # type: ignore[misc]
        rig.work.rests_until = 0.0  # it ends early: all but moments of the next is the same hour
        rig.work.wake(LANE)
    await rig.work.until_finished(3)
    paced = rig.metric("upstream_paced_seconds_total", upstream="smarthost")
    assert abs(paced - 3600) < 2 * PATIENCE


async def test_a_pause_that_the_upstream_names_is_handed_on(rig: Rig) -> None:
    quota = "454 4.7.0 daily quota exceeded, try again in 90 seconds"
    server = await rig.serve(answering(quota))
    rig.run(rig.config(server.port), probing=NEVER)
    rig.work.add(attempt(1))
    await rig.work.until_finished(1)
    assert rig.work.slowed == [(PauseUntil(seconds=90), 90)]
    assert rig.work.results == [(Result.HELD, Reason.UPSTREAM_QUOTA_EXCEEDED)]


# --- fewer connections, another connection, fewer recipients


async def test_a_cap_is_lifted_by_itself(rig: Rig) -> None:
    async def stuck(peer: Peer) -> None:
        await peer.greet()
        await peer.take_envelope()
        await peer.silence()

    told = opened = 0.0

    async def full(peer: Peer) -> None:
        nonlocal told
        told = time.monotonic()
        await peer.say("421 4.7.0 too many connections")

    async def next_one(peer: Peer) -> None:
        nonlocal opened
        opened = time.monotonic()
        await polite(peer)

    server = await rig.serve(stuck, full, next_one)
    rig.run(
        rig.config(server.port, connections=2),
        deadlines=STAGGERED,
        probing=Probing(first=3600, longest=3600, cap=0.3),
    )
    rig.work.add(attempt(1), attempt(2))
    rig.work.wake = lambda lane: None
    await rig.work.until_finished(1)
    assert opened - told >= 0.3, "not before the cap's own time"
    assert len(server.peers) == 3
    assert rig.work.holds == []


async def test_too_many_connections_halves_them(rig: Rig) -> None:
    full = False

    async def limited(peer: Peer) -> None:
        nonlocal full
        await peer.greet()
        await server.until(lambda: len(server.peers) >= 4)
        if not full:
            full = True
            await peer.take_message(final="452 4.7.0 too many concurrent connections")
            await peer.silence()
        await peer.take_envelope()
        await peer.silence()

    server = await rig.serve(limited)
    rig.run(rig.config(server.port, connections=4), deadlines=STAGGERED, probing=NEVER)
    rig.work.add(*(attempt(number) for number in range(9)))
    await rig.work.until_finished(1)
    assert rig.courier is not None
    assert len(server.peers) == 4
    await asyncio.sleep(0.1)
    assert len(server.peers) == 4


async def test_a_connection_that_has_had_its_share_is_left_for_another(rig: Rig) -> None:
    server = await rig.serve(answering("451 4.7.0 too many messages in this connection", 1), polite)
    rig.run(rig.config(server.port), probing=NEVER)
    rig.work.add(attempt(1), attempt(2))
    await rig.work.until_finished(2)
    assert rig.work.results[1] == DELIVERED
    assert len(server.peers) == 2
    assert server.peers[0].heard[-1] == "QUIT"
    assert rig.work.holds == []


async def test_how_many_recipients_a_transaction_may_have_is_remembered(rig: Rig) -> None:
    async def two_at_a_time(peer: Peer) -> None:
        await peer.greet()
        await peer.hear("MAIL", *["RCPT"] * 5, "DATA")
        await peer.say(*["250 ok"] * 3, *["452 4.5.3 too many recipients"] * 3, "354 go")
        await peer.hear_body()
        await peer.say("250 2.0.0 stored")
        await take_all(peer)

    server = await rig.serve(two_at_a_time)
    rig.run(rig.config(server.port))
    rig.work.add(attempt(1, recipients=[f"{n}@example.net" for n in range(5)]), attempt(2))
    await rig.work.until_finished(2)
    assert [most for most in rig.work.mosts if most is not None] == [2] * (len(rig.work.mosts) - 1)
    assert rig.work.mosts[0] is None


async def test_how_many_recipients_a_transaction_may_have_may_be_configured(rig: Rig) -> None:
    server = await rig.serve(polite)
    config = rig.config(server.port)
    [upstream] = config.relay.upstreams
    capped = rig.config_of(upstream.model_copy(update={"max_recipients": 3}))
    courier = rig.run(capped)
    rig.work.add(attempt(1))
    await rig.work.until_finished(1)
    assert set(rig.work.mosts) == {3}
    courier.configure(config)
    rig.work.add(attempt(2))
    await rig.work.until_finished(2)
    assert rig.work.mosts[-1] is None


# --- every new connection is closed on us


async def closing_at_mail(peer: Peer) -> None:
    await peer.greet()
    await peer.hear("MAIL")
    await peer.say("421 4.7.0 try again later")


async def hanging_up_at_mail(peer: Peer) -> None:
    await peer.greet()
    await peer.hear("MAIL")


async def test_421_on_three_new_connections_holds_and_charges_no_further_message(rig: Rig) -> None:
    server = await rig.serve(*[closing_at_mail] * 5, polite)
    rig.run(rig.config(server.port), probing=Probing(first=0.02, longest=0.1, spread=0.0))
    rig.work.add(*(attempt(number) for number in range(8)))
    await rig.work.until_finished(8)
    deferred = (Result.DEFERRED, Reason.UPSTREAM_DEFERRED)
    held = (Result.HELD, Reason.UPSTREAM_REFUSED)
    assert rig.work.results == [deferred] * 2 + [held] * 3 + [DELIVERED] * 3
    assert len(rig.work.holds) == 3
    reason, detail = rig.work.holds[0]
    assert reason is Reason.UPSTREAM_REFUSED
    assert detail.startswith(f"127.0.0.1:{server.port} answered 421 4.7.0 try again later to MAIL")
    assert rig.state() is UpstreamState.UP


async def test_three_that_hang_up_hold_as_well(rig: Rig) -> None:
    server = await rig.serve(hanging_up_at_mail)
    quick = Probing(first=0.02, longest=3600, factor=1.0, spread=0.0)
    rig.run(rig.config(server.port), probing=quick)
    rig.work.add(*(attempt(number) for number in range(3)))
    await rig.work.until(lambda: bool(rig.work.holds))
    assert len(rig.work.finished) == 3
    assert rig.work.holds[0] == (
        Reason.UPSTREAM_REFUSED,
        f"127.0.0.1:{server.port} closed the connection when we awaited its answer to MAIL",
    )


async def test_421_after_refusals_of_recipients_holds_nothing(rig: Rig) -> None:
    """Postfix leaves after 20 of them: many recipients, greylisted, are no fault of anybody."""

    async def too_many_errors(peer: Peer) -> None:
        await peer.greet()
        await peer.hear("MAIL", "RCPT", "RCPT", "DATA")
        await peer.say("250 ok", "250 ok", "450 4.2.0 greylisted", "421 4.7.0 too many errors")

    server = await rig.serve(too_many_errors)
    rig.run(rig.config(server.port), probing=NEVER)
    both = ["taken@example.net", "refused@example.net"]
    rig.work.add(*(attempt(number, recipients=both) for number in range(6)))
    await rig.work.until_finished(6)
    assert set(rig.work.results) == {(Result.DEFERRED, Reason.UPSTREAM_DEFERRED)}
    assert rig.work.holds == []
    assert rig.work.slowed == []


async def test_one_that_hangs_up_now_and_then_holds_nothing(rig: Rig) -> None:
    good = answering("250 2.0.0 stored", 1)
    bad = hanging_up_at_mail
    server = await rig.serve(bad, bad, good, bad, bad, polite)
    quick = Probing(first=0.02, longest=0.1, spread=0.0)
    rig.run(rig.config(server.port, messages=1), probing=quick)
    rig.work.add(*(attempt(number) for number in range(6)))
    await rig.work.until_finished(6)
    assert rig.work.holds == []


# --- a host that vanishes


def keepalive_timer(peer: Peer) -> bool:
    """Whether the kernel has a keepalive timer for the client's end of this connection."""
    port = peer.writer.get_extra_info("peername")[1]
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        words = line.split()
        if int(words[1].rpartition(":")[2], 16) == port and words[3] == "01":
            return words[5].startswith("02:")
    return False


async def test_the_kernel_asks_whether_a_silent_host_is_still_there(rig: Rig) -> None:
    async def silent(peer: Peer) -> None:
        await peer.greet()
        await peer.take_envelope()
        await peer.hear_body()
        await peer.silence()

    server = await rig.serve(silent)
    rig.run(rig.config(server.port))
    rig.work.add(attempt(1))
    await server.until_body()
    async with asyncio.timeout(PATIENCE):
        while not keepalive_timer(server.peers[0]):  # not while an octet awaits its acknowledgement
            await asyncio.sleep(0.02)
