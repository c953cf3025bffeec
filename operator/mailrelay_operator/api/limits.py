"""Limits: of one message, and of messages or recipients per period. Pure.

The shapes and their rules; counting lives in the gateway.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from mailrelay_operator.api.grammar import Count, Label
from mailrelay_operator.api.metadata import LabelSelector, NamedRef
from mailrelay_operator.api.quantities import Duration, Quantity
from mailrelay_operator.api.shape import ATOMIC, NAMED, Struct, TextRule, are_distinct, rule

#: Up to this, `per` makes a rate (GCRA); above it, a quota: a sliding window, kept on disk.
LONGEST_RATE_SECONDS = 60.0
LARGEST_MESSAGE = "1Gi"
SMALLEST_MESSAGE = "1Ki"

MessageSize = Annotated[
    Quantity,
    TextRule(
        cel=f"quantity(self).compareTo(quantity('{SMALLEST_MESSAGE}')) >= 0"
        f" && quantity(self).compareTo(quantity('{LARGEST_MESSAGE}')) <= 0",
        message=f"maxSize must be from {SMALLEST_MESSAGE} to {LARGEST_MESSAGE}.",
        holds=lambda size: (
            Quantity(SMALLEST_MESSAGE).octets <= size.octets <= Quantity(LARGEST_MESSAGE).octets
        ),
    ),
]


class MessageLimits(Struct):
    """The limits of one message."""

    max_size: MessageSize = Field(
        Quantity("25Mi"),
        description="Largest message, as transferred (base64 adds a third to attachments)."
        " Announced as SIZE (RFC 1870).",
    )
    max_recipients: int = Field(
        1000,
        strict=True,
        ge=1,
        le=10_000,
        description="Recipients per message. RFC 5321 section 4.5.3.1.8 requires at least 100.",
    )
    on_too_many_recipients: Literal["RejectMessage", "DeferRecipients"] = Field(
        "RejectMessage",
        description="What happens above maxRecipients. RejectMessage: 550 5.5.3 for the surplus and"
        " 554 5.5.3 for the whole message, so that no client considers it sent. DeferRecipients:"
        " 452 4.5.3 for the surplus, and the others get the message; only for clients that send"
        " the rest in another message, as mail servers do and most libraries do not.",
    )
    long_lines: Literal["Encode", "Reject"] = Field(
        "Encode",
        description="What happens to a message with a body line over 998 octets (RFC 5322 section"
        " 2.1.1). Encode: it is taken, and sent as quoted-printable or base64; a signed one, which"
        " that would break, gets 550 5.6.0. Reject: 550 5.6.0.",
    )


class _Amount(Struct):
    """A number of messages or recipients per period."""

    name: Label = Field(
        description="Name of the limit; the list is merged by it in server-side apply."
    )
    messages: Count | None = Field(None, description="Number of messages per `per`.")
    recipients: Count | None = Field(None, description="Number of recipients per `per`.")
    per: Duration = Field(
        description="The period, from 1s. Up to 1m it is a rate, enforced smoothly; a longer one is"
        " a quota, counted over a sliding window and kept across restarts."
    )
    burst: Count | None = Field(
        None,
        description="How many may come at once before the rate is enforced. Default: one second's"
        " worth, at least 1. Not for quotas.",
    )
    on_limit: Literal["Defer", "Reject"] = Field(
        "Defer",
        description="Reply above the limit. Defer: 451 4.7.1, try again later. Reject: 550 5.7.1."
        " Both say when to try again.",
    )

    @rule(
        "has(self.messages) != has(self.recipients)", "Set exactly one of messages and recipients."
    )
    def counts_one_thing(self) -> bool:
        """Make sure there is exactly one unit to count."""
        return (self.messages is None) != (self.recipients is None)

    @rule(
        "duration(self.per) >= duration('1s') && duration(self.per) <= duration('744h')",
        "per must be from 1s to 744h (31 days).",
        field="per",
    )
    def lasts_a_second_to_a_month(self) -> bool:
        """Make sure the memory of a quota is bounded."""
        return 1 <= self.per.seconds <= 744 * 3600

    @rule(
        "duration(self.per) <= duration('1m') || !has(self.burst)",
        "A limit with per above 1m is a quota and has no burst: remove burst, or set per to at most"
        " 1m.",
        field="burst",
    )
    def has_a_burst_only_as_a_rate(self) -> bool:
        """Make sure a burst is not ignored."""
        return self.per.seconds <= LONGEST_RATE_SECONDS or self.burst is None

    @property
    def unit(self) -> Literal["messages", "recipients"]:
        """What is counted."""
        return "recipients" if self.messages is None else "messages"

    @property
    def count(self) -> int:
        """How many per `per`."""
        return self.messages or self.recipients or 1

    @property
    def effective_burst(self) -> int:
        """How many at once: as set, or one second's worth, at least 1."""
        return max(1, int(self.count / self.per.seconds)) if self.burst is None else self.burst


