"""Separates recipients that cannot be sent to a server at all. Pure, and rarely needed: intake
checks addresses.
"""

from __future__ import annotations

from collections.abc import Sequence

from mailrelay_gateway.message.effect import Elsewhere
from mailrelay_gateway.message.envelope import AttemptRecipient, Message, Outcome, Result
from mailrelay_gateway.reasons import Reason
from mailrelay_gateway.smtp.client.commands import (
    NEEDS_SMTPUTF8,
    UnsendableAddress,
    check_address,
)
from mailrelay_gateway.smtp.reply import Reply


def set_apart(
    message: Message, recipients: Sequence[AttemptRecipient], *, utf8: bool, host: str
) -> tuple[list[AttemptRecipient], list[Outcome]]:
    """The recipients that can be sent, and the failures of the others: of all, if it is the sender
    that cannot be sent.

    `utf8`: message and server both use SMTPUTF8.
    """
    sender_problem = _problem(message.envelope_sender, utf8=utf8)
    targets: list[AttemptRecipient] = []
    failed: list[Outcome] = []
    for recipient in recipients:
        reply = sender_problem or _problem(recipient.address, utf8=utf8)
        if reply is None:
            targets.append(recipient)
        else:
            # Another upstream may support SMTPUTF8; none accepts an invalid address.
            elsewhere = reply.enhanced == NEEDS_SMTPUTF8
            result = Result.DEFERRED if elsewhere else Result.FAILED
            effect = Elsewhere() if elsewhere else None
            failed.append(
                Outcome(recipient.index, result, Reason.ADDRESS_UNSENDABLE, reply, host, effect)
            )
    return targets, failed


def _problem(address: str, *, utf8: bool) -> Reply | None:
    try:
        check_address(address, utf8=utf8)
    except UnsendableAddress as error:
        return error.reply
    return None
