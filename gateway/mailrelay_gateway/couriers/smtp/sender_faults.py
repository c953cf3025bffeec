"""Remembers which senders' domains or addresses one upstream refuses, for `/status`. Decides
nothing about messages; pure except for its memory.

A fault ends when a message from the same domain gets through, or after a day without another
refusal: the owner may have fixed the domain's DNS and send nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

from mailrelay_gateway.contract.moments import rfc3339
from mailrelay_gateway.contract.stage import Stage
from mailrelay_gateway.contract.status import SenderFault
from mailrelay_gateway.couriers.replies.verdict import Meaning, Verdict
from mailrelay_gateway.message.effect import Scope
from mailrelay_gateway.message.envelope import Attempt, Message, Outcome, Result
from mailrelay_gateway.reasons import Reason

_END_OF_MESSAGE = Stage.END_OF_MESSAGE  # a look-up in an enum is slow (Python 3.11)

#: Reasons that concern the sender's domain or address, or the sender as a tenant.
REASONS = frozenset(
    {
        Reason.SENDER_DOMAIN_REJECTED,
        Reason.SENDER_NOT_VERIFIED,
        Reason.UPSTREAM_TENANT_PAUSED,
        Reason.ATTRIBUTION_INVALID,
    }
)
#: Faults of an upstream that are remembered, the oldest forgotten first.
MAX_FAULTS = 50
#: Faults of all upstreams together that `/status` tells of, and characters of each reply, which
#: ends up in a condition. With 32 upstreams that are held at length, the answer stays below the
#: 256 KiB that the operator reads.
MAX_TOLD = 100
MAX_MESSAGE = 200
#: Seconds for which a fault is shown after the last refusal.
LASTS = 86_400.0


@dataclass(frozen=True, slots=True)
class _Fault:
    reason: Reason
    message: str
    since: float
    last: float


class SenderFaults:
    """The faults at one upstream. Times are Unix seconds."""

    __slots__ = ("_faults",)

    def __init__(self) -> None:
        """None are known."""
        self._faults: dict[tuple[str, str], _Fault] = {}  # by the sender's UID and domain

    def note(self, verdict: Verdict, message: Message, now: float) -> None:
        """Record the result of a transaction. Cheap if the message got through and no fault is
        known.
        """
        if verdict.passed is _END_OF_MESSAGE:
            if self._faults:
                self._faults.pop(_key(message), None)
            return
        for meaning in verdict.meanings:
            if meaning.reason in REASONS:
                self._keep(message, meaning.reason, f"{meaning.reply}", now)
                return

    def note_unattributable(self, message: Message, detail: str, now: float) -> None:
        """Nothing was sent, since the tenant could not be named to the upstream."""
        self._keep(message, Reason.ATTRIBUTION_INVALID, detail, now)

    def _keep(self, message: Message, reason: Reason, words: str, now: float) -> None:
        key = _key(message)
        before = self._faults.pop(key, None)
        since = before.since if before is not None else now
        words = f"{words} (sender {message.envelope_sender or '<>'})"
        self._faults[key] = _Fault(reason, words[:MAX_MESSAGE], since, now)
        while len(self._faults) > MAX_FAULTS:
            del self._faults[next(iter(self._faults))]

    def forget(self) -> None:
        """It may be a different upstream by now."""
        self._faults.clear()

    def told(self, now: float) -> tuple[SenderFault, ...]:
        """For `/status`: one fault per sender, the newest."""
        newest = {
            uid: fault for (uid, _), fault in self._faults.items() if fault.last > now - LASTS
        }
        return tuple(
            SenderFault(
                uid=uid, reason=fault.reason, message=fault.message, since=rfc3339(fault.since)
            )
            for uid, fault in newest.items()
        )


def _key(message: Message) -> tuple[str, str]:
    return message.identity.uid, message.envelope_sender.rpartition("@")[2].lower()


def unattributable(detail: str) -> Meaning:
    """What becomes of an attempt that was not made, since the upstream could not be told whose mail
    it is: the tenant's mail is held there, and takes the next upstream of its route.
    """
    return Meaning(Result.HELD, Reason.ATTRIBUTION_INVALID, scope=Scope.NAMESPACE, detail=detail)


def unattributable_outcomes(attempt: Attempt, detail: str) -> list[Outcome]:
    """The same for each recipient."""
    meaning = unattributable(detail)
    return [meaning.outcome(recipient.index, "") for recipient in attempt.recipients]
