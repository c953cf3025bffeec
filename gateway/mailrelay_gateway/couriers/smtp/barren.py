"""Connections that were opened and closed on us again before a transaction had ended: how many in a
row, how slowly the next one is opened, and when the upstream is to blame. Pure.

One is bad luck, or a message that the server cannot stand. Three in a row are no message's fault:
the upstream is held with its own words, and from then on no message is charged for them.
One that answered recipients by themselves was of use: Postfix leaves with 421 after 20 refusals
(smtpd_hard_error_limit), which a greylisted message of many recipients meets at once.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from mailrelay_gateway.contract.stage import Stage
from mailrelay_gateway.couriers.replies.verdict import COMMANDS, Failure, Meaning, Verdict
from mailrelay_gateway.couriers.smtp.health import Probing, pause
from mailrelay_gateway.message.envelope import Result
from mailrelay_gateway.reasons import Reason

#: So many in a row hold the upstream.
IN_A_ROW = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Barren:
    """So many in a row, the last one closed `at` (the loop's time)."""

    count: int = 0
    at: float = 0.0

    @property
    def hold(self) -> bool:
        """Whether the upstream is to blame."""
        return self.count >= IN_A_ROW


def fruitful(verdict: Verdict) -> bool:
    """Whether somebody past MAIL was told more than that the server leaves."""
    return verdict.passed is not None and any(
        meaning.reply is not None and meaning.reply.code != 421 for meaning in verdict.meanings
    )


def closed(barren: Barren, *, fruit: bool, opened_at: float, now: float) -> Barren:
    """After one more connection was closed on us. Those that were opened before the last of them
    was closed tell nothing new: a restart breaks all at once.
    """
    if fruit:
        return Barren()
    if opened_at < barren.at:
        return barren
    return Barren(count=barren.count + 1, at=now)


def not_before(barren: Barren, probing: Probing) -> float:
    """When the next connection may be opened, in the loop's time: after a second barren one ever
    more slowly, like probes.
    """
    if barren.count < 2:
        return 0.0
    return barren.at + pause(barren.count - 1, probing, 0.5)


def blame(barren: Barren, verdict: Verdict) -> Verdict:
    """The verdict on the first transaction of a connection: a 421 that is the last of too many
    holds the upstream, and is not counted for the message.
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
