"""What a session needs to know about its listener and its relay, compiled once per load and
replaced as a whole at a reload: the part that is the same for every protocol.

A session uses the newest settings of its listener for each message, so that a reload affects open
sessions between two messages and never within one.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass

from mailrelay_gateway.contract.documents import TlsMode
from mailrelay_gateway.intake.tls import ServerTls
from mailrelay_gateway.message.control_fields import ControlFields
from mailrelay_gateway.policy.routing import Routing
from mailrelay_gateway.policy.senders import Directory

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


@dataclass(frozen=True, slots=True, kw_only=True)
class ListenerSettings:
    """One listener of a configuration, with what its sessions need of the relay."""

    name: str
    hostname: str
    tls_mode: TlsMode
    tls: ServerTls | None  # None: no TLS at all
    auth_required: bool
    client_networks: tuple[Network, ...]
    max_size: int
    max_recipients: int
    defers_surplus: bool  # DeferRecipients: excess recipients are deferred, not the message
    encodes_long_lines: bool  # of bodies; else their message is refused
    control_fields: ControlFields  # of clients' headers, to be removed
    directory: Directory
    routing: Routing | None  # None: any mail has a route

    def admits(self, client: str) -> bool:
        """Whether a client's IP address may use an anonymous listener; any client may try to log in
        to the others.
        """
        if self.auth_required:
            return True
        try:
            address = ipaddress.ip_address(client)
        except ValueError:
            return False  # gone before its address could be read
        return any(address in network for network in self.client_networks)
