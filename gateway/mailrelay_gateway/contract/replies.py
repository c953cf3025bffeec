"""How the owner of a relay, or the preset of a provider, classifies an upstream's replies: the
contract's model. Pure.

The rules that are shipped for all upstreams are the gateway's own (`couriers.replies`); these come
before them, and the first match wins.
"""

from __future__ import annotations

from enum import StrEnum

from pydantic import Field

from mailrelay_gateway.contract.part import Part
from mailrelay_gateway.contract.stage import Stage


class ReplyOutcome(StrEnum):
    """What a reply means."""

    DEFERRED = "Deferred"
    FAILED = "Failed"
    HELD = "Held"
    SPLIT = "Split"
    RECONNECT = "Reconnect"


class ReplyScope(StrEnum):
    """Whose mail `Held` holds: all, or that of the sender's namespace."""

    UPSTREAM = "Upstream"
    NAMESPACE = "Namespace"


class ReplyRule(Part):
    """One rule; all criteria given must match.

    `stage` None: MAIL and later. `text` is searched as it is, never as a pattern, so that its cost
    is bounded; case and white space do not matter, and addresses and links in the reply are left
    out. `after` is the least pause in seconds. `reason` is one of the gateway's; an empty or
    unknown one stands for that of the outcome.
    """

    name: str
    stage: Stage | None
    code: int | None = Field(ge=400, le=599)
    enhanced: str | None
    text: str | None
    outcome: ReplyOutcome
    after: float | None = Field(ge=0)
    scope: ReplyScope
    reason: str
