"""Sets apart the recipients that cannot even be named to a server. Pure, and rarely needed:
intake checks addresses.
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
    """Those who can be named, and the failures of the others: of all, when it is the sender that
    cannot.

    `utf8`: message and server agree on SMTPUTF8.
    """
    sender_problem = _problem(message.envelope_sender, utf8=utf8)
    targets: list[AttemptRecipient] = []
    failed: list[Outcome] = []
    for recipient in recipients:
        reply = sender_problem or _problem(recipient.address, utf8=utf8)
        if reply is None:
            targets.append(recipient)
        else:
            # Another upstream may take SMTPUTF8; nobody takes an address that is none.
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
