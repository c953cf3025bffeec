"""New connections that the server closes before a transaction has ended: how many in a row, how
slowly the next one is opened, and when the upstream is to blame. Pure.

One is an accident, or a message that the server cannot handle. Three in a row are not a message's
fault: the upstream is held with its own words, and from then on they count for no message. A
connection that answered about single recipients was useful: Postfix leaves with 421 after 20
refusals (smtpd_hard_error_limit), which a greylisted message with many recipients reaches at once.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from mailrelay_gateway.contract.stage import Stage
from mailrelay_gateway.couriers.replies.verdict import COMMANDS, Failure, Meaning, Verdict
from mailrelay_gateway.couriers.smtp.health import Probing, pause
from mailrelay_gateway.message.envelope import Result
from mailrelay_gateway.reasons import Reason

#: This many in a row hold the upstream.
IN_A_ROW = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Barren:
    """How many in a row; the last one was closed `at` (the loop's time)."""

    count: int = 0
    at: float = 0.0

    @property
    def hold(self) -> bool:
        """Whether the upstream is to blame."""
        return self.count >= IN_A_ROW


def fruitful(verdict: Verdict) -> bool:
    """Whether the server said more, after MAIL, than that it leaves."""
    return verdict.passed is not None and any(
        meaning.reply is not None and meaning.reply.code != 421 for meaning in verdict.meanings
    )


def closed(barren: Barren, *, fruit: bool, opened_at: float, now: float) -> Barren:
    """The state after one more connection was closed. Those that were opened before the previous
    one was closed tell nothing new: a restart closes all at once.
    """
    if fruit:
        return Barren()
    if opened_at < barren.at:
        return barren
    return Barren(count=barren.count + 1, at=now)


def not_before(barren: Barren, probing: Probing) -> float:
    """When the next connection may be opened, in the loop's time: from the second one on more and
    more slowly, like probes.
    """
    if barren.count < 2:
        return 0.0
    return barren.at + pause(barren.count - 1, probing, 0.5)


def blame(barren: Barren, verdict: Verdict) -> Verdict:
    """The verdict on the first transaction of a connection: a 421 that is the last of too many
    holds the upstream, and does not count for the message.
    """
    if verdict.failure is not None or barren.count < IN_A_ROW - 1 or fruitful(verdict):
        return verdict
    reply = next((m.reply for m in verdict.meanings if _is_farewell(m)), None)
    if reply is None:
        return verdict
    stage = Stage.MAIL if verdict.passed is None else verdict.passed.following
    failure = Failure(
        stage,
        Reason.UPSTREAM_REFUSED,
        f"answered {reply} to {COMMANDS[stage]}, on consecutive new connections",
        reply,
        verdict.effect,
        verdict.retry_after,
    )
    meanings = tuple([_held(meaning) for meaning in verdict.meanings])
    return replace(verdict, meanings=meanings, failure=failure)


def _is_farewell(meaning: Meaning) -> bool:
    return meaning.reply is not None and meaning.reply.code == 421


def _held(meaning: Meaning) -> Meaning:
    if not _is_farewell(meaning):
        return meaning
    return replace(meaning, result=Result.HELD, reason=Reason.UPSTREAM_REFUSED)
