"""Upstreams of a relay, and the routes that choose between them. Pure.

An upstream is a smarthost (`smarthosts`), a provider's API (`api_upstreams`), direct delivery to
MX, or the sandbox.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from mailrelay_operator.api.api_upstreams import Api
from mailrelay_operator.api.attribution import Attribution
from mailrelay_operator.api.grammar import (
    Count,
    DomainPattern,
    HeaderName,
    Label,
)
from mailrelay_operator.api.metadata import LabelSelector
from mailrelay_operator.api.quantities import Duration, Quantity
from mailrelay_operator.api.replies import ReplyRule
from mailrelay_operator.api.shape import (
    ATOMIC,
    DISTINCT,
    NAMED,
    Struct,
    are_distinct,
    rule,
)
from mailrelay_operator.api.smarthosts import Smarthost

#: Postfix opens up to 20 to a destination; providers allow 3 (Office 365) to thousands.
DEFAULT_CONNECTIONS = 10
#: Providers cut connections after 50 to 5,000 messages; SparkPost documents 100.
DEFAULT_MESSAGES_PER_CONNECTION = 100

#: A list merged by the header that its entries set.
BY_HEADER: dict[str, Any] = {
    "x-kubernetes-list-type": "map",
    "x-kubernetes-list-map-keys": ["header"],
}


class DirectTls(Struct):
    """TLS to the recipients' mail exchangers."""

    policy: Literal["Opportunistic", "Encrypted", "Verified"] = Field(
        "Opportunistic",
        description="Opportunistic: TLS if it is offered. Encrypted: TLS or no delivery."
        " Verified: TLS with a valid certificate or no delivery. MTA-STS and DANE"
        " can only be stricter.",
    )
    mta_sts: Literal["Enforce", "Off"] = Field(
        "Enforce", description="Whether MTA-STS policies (RFC 8461) are followed."
    )
    dane: Literal["Enforce", "Off"] = Field(
        "Enforce",
        description="Whether TLSA records (RFC 7672) are followed. They require a validating"
        " resolver.",
    )


class Direct(Struct):
    """Direct delivery to the recipients' mail exchangers."""

    tls: DirectTls = Field(DirectTls(), description="TLS to mail exchangers.")
    address_family: Literal["IPv4", "IPv6", "Dual"] = Field(
        "IPv4",
        description="IP families to deliver over. IPv4 by default: large receivers refuse IPv6"
        " without matching reverse DNS.",
    )


class Sandbox(Struct):
    """Captures mail instead of sending it."""

    keep: int = Field(
        100,
        strict=True,
        ge=1,
        le=10_000,
        description="How many of the newest messages are kept.",
    )


class Pace(Struct):
    """A sending rate of an upstream, never exceeded in any period: each replica has its share, in
    whole units. Up to a minute it is smooth, without bursts; above, it is a quota.
    """

    name: Label = Field(
        description="Name of the pace; the list is merged by it in server-side apply."
    )
    recipients: Count | None = Field(
        None, description="Number of recipients per `per`, which is what SES and others count."
    )
    messages: Count | None = Field(None, description="Number of messages per `per`.")
    per: Duration = Field(description="The period, at least 1s.")

    @rule(
        "has(self.recipients) != has(self.messages)", "Set exactly one of recipients and messages."
    )
    def counts_one_thing(self) -> bool:
        """Make sure there is exactly one unit to count."""
        return (self.recipients is None) != (self.messages is None)

    @rule("duration(self.per) >= duration('1s')", "per must be at least 1s.", field="per")
    def lasts_a_second(self) -> bool:
        """Make sure the pace can be kept by several replicas."""
        return self.per.seconds >= 1


#: The kinds of upstreams: a field of Upstream each.
KINDS = ("smarthost", "api", "direct", "sandbox")


