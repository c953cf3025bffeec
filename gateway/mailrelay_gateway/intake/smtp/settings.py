"""What an SMTP session needs to know of the configuration: the settings of every protocol, and the
fixed replies of its listener, made once per load.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass

from mailrelay_gateway.contract.documents import (
    AuthenticationMode,
    Listener,
    LongLines,
    OnTooManyRecipients,
    RelayDocument,
    TlsMode,
)
from mailrelay_gateway.intake.listener import OpenListener
from mailrelay_gateway.intake.settings import ListenerSettings
from mailrelay_gateway.intake.tls import ServerTls
from mailrelay_gateway.policy.control_fields import control_fields
from mailrelay_gateway.policy.routing import Routing
from mailrelay_gateway.policy.senders import Directory
from mailrelay_gateway.policy.sizes import largest
from mailrelay_gateway.smtp.reply import Reply
from mailrelay_gateway.smtp.server.sasl import MECHANISMS


@dataclass(frozen=True, slots=True, kw_only=True)
class SmtpSettings(ListenerSettings):
    """One SMTP listener of a configuration, with what its sessions need of the relay."""

    banner: bytes
    helo_reply: bytes
    ehlo_reply_plain: bytes
    ehlo_reply_tls: bytes
    help_reply_plain: bytes
    help_reply_tls: bytes


SmtpListener = OpenListener[SmtpSettings]


def compile_settings(
    listener: Listener,
    *,
    relay: RelayDocument,
    directory: Directory,
    routing: Routing,
    tls: ServerTls | None,
) -> SmtpSettings:
    """The settings of one listener; `tls` is its certificate, None if its mode is None."""
    hostname = relay.hostname
    auth_required = listener.authentication.mode is AuthenticationMode.REQUIRED
    most = largest(relay)
    extensions = ["PIPELINING", f"SIZE {most}", "8BITMIME", "ENHANCEDSTATUSCODES"]
    extensions += ["CHUNKING", "SMTPUTF8", "DSN"]
    plain = [*extensions, "STARTTLS"] if listener.tls.mode is TlsMode.START_TLS else extensions
    # A login is never offered without TLS (RFC 4954 section 4 forbids PLAIN there).
    auth = ["AUTH " + " ".join(MECHANISMS)] if auth_required else []
    return SmtpSettings(
        name=listener.name,
        hostname=hostname,
        tls_mode=listener.tls.mode,
        tls=tls,
        auth_required=auth_required,
        client_networks=tuple(
            ipaddress.ip_network(cidr, strict=False)
            for cidr in listener.authentication.client_cidrs
        ),
        max_size=most,
        max_recipients=relay.limits.max_recipients,
        defers_surplus=(
            relay.limits.on_too_many_recipients is OnTooManyRecipients.DEFER_RECIPIENTS
        ),
        encodes_long_lines=relay.limits.long_lines is LongLines.ENCODE,
        control_fields=control_fields(relay),
        directory=directory,
        routing=None if routing.takes_all else routing,
        banner=Reply(220, "", f"{hostname} ESMTP mailrelay").encode(),
        helo_reply=Reply(250, "", hostname).encode(),
        ehlo_reply_plain=Reply(250, "", "\n".join([hostname, *plain])).encode(),
        ehlo_reply_tls=Reply(250, "", "\n".join([hostname, *extensions, *auth])).encode(),
        help_reply_plain=_help("STARTTLS" if len(plain) > len(extensions) else ""),
        help_reply_tls=_help("AUTH" if auth else ""),
    )


def _help(extra: str) -> bytes:
    """The reply to HELP: the commands, including `extra`."""
    verbs = ["EHLO HELO", extra, "MAIL RCPT DATA BDAT RSET NOOP VRFY HELP QUIT"]
    return Reply(214, "2.0.0", " ".join(filter(None, verbs))).encode()
