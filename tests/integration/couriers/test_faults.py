"""An upstream that misbehaves: nothing is lost, nothing is failed, and what may have arrived is
uncertain.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from mailrelay_gateway.contract.documents import Login
from mailrelay_gateway.contract.status import UpstreamState
from mailrelay_gateway.couriers.smtp.deadlines import Deadlines
from mailrelay_gateway.message.envelope import Result
from mailrelay_gateway.reasons import Reason
from mailrelay_gateway.smtp.client.replies import MAX_LINES
from tests.integration.couriers.conftest import Rig
from tests.integration.couriers.memory_work import attempt
from tests.integration.couriers.scripted_server import Peer, Script, polite

D, U, OK, H = Result.DEFERRED, Result.UNCERTAIN, Result.DELIVERED, Result.HELD


async def drop_after_mail(peer: Peer) -> None:
    await peer.greet()
    await peer.hear("MAIL")


async def drop_after_data(peer: Peer) -> None:
    await peer.greet()
    await peer.hear("MAIL", "RCPT", "DATA")
    await peer.say("250 ok", "250 ok")


async def drop_after_dot(peer: Peer) -> None:
    await peer.greet()
    await peer.take_envelope()
    await peer.hear_body()


async def garbage_after_dot(peer: Peer) -> None:
    await drop_after_dot(peer)
    await peer.send(b"\x00\x01\x02 what\r\n")
    await peer.silence()


async def garbage_after_mail(peer: Peer) -> None:
    await drop_after_mail(peer)
    await peer.send(b"HTTP/1.0 400 Bad Request\r\n")
    await peer.silence()


async def closing_after_mail(peer: Peer) -> None:
    await drop_after_mail(peer)
    await peer.say("421 4.7.0 slow down")


async def closing_after_dot(peer: Peer) -> None:
    await drop_after_dot(peer)
    await peer.say("421 4.3.2 stopping")


async def no_space_after_the_code(peer: Peer) -> None:
    await drop_after_mail(peer)
    await peer.send(b"250OK\r\n")
    await peer.silence()


async def data_answered_with_250(peer: Peer) -> None:
    await peer.greet()
    await peer.hear("MAIL", "RCPT", "DATA")
    await peer.say("250 ok", "250 ok", "250 ok")
    await peer.silence()


@pytest.mark.parametrize(
    ("script", "result", "reason", "text"),
    [
        (drop_after_mail, D, Reason.CONNECTION_LOST, None),
        (drop_after_data, D, Reason.CONNECTION_LOST, None),
        (drop_after_dot, U, Reason.REPLY_LOST, None),
        (garbage_after_dot, U, Reason.REPLY_LOST, None),
        (garbage_after_mail, D, Reason.UPSTREAM_PROTOCOL_ERROR, None),
        (closing_after_mail, D, Reason.UPSTREAM_THROTTLED, "421 4.7.0 slow down"),
        (closing_after_dot, D, Reason.UPSTREAM_DEFERRED, "421 4.3.2 stopping"),
        (data_answered_with_250, D, Reason.UPSTREAM_PROTOCOL_ERROR, None),
        (no_space_after_the_code, D, Reason.UPSTREAM_PROTOCOL_ERROR, None),
    ],
)
async def test_a_broken_transaction_and_a_good_one_after(
    rig: Rig, script: Script, result: Result, reason: Reason, text: str | None
) -> None:
    server = await rig.serve(script, polite)
    rig.run(rig.config(server.port))
    rig.work.add(attempt(1), attempt(2))
    outcomes = await rig.work.until_finished(2)
    assert rig.work.results == [(result, reason), (OK, Reason.DELIVERED)]
    assert (str(outcomes[0].reply) if outcomes[0].reply else None) == text
    assert rig.work.given_back == []
    assert rig.work.holds == []


@pytest.mark.parametrize(
    ("script", "words"),
    [
        (no_space_after_the_code, "no space after the reply code: '250OK'"),
        (garbage_after_mail, "not an SMTP reply: 'HTTP/1.0 400 Bad Request'"),
        (garbage_after_dot, "not an SMTP reply: '??? what'"),
        (data_answered_with_250, "an unexpected reply (DATA): 250 ok"),
        (drop_after_mail, "closed the connection when we awaited its answer to MAIL"),
        (drop_after_dot, "closed the connection when we awaited its answer to the final dot"),
    ],
)
async def test_what_came_instead_of_a_reply_is_kept(rig: Rig, script: Script, words: str) -> None:
    server = await rig.serve(script, polite)
    rig.run(rig.config(server.port))
    rig.work.add(attempt(1))
    [outcome] = await rig.work.until_finished(1)
    assert (outcome.reply, outcome.detail) == (None, words)


async def wordy(peer: Peer) -> None:
    """A page of terms in the greeting, 151 lines to EHLO, 350 to DATA."""
    await peer.say(*["220-terms and conditions"] * 500, "220 script")
    await peer.hear("EHLO")
    await peer.say(*[f"250-X-{n}" for n in range(150)], "250 PIPELINING")
    await peer.hear("MAIL", "RCPT", "DATA")
    await peer.say("250 ok", "250 ok", "350 go")
    await peer.hear_body()
    await peer.say("250 stored")
    await peer.until_quit()


async def test_a_server_of_many_words_gets_its_mail(rig: Rig) -> None:
    server = await rig.serve(wordy)
    rig.run(rig.config(server.port))
    rig.work.add(attempt(1))
    await rig.work.until_finished(1)
    assert rig.work.results == [(OK, Reason.DELIVERED)]
    assert rig.work.holds == []


async def silent_after_mail(peer: Peer) -> None:
    await drop_after_mail(peer)
    await peer.silence()


async def silent_after_rcpt(peer: Peer) -> None:
    await drop_after_data(peer)
    await peer.silence()


async def silent_after_dot(peer: Peer) -> None:
    await drop_after_dot(peer)
    await peer.silence()


@pytest.mark.parametrize(
    ("script", "deadlines", "result", "reason"),
    [
        (silent_after_mail, Deadlines(command=0.1), D, Reason.UPSTREAM_TIMEOUT),
        (silent_after_rcpt, Deadlines(data=0.1), D, Reason.UPSTREAM_TIMEOUT),
        (silent_after_dot, Deadlines(final=0.1), U, Reason.REPLY_LOST),
    ],
)
async def test_silence_ends_at_the_deadline_of_its_phase(
    rig: Rig, script: Script, deadlines: Deadlines, result: Result, reason: Reason
) -> None:
    server = await rig.serve(script, polite)
    rig.run(rig.config(server.port), deadlines=deadlines)
    rig.work.add(attempt(1), attempt(2))
    await rig.work.until_finished(2)
    assert rig.work.results == [(result, reason), (OK, Reason.DELIVERED)]


async def test_a_body_that_the_server_stops_reading_is_deferred(rig: Rig, tmp_path: Path) -> None:
    path = tmp_path / "body"
    path.write_bytes(b"x" * 62 + b"\r\n")
    with path.open("ab") as file:
        file.write((b"x" * 62 + b"\r\n") * 400_000)

    async def stuck(peer: Peer) -> None:
        await peer.greet()
        await peer.take_envelope()
        peer.writer.transport.pause_reading()  # type: ignore[attr-defined]
        await peer.silence()

    server = await rig.serve(stuck, polite)
    rig.run(rig.config(server.port), deadlines=Deadlines(block=0.2))
    rig.work.add(attempt(1, body=path), attempt(2))
    await rig.work.until_finished(2)
    assert rig.work.results == [(D, Reason.UPSTREAM_TIMEOUT), (OK, Reason.DELIVERED)]


async def test_a_refusal_amid_a_large_body_is_the_answer(rig: Rig, tmp_path: Path) -> None:
    path = tmp_path / "body"
    path.write_bytes((b"x" * 62 + b"\r\n") * 400_000)

    async def enough(peer: Peer) -> None:
        await peer.greet()
        await peer.take_envelope()
        await peer.reader.read(1000)
        await peer.say("552 5.3.4 too big for us")
        await peer.silence()

    server = await rig.serve(enough, polite)
    rig.run(rig.config(server.port))
    rig.work.add(attempt(1, body=path), attempt(2))
    outcomes = await rig.work.until_finished(2)
    assert rig.work.results[0] == (Result.FAILED, Reason.UPSTREAM_REJECTED)
    assert str(outcomes[0].reply) == "552 5.3.4 too big for us"
    assert len(server.peers) == 2


async def test_an_answer_before_the_body_was_read_ends_the_connection(rig: Rig) -> None:
    """What is left of the body must not be followed by commands: the server may take all of it for
    commands.
    """

    async def hasty(peer: Peer) -> None:
        await peer.greet()
        await peer.take_envelope()
        await peer.reader.readexactly(1000)
        peer.writer.transport.pause_reading()  # type: ignore[attr-defined]
        await peer.say("550 5.7.1 no")
        await peer.silence()

    server = await rig.serve(hasty, polite)
    rig.run(rig.config(server.port))
    rig.work.add(attempt(1, body=(b"x" * 62 + b"\r\n") * 400_000), attempt(2))
    await rig.work.until_finished(2)
    assert [result for result, _ in rig.work.results] == [Result.FAILED, OK]
    assert len(server.peers) == 2


async def limit_by_421(peer: Peer) -> None:
    await peer.greet()
    await peer.take_message()
    if (await peer.reader.readline()).startswith(b"MAIL"):
        await peer.say("421 4.7.0 too many messages in this connection")


async def limit_by_421_unasked(peer: Peer) -> None:
    await peer.greet()
    await peer.take_message()
    await peer.say("421 4.7.0 too many messages in this connection")


async def limit_by_hanging_up(peer: Peer) -> None:
    await peer.greet()
    await peer.take_message()


@pytest.mark.parametrize("script", [limit_by_421, limit_by_421_unasked, limit_by_hanging_up])
async def test_a_limit_per_connection_costs_no_message_an_attempt(rig: Rig, script: Script) -> None:
    server = await rig.serve(script)
    rig.run(rig.config(server.port))
    rig.work.add(*(attempt(number) for number in range(5)))
    await rig.work.until_finished(5)
    assert rig.work.results == [(OK, Reason.DELIVERED)] * 5
    assert rig.work.holds == []


async def test_an_unsolicited_line_closes_an_idle_connection(rig: Rig) -> None:
    async def chatty(peer: Peer) -> None:
        await peer.greet()
        await peer.take_message(final="250 stored\r\n250 and one more")
        await peer.silence()

    server = await rig.serve(chatty, polite)
    rig.run(rig.config(server.port))
    rig.work.add(attempt(1), attempt(2))
    await rig.work.until_finished(2)
    assert rig.work.results == [(OK, Reason.DELIVERED)] * 2
    assert [len(peer.bodies) for peer in server.peers] == [1, 1]


# --- before MAIL: the upstream's trouble


def refuse(*lines: str) -> Script:
    async def script(peer: Peer) -> None:
        await peer.say(*lines)
        await peer.until_quit()

    return script


async def refuse_ehlo(peer: Peer) -> None:
    await peer.say("220 hi")
    await peer.hear("EHLO")
    await peer.say("550 5.7.1 your name is mud")
    await peer.hear("HELO")
    await peer.say("550 5.7.1 your name is mud")


async def silent(peer: Peer) -> None:
    await peer.silence()


async def silent_after_greeting(peer: Peer) -> None:
    await peer.say("220 hi")
    await peer.silence()


async def dribble(peer: Peer) -> None:
    while True:
        await peer.send(b"2")
        await asyncio.sleep(0.02)


async def hang_up(peer: Peer) -> None:
    del peer


async def endless_line(peer: Peer) -> None:
    await peer.send(b"220 " + b"x" * 100_000)
    await peer.silence()


async def endless_greeting(peer: Peer) -> None:
    await peer.send(b"220-and\r\n" * (MAX_LINES + 1))
    await peer.silence()


@pytest.mark.parametrize(
    ("script", "reason", "words"),
    [
        (refuse("421 4.7.0 too busy"), Reason.UPSTREAM_REFUSED, "answered 421 4.7.0 too busy"),
        (refuse("554 5.7.1 blocked"), Reason.UPSTREAM_REFUSED, "answered 554 5.7.1 blocked"),
        (refuse("SSH-2.0-OpenSSH"), Reason.UPSTREAM_PROTOCOL_ERROR, "not an SMTP reply"),
        (endless_line, Reason.UPSTREAM_PROTOCOL_ERROR, "more than 4096 octets"),
        (endless_greeting, Reason.UPSTREAM_PROTOCOL_ERROR, "more than 10000 lines"),
        (refuse_ehlo, Reason.UPSTREAM_REFUSED, "your name is mud"),
        (hang_up, Reason.UPSTREAM_REFUSED, "closed the connection when we awaited its greeting"),
    ],
)
async def test_trouble_before_mail_holds_the_upstream_and_costs_no_attempt(
    rig: Rig, script: Script, reason: Reason, words: str
) -> None:
    server = await rig.serve(script, script, polite)
    rig.run(rig.config(server.port))
    rig.work.add(attempt(1))
    await rig.work.until(lambda: len(rig.work.holds) == 2)
    assert rig.state() is UpstreamState.HELD
    assert rig.work.holds[0][0] is reason
    assert words in rig.work.holds[0][1]
    assert f"127.0.0.1:{server.port}" in rig.work.holds[0][1]
    assert rig.metric("upstream_up", upstream="smarthost") == 0
    await rig.work.until_finished(1)
    assert rig.work.results == [(OK, Reason.DELIVERED)]
    assert rig.state() is UpstreamState.UP
    assert rig.work.given_back == []


@pytest.mark.parametrize(
    ("script", "deadlines", "words"),
    [
        (silent, Deadlines(greeting=0.1), "silent for 0.1 s when we awaited its greeting"),
        (dribble, Deadlines(greeting=0.1), "silent for 0.1 s when we awaited its greeting"),
        (silent_after_greeting, Deadlines(session=0.1), "we awaited its answer to EHLO"),
    ],
)
async def test_silence_before_mail_holds_the_upstream(
    rig: Rig, script: Script, deadlines: Deadlines, words: str
) -> None:
    server = await rig.serve(script)
    rig.run(rig.config(server.port), deadlines=deadlines)
    rig.work.add(attempt(1))
    await rig.work.until(lambda: bool(rig.work.holds))
    reason, detail = rig.work.holds[0]
    assert reason is Reason.UPSTREAM_TIMEOUT
    assert words in detail
    assert rig.work.finished == []


def login_refused(*replies: str) -> Callable[[Peer], Awaitable[None]]:
    async def script(peer: Peer) -> None:
        await peer.greet("PIPELINING", "AUTH PLAIN")
        await peer.hear("AUTH PLAIN")
        await peer.say(*replies)
        await peer.until_quit()

    return script


async def takes_login(peer: Peer) -> None:
    await peer.greet("PIPELINING", "AUTH PLAIN")
    await peer.hear("AUTH PLAIN AHVzZXIAd29yZA==")
    await peer.say("235 2.7.0 in")
    await peer.take_message()
    await peer.until_quit()


async def test_a_refused_login_holds_and_says_what_the_server_said(rig: Rig) -> None:
    server = await rig.serve(login_refused("535 5.7.8 bad credentials"), takes_login)
    courier = rig.run(rig.config(server.port, login=Login(username="user", password="word")))
    rig.work.add(attempt(1))
    await rig.work.until(lambda: len(rig.work.holds) == 1)
    [status] = courier.status()
    assert (status.state, status.reason) == (UpstreamState.HELD, Reason.UPSTREAM_AUTH_FAILED)
    assert "535 5.7.8 bad credentials" in status.message
    assert "word" not in status.message
    await rig.work.until_finished(1)
    assert rig.work.results == [(OK, Reason.DELIVERED)]


async def test_a_refused_login_is_not_tried_at_the_other_hosts(rig: Rig) -> None:
    first = await rig.serve(login_refused("535 5.7.8 bad credentials"))
    second = await rig.serve(takes_login)
    login = Login(username="user", password="word")
    rig.run(rig.config(first.port, second.port, login=login))
    rig.work.add(attempt(1))
    await rig.work.until(lambda: len(rig.work.holds) == 1)
    assert second.peers == []


async def test_a_login_without_a_mechanism_we_speak_holds(rig: Rig) -> None:
    async def script(peer: Peer) -> None:
        await peer.greet("AUTH GSSAPI")

    server = await rig.serve(script)
    rig.run(rig.config(server.port, login=Login(username="user", password="word")))
    rig.work.add(attempt(1))
    await rig.work.until(lambda: len(rig.work.holds) == 1)
    assert rig.work.holds[0][0] is Reason.UPSTREAM_AUTH_MISSING


async def test_a_password_with_a_line_break_never_reaches_the_server(rig: Rig) -> None:
    server = await rig.serve(polite)
    rig.run(rig.config(server.port, login=Login(username="user", password="word\n")))
    rig.work.add(attempt(1))
    await rig.work.until(lambda: len(rig.work.holds) == 1)
    assert rig.work.holds[0][0] is Reason.UPSTREAM_AUTH_FAILED
    assert "line break" in rig.work.holds[0][1]
    assert server.peers == []


async def test_a_login_asked_for_at_mail_holds_ever_longer_and_blames_nobody(rig: Rig) -> None:
    async def script(peer: Peer) -> None:
        await peer.greet()
        await peer.hear("MAIL", "RCPT", "DATA")
        await peer.say("530 5.7.0 Authentication required", "503 what", "503 what")
        await peer.until_quit()

    server = await rig.serve(script)
    rig.run(rig.config(server.port))
    rig.work.add(attempt(1), attempt(2), attempt(3))
    await rig.work.until(lambda: len(rig.work.holds) == 3)
    assert rig.work.results == [(H, Reason.UPSTREAM_AUTH_FAILED)] * 3
    assert len(server.peers) == 3
    assert all(peer.heard[-1] == "QUIT" for peer in server.peers[:2])
    assert "530 5.7.0 Authentication required" in rig.work.holds[0][1]
