"""The notification about failed recipients as a message of our own, ready for the queue.

Reads the beginning of the failed message's file, if it has one; everything else is arguments.
"""

from __future__ import annotations

from collections.abc import Sequence

from mailrelay_gateway.message.body import first_octets
from mailrelay_gateway.message.dsn import FailedRecipient, build_notice
from mailrelay_gateway.message.envelope import POSTMASTER, Message, Result
from mailrelay_gateway.message.trace import message_id
from mailrelay_gateway.queue.item import Move

#: Octets of a message's header that a notice quotes: whole lines only.
QUOTED_HEADER = 8 * 1024


def write_notice(
    message: Message, failed: Sequence[Move], *, queue_id: str, hostname: str, now: float
) -> Message:
    """What tells the sender of `message` which recipients have failed: from the null sender, so
    that nobody is ever told about a notification (RFC 5321 section 4.5.5).
    """
    body = build_notice(
        queue_id=queue_id,
        hostname=hostname,
        to=message.envelope_sender,
        now=now,
        original_id=message.queue_id,
        received_at=message.received_at,
        header=_header_of(message),
        failed=[_failed(move) for move in failed],
    )
    return Message(
        queue_id=queue_id,
        envelope_sender="",
        recipient_count=1,
        identity=POSTMASTER,
        listener="",
        received_at=now,
        size=len(body),
        body=body,
        eight_bit=not body.isascii(),
        smtputf8=not message.envelope_sender.isascii(),  # its To field has the address as it is
        message_id=message_id(queue_id, hostname),
    )


def _failed(move: Move) -> FailedRecipient:
    outcome = move.outcome
    return FailedRecipient(
        address=move.recipient.address,
        reason=move.reason,
        reply=outcome.reply if outcome is not None else None,
        host=outcome.host if outcome is not None else "",
        detail=outcome.detail if outcome is not None else move.reply,
        # in this attempt, or in one before
        uncertain=move.recipient.pinned
        or (outcome is not None and outcome.result is Result.UNCERTAIN),
    )


def _header_of(message: Message) -> bytes:
    """The message's header, or the first whole lines of it; ours alone where the body cannot be
    read.
    """
    try:
        start = first_octets(message.body, QUOTED_HEADER)
    except OSError:  # damage to one file must not keep the message from ending
        start = b""
    header, blank, _ = (message.prelude + start)[:QUOTED_HEADER].partition(b"\r\n\r\n")
    return header if blank else header[: header.rfind(b"\r\n") + 1].rstrip(b"\r\n")
