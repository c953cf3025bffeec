"""What to do about a refusal, by the reason word that our gateway puts at the end of each reply.

A table and one look-up; nothing else. The words are those of docs/reference/reasons.md.
"""

from __future__ import annotations

from mailrelay_gateway.contract.stage import Stage
from mailrelay_operator.cli.submission import Refused

_FULL = "The disk of the spool is nearly full; make room there."
BY_REASON = {
    "AuthFailed": "The login is not (or no longer) known. `mailrelay up` prints the valid one.",
    "AuthRequired": "The listener takes mail only after a login; name one with --sender or --url.",
    "TlsRequired": "The listener takes logins and mail over TLS only: smtp:// means STARTTLS.",
    "SenderSuspended": "`spec.suspend` of the MailSender is true; set it to false to send again.",
    "SenderNotAllowed": "Use --from with an address that the MailSender's `spec.from` has, or add"
    " this one there; the relay's `allowedSenders` has to give it as well.",
    "HeaderFromNotAllowed": "The From header needs an address of the MailSender's `spec.from`.",
    "TooManyRecipients": "Split the message, or raise `spec.limits.message.maxRecipients`.",
    "MessageTooBig": "Raise `spec.limits.message.maxSize`, or send less.",
    "RateLimited": "A limit of `spec.limits.rates` is used up; the reply says when to try again.",
    "InsufficientStorage": _FULL,
    "TooMuchInFlight": "More is coming in than memory is set aside for; try again.",
    "SpoolFailed": "The disk of the spool did not store the message; look at the gateway's log.",
    "ShuttingDown": "The gateway is stopping; try again when it is back.",
    "TooManyConnections": "The listener serves as many sessions as it may; try again.",
}
#: Where a reply has no word of ours (RFC 3463).
BY_ENHANCED = {"4.3.1": _FULL}
BY_STAGE = {
    Stage.CONNECT: "Is it running there? Start it with `mailrelay up FILE...`.",
    Stage.TLS: "Look at the gateway's log.",
    Stage.AUTH: "`mailrelay up` prints user and password.",
}
TEMPORARY = "The reply is temporary (4xx): a mail program keeps the message and tries again."
PERMANENT = "The reply is permanent (5xx): sending the same again gets the same answer."


def advise(refused: Refused) -> str:
    """One sentence that helps."""
    if refused.remedy:
        return refused.remedy
    if refused.reason in BY_REASON:
        return BY_REASON[refused.reason]
    for enhanced, advice in BY_ENHANCED.items():
        if refused.reply[4:].startswith(enhanced):
            return advice
    if not refused.reply[:3].isdecimal() or refused.stage is Stage.AUTH:
        return BY_STAGE.get(refused.stage, "Look at the gateway's log.")
    return TEMPORARY if refused.is_temporary else PERMANENT
