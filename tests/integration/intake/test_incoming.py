"""A message comes in without a session: any way in hands over an envelope, an identity and octets,
and is judged, charged and answered as SMTP is.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from mailrelay_gateway.intake.authentication import Login
from mailrelay_gateway.intake.incoming import Incoming
from mailrelay_gateway.intake.judges import Origin, judge_recipient, judge_sender
from mailrelay_gateway.message.envelope import Envelope
from mailrelay_gateway.reasons import Reason
from mailrelay_gateway.smtp.refusal import Problem
from mailrelay_gateway.smtp.server.data_reader import ChunkReader
from tests.integration.intake.gate import USERNAME, Gate, configuration, open_gate, senders
from tests.models import made

SENDER = "billing@example.com"
MESSAGE = b"From: billing@example.com\r\nSubject: one\r\n\r\nHello\r\n"


class Way:
    """A way in that has no dialog: everything is known before the first octet, as in HTTP."""

    def __init__(self, gate: Gate, *, tls: str = "TLSv1.3", client: str = "127.0.0.1") -> None:
        self.commons = gate.listeners._commons
        self.listener = gate.listeners._open["submission"]
        self.settings = self.listener.settings
        self.origin = Origin(client, tls, "http.client.example", "HTTPS")
        entry = self.settings.directory.by_username[USERNAME]
        self.login = Login(entry, entry.verifiers[0])
        self.stored: asyncio.Future[tuple[str, Problem | None]] = asyncio.Future()

    def open(
        self,
        sender: str = SENDER,
        recipients: Sequence[str] = ("ann@example.org",),
        *,
        smtputf8: bool = False,
    ) -> Incoming | Problem:
        """The chain at the envelope, then room and limits."""
        entry = self.login.entry_in(self.settings.directory)
        problem = judge_sender(self.listener, self.origin, self.login, entry, sender, 0)
        taken: list[str] = []
        for recipient in recipients:
            if judge_recipient(self.settings, entry, sender, recipient, len(taken)) is None:
                taken.append(recipient)
        self.reader = ChunkReader()
        incoming = Incoming(
            Envelope(envelope_sender=sender, recipients=taken, smtputf8=smtputf8),
            self.reader,
            listener=self.listener,
            settings=self.settings,
            origin=self.origin,
            login=self.login,
            entry=entry,
            commons=self.commons,
            progressed=lambda: None,
        )
        return problem or incoming.begin(len(recipients) - len(taken)) or incoming

    def feed(self, incoming: Incoming, octets: bytes) -> None:
        self.reader.start(len(octets))
        part, _ = self.reader.feed(octets, 0)
        incoming.take(part)

    async def end(self, incoming: Incoming) -> tuple[str, Problem | None]:
        rest = self.reader.finish()
        if rest:
            incoming.take(rest)
        incoming.finish(lambda *outcome: self.stored.set_result(outcome))
        return await self.stored

    async def submit(self, octets: bytes = MESSAGE) -> tuple[str, Problem | None]:
        incoming = self.open()
        if isinstance(incoming, Problem):
            return "", incoming
        self.feed(incoming, octets)
        return await self.end(incoming)


def reason(outcome: tuple[str, Problem | None]) -> Reason:
    queue_id, problem = outcome
    assert queue_id == "" and problem is not None
    return problem.reason


async def test_it_is_stored_with_its_identity_and_a_trace(gate: Gate) -> None:
    queue_id, problem = await Way(gate).submit()
    assert problem is None
    (message,) = gate.intake.messages
    assert (message.queue_id, message.envelope_sender) == (queue_id, SENDER)
    assert str(message.identity) == "shop/billing"
    assert gate.intake.recipients == [("ann@example.org",)]
    body = gate.intake.body()
    assert b"from http.client.example ([127.0.0.1])" in body and b"with HTTPS" in body
    assert body.endswith(MESSAGE)
    labels = {"listener": "submission", "sender_namespace": "shop"}
    assert gate.count("received_messages_total", **labels) == 1
    assert gate.listeners._commons.budget.used == 0


async def test_a_large_one_goes_through_a_file(gate: Gate) -> None:
    way = Way(gate)
    incoming = way.open()
    assert isinstance(incoming, Incoming)
    pieces = [MESSAGE] + [b"%076d\r\n" % n for n in range(8000)]
    for piece in pieces:
        way.feed(incoming, piece)
    _, problem = await way.end(incoming)
    assert problem is None
    assert gate.intake.body().endswith(b"".join(pieces))
    assert gate.listeners._commons.budget.used == 0


@pytest.mark.parametrize(
    ("octets", "expected"),
    [
        (b"From: boss@example.com\r\n\r\n", Reason.HEADER_FROM_NOT_ALLOWED),
        (b"From: billing@example.com\r\n\r\na\nb\r\n", Reason.BARE_NEWLINE),
        (b"From: billing@example.com\r\n\r\na\0b\r\n", Reason.MALFORMED_MESSAGE),
        (b"Received: x\r\n" * 101 + MESSAGE, Reason.MAIL_LOOP),
        (MESSAGE + b"x\r\n" * 400_000, Reason.MESSAGE_TOO_BIG),
    ],
)
async def test_the_content_is_judged(gate: Gate, octets: bytes, expected: Reason) -> None:
    assert reason(await Way(gate).submit(octets)) is expected
    assert gate.intake.messages == []
    assert gate.listeners._commons.budget.used == 0


@pytest.mark.parametrize(
    ("bulk", "field", "expected"),
    [
        (False, b"", False),
        (True, b"", True),
        (False, b"X-Mailrelay-Class: bulk\r\n", True),
        (False, b"x-mailrelay-class :\r\n Bulk\r\n", True),
        (True, b"X-Mailrelay-Class: transactional\r\n", True),
        (False, b"X-Mailrelay-Class: transactional\r\n", False),
        (False, b"X-Mailrelay-Class: bulk\r\nX-Mailrelay-Class: x\r\n", True),
    ],
)
async def test_a_header_field_may_only_lower_the_class(
    gate: Gate, bulk: bool, field: bytes, expected: bool
) -> None:
    await gate.configure(
        configuration(of=[one.model_copy(update={"bulk": bulk}) for one in senders()])
    )
    _, problem = await Way(gate).submit(field + MESSAGE)
    assert problem is None
    (message,) = gate.intake.messages
    assert message.bulk is expected
    assert b"mailrelay-class" not in gate.intake.body().lower()
    assert gate.intake.body().endswith(MESSAGE)


LONG = b"x" * 999 + b"\r\n"
PLAIN_HEADER = b"From: billing@example.com\r\nX-Signed: no\r\n"
SIGNED_HEADERS = [
    PLAIN_HEADER + b"DKIM-Signature: v=1; b=x\r\n",
    PLAIN_HEADER + b"content-type:\r\n Multipart/Signed; boundary=b\r\n",
]


@pytest.mark.parametrize("before", [0, 8000], ids=["inline", "in a file"])
@pytest.mark.parametrize("after", [0, 8000])
async def test_a_body_with_a_long_line_is_taken_and_marked(
    gate: Gate, before: int, after: int
) -> None:
    content = PLAIN_HEADER + b"\r\n" + b"%076d\r\n" * before % tuple(range(before)) + LONG
    outcome = await Way(gate).submit(content + b"short\r\n" * after)
    assert outcome[1] is None
    (message,) = gate.intake.messages
    assert message.long_lines
    assert gate.intake.body().endswith(content + b"short\r\n" * after)


async def test_no_other_is_marked(gate: Gate) -> None:
    await Way(gate).submit(PLAIN_HEADER + b"X: " + b"y " * 600 + b"\r\n\r\n" + b"x" * 998)
    (message,) = gate.intake.messages
    assert not message.long_lines


@pytest.mark.parametrize("header", SIGNED_HEADERS, ids=["DKIM", "multipart"])
@pytest.mark.parametrize("before", [0, 8000], ids=["inline", "in a file"])
async def test_a_signed_one_is_refused(gate: Gate, header: bytes, before: int) -> None:
    content = header + b"\r\n" + b"%076d\r\n" * before % tuple(range(before)) + LONG
    _, problem = await Way(gate).submit(content)
    assert problem is not None
    assert "and the message is signed: encode it before it is signed" in str(problem.reply)
    assert gate.intake.messages == []


@pytest.mark.parametrize("before", [0, 8000], ids=["inline", "in a file"])
async def test_it_is_refused_where_the_relay_says_so(gate: Gate, before: int) -> None:
    await gate.configure(configuration(rejects_long_lines=True))
    content = PLAIN_HEADER + b"\r\n" + b"%076d\r\n" * before % tuple(range(before)) + LONG
    assert reason(await Way(gate).submit(content)) is Reason.MALFORMED_MESSAGE
    assert gate.listeners._commons.budget.used == 0


async def test_who_and_how_are_judged(gate: Gate) -> None:
    plain = Way(gate, tls="").open()
    assert isinstance(plain, Problem) and plain.reason is Reason.TLS_REQUIRED
    other = Way(gate).open(sender="boss@example.com")
    assert isinstance(other, Problem) and other.reason is Reason.SENDER_NOT_ALLOWED
    many = Way(gate).open(recipients=[f"{n}@example.org" for n in range(4)])
    assert isinstance(many, Problem) and many.reason is Reason.TOO_MANY_RECIPIENTS


async def test_the_limits_are_the_same_ones(tmp_path: Path) -> None:
    rates = [made.rate(scope="Sender", count=1, per=3600.0, burst=1)]
    async with open_gate(tmp_path, configuration(rates=rates)) as gate:
        assert (await Way(gate).submit())[1] is None
        assert reason(await Way(gate).submit()) is Reason.RATE_LIMITED


async def test_a_login_revoked_meanwhile_stores_nothing(gate: Gate) -> None:
    way = Way(gate)
    incoming = way.open()
    assert isinstance(incoming, Incoming)
    way.feed(incoming, MESSAGE)
    await gate.configure(replace(configuration(of=senders()[1:]), digest="other"))
    assert reason(await way.end(incoming)) is Reason.LOGIN_REVOKED
    assert gate.intake.messages == []


async def test_smtputf8_is_kept_only_where_it_matters(gate: Gate) -> None:
    """Many a client says it always, and a server further on may not take it."""
    header = b"From: billing@example.com\r\n"
    plain, subject, body = (
        header + b"\r\n",
        header + "Subject: Grüße\r\n\r\n".encode(),
        header + "\r\nGrüße\r\n".encode(),
    )
    for octets, recipient, declared, expected in (
        (plain, "ann@example.org", True, False),
        (body, "ann@example.org", True, False),
        (subject, "ann@example.org", True, True),
        (subject, "ann@example.org", False, False),
        (plain, "änn@example.org", True, True),
    ):
        way = Way(gate)
        incoming = way.open(recipients=[recipient], smtputf8=declared)
        assert isinstance(incoming, Incoming)
        way.feed(incoming, octets)
        assert (await way.end(incoming))[1] is None
        assert gate.intake.messages[-1].smtputf8 is expected
        assert gate.intake.messages[-1].prelude.isascii()
