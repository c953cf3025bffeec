"""Rules that override how an upstream's replies are classified. Pure.

Only the rule's shape: the defaults (RFC 5321, RFC 3463, and what servers say) are in the gateway.
A text is searched as it is, never as a pattern: no rule can make the gateway slow.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from mailrelay_operator.api.grammar import HeaderValue, Label
from mailrelay_operator.api.quantities import Duration
from mailrelay_operator.api.shape import Struct, TextRule, matching, rule

EnhancedCode = Annotated[
    str,
    Field(min_length=5, max_length=9),
    matching(
        r"[245][.][0-9]{1,3}[.][0-9]{1,3}",
        "Write an enhanced status code as in 4.7.1 (RFC 3463).",
    ),
]


ReplyStage = Literal["Greeting", "EHLO", "STARTTLS", "AUTH", "MAIL", "RCPT", "DATA", "EndOfMessage"]
#: Before MAIL every refusal holds the upstream: no message is under way.
SESSION_STAGES = ("Greeting", "EHLO", "STARTTLS", "AUTH")

#: A part of a reply without its addresses and links, which a sender could have put there.
ReplyText = Annotated[
    HeaderValue,
    TextRule(
        cel="!self.contains('@') && !self.contains('<') && !self.contains('://')",
        message="Addresses and links in a reply are not compared: write the text without @, < and"
        " ://.",
        holds=lambda text: not any(sign in text for sign in ("@", "<", "://")),
    ),
]


class ReplyRule(Struct):
    """How to classify replies; all criteria given must match."""

    name: Label = Field(description="Name of the rule.")
    stage: ReplyStage | None = Field(
        None,
        description="The command that was answered. Default: MAIL and all later ones. Before MAIL"
        " every refusal holds the upstream, and a rule can only say for how long.",
    )
    code: int | None = Field(
        None, strict=True, ge=400, le=599, description="The reply's code, such as 550."
    )
    enhanced: EnhancedCode | None = Field(
        None, description="The reply's enhanced status code, such as 5.7.1."
    )
    text: ReplyText | None = Field(
        None,
        description="A part of the reply's text, as it is: no pattern. Case and white space do"
        " not matter; addresses and links are not compared.",
    )
    outcome: Literal["Deferred", "Failed", "Held", "Split", "Reconnect"] = Field(
        description="What the reply means. Deferred: retry the message. Failed: permanent"
        " failure. Held: a fault of the upstream, its whole queue is held."
        " Split: too many recipients, send in parts (replies to RCPT only)."
        " Reconnect: retry on a new connection."
    )
    after: Duration | None = Field(
        None,
        description="Minimum wait before the next attempt, for Deferred (at most"
        " retry.maxInterval) and Held. Default: as the reply says, otherwise with growing"
        " pauses.",
    )

    scope: Literal["Upstream", "Namespace"] = Field(
        "Upstream",
        description="Whose mail Held holds: all mail at this upstream, or only that of the"
        " MailSender's namespace (a provider has paused a tenant).",
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

    @rule(
        "!has(self.after) || (duration(self.after) >= duration('1s') && duration(self.after) <="
        " duration('24h'))",
        "after must be from 1s to 24h.",
        field="after",
    )
    def waits_a_day_at_most(self) -> bool:
        """Make sure a wait ends."""
        return self.after is None or 1 <= self.after.seconds <= 24 * 3600

    @rule(
        "!has(self.stage) || !(self.stage in ['Greeting', 'EHLO', 'STARTTLS', 'AUTH']) ||"
        " self.outcome == 'Held'",
        "Before MAIL there is no message to judge: the outcome must be Held.",
        field="outcome",
    )
    def holds_before_mail(self) -> bool:
        """Make sure that a rule about a session does not promise something about messages."""
        return self.stage not in SESSION_STAGES or self.outcome == "Held"

    @rule(
        "!has(self.scope) || self.scope == 'Upstream' || (self.outcome == 'Held' &&"
        " (!has(self.stage) || !(self.stage in ['Greeting', 'EHLO', 'STARTTLS', 'AUTH'])))",
        "The scope Namespace needs the outcome Held and a stage from MAIL on: before it no"
        " MailSender is known.",
        field="scope",
    )
    def holds_a_namespace_that_is_known(self) -> bool:
        """Make sure that there is a namespace to hold."""
        held = self.outcome == "Held" and self.stage not in SESSION_STAGES
        return self.scope == "Upstream" or held

    @rule(
        "!has(self.stage) || self.outcome != 'Split' || self.stage == 'RCPT'",
        "Split applies to replies to RCPT: set stage to RCPT, or leave it out.",
        field="stage",
    )
    def splits_at_rcpt(self) -> bool:
        """Make sure that a message is split only where some of its recipients were taken."""
        return self.stage in {None, "RCPT"} or self.outcome != "Split"
