"""The rulings that the shipped rules use. Pure: values only."""

from __future__ import annotations

from mailrelay_gateway.couriers.replies.rules import Ruling
from mailrelay_gateway.message.effect import Cap, PauseUntil, Reconnect, Scope, Slow, Split
from mailrelay_gateway.message.envelope import Result
from mailrelay_gateway.reasons import Reason

DEFERRED = Ruling(result=Result.DEFERRED, reason=Reason.UPSTREAM_DEFERRED)
SLOW = Ruling(result=Result.DEFERRED, reason=Reason.UPSTREAM_DEFERRED, effect=Slow())
THROTTLED = Ruling(result=Result.DEFERRED, reason=Reason.UPSTREAM_THROTTLED, effect=Slow())
CAPPED = Ruling(result=Result.DEFERRED, reason=Reason.UPSTREAM_THROTTLED, effect=Cap())
SPLIT = Ruling(result=Result.DEFERRED, reason=Reason.UPSTREAM_TOO_MANY_RECIPIENTS, effect=Split())
RECONNECT = Ruling(result=Result.DEFERRED, reason=Reason.UPSTREAM_DEFERRED, effect=Reconnect())
FAILED = Ruling(result=Result.FAILED, reason=Reason.UPSTREAM_REJECTED)
UNKNOWN = Ruling(result=Result.FAILED, reason=Reason.UPSTREAM_REJECTED, sure=False)
UNKNOWN_SENDER = Ruling(
    result=Result.FAILED, reason=Reason.UPSTREAM_REJECTED, sure=False, patience=1
)
#: A 4xx that never changes: two more attempts, in case that its words mean something else there.
NEVER_HEALS = Ruling(result=Result.FAILED, reason=Reason.UPSTREAM_REJECTED, patience=2)
#: The sender's domain or address: no other message of the sender fares better, everybody else's do.
DOMAIN = Ruling(result=Result.FAILED, reason=Reason.SENDER_DOMAIN_REJECTED)
DOMAIN_DEFERRED = Ruling(result=Result.DEFERRED, reason=Reason.SENDER_DOMAIN_REJECTED)
NOT_VERIFIED = Ruling(result=Result.FAILED, reason=Reason.SENDER_NOT_VERIFIED)
OUT_OF_STEP = Ruling(result=Result.DEFERRED, reason=Reason.UPSTREAM_PROTOCOL_ERROR, sure=False)
REFUSED = Ruling(result=Result.HELD, reason=Reason.UPSTREAM_REFUSED)
LOGIN = Ruling(result=Result.HELD, reason=Reason.UPSTREAM_AUTH_FAILED)
TLS = Ruling(result=Result.HELD, reason=Reason.UPSTREAM_TLS_REQUIRED)
ACCOUNT = Ruling(result=Result.HELD, reason=Reason.UPSTREAM_ACCOUNT_BLOCKED)
#: Of the sender's namespace only. Providers look at a tenant again by hand or each few minutes.
TENANT = Ruling(
    result=Result.HELD,
    reason=Reason.UPSTREAM_TENANT_PAUSED,
    retry_after=600.0,
    scope=Scope.NAMESPACE,
)
#: A quota is replenished over time, often continuously (SES counts a rolling 24 hours): retry every
#: ten minutes.
QUOTA = Ruling(
    result=Result.HELD, reason=Reason.UPSTREAM_QUOTA_EXCEEDED, effect=PauseUntil(seconds=600.0)
)
#: A quota of one sender at a shared upstream: only its mail is held.
SENDER_QUOTA = Ruling(
    result=Result.DEFERRED, reason=Reason.UPSTREAM_QUOTA_EXCEEDED, retry_after=3600.0
)
