"""The notice as a message of the queue: from the null sender, with what the outcome said."""

from __future__ import annotations

import email
import email.policy
from dataclasses import replace
from pathlib import Path

import pytest

from mailrelay_gateway.file_body import FileBody
from mailrelay_gateway.message.dsn_text import Action
from mailrelay_gateway.message.envelope import POSTMASTER, Identity, Message, Outcome, Result
from mailrelay_gateway.queue.item import Move, Recipient, State
from mailrelay_gateway.queue.notices import QUOTED_HEADER, to_tell, write_notice
from mailrelay_gateway.queue.retry import RetryPolicy
from mailrelay_gateway.reasons import Reason
from mailrelay_gateway.smtp.dsn import DsnParameters, RecipientDsn
from mailrelay_gateway.smtp.reply import Reply
from tests.unit.queue.build import ROUTE

POLICY = RetryPolicy(give_up_after=1000.0, max_interval=100.0, warn_after=200.0)
NOBODY = Reply(550, "5.1.1", "nobody")


def message(body: bytes | Path, sender: str = "app@example.com") -> Message:
    return Message(
        queue_id="01ORIGINAL",
        envelope_sender=sender,
        recipient_count=1,
        identity=Identity(namespace="shop", name="web", uid="u", username="shop.web"),
        listener="submission",
        received_at=0.0,
        size=len(body) if isinstance(body, bytes) else 0,
        body=FileBody(body, 0) if isinstance(body, Path) else body,
        eight_bit=False,
    )


def move(outcome: Outcome | None, reply: str = "") -> Move:
    recipient = Recipient(0, "ann@example.net")
    return Move(
        recipient=recipient,
        state=None,
        route=ROUTE,
        reason=Reason.UPSTREAM_REJECTED,
        reply=reply,
        failed=True,
        outcome=outcome,
    )


def notice(of: Message, *moves: Move, action: Action = Action.FAILED) -> Message:
    found = write_notice(
        action,
        of,
        moves,
        queue_id="01NOTICE",
        hostname="relay.example.com",
        now=100.0,
        policy=POLICY,
    )
    assert found is not None
    return found


REFUSED = Outcome(0, Result.FAILED, Reason.UPSTREAM_REJECTED, NOBODY, "mx.example.net:25")


def test_it_comes_from_nobody_and_goes_to_the_sender() -> None:
    found = notice(message(b"Subject: x\r\n\r\nbody\r\n"), move(REFUSED))
    assert (found.envelope_sender, found.recipient_count, found.identity) == ("", 1, POSTMASTER)
    assert isinstance(found.body, bytes)
    assert found.size == len(found.body)
    assert (found.eight_bit, found.smtputf8) == (False, False)
    assert found.message_id == "<01NOTICE@relay.example.com>"
    assert b"Remote-MTA: dns; mx.example.net\r\n" in found.body
    assert b"Status: 5.1.1\r\n" in found.body
    assert b"\r\nbody\r\n" not in found.body


def test_a_move_without_an_outcome_still_says_what_is_known() -> None:
    found = notice(message(b"Subject: x\r\n\r\n"), move(None, "the lease was found"))
    assert isinstance(found.body, bytes)
    assert b"Diagnostic-Code: x-mailrelay; the lease was found\r\n" in found.body


def test_what_may_have_arrived_is_not_said_to_be_lost() -> None:
    lost = Outcome(0, Result.UNCERTAIN, Reason.REPLY_LOST, None, "mx.example.net:25")
    found = notice(message(b"Subject: x\r\n\r\n"), move(lost))
    assert isinstance(found.body, bytes)
    assert b"It may have been delivered nevertheless" in found.body


def test_what_may_have_arrived_before_the_last_attempt_is_said_too() -> None:
    refused = move(REFUSED)
    earlier = replace(refused, recipient=replace(refused.recipient, pinned=True))
    found = notice(message(b"Subject: x\r\n\r\n"), earlier)
    assert isinstance(found.body, bytes)
    assert b"It may have been delivered nevertheless" in found.body


def test_a_sender_that_is_not_ascii_can_be_answered() -> None:
    found = notice(message(b"Subject: x\r\n\r\n", sender="jörg@bücher.example"), move(REFUSED))
    assert (found.eight_bit, found.smtputf8) == (True, True)


@pytest.mark.parametrize(
    ("body", "quoted", "missing"),
    [
        (b"A: 1\r\nB: 2\r\n\r\nbody", b"A: 1\r\nB: 2\r\n", b"body"),
        (b"A: 1\r\n" + b"B: " + b"x" * QUOTED_HEADER, b"A: 1\r\n", b"B:"),
        (b"A" * QUOTED_HEADER * 2, b"\r\n", b"AAA"),
    ],
)
def test_of_the_header_whole_lines_are_quoted(
    body: bytes, quoted: bytes, missing: bytes, tmp_path: Path
) -> None:
    path = tmp_path / "body"
    path.write_bytes(body)
    for kept in (body, path):
        found = notice(message(kept), move(REFUSED))
        assert isinstance(found.body, bytes)
        _, _, rest = found.body.partition(b"text/rfc822-headers")
        assert quoted in rest
        assert missing not in rest


