"""What to do about a refusal, by the reason at the end of the gateway's reply.

The reasons are those of docs/reference/reasons.md.
"""

from __future__ import annotations

from mailrelay_gateway.contract.stage import Stage
from mailrelay_operator.cli.submission import Refused

_FULL = "The spool's disk is nearly full; free some space."
BY_REASON = {
    "AuthFailed": "The login is not valid (any more). `mailrelay up` prints the current one.",
    "AuthRequired": "The listener requires a login; choose one with --sender or --url.",
    "TlsRequired": "The listener requires TLS: smtp:// uses STARTTLS.",
    "SenderSuspended": "`spec.suspend` of the MailSender is true; set it to false to send again.",
    "SenderNotAllowed": "Use --from with an address in the MailSender's `spec.from`, or add this"
    " one"
    " there; the relay's `allowedSenders` must allow it as well.",
    "HeaderFromNotAllowed": "The From header needs an address in the MailSender's `spec.from`.",
    "TooManyRecipients": "Split the message, or raise `spec.limits.message.maxRecipients`.",
    "MessageTooBig": "Raise `spec.limits.message.maxSize`, or send a smaller message.",
    "RateLimited": "A limit of `spec.limits.rates` is exceeded; the reply says when to try again.",
    "InsufficientStorage": _FULL,
    "TooMuchInFlight": "The memory for messages being received is used up; try again.",
    "SpoolFailed": "The spool's disk did not store the message; see the gateway's log.",
    "ShuttingDown": "The gateway is stopping; try again when it is back.",
    "TooManyConnections": "The listener's connection limit is reached; try again.",
}
#: For replies without a reason (RFC 3463).
BY_ENHANCED = {"4.3.1": _FULL}
BY_STAGE = {
    Stage.CONNECT: "Is the relay running there? Start it with `mailrelay up FILE...`.",
    Stage.TLS: "See the gateway's log.",
    Stage.AUTH: "`mailrelay up` prints username and password.",
}
TEMPORARY = "The failure is temporary (4xx): a mail client keeps the message and retries."
PERMANENT = "The failure is permanent (5xx): do not retry without a change."


def advise(refused: Refused) -> str:
    """What to do about a refusal, as one sentence."""
    if refused.remedy:
        return refused.remedy
    if refused.reason in BY_REASON:
        return BY_REASON[refused.reason]
    for enhanced, advice in BY_ENHANCED.items():
        if refused.reply[4:].startswith(enhanced):
            return advice
    if not refused.reply[:3].isdecimal() or refused.stage is Stage.AUTH:
        return BY_STAGE.get(refused.stage, "See the gateway's log.")
    return TEMPORARY if refused.is_temporary else PERMANENT
