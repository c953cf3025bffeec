"""8-bit mail towards upstreams that do not take it (RFC 6152 section 3)."""

from __future__ import annotations

import asyncio
import email
import email.policy
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from mailrelay_gateway.message.effect import Elsewhere
from mailrelay_gateway.message.envelope import Attempt, Result
from mailrelay_gateway.reasons import Reason
from tests.integration.couriers.conftest import Rig
from tests.integration.couriers.memory_work import attempt
from tests.integration.couriers.scripted_server import Peer, ScriptedServer, take_all
from tests.waiting import PATIENCE

DELIVERED = (Result.DELIVERED, Reason.DELIVERED)
TEXT = "Grüße aus Köln, und viel mehr Text, der lang genug ist.\r\n.\r\n"
HEADER = (
    "From: Jörg <app@example.com>\r\nSubject: Grüße\r\nMIME-Version: 1.0\r\n"
    "Content-Type: text/plain; charset=utf-8\r\n"
)
PLAIN = f"{HEADER}Content-Transfer-Encoding: 8bit\r\n\r\n{TEXT}".encode()

pytestmark = pytest.mark.both_loops


async def serve(rig: Rig, *extensions: str) -> ScriptedServer:
    async def script(peer: Peer) -> None:
        await peer.greet(*extensions)
        await take_all(peer)

    return await rig.serve(script)


def mail(number: int, body: bytes | Path) -> Attempt:
    return attempt(number, body=body, eight_bit=True)


def received(server: ScriptedServer, number: int = 0) -> bytes:
    return server.peers[0].bodies[number].replace(b"\r\n..", b"\r\n.")


@pytest.mark.parametrize("in_a_file", [False, True])
async def test_it_is_re_encoded_without_8bitmime(rig: Rig, tmp_path: Path, in_a_file: bool) -> None:
    server = await serve(rig, "PIPELINING", "SIZE 10000000")
    rig.run(rig.config(server.port))
    body = PLAIN + TEXT.encode() * 10_000
    kept: bytes | Path = body
    if in_a_file:
        kept = tmp_path / "body"
        kept.write_bytes(body)
    rig.work.add(mail(0, kept), mail(1, PLAIN))
    await rig.work.until_finished(2)
    assert rig.work.results == [DELIVERED] * 2
    assert len(server.peers) == 1
    large, small = received(server), received(server, 1)
    for octets, content in ((large, TEXT * 10_001), (small, TEXT)):
        assert octets.isascii()
        assert f"MAIL FROM:<app@example.com> SIZE={len(octets)}" in server.peers[0].heard
        found = email.message_from_bytes(octets, policy=email.policy.default)
        assert found["Subject"] == "Grüße"
        assert found["From"] == "Jörg <app@example.com>"
        assert found["Content-Transfer-Encoding"] == "quoted-printable"
        assert found.get_payload(decode=True) == content.encode()


async def test_it_goes_unchanged_with_8bitmime(rig: Rig) -> None:
    server = await serve(rig, "PIPELINING", "8BITMIME")
    rig.run(rig.config(server.port))
    rig.work.add(mail(0, PLAIN))
    await rig.work.until_finished(1)
    assert received(server) == PLAIN
    assert server.peers[0].heard[1] == "MAIL FROM:<app@example.com> BODY=8BITMIME"


SIGNED = b"DKIM-Signature: v=1; d=example.com; b=abc\r\n" + PLAIN
SEALED = (
    b'MIME-Version: 1.0\r\nContent-Type: multipart/signed; boundary="b"; micalg=sha-256;\r\n'
    b' protocol="application/pgp-signature"\r\n\r\n--b\r\n\r\n'
    + TEXT.encode()
    + b"--b\r\n\r\n--b--\r\n"
)
HEADER_ONLY = b"DKIM-Signature: v=1; d=example.com; b=abc\r\nSubject: Gr\xfc\xdfe\r\n\r\nascii\r\n"
BROKEN = b"MIME-Version: 1.0\r\nContent-Type: multipart/mixed\r\n\r\n" + TEXT.encode()


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (SIGNED, Reason.SIGNATURE_WOULD_BREAK),
        (SEALED, Reason.SIGNATURE_WOULD_BREAK),
        (BROKEN, Reason.CONVERSION_IMPOSSIBLE),
    ],
)
async def test_what_cannot_be_re_encoded_goes_elsewhere_and_the_next_one_goes_out(
    rig: Rig, body: bytes, reason: Reason
) -> None:
    server = await serve(rig, "PIPELINING")
    rig.run(rig.config(server.port))
    rig.work.add(mail(0, body), attempt(1))
    await rig.work.until_finished(2)
    first, second = rig.work.outcomes
    assert (first.result, first.reason, first.effect) == (Result.DEFERRED, reason, Elsewhere())
    assert first.reply is not None
    assert (first.reply.code, first.reply.enhanced) == (554, "5.6.3")
    assert second.result is Result.DELIVERED
    assert [line[:4] for line in server.peers[0].heard] == ["EHLO", "MAIL", "RCPT", "DATA"]


async def test_a_signed_message_with_8_bits_in_its_header_alone_stays_as_it_is(rig: Rig) -> None:
    server = await serve(rig, "PIPELINING")
    rig.run(rig.config(server.port))
    rig.work.add(mail(0, HEADER_ONLY))
    await rig.work.until_finished(1)
    assert received(server) == HEADER_ONLY


