"""What a session needs to know of the configuration, compiled once per load and swapped whole at a
reload.

A session takes the settings of its listener anew at each MAIL, so that a reload acts on open
sessions between two messages and never within one.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass

from mailrelay_gateway.contract.documents import (
    AuthenticationMode,
    Listener,
    OnTooManyRecipients,
    RelayDocument,
    TlsMode,
)
from mailrelay_gateway.intake.tls import ServerTls
from mailrelay_gateway.policy.senders import Directory
from mailrelay_gateway.smtp.reply import Reply
from mailrelay_gateway.smtp.server.sasl import MECHANISMS

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


@dataclass(frozen=True, slots=True, kw_only=True)
class ListenerSettings:
    """One listener of a configuration, with what of the relay its sessions need."""

    name: str
    hostname: str
    tls_mode: TlsMode
    tls: ServerTls | None  # None: no TLS at all
    auth_required: bool
    client_networks: tuple[Network, ...]
    max_size: int
    max_recipients: int
    defers_surplus: bool  # DeferRecipients: recipients beyond them are deferred, not the message
    directory: Directory
    banner: bytes
    helo_reply: bytes
    ehlo_reply_plain: bytes
    ehlo_reply_tls: bytes
    help_reply_plain: bytes
    help_reply_tls: bytes

    def admits(self, client: str) -> bool:
        """Whether a client's IP address may use an anonymous listener; anyone may try to log in to
        the others.
        """
        if self.auth_required:
            return True
        try:
            address = ipaddress.ip_address(client)
        except ValueError:
            return False  # gone before its address could be read
        return any(address in network for network in self.client_networks)


def compile_settings(
    listener: Listener, *, relay: RelayDocument, directory: Directory, tls: ServerTls | None
) -> ListenerSettings:
    """The settings of one listener; `tls` is what it shows, None when its mode is None."""
    hostname = relay.hostname
    auth_required = listener.authentication.mode is AuthenticationMode.REQUIRED
    extensions = ["PIPELINING", f"SIZE {relay.limits.max_size}", "8BITMIME", "ENHANCEDSTATUSCODES"]
    extensions.append("CHUNKING")
    plain = [*extensions, "STARTTLS"] if listener.tls.mode is TlsMode.START_TLS else extensions
    # A login is never offered in plain text (RFC 4954 section 4 forbids PLAIN there).
    auth = ["AUTH " + " ".join(MECHANISMS)] if auth_required else []
    return ListenerSettings(
        name=listener.name,
        hostname=hostname,
        tls_mode=listener.tls.mode,
        tls=tls,
        auth_required=auth_required,
        client_networks=tuple(
            ipaddress.ip_network(cidr, strict=False)
            for cidr in listener.authentication.client_cidrs
        ),
        max_size=relay.limits.max_size,
        max_recipients=relay.limits.max_recipients,
        defers_surplus=(
            relay.limits.on_too_many_recipients is OnTooManyRecipients.DEFER_RECIPIENTS
        ),
        directory=directory,
        banner=Reply(220, "", f"{hostname} ESMTP mailrelay").encode(),
        helo_reply=Reply(250, "", hostname).encode(),
        ehlo_reply_plain=Reply(250, "", "\n".join([hostname, *plain])).encode(),
        ehlo_reply_tls=Reply(250, "", "\n".join([hostname, *extensions, *auth])).encode(),
        help_reply_plain=_help("STARTTLS" if len(plain) > len(extensions) else ""),
        help_reply_tls=_help("AUTH" if auth else ""),
    )


def _help(extra: str) -> bytes:
    """The answer to HELP: the verbs that may come, `extra` among them."""
    verbs = ["EHLO HELO", extra, "MAIL RCPT DATA BDAT RSET NOOP VRFY HELP QUIT"]
    return Reply(214, "2.0.0", " ".join(filter(None, verbs))).encode()
