"""Rules: which reply at which stage means what. Pure: the form of a rule and how one is found; the
rules themselves are data, in `reply_rules`.

Rules are ordered and the first that matches wins, so a set of rules is extended by putting others
in front: a provider's, and before those the owner's.
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
    """What a rule decides.

    `sure`: the rule knows what the refusal is about. What none is sure of goes to the breaker: if
    everybody gets it, it is the upstream's. `once`: a first attempt is only deferred by it.
    """

    result: Result
    reason: Reason
    effect: Effect | None = None
    retry_after: float | None = None  # seconds, unless the reply names another time
    scope: Scope = Scope.UPSTREAM
    sure: bool = True
    once: bool = False


@dataclass(frozen=True, slots=True)
class Rule:
    """One row: where, which reply, and what it means.

    `codes` holds codes (530) and classes of codes (5); `enhanced` holds enhanced codes ("5.7.30")
    and beginnings of them ("5.1."), "" is a reply without one, empty is any; `text` is looked for
    in the server's words (`reply_text.spoken`: lower case, without addresses); None is any.
    """

    stages: frozenset[Stage]
    codes: frozenset[int]
    ruling: Ruling
    enhanced: tuple[str, ...] = ()
    text: re.Pattern[str] | None = None

    def matches(self, stage: Stage, reply: Reply, words: str) -> bool:
        """Whether the row is about that reply, whose words are given."""
        return (
            stage in self.stages
            and (reply.code in self.codes or reply.code // 100 in self.codes)
            and (not self.enhanced or _is_one_of(reply.enhanced, self.enhanced))
            and (self.text is None or self.text.search(words) is not None)
        )


@dataclass(frozen=True, slots=True, eq=False)
class RuleBook:
    """Rules in their order. Compared by identity: it is made once a configuration, and is a key of
    caches.
    """

    rows: tuple[Rule, ...]

    def find(self, stage: Stage, reply: Reply) -> Rule | None:
        """The first row that is about the reply."""
        words = spoken(reply)
        for row in self.rows:
            if row.matches(stage, reply, words):
                return row
        return None


def _is_one_of(enhanced: str, wanted: tuple[str, ...]) -> bool:
    return enhanced in wanted or any(
        enhanced.startswith(beginning) for beginning in wanted if beginning.endswith(".")
    )
