"""Listeners: the ports that accept mail, their TLS, and who may submit. Pure.

The rules here prevent cleartext passwords and open relays; what concerns several listeners, or a
listener and the Service, is a rule of MailRelaySpec.
"""

from __future__ import annotations

import ipaddress
from typing import Annotated, Literal

from pydantic import Field

from mailrelay_gateway.contract.documents import ADMIN_PORT
from mailrelay_operator.api.grammar import Cidr, Port, PortName
from mailrelay_operator.api.metadata import NamedRef, TrustRef
from mailrelay_operator.api.shape import DISTINCT, NAMED, Struct, TextRule, rule

#: The port of transfers between the replicas of a relay.
PEER_PORT = 8026
#: Pods run without privileges: ports below 1024 are bound at this offset.
PRIVILEGED_PORTS = 1024
POD_PORT_OFFSET = 10000

assert (ADMIN_PORT, PEER_PORT) == (8025, 8026), "the rule and its sentence below name them"

#: Private networks (RFC 1918, RFC 6598), which may be named as a whole.
PRIVATE_NETWORKS = tuple(
    ipaddress.IPv4Network(text)
    for text in ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10")
)
#: A public network of one organisation is not wider than this (a /16, and for IPv6 the /32 that
#: an Internet provider gets): a wider one makes an open relay.
SHORTEST_CLIENT_PREFIX = {4: 16, 6: 32}


def _is_of_one_organisation(text: str) -> bool:
    network = ipaddress.ip_network(text)
    if isinstance(network, ipaddress.IPv4Network) and any(
        network.subnet_of(private) for private in PRIVATE_NETWORKS
    ):
        return True
    return network.prefixlen >= SHORTEST_CLIENT_PREFIX[network.version]


ClientCidr = Annotated[
    Cidr,
    TextRule(
        cel="!isCIDR(self) || (cidr(self).ip().family() == 6 ? cidr(self).prefixLength() >= 32"
        " : cidr(self).prefixLength() >= 16 || ['10.0.0.0/8', '172.16.0.0/12', '192.168.0.0/16',"
        " '100.64.0.0/10'].exists(private, cidr(private).containsCIDR(self)))",
        message="A client network needs a prefix of at least /16 (IPv6: /32) unless it is private:"
        " a wider one makes an open relay.",
        holds=_is_of_one_organisation,
    ),
]


class ListenerTls(Struct):
    """TLS of a listener."""

    mode: Literal["None", "StartTLS", "Implicit"] = Field(
        "StartTLS",
        description="StartTLS: the client starts TLS with STARTTLS (RFC 3207), usual on port 587."
        " Implicit: TLS from the first byte (RFC 8314), usual on port 465. None: no TLS; only"
        " without authentication.",
    )
    certificate_refs: tuple[NamedRef, ...] = Field(
        (),
        max_length=8,
        description="Secrets of type kubernetes.io/tls, selected by the client's SNI; the first is"
        " the default. If empty, a certificate of the relay's own CA, which each MailSender's"
        " Secret contains as ca.crt. A renewed certificate is used within seconds, without a"
        " restart.",
        json_schema_extra=NAMED,
    )
    client_ca_ref: TrustRef | None = Field(
        None,
        description="CA of client certificates: clients must present one issued by it, in"
        " addition to authentication.",
    )

    @rule(
        "self.mode != 'None' || ((!has(self.certificateRefs) || size(self.certificateRefs) == 0)"
        " && !has(self.clientCARef))",
        "Certificates require TLS: set tls.mode to StartTLS or Implicit, or remove them.",
        field="mode",
    )
    def has_certificates_only_with_tls(self) -> bool:
        """Make sure configured certificates are not ignored."""
        return self.mode != "None" or not (self.certificate_refs or self.client_ca_ref)


class ProxyProtocol(Struct):
    """The PROXY protocol (v1 and v2), for a load balancer that hides the client's address."""

    trusted_cidrs: tuple[Cidr, ...] = Field(
        min_length=1,
        max_length=32,
        description="Networks of the load balancers. From these a PROXY header is required;"
        " from others it is refused.",
        json_schema_extra=DISTINCT,
    )