async def test_a_body_that_is_gone_is_no_fault_of_the_upstream(rig: Rig, tmp_path: Path) -> None:
    server = await serve(rig, "PIPELINING")
    rig.run(rig.config(server.port))
    rig.work.add(mail(0, tmp_path / "gone"), attempt(1))
    await rig.work.until_finished(2)
    assert rig.work.results == [(Result.DEFERRED, Reason.INTERNAL_ERROR), DELIVERED]


class GatedBody:
    """A stored body that can be read once the gate is open."""

    def __init__(self, octets: bytes) -> None:
        self.size = len(octets)
        self.gate = threading.Event()
        self._octets = octets

    def chunks(self, octets: int) -> Iterator[bytes]:
        """See StoredBody."""
        if not self.gate.wait(PATIENCE):
            raise OSError("the gate stayed shut")
        yield self._octets


async def test_a_session_that_ends_meanwhile_gives_the_message_back(rig: Rig) -> None:
    taken = asyncio.Event()

    async def ends(peer: Peer) -> None:
        await peer.greet("PIPELINING")
        await taken.wait()
        await peer.say("421 4.3.2 closing")

    async def stays(peer: Peer) -> None:
        await peer.greet("PIPELINING")
        await take_all(peer)

    server = await rig.serve(ends, stays)
    rig.run(rig.config(server.port))
    body = GatedBody(PLAIN)
    held = mail(0, PLAIN)
    rig.work.add(replace(held, message=replace(held.message, body=body)))
    await rig.work.until(lambda: bool(rig.work.running))
    taken.set()
    await rig.work.until(lambda: bool(rig.work.given_back))
    body.gate.set()
    await rig.work.until_finished(1)
    assert rig.work.results == [DELIVERED]
    assert server.peers[0].heard == ["EHLO mail.example.com"]


async def test_a_stop_meanwhile_gives_the_message_back(rig: Rig) -> None:
    server = await serve(rig, "PIPELINING")
    courier = rig.run(rig.config(server.port))
    body = GatedBody(PLAIN)
    held = mail(0, PLAIN)
    rig.work.add(replace(held, message=replace(held.message, body=body)))
    await rig.work.until(lambda: bool(rig.work.running))
    await courier.stop(0.0)
    assert len(rig.work.given_back) == 1
    body.gate.set()


UTF8 = (
    "From: Jörg <app@example.com>\r\nTo: jörg@bücher.example, Anna <anna@bücher.example>\r\n"
    "Subject: Grüße\r\n\r\n" + TEXT
).encode()


def utf8_mail(
    number: int, *recipients: str, sender: str = "app@example.com", body: bytes = UTF8
) -> Attempt:
    return attempt(
        number, sender=sender, recipients=recipients, body=body, eight_bit=True, smtputf8=True
    )


async def test_a_utf_8_message_goes_unchanged_with_smtputf8(rig: Rig) -> None:
    server = await serve(rig, "PIPELINING", "8BITMIME", "SMTPUTF8")
    rig.run(rig.config(server.port))
    rig.work.add(utf8_mail(0, "jörg@xn--bcher-kva.example"))
    await rig.work.until_finished(1)
    assert received(server) == UTF8
    assert server.peers[0].heard[1:3] == [
        "MAIL FROM:<app@example.com> BODY=8BITMIME SMTPUTF8",
        "RCPT TO:<jörg@xn--bcher-kva.example>",
    ]


async def test_without_smtputf8_its_header_becomes_ascii_and_its_body_stays(rig: Rig) -> None:
    server = await serve(rig, "PIPELINING", "8BITMIME")
    rig.run(rig.config(server.port))
    rig.work.add(utf8_mail(0, "anna@xn--bcher-kva.example"))
    await rig.work.until_finished(1)
    assert rig.work.results == [DELIVERED]
    header, _, body = received(server).partition(b"\r\n\r\n")
    assert header.isascii()
    assert body == TEXT.encode()
    assert b"Anna <anna@xn--bcher-kva.example>" in header
    assert server.peers[0].heard[1] == "MAIL FROM:<app@example.com> BODY=8BITMIME"


async def test_an_address_without_an_ascii_form_goes_elsewhere_and_the_others_here(
    rig: Rig,
) -> None:
    server = await serve(rig, "PIPELINING", "8BITMIME")
    rig.run(rig.config(server.port))
    rig.work.add(utf8_mail(0, "one@example.net", "jörg@example.net", "two@example.net"))
    rig.work.add(utf8_mail(1, "one@example.net", sender="jörg@example.com"))
    await rig.work.until_finished(2)
    one, other, two, none = rig.work.outcomes
    assert [one.result, two.result] == [Result.DELIVERED] * 2
    for outcome in (other, none):
        assert (outcome.result, outcome.reason) == (Result.DEFERRED, Reason.ADDRESS_UNSENDABLE)
        assert outcome.effect == Elsewhere()
        assert outcome.reply is not None
        assert (outcome.reply.code, outcome.reply.enhanced) == (553, "5.6.7")
    assert len(server.peers[0].bodies) == 1


async def test_a_signed_utf_8_header_goes_elsewhere(rig: Rig) -> None:
    server = await serve(rig, "PIPELINING", "8BITMIME")
    rig.run(rig.config(server.port))
    rig.work.add(utf8_mail(0, "one@example.net", body=SIGNED))
    await rig.work.until_finished(1)
    assert rig.work.results == [(Result.DEFERRED, Reason.SIGNATURE_WOULD_BREAK)]
