"""Makes the rules of one upstream: its owner's and its provider's before the shipped ones. Pure.

An owner's text is searched as it is, never as a pattern: no text can make classifying a reply slow.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from mailrelay_gateway.contract.replies import ReplyOutcome, ReplyRule, ReplyScope
from mailrelay_gateway.contract.stage import Stage
from mailrelay_gateway.couriers.replies.reply_rules import ANY, RCPT, RULES
from mailrelay_gateway.couriers.replies.rules import Rule, RuleBook, Ruling
from mailrelay_gateway.couriers.replies.rulings import TENANT
from mailrelay_gateway.message.effect import PauseUntil, Reconnect, Scope, Split
from mailrelay_gateway.message.envelope import Result
from mailrelay_gateway.reasons import Reason

_RULINGS: Mapping[ReplyOutcome, tuple[Result, Reason]] = {
    ReplyOutcome.DEFERRED: (Result.DEFERRED, Reason.UPSTREAM_DEFERRED),
    ReplyOutcome.FAILED: (Result.FAILED, Reason.UPSTREAM_REJECTED),
    ReplyOutcome.HELD: (Result.HELD, Reason.UPSTREAM_REFUSED),
    ReplyOutcome.SPLIT: (Result.DEFERRED, Reason.UPSTREAM_TOO_MANY_RECIPIENTS),
    ReplyOutcome.RECONNECT: (Result.DEFERRED, Reason.UPSTREAM_DEFERRED),
}
_CODES = frozenset({4, 5})


#: At an upstream that is told whose mail it gets. SES: a tenant whose sending is paused. It is told
#: in the header, so that no earlier reply can be about the tenant; one to RCPT may be in the words
#: of a recipient's server.
_TENANT = Rule(
    frozenset({Stage.END_OF_MESSAGE}),
    frozenset({4, 5}),
    TENANT,
    text=re.compile(
        r"\btenant\b.{0,60}\b(paused|suspended|disabled)"
        r"|\b(paused|suspended|disabled)\b.{0,40}\btenant\b"
    ),
)


def rule_book(replies: Iterable[ReplyRule], *, per_tenant: bool = False) -> RuleBook:
    """The rules of an upstream with these of its own. `per_tenant`: it knows the tenants, so what
    it says of one is not about all.
    """
    own = tuple(_rule(one) for one in replies) + ((_TENANT,) if per_tenant else ())
    return RuleBook((*own, *RULES.rows)) if own else RULES


def normalized(text: str) -> str:
    """The text as it is searched: see `reply_text.spoken`."""
    return " ".join(text.lower().split())


def _rule(given: ReplyRule) -> Rule:
    stages = ANY if given.stage is None else frozenset({given.stage})
    if given.outcome is ReplyOutcome.SPLIT:
        # Elsewhere nobody was taken, and the next transaction would be the same.
        stages &= RCPT
    return Rule(
        stages,
        _CODES if given.code is None else frozenset({given.code}),
        _ruling(given),
        enhanced=() if given.enhanced is None else (given.enhanced,),
        text=None if given.text is None else re.compile(re.escape(normalized(given.text))),
    )


def _ruling(given: ReplyRule) -> Ruling:
    result, reason = _RULINGS[given.outcome]
    after = given.after or 0.0
    effect: PauseUntil | Split | Reconnect | None = None
    held = given.outcome is ReplyOutcome.HELD
    of_namespace = held and given.scope is ReplyScope.NAMESPACE
    if held and after and not of_namespace:
        effect = PauseUntil(seconds=after)
    elif given.outcome is ReplyOutcome.SPLIT:
        effect = Split()
    elif given.outcome is ReplyOutcome.RECONNECT:
        effect = Reconnect()
    known = {one.value: one for one in Reason}
    return Ruling(
        result=result,
        reason=known.get(given.reason, reason),
        effect=effect,
        scope=Scope.NAMESPACE if of_namespace else Scope.UPSTREAM,
        at_least=after,
    )