class Authentication(Struct):
    """Who may submit mail on a listener."""

    mode: Literal["Required", "None"] = Field(
        "Required",
        description="Required: only clients that log in. None: all clients in clientCIDRs;"
        " their mail has the identity `anonymous`. None is refused with a Service"
        " of type LoadBalancer or NodePort.",
    )
    client_cidrs: tuple[ClientCidr, ...] = Field(
        (),
        max_length=32,
        description="Networks whose clients may submit without logging in. For mode None"
        " only, which needs at least one.",
        json_schema_extra=DISTINCT,
    )

    @rule(
        "self.mode != 'None' || (has(self.clientCIDRs) && size(self.clientCIDRs) > 0)",
        "authentication.mode None requires clientCIDRs: name the networks that may submit.",
        field="clientCIDRs",
    )
    def names_clients_without_login(self) -> bool:
        """Make sure that a single setting does not make an open relay."""
        return self.mode != "None" or bool(self.client_cidrs)

    @rule(
        "self.mode == 'None' || !has(self.clientCIDRs) || size(self.clientCIDRs) == 0",
        "clientCIDRs is for authentication.mode None only: with Required every client must log"
        " in. Remove it.",
        field="clientCIDRs",
    )
    def names_no_clients_with_login(self) -> bool:
        """Make sure that a list of networks is not mistaken for an additional restriction."""
        return self.mode == "None" or not self.client_cidrs


class Listener(Struct):
    """A port that accepts mail."""

    name: PortName = Field(
        description="Name of the listener: the Service's port name, and a label of metrics."
    )
    protocol: Literal["SMTP", "HTTP"] = Field(
        "SMTP", description="SMTP: message submission (RFC 6409). HTTP: submission by POST."
    )
    port: Port = Field(
        description="Port of the Service. The pod listens on the same port if it is 1024 or above,"
        " otherwise on 10000 + port; `mailrelay up` binds the port itself. 8025"
        " and 8026 are reserved."
    )
    tls: ListenerTls = Field(ListenerTls(), description="TLS of the listener.")
    proxy_protocol: ProxyProtocol | None = Field(
        None,
        description="Read the client's address from a PROXY header. Default: the connection's own"
        " address.",
    )
    authentication: Authentication = Field(
        Authentication(), description="Who may submit mail here."
    )

    @rule(
        "!(self.port in [8025, 8026])",
        "Ports 8025 (admin) and 8026 (peers) are reserved; choose another, such as 2525.",
        field="port",
    )
    def leaves_the_gateways_ports_alone(self) -> bool:
        """Make sure the listener does not collide with the admin and peer ports."""
        return self.port not in {ADMIN_PORT, PEER_PORT}

    @rule(
        "self.authentication.mode != 'Required' || self.tls.mode != 'None'",
        "Authentication without TLS would send passwords in cleartext: set tls.mode to StartTLS or"
        " Implicit.",
        field="tls.mode",
    )
    def authenticates_only_over_tls(self) -> bool:
        """Make sure no password is accepted in cleartext (RFC 8314 section 3)."""
        return self.authentication.mode != "Required" or self.tls.mode != "None"

    @rule(
        "self.protocol != 'HTTP' || self.tls.mode != 'StartTLS'",
        "StartTLS is for SMTP only: set tls.mode to Implicit.",
        field="tls.mode",
    )
    def starts_tls_only_in_smtp(self) -> bool:
        """Make sure an HTTP listener has a TLS mode that HTTP supports."""
        return self.protocol != "HTTP" or self.tls.mode != "StartTLS"

    @property
    def pod_port(self) -> int:
        """The port that the gateway binds in its pod."""
        return self.port if self.port >= PRIVILEGED_PORTS else self.port + POD_PORT_OFFSET


#: The default of listeners.
DEFAULT_LISTENERS = (Listener(name="submission", port=587),)