class Rate(_Amount):
    """A limit of the relay."""

    scope: Literal["Relay", "Namespace", "Sender"] = Field(
        description="Whose mail is counted together: the whole relay's, each namespace's, or each"
        " MailSender's."
    )


class SenderRate(_Amount):
    """A limit that a MailSender sets for itself."""


class Override(Struct):
    """Different limits for some namespaces."""

    name: Label = Field(description="Name of the override.")
    namespace_selector: LabelSelector = Field(
        description="Labels of the namespaces it applies to; the first match wins."
    )
    rates: tuple[Rate, ...] = Field(
        min_length=1,
        max_length=16,
        description="Rates that replace those of the same scope (Namespace or Sender).",
        json_schema_extra=NAMED,
    )

    @rule(
        "self.rates.all(r, r.scope != 'Relay')",
        "A limit of scope Relay cannot differ by namespace: use scope Namespace or Sender.",
        field="rates",
    )
    def is_not_for_the_whole_relay(self) -> bool:
        """Make sure an override can be applied."""
        return all(rate.scope != "Relay" for rate in self.rates)


class Redis(Struct):
    """A Redis or Valkey server."""

    secret_ref: NamedRef = Field(
        description="Secret with the key url, such as rediss://:password@host:6379/0."
    )


class SharedLimits(Struct):
    """Exact limits over all replicas, counted in Redis."""

    redis: Redis = Field(description="The server that counts.")
    on_failure: Literal["Open", "Closed"] = Field(
        "Open",
        description="What happens when Redis cannot be reached. Open: each replica counts for"
        " itself. Closed: mail is deferred.",
    )


class Limits(Struct):
    """The limits of a relay. Charged once, after the last RCPT; either all that apply are charged,
    or none.
    """

    message: MessageLimits = Field(MessageLimits(), description="Limits of one message.")
    rates: tuple[Rate, ...] = Field(
        (),
        max_length=16,
        description="Limits of messages or recipients per period.",
        json_schema_extra=NAMED,
    )
    overrides: tuple[Override, ...] = Field(
        (),
        max_length=16,
        description="Different rates for some namespaces; the first match wins.",
        json_schema_extra=ATOMIC,
    )
    shared: SharedLimits | None = Field(
        None,
        description="Count exactly over all replicas. If unset, replicas exchange their usage"
        " every second.",
    )

    @rule(
        "!has(self.overrides) || self.overrides.all(one, self.overrides.exists_one(other,"
        " other.name == one.name))",
        "Two overrides have the same name.",
        field="overrides",
    )
    def has_distinct_overrides(self) -> bool:
        """Make sure a message about an override is unambiguous."""
        return are_distinct(one.name for one in self.overrides)


class SenderLimits(Struct):
    """The limits that a MailSender sets for itself."""

    rates: tuple[SenderRate, ...] = Field(
        min_length=1,
        max_length=8,
        description="Rates; they can only lower the relay's.",
        json_schema_extra=NAMED,
    )
