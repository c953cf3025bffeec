"""Rules for classifying replies: their type and lookup; the rules themselves are data in
`reply_rules`. Pure.

Rules are ordered and the first match wins, so a set of rules is extended by prepending others: a
provider's, and before those the user's.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from mailrelay_gateway.contract.stage import Stage
from mailrelay_gateway.couriers.replies.reply_text import spoken
from mailrelay_gateway.message.effect import Effect, Scope
from mailrelay_gateway.message.envelope import Result
from mailrelay_gateway.reasons import Reason
from mailrelay_gateway.smtp.reply import Reply


@dataclass(frozen=True, slots=True, kw_only=True)
class Ruling:
    """The decision of a rule.

    `sure`: the rule identifies what the refusal is about. Other refusals go to the breaker: if all
    messages get one, it is the upstream's. `patience`: so many attempts are only deferred before
    the message fails. `at_least`: the pause has at least so many seconds, whatever the reply says.
    """

    result: Result
    reason: Reason
    effect: Effect | None = None
    retry_after: float | None = None  # seconds, unless the reply has another time
    scope: Scope = Scope.UPSTREAM
    sure: bool = True
    patience: int = 0
    at_least: float = 0.0


@dataclass(frozen=True, slots=True)
class Rule:
    """One row: stages, criteria for the reply, and the ruling.

    `codes` are codes (530) and classes of codes (5); `enhanced` are enhanced codes ("5.7.30") and
    prefixes ("5.1."), "" means a reply without one, empty means any; `text` is searched in the
    normalized text (`reply_text.spoken`: lower case, without addresses); None means any.
    """

    stages: frozenset[Stage]
    codes: frozenset[int]
    ruling: Ruling
    enhanced: tuple[str, ...] = ()
    text: re.Pattern[str] | None = None

    def matches(self, stage: Stage, reply: Reply, words: str) -> bool:
        """Whether the row matches the reply with these normalized words."""
        return (
            stage in self.stages
            and (reply.code in self.codes or reply.code // 100 in self.codes)
            and (not self.enhanced or _is_one_of(reply.enhanced, self.enhanced))
            and (self.text is None or self.text.search(words) is not None)
        )


@dataclass(frozen=True, slots=True, eq=False)
class RuleBook:
    """Ordered rules. Compared by identity: one per configuration, used as a cache key."""

    rows: tuple[Rule, ...]

    def find(self, stage: Stage, reply: Reply) -> Rule | None:
        """The first row that matches the reply."""
        words = spoken(reply)
        for row in self.rows:
            if row.matches(stage, reply, words):
                return row
        return None


def _is_one_of(enhanced: str, wanted: tuple[str, ...]) -> bool:
    return enhanced in wanted or any(
        enhanced.startswith(beginning) for beginning in wanted if beginning.endswith(".")
    )
