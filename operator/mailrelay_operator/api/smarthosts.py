"""A smarthost: its hosts, TLS and login. Pure.

Presets of providers are in `presets`, and `expanding` joins the two.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from mailrelay_operator.api.grammar import LOOPBACK_HOSTS, Host, Port
from mailrelay_operator.api.metadata import NamedRef, TrustRef
from mailrelay_operator.api.oauth2 import OAuth2
from mailrelay_operator.api.presets import IMPLICIT, REGIONAL, Provider
from mailrelay_operator.api.shape import ATOMIC, Struct, rule

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
        description="Secret of type kubernetes.io/tls with the certificate that the gateway shows"
        " to hosts that ask for one, as some smarthosts do in place of a password. A renewed one"
        " takes effect within seconds.",
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