class Upstream(Struct):
    """Where mail is sent: an upstream of exactly one kind."""

    name: Label = Field(
        description="Name of the upstream: routes refer to it, and it is a label of metrics."
    )
    smarthost: Smarthost | None = Field(None, description="Relay through this server.")
    api: Api | None = Field(None, description="Send over a provider's HTTPS API.")
    direct: Direct | None = Field(
        None, description="Deliver directly to the recipients' mail exchangers."
    )
    sandbox: Sandbox | None = Field(None, description="Capture the mail, send nothing.")
    pace: tuple[Pace, ...] = Field(
        (),
        max_length=8,
        description="Sending rates; all apply. Mail waits for them in the queue; while a quota (a"
        " rate per more than 1m) is used up, it takes the next upstream of its route. Default: the"
        " preset's.",
        json_schema_extra=NAMED,
    )
    connections: int | None = Field(
        None,
        strict=True,
        ge=1,
        le=1000,
        description="Concurrent connections per replica. Default: the preset's value, which is the"
        " account's and divided among the replicas, or 10.",
    )
    messages_per_connection: int | None = Field(
        None,
        strict=True,
        ge=1,
        le=100_000,
        description="Messages sent on a connection before it is closed. Default: the"
        " preset's value, or 100.",
    )
    max_size: Quantity | None = Field(
        None,
        description="Largest message that it takes. Larger ones take another upstream of their"
        " route; those that are too large for all are refused at once. Default: the preset's"
        " value, or any size.",
    )
    max_recipients: int | None = Field(
        None,
        strict=True,
        ge=1,
        le=10_000,
        description="Recipients in one transaction; the rest follows in the next. Default: the"
        " preset's value, or any number.",
    )
    attribution: tuple[Attribution, ...] = Field(
        (),
        max_length=8,
        description="Header fields that tell the upstream whose mail it gets.",
        json_schema_extra=BY_HEADER,
    )
    pass_headers: tuple[HeaderName, ...] = Field(
        (),
        max_length=16,
        description="Fields of clients that steer the provider and may nevertheless be sent; all"
        " others that it is steered by are removed when a message is accepted. A field must pass at"
        " every upstream that has such fields.",
        json_schema_extra=DISTINCT,
    )
    replies: tuple[ReplyRule, ...] = Field(
        (),
        max_length=64,
        description="How to classify this upstream's replies, before the preset's and the"
        " standard rules; the first match wins.",
        json_schema_extra=ATOMIC,
    )

    @rule(
        f"[{', '.join(f'has(self.{kind})' for kind in KINDS)}].exists_one(given, given)",
        f"Set exactly one of {', '.join(KINDS[:-1])} and {KINDS[-1]}.",
    )
    def is_exactly_one_kind(self) -> bool:
        """Make sure there is exactly one kind of upstream."""
        return sum(getattr(self, kind) is not None for kind in KINDS) == 1

    @rule(
        "!has(self.passHeaders) || size(self.passHeaders) == 0 || (has(self.smarthost) &&"
        " has(self.smarthost.provider))",
        "passHeaders applies to what a provider is steered by: set smarthost.provider, or remove"
        " it.",
        field="passHeaders",
    )
    def passes_only_what_is_removed(self) -> bool:
        """Make sure that nobody expects a field to be removed elsewhere."""
        provider = self.smarthost.provider if self.smarthost is not None else None
        return not self.pass_headers or provider is not None

    @rule(
        "!has(self.passHeaders) || !has(self.attribution) || self.passHeaders.all(passed,"
        " self.attribution.all(one, one.header.lowerAscii() != passed.lowerAscii()))",
        "A header of attribution cannot pass too: a client could send as another tenant.",
        field="passHeaders",
    )
    def passes_nothing_that_it_sets(self) -> bool:
        """Make sure that no client can choose its tenant."""
        ours = {one.header.lower() for one in self.attribution}
        return not any(one.lower() in ours for one in self.pass_headers)

    @rule(
        "!has(self.attribution) || self.attribution.all(one, self.attribution.exists_one(other,"
        " other.header.lowerAscii() == one.header.lowerAscii()))",
        "Two entries of attribution set the same header.",
        field="attribution",
    )
    def sets_each_header_once(self) -> bool:
        """Make sure that the upstream does not have to choose."""
        return are_distinct(one.header.lower() for one in self.attribution)

    @rule(
        "!has(self.attribution) || size(self.attribution) == 0 || !has(self.sandbox)",
        "A sandbox sends nothing, so attribution has no meaning there: remove it.",
        field="attribution",
    )
    def attributes_only_what_is_sent(self) -> bool:
        """Make sure that a field that has no effect is not accepted."""
        return not self.attribution or self.sandbox is None

    @rule(
        "!has(self.replies) || self.replies.all(one, self.replies.exists_one(other, other.name =="
        " one.name))",
        "Two reply rules have the same name.",
        field="replies",
    )
    def has_distinct_replies(self) -> bool:
        """Make sure a log line about a reply rule is unambiguous."""
        return are_distinct(one.name for one in self.replies)


class RouteMatch(Struct):
    """Which mail a route is for; all criteria given must match, with any entry of a list."""

    sender_domains: tuple[DomainPattern, ...] = Field(
        (), max_length=32, description="Domains of the envelope sender.", json_schema_extra=DISTINCT
    )
    recipient_domains: tuple[DomainPattern, ...] = Field(
        (), max_length=32, description="Domains of the recipient.", json_schema_extra=DISTINCT
    )
    namespace_selector: LabelSelector | None = Field(
        None, description="Labels of the MailSender's namespace."
    )


class RouteUpstream(Struct):
    """An upstream of a route."""

    name: Label = Field(description="Name of an upstream of this relay.")
    weight: int | None = Field(
        None,
        strict=True,
        ge=1,
        le=1000,
        description="Share of the mail among upstreams with a weight. Default: pure fail-over"
        " order.",
    )


class Route(Struct):
    """Which upstreams some mail is sent through."""

    name: Label = Field(description="Name of the route.")
    match: RouteMatch = Field(
        RouteMatch(), description="Which mail the route is for. Default: all."
    )
    upstreams: tuple[RouteUpstream, ...] = Field(
        min_length=1,
        max_length=8,
        description="Upstreams in fail-over order: the next is taken when one cannot be reached or"
        " holds.",
        json_schema_extra=NAMED,
    )
