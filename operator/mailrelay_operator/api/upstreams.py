"""Upstreams of a relay, and the routes that choose between them. Pure.

An upstream is a smarthost, direct delivery to MX, or the sandbox. Presets of providers are in
`presets`, and `expanding` joins the two.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from mailrelay_operator.api.grammar import (
    LOOPBACK_HOSTS,
    Count,
    DomainPattern,
    Host,
    Label,
    Port,
)
from mailrelay_operator.api.metadata import LabelSelector, NamedRef, TrustRef
from mailrelay_operator.api.oauth2 import OAuth2
from mailrelay_operator.api.presets import IMPLICIT, REGIONAL, Provider
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

#: Postfix opens up to 20 to a destination; providers allow 3 (Office 365) to thousands.
DEFAULT_CONNECTIONS = 10
#: Providers cut connections after 50 to 5,000 messages; SparkPost documents 100.
DEFAULT_MESSAGES_PER_CONNECTION = 100

#: TLS to a smarthost without a provider.
DEFAULT_TLS = "StartTLS"


class HostPort(Struct):
    """One host of a smarthost."""

    host: Host = Field(
        description="DNS name (fully qualified; search domains are not used) or IP address."
    )
    port: Port = Field(587, description="Port. 465 needs tls.mode Implicit.")


class UpstreamTls(Struct):
    """TLS to a smarthost. Certificates are always verified."""

    mode: Literal["None", "StartTLS", "Implicit"] | None = Field(
        None,
        description="StartTLS: the connection is closed unless STARTTLS succeeds."
        " Implicit: TLS from the first byte (port 465). None: mail is sent in"
        " cleartext, and no login unless every host is a loopback address. Default: the"
        " preset's, or StartTLS.",
    )
    ca_ref: TrustRef | None = Field(
        None,
        description="Secret or ConfigMap with CA certificates to trust instead of the system's.",
    )
    server_name: Host | None = Field(
        None, description="Name that the certificate must be valid for, if not the host's."
    )
    certificate_ref: NamedRef | None = Field(
        None,
        description="Secret of type kubernetes.io/tls with the client certificate.",
    )


class BasicAuth(Struct):
    """A username and a password."""

    secret_ref: NamedRef = Field(
        description="Secret with the keys username and password, and the label"
        ' mailrelay.dev/credentials: "true", by which its owner permits its use.'
        " A change takes effect within seconds."
    )


class UpstreamAuth(Struct):
    """The login at a smarthost; exactly one of its fields."""

    basic: BasicAuth | None = Field(
        None, description="Username and password (AUTH PLAIN or LOGIN)."
    )
    oauth2: OAuth2 | None = Field(None, description="OAuth2 tokens.")

    @rule("has(self.basic) != has(self.oauth2)", "Set exactly one of basic and oauth2.")
    def is_exactly_one(self) -> bool:
        """Make sure there is exactly one login, with no silent fallback."""
        return (self.basic is None) != (self.oauth2 is None)


class Smarthost(Struct):
    """An SMTP server that mail is relayed through."""

    provider: Provider | None = Field(
        None,
        description="Preset of a provider: hosts, TLS, sizes, recipients, connections, pace and"
        " reply rules (see the reference of providers; mailrelay check shows what it sets)."
        " Fields that are set take precedence.",
    )
    hosts: tuple[HostPort, ...] = Field(
        (),
        max_length=16,
        description="Hosts in the order in which they are tried. Optional with a provider"
        " that has one host for all its customers (not SES, whose hosts are"
        " regional).",
        json_schema_extra=ATOMIC,
    )
    tls: UpstreamTls = Field(UpstreamTls(), description="TLS to the hosts.")
    auth: UpstreamAuth | None = Field(None, description="Login. Default: none.")

    @rule(
        "(has(self.hosts) && size(self.hosts) > 0) || (has(self.provider) && !(self.provider in"
        f" {list(REGIONAL)}))",
        f"Set at least one host (also with provider {', '.join(REGIONAL)}, whose hosts are"
        " regional).",
        field="hosts",
    )
    def has_a_host(self) -> bool:
        """Make sure there is somewhere to connect to."""
        return bool(self.hosts) or (self.provider is not None and self.provider not in REGIONAL)

    @rule(
        "(has(self.tls) && has(self.tls.mode) ? self.tls.mode == 'Implicit' :"
        f" has(self.provider) && self.provider in {list(IMPLICIT)}) || !has(self.hosts) ||"
        " !self.hosts.exists(h, h.port == 465)",
        "Port 465 uses implicit TLS (RFC 8314): set tls.mode to Implicit.",
        field="tls.mode",
    )
    def uses_implicit_tls_on_465(self) -> bool:
        """Make sure that a connection does not wait for a greeting that never arrives."""
        implicit = (
            self.provider in IMPLICIT if self.tls.mode is None else self.tls.mode == "Implicit"
        )
        return implicit or not any(host.port == 465 for host in self.hosts)

    @rule(
        """!has(self.tls) || !has(self.tls.mode) || self.tls.mode != 'None' || !has(self.auth)
        || (has(self.hosts) && size(self.hosts) > 0
        && self.hosts.all(h, h.host in ['localhost', '127.0.0.1', '::1']))""",
        "A login without TLS would send the password in cleartext: set tls.mode to StartTLS or"
        " Implicit.",
        field="tls.mode",
    )
    def logs_in_only_over_tls(self) -> bool:
        """Make sure no password is sent in cleartext, except to a loopback address, where it cannot
        be intercepted.
        """
        local = bool(self.hosts) and all(host.host in LOOPBACK_HOSTS for host in self.hosts)
        return self.tls.mode != "None" or self.auth is None or local


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
    """A sending rate of an upstream; shared by all replicas, smooth, without bursts."""

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
KINDS = ("smarthost", "direct", "sandbox")


class Upstream(Struct):
    """Where mail is sent: an upstream of exactly one kind."""

    name: Label = Field(
        description="Name of the upstream: routes refer to it, and it is a label of metrics."
    )
    smarthost: Smarthost | None = Field(None, description="Relay through this server.")
    direct: Direct | None = Field(
        None, description="Deliver directly to the recipients' mail exchangers."
    )
    sandbox: Sandbox | None = Field(None, description="Capture the mail, send nothing.")
    pace: tuple[Pace, ...] = Field(
        (),
        max_length=8,
        description="Sending rates; all apply.",
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
