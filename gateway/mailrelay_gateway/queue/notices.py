"""Decides what a sender is told about its recipients, and builds the notice as a message of our
own, ready for the queue.

Reads the beginning of the message's file, if it has one; everything else is arguments.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from mailrelay_gateway.message.body import first_octets
from mailrelay_gateway.message.dsn import build_notice, is_report
from mailrelay_gateway.message.dsn_text import Action, NoticeRecipient
from mailrelay_gateway.message.envelope import POSTMASTER, Message, Result
from mailrelay_gateway.message.mime.seven_bit import Unconvertible, seven_bit, survey
from mailrelay_gateway.message.trace import message_id
from mailrelay_gateway.queue.item import Move
from mailrelay_gateway.queue.retry import RetryPolicy
from mailrelay_gateway.smtp.dsn import NONE, wants

#: Octets of a message's header that a notice quotes: whole lines only.
QUOTED_HEADER = 8 * 1024
#: Octets of a message that a notice returns whole if the sender asked for it (RET=FULL). Postfix:
#: bounce_size_limit, 50000.
RETURNED = 50_000


def to_tell(message: Message, moves: Sequence[Move]) -> Mapping[Action, Sequence[Move]]:
    """What the message's sender is to be told of, by what it asked for (RFC 3461 section 4.1).
    Nobody is told anything about mail of the null sender: that is how notifications never breed
    (RFC 5321 section 4.5.5).
    """
    told: dict[Action, list[Move]] = {}
    if not message.envelope_sender:
        return told
    for move in moves:
        action = _action(message, move)
        if action is not None:
            told.setdefault(action, []).append(move)
    return told


def _action(message: Message, move: Move) -> Action | None:
    dsn, index, outcome = message.dsn, move.recipient.index, move.outcome
    if move.failed:
        return Action.FAILED if wants(dsn, index, "FAILURE") else None
    if move.delayed:
        return Action.DELAYED if wants(dsn, index, "DELAY") else None
    if outcome is None or outcome.result is not Result.DELIVERED or outcome.dsn_passed:
        return None
    return Action.RELAYED if wants(dsn, index, "SUCCESS") else None


def write_notice(
    action: Action,
    message: Message,
    moves: Sequence[Move],
    *,
    queue_id: str,
    hostname: str,
    now: float,
    policy: RetryPolicy,
) -> Message | None:
    """What tells the sender of `message` what became of these recipients: from the null sender, so
    that nobody is ever told about a notification. None: the message is a notification itself,
    though it has a sender.
    """
    header = _header_of(message)
    if is_report(header):
        return None
    dsn = message.dsn
    body = build_notice(
        queue_id=queue_id,
        hostname=hostname,
        to=message.envelope_sender,
        now=now,
        original_id=message.queue_id,
        received_at=message.received_at,
        header=header,
        recipients=[_reported(message, move, policy) for move in moves],
        action=action,
        envid="" if dsn is None else dsn.envid,
        whole=_whole(message) if action is Action.FAILED else None,
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


def _reported(message: Message, move: Move, policy: RetryPolicy) -> NoticeRecipient:
    outcome, recipient = move.outcome, move.recipient
    dsn = NONE if message.dsn is None else message.dsn.of(recipient.index)
    until = None
    if move.next_at is not None:
        until = move.next_at + max(0.0, policy.give_up_after - recipient.waited)
    return NoticeRecipient(
        address=recipient.address,
        reason=move.reason,
        reply=outcome.reply if outcome is not None else None,
        host=outcome.host if outcome is not None else "",
        detail=outcome.detail if outcome is not None else move.reply,
        # in this attempt, or in one before
        uncertain=recipient.pinned or (outcome is not None and outcome.result is Result.UNCERTAIN),
        until=until,
        orcpt=dsn.orcpt,
    )


def _whole(message: Message) -> bytes | None:
    """The message in 7 bits, if its sender wants it back whole and it is small enough."""
    if message.dsn is None or message.dsn.ret != "FULL" or message.size > RETURNED:
        return None
    if not isinstance(message.body, bytes):
        return None
    octets = message.prelude + message.body
    try:
        return b"".join(seven_bit([octets], survey([octets])))
    except Unconvertible:
        return None


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
