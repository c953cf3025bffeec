"""An upstream that refuses us and not the message, at whatever stage: it is held with its own
words, nothing bounces, and the mail goes out once it changes its mind.
"""

from __future__ import annotations

import asyncio

import pytest

from mailrelay_gateway.contract.status import UpstreamState
from mailrelay_gateway.message.effect import PauseUntil
from mailrelay_gateway.message.envelope import Result
from mailrelay_gateway.reasons import Reason
from tests.integration.couriers.conftest import Rig
from tests.integration.couriers.memory_work import attempt
from tests.integration.couriers.scripted_server import Peer, Script, polite

DELIVERED = (Result.DELIVERED, Reason.DELIVERED)


def at_mail(reply: str) -> Script:
    async def script(peer: Peer) -> None:
        await peer.greet()
        await peer.hear("MAIL", "RCPT", "DATA")
        await peer.say(reply, "503 what", "503 what")
        await peer.until_quit()

    return script


def at_rcpt(reply: str) -> Script:
    async def script(peer: Peer) -> None:
        await peer.greet()
        await peer.hear("MAIL", "RCPT", "DATA")
        await peer.say("250 ok", reply, "554 no valid recipients")
        await peer.until_quit()

    return script


def at_dot(reply: str) -> Script:
    async def script(peer: Peer) -> None:
        await peer.greet()
        await peer.take_envelope()
        await peer.hear_body()
        await peer.say(reply)
        await peer.until_quit()

    return script


@pytest.mark.parametrize(
    ("script", "reason", "words"),
    [
        (at_mail("550 5.7.57 Client was not authenticated"), "UpstreamAuthFailed", "to MAIL"),
        (at_mail("521 5.3.2 no mail here"), "UpstreamRefused", "521 5.3.2 no mail here to MAIL"),
        (at_rcpt("554 5.7.1 <u@x>: Relay access denied"), "UpstreamRefused", "Relay access denied"),
        (at_rcpt("554 5.7.1 Client host rejected: Access denied"), "UpstreamRefused", "to RCPT"),
        (at_rcpt("504 5.5.2 <x>: Helo command rejected"), "UpstreamRefused", "Helo command"),
        (at_rcpt("550 5.7.1 Authentication required"), "UpstreamAuthFailed", "to RCPT"),
        (
            at_dot("550 5.3.0 out of order"),
            "UpstreamRefused",
            "550 5.3.0 out of order to the final",
        ),
    ],
)
async def test_it_is_held_and_nothing_bounces(
    rig: Rig, script: Script, reason: str, words: str
) -> None:
    server = await rig.serve(script, polite)
    rig.run(rig.config(server.port))
    rig.work.add(attempt(1))
    await rig.work.until_finished(1)
    [(result, why)] = rig.work.results
    assert (result, why.value) == (Result.HELD, reason)
    [(held_for, detail)] = rig.work.holds
    assert held_for.value == reason
    assert words in detail
    await rig.work.until(lambda: rig.work.releases == 1)
    rig.work.add(attempt(2))
    await rig.work.until_finished(2)
    assert rig.work.results[1] == DELIVERED
    assert rig.state() is UpstreamState.UP


async def test_a_quota_that_is_used_up_is_not_asked_again_before_its_time(rig: Rig) -> None:
    quota = at_dot("554 5.2.0 SubmissionQuotaExceededException; try again in 1 second")
    server = await rig.serve(quota, polite)
    rig.run(rig.config(server.port))
    rig.work.add(attempt(1), attempt(2))
    began = asyncio.get_running_loop().time()
    await rig.work.until_finished(1)
    assert rig.work.results == [(Result.HELD, Reason.UPSTREAM_QUOTA_EXCEEDED)]
    await rig.work.until_finished(2)
    assert rig.work.results[1] == DELIVERED
    assert asyncio.get_running_loop().time() - began >= 1
    [(effect, _)] = rig.work.slowed
    assert effect == PauseUntil(seconds=1)


async def test_what_no_rule_knows_holds_once_three_senders_got_it(rig: Rig) -> None:
    server = await rig.serve(*[at_rcpt("550 go away")] * 3, polite)
    rig.run(rig.config(server.port, messages=1))
    rig.work.add(*[attempt(number, uid=f"tenant-{number}") for number in range(3)])
    await rig.work.until_finished(3)
    assert [result for result, _ in rig.work.results] == [
        Result.FAILED,
        Result.FAILED,
        Result.HELD,
    ]
    [(reason, detail)] = rig.work.holds
    assert reason is Reason.UPSTREAM_REFUSED
    assert detail.endswith("answered 550 go away to RCPT, for all senders")


async def test_a_message_that_alone_is_refused_holds_twice_and_is_then_deferred(rig: Rig) -> None:
    no = at_rcpt("554 5.7.1 <u@x>: Relay access denied")
    server = await rig.serve(no, no, no, polite)
    rig.run(rig.config(server.port, messages=1))
    for number in range(1, 4):
        rig.work.add(attempt(7))
        await rig.work.until_finished(number)
        await rig.work.until(lambda: rig.state() is UpstreamState.UP)
    rig.work.add(attempt(8))
    await rig.work.until_finished(4)
    assert [result for result, _ in rig.work.results] == [
        Result.HELD,
        Result.HELD,
        Result.DEFERRED,
        Result.DELIVERED,
    ]
    assert len(rig.work.holds) == 2