def test_a_body_that_cannot_be_read_keeps_nobody_from_being_told(tmp_path: Path) -> None:
    found = notice(message(tmp_path / "gone"), move(REFUSED))
    assert isinstance(found.body, bytes)
    assert b"Status: 5.1.1\r\n" in found.body


ASKED = {
    "nothing": None,
    "never": DsnParameters(recipients=(RecipientDsn("NEVER"),)),
    "success": DsnParameters(recipients=(RecipientDsn("SUCCESS"),)),
    "all": DsnParameters(recipients=(RecipientDsn("SUCCESS,FAILURE,DELAY"),)),
}
DELIVERED = Outcome(0, Result.DELIVERED, Reason.DELIVERED, Reply(250, "2.0.0", "ok"), "mx:25")
LATER = Outcome(0, Result.DEFERRED, Reason.UPSTREAM_DEFERRED, Reply(451, "4.3.0", "later"), "mx:25")
GONE = replace(move(REFUSED), state=None)
RELAYED = replace(move(DELIVERED), failed=False, reason=Reason.DELIVERED)
WAITS = replace(move(LATER), state=State.DEFERRED, failed=False, reason=LATER.reason, next_at=200.0)


@pytest.mark.parametrize(
    ("asked", "failure", "delay", "success"),
    [
        ("nothing", True, True, False),
        ("never", False, False, False),
        ("success", False, False, True),
        ("all", True, True, True),
    ],
)
def test_a_sender_is_told_what_it_asked_for(
    asked: str, failure: bool, delay: bool, success: bool
) -> None:
    of = replace(message(b"A: 1\r\n\r\n"), dsn=ASKED[asked])
    assert (Action.FAILED in to_tell(of, [GONE])) is failure
    assert (Action.DELAYED in to_tell(of, [replace(WAITS, delayed=True)])) is delay
    assert (Action.RELAYED in to_tell(of, [RELAYED])) is success
    passed = replace(RELAYED, outcome=replace(DELIVERED, dsn_passed=True))
    assert to_tell(of, [passed, WAITS]) == {}, "the upstream tells; and nothing has happened"
    nobodys = replace(of, envelope_sender="")
    assert to_tell(nobodys, [GONE, RELAYED, replace(WAITS, delayed=True)]) == {}


@pytest.mark.parametrize(
    "kind",
    [
        b'multipart/report; report-type=delivery-status; boundary="b"',
        b'Multipart/Report;\r\n boundary="b";\r\n Report-Type="delivery-status"',
    ],
)
def test_nobody_is_told_of_a_notice_that_has_a_sender(kind: bytes) -> None:
    of = message(b"Subject: x\r\nContent-Type: " + kind + b"\r\n\r\n")
    found = write_notice(
        Action.FAILED, of, [GONE], queue_id="1", hostname="h", now=1.0, policy=POLICY
    )
    assert found is None
    other = notice(message(b"Content-Type: multipart/mixed; x=report\r\n\r\n"), GONE)
    assert other.envelope_sender == ""


def test_a_delay_says_until_when_it_is_retried() -> None:
    waits = replace(WAITS, recipient=replace(WAITS.recipient, waited=400.0))
    found = notice(message(b"Subject: x\r\n\r\n"), waits, action=Action.DELAYED)
    assert isinstance(found.body, bytes)
    assert b"Action: delayed\r\nStatus: 4.3.0\r\n" in found.body
    assert b"Will-Retry-Until: Thu, 01 Jan 1970 00:13:20 +0000\r\n" in found.body  # 200 + 600
    assert b"you need not send the message again" in found.body


def test_what_the_sender_named_is_named_to_it() -> None:
    dsn = DsnParameters("HDRS", "QQ+3D1", (RecipientDsn("", "rfc822;Ann+2B1@Example.net"),))
    of = replace(message(b"Subject: x\r\n\r\nbody\r\n"), dsn=dsn)
    found = notice(of, GONE)
    assert isinstance(found.body, bytes)
    assert b"Original-Envelope-Id: QQ=1\r\n" in found.body
    assert b"Original-Recipient: rfc822; Ann+1@Example.net\r\n" in found.body


@pytest.mark.parametrize(
    ("body", "whole"),
    [
        (b"Subject: x\r\n\r\nbody\r\n", True),
        ("Subject: ü\r\n\r\nbödy\r\n".encode(), True),
        (b"Subject: x\r\n\r\n" + b"body\r\n" * 20_000, False),
    ],
)
def test_the_message_comes_back_whole_where_asked_for_and_small(body: bytes, whole: bool) -> None:
    of = replace(message(body), dsn=DsnParameters("FULL"))
    found = notice(of, GONE)
    assert isinstance(found.body, bytes) and found.body.isascii()
    read = email.message_from_bytes(found.body, policy=email.policy.default)
    returned = list(read.iter_parts())[2]
    assert returned.get_content_type() == ("message/rfc822" if whole else "text/rfc822-headers")
    if whole:
        [original] = returned.iter_parts()
        assert original.get_payload(decode=True) == body.partition(b"\r\n\r\n")[2]
    later = notice(of, replace(WAITS, delayed=True), action=Action.DELAYED)
    assert isinstance(later.body, bytes)
    assert b"message/rfc822" not in later.body, "of a delay only the header (RFC 3461, 6.2)"
