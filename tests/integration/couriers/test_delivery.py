"""Messages get delivered: replies become outcomes, connections are reused, bodies arrive as they
were.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from mailrelay_gateway.contract.status import UpstreamState
from mailrelay_gateway.couriers.smtp.deadlines import Deadlines
from mailrelay_gateway.message.effect import Elsewhere, Split
from mailrelay_gateway.message.envelope import Result
from mailrelay_gateway.reasons import Reason
from tests.integration.couriers.conftest import Rig
from tests.integration.couriers.memory_work import BODY, UPSTREAM, attempt
from tests.integration.couriers.scripted_server import Peer, gated, polite


async def test_a_message_is_delivered_as_it_was(rig: Rig) -> None:
    server = await rig.serve(polite)
    rig.run(rig.config(server.port))
    rig.work.add(attempt(recipients=["one@example.net", "two@example.net"]))
    outcomes = await rig.work.until_finished()
    assert rig.work.results == [(Result.DELIVERED, Reason.DELIVERED)] * 2
    assert str(outcomes[0].reply) == "250 2.0.0 stored"
    assert outcomes[0].host == f"127.0.0.1:{server.port}"
    [peer] = server.peers
    assert peer.heard == [
        "EHLO mail.example.com",
        f"MAIL FROM:<app@example.com> SIZE={len(BODY)}",
        "RCPT TO:<one@example.net>",
        "RCPT TO:<two@example.net>",
        "DATA",
    ]
    assert peer.bodies == [BODY.replace(b"\r\n.", b"\r\n..")]
    assert rig.state() is UpstreamState.UP
    labels = {"upstream": UPSTREAM, "result": "delivered", "code_class": "2xx"}
    assert rig.metric("delivery_attempts_total", **labels) == 2
    assert rig.metric("attempt_seconds_count", upstream=UPSTREAM) == 1
    assert rig.metric("upstream_connections", upstream=UPSTREAM) == 1
    assert rig.metric("upstream_up", upstream=UPSTREAM) == 1


async def test_one_connection_serves_many_messages(rig: Rig) -> None:
    server = await rig.serve(polite)
    rig.run(rig.config(server.port))
    rig.work.add(*(attempt(number) for number in range(50)))
    await rig.work.until_finished(50)
    rig.work.add(*(attempt(number) for number in range(50, 60)))
    await rig.work.until_finished(60)
    assert [one.number for one, _ in rig.work.finished] == list(range(60))
    assert len(server.peers) == 1


async def test_a_connection_leaves_after_its_number_of_messages(rig: Rig) -> None:
    server = await rig.serve(polite)
    rig.run(rig.config(server.port, messages=3))
    rig.work.add(*(attempt(number) for number in range(10)))
    await rig.work.until_finished(10)
    for peer in server.peers[:3]:
        assert len(peer.bodies) == 3
        assert peer.heard[-1] == "QUIT"


async def test_an_idle_connection_quits(rig: Rig) -> None:
    server = await rig.serve(polite)
    courier = rig.run(rig.config(server.port), deadlines=Deadlines(idle=0.05, quit=0.5))
    rig.work.add(attempt(1))
    await rig.work.until_finished(1)
    await server.until(lambda: server.peers[0].heard[-1] == "QUIT")
    rig.work.add(attempt(2))
    await rig.work.until_finished(2)
    assert len(server.peers) == 2
    assert courier.status()[0].state is UpstreamState.UP


async def test_a_backlog_opens_connections_up_to_the_bound(rig: Rig) -> None:
    gate = asyncio.Event()

    server = await rig.serve(gated(gate))
    rig.run(rig.config(server.port, connections=3))
    rig.work.add(*(attempt(number) for number in range(9)))
    await rig.work.until(lambda: len(rig.work.running) == 3)
    gate.set()
    await rig.work.until_finished(9)
    assert len(server.peers) == 3


async def test_one_message_opens_one_connection(rig: Rig) -> None:
    server = await rig.serve(polite)
    rig.run(rig.config(server.port, connections=10))
    for number in range(5):
        rig.work.add(attempt(number))
        await rig.work.until_finished(number + 1)
    assert len(server.peers) == 1


async def test_without_pipelining_it_works_line_by_line(rig: Rig) -> None:
    async def old(peer: Peer) -> None:
        await peer.say("220 old")
        await peer.hear("EHLO")
        await peer.say("500 what")
        await peer.hear("HELO")
        await peer.say("250 old")
        for _ in range(2):
            await peer.hear("MAIL")
            await peer.say("250 ok")
            await peer.hear("RCPT")
            await peer.say("250 ok")
            await peer.hear("RCPT")
            await peer.say("550 5.1.1 nobody")
            await peer.hear("DATA")
            await peer.say("354 go")
            await peer.hear_body()
            await peer.say("250 ok")
        await peer.until_quit()

    server = await rig.serve(old)
    rig.run(rig.config(server.port))
    recipients = ["one@example.net", "two@example.net"]
    rig.work.add(attempt(1, recipients=recipients), attempt(2, recipients=recipients))
    outcomes = await rig.work.until_finished(2)
    assert [outcome.result for outcome in outcomes] == [Result.DELIVERED, Result.FAILED] * 2
    assert str(outcomes[1].reply) == "550 5.1.1 nobody"


async def test_refusals_are_told_per_recipient(rig: Rig) -> None:
    async def picky(peer: Peer) -> None:
        await peer.greet()
        await peer.hear("MAIL", "RCPT", "RCPT", "RCPT", "DATA")
        await peer.say("250 ok", "250 ok", "550 5.1.1 nobody", "452 4.5.3 too many", "354 go")
        await peer.hear_body()
        await peer.say("250 2.0.0 stored")
        await peer.hear("MAIL", "RCPT", "DATA")
        await peer.say("250 ok", "550 5.1.1 nobody", "354 go")
        await peer.hear(".")
        await peer.say("554 5.5.1 no valid recipients")
        await peer.hear("MAIL", "RCPT", "DATA")
        await peer.say("250 ok", "250 ok", "451 4.3.0 disk")
        await peer.hear("RSET", "MAIL", "RCPT", "DATA")
        await peer.say("250 flushed", "550 5.7.1 not you", "503 what", "503 what")
        await peer.hear("MAIL", "RCPT", "DATA")
        await peer.say("250 ok", "250 ok", "354 go")
        await peer.hear_body()
        await peer.say("554-5.7.1 this is", "554 5.7.1 spam")
        await peer.until_quit()

    server = await rig.serve(picky)
    rig.run(rig.config(server.port))
    rig.work.add(
        attempt(0, recipients=["a@example.net", "b@example.net", "c@example.net"]),
        *(attempt(number) for number in range(1, 5)),
    )
    await rig.work.until_finished(5)
    assert rig.work.results == [
        (Result.DELIVERED, Reason.DELIVERED),
        (Result.FAILED, Reason.UPSTREAM_REJECTED),
        (Result.DEFERRED, Reason.UPSTREAM_TOO_MANY_RECIPIENTS),
        (Result.FAILED, Reason.UPSTREAM_REJECTED),
        (Result.DEFERRED, Reason.UPSTREAM_DEFERRED),
        (Result.DEFERRED, Reason.UPSTREAM_DOUBTED),
        (Result.FAILED, Reason.UPSTREAM_REJECTED),
    ]
    assert [outcome.effect for outcome in rig.work.outcomes[:3]] == [None, None, Split()]
    assert rig.work.outcomes[-1].reply is not None
    assert rig.work.outcomes[-1].reply.text == "this is\nspam"
    assert rig.state() is UpstreamState.UP
    assert len(server.peers) == 1


@pytest.mark.parametrize("tail", [b"", b"no line end", b"\r\n.", b"..\r\n"])
async def test_a_large_body_is_streamed_from_its_file(
    rig: Rig, tmp_path: Path, tail: bytes
) -> None:
    body = (
        b"Subject: x\r\n\r\n" + b"".join(b".%07d\r\n" % number for number in range(60_000)) + tail
    )
    path = tmp_path / "body"
    path.write_bytes(body)

    async def large(peer: Peer) -> None:
        peer.reader._limit = 2 * len(body)  # type: ignore[attr-defined]
        await polite(peer)

    server = await rig.serve(large)
    rig.run(rig.config(server.port))
    rig.work.add(attempt(1, body=path), attempt(2))
    await rig.work.until_finished(2)
    assert {result for result, _ in rig.work.results} == {Result.DELIVERED}
    ended = body if body.endswith(b"\r\n") else body + b"\r\n"
    assert server.peers[0].bodies[0] == ended.replace(b"\r\n.", b"\r\n..")


async def test_a_body_file_that_is_gone_or_cut_short_is_never_sent_as_a_message(
    rig: Rig, tmp_path: Path
) -> None:
    short = tmp_path / "short"
    short.write_bytes(b"Subject: x\r\n\r\nhalf")
    server = await rig.serve(polite)
    rig.run(rig.config(server.port))
    rig.work.add(attempt(1, body=short, size=1000))
    await rig.work.until_finished(1)
    rig.work.add(attempt(2, body=tmp_path / "gone", size=1000))
    await rig.work.until_finished(2)
    rig.work.add(attempt(3))
    await rig.work.until_finished(3)
    assert rig.work.results == [
        (Result.DEFERRED, Reason.INTERNAL_ERROR),
        (Result.DEFERRED, Reason.INTERNAL_ERROR),
        (Result.DELIVERED, Reason.DELIVERED),
    ]
    assert [peer.bodies for peer in server.peers[:2]] == [[], []]


async def test_recipients_that_cannot_be_named_fail_alone(rig: Rig) -> None:
    server = await rig.serve(polite)
    rig.run(rig.config(server.port))
    rig.work.add(
        attempt(1, recipients=["grüße@example.net", "b@example.net", "c@example.net\r\nDATA"]),
        attempt(2, sender="app@example.com>\r\nRCPT TO:<x@example.net"),
        attempt(3),
    )
    await rig.work.until_finished(3)
    assert [result for result, _ in rig.work.results] == [
        Result.DEFERRED,  # it goes to another upstream, which may take SMTPUTF8
        Result.DELIVERED,
        Result.FAILED,
        Result.FAILED,
        Result.DELIVERED,
    ]
    assert rig.work.outcomes[0].effect == Elsewhere()
    assert [line for line in server.peers[0].heard if line.startswith("RCPT")] == [
        "RCPT TO:<b@example.net>",
        "RCPT TO:<one@example.net>",
    ]
