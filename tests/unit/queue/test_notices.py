"""The notice as a message of the queue: from the null sender, with what the outcome said."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from mailrelay_gateway.file_body import FileBody
from mailrelay_gateway.message.envelope import POSTMASTER, Identity, Message, Outcome, Result
from mailrelay_gateway.queue.item import Move, Recipient
from mailrelay_gateway.queue.notices import QUOTED_HEADER, write_notice
from mailrelay_gateway.reasons import Reason
from mailrelay_gateway.smtp.reply import Reply
from tests.unit.queue.build import ROUTE

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


def notice(of: Message, *moves: Move) -> Message:
    return write_notice(of, moves, queue_id="01NOTICE", hostname="relay.example.com", now=100.0)


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
