"""Rules that override how an upstream's replies are classified. Pure.

Only the rule's shape; the provider rules and the defaults (RFC 5321, RFC 3463) are in the
gateway.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from mailrelay_operator.api.grammar import HeaderValue, Label
from mailrelay_operator.api.quantities import Duration
from mailrelay_operator.api.shape import Struct, matching, rule

EnhancedCode = Annotated[
    str,
    Field(min_length=5, max_length=9),
    matching(
        r"[245][.][0-9]{1,3}[.][0-9]{1,3}",
        "Write an enhanced status code as in 4.7.1 (RFC 3463).",
    ),
]


class ReplyRule(Struct):
    """How to classify replies; all criteria given must match."""

    name: Label = Field(description="Name of the rule.")
    code: int | None = Field(
        None, strict=True, ge=200, le=599, description="The reply's code, such as 550."
    )
    enhanced: EnhancedCode | None = Field(
        None, description="The reply's enhanced status code, such as 5.7.1."
    )
    text: HeaderValue | None = Field(
        None, description="A part of the reply's text; case-insensitive."
    )
    outcome: Literal["Deferred", "Failed", "Held", "Split", "Reconnect"] = Field(
        description="What the reply means. Deferred: retry the message. Failed: permanent"
        " failure. Held: a fault of the upstream, its whole queue is held."
        " Split: too many recipients, send in parts. Reconnect: retry on a new"
        " connection."
    )
    after: Duration | None = Field(
        None,
        description="Minimum wait before the next attempt; for Deferred and Held.",
    )

    @rule(
        "has(self.code) || has(self.enhanced) || has(self.text)",
        "Set at least one of code, enhanced and text.",
    )
    def matches_something(self) -> bool:
        """Make sure a rule does not match every reply."""
        return not (self.code is None and self.enhanced is None and self.text is None)

    @rule(
        "!has(self.after) || self.outcome in ['Deferred', 'Held']",
        "after is allowed only with the outcomes Deferred and Held.",
        field="after",
    )
    def waits_only_before_another_attempt(self) -> bool:
        """Make sure a wait is not ignored."""
        return self.after is None or self.outcome in {"Deferred", "Held"}
