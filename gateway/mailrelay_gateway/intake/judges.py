"""Who may send to whom, for every protocol, before a message's octets: facts for the chains of the
policy.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

from mailrelay_gateway.intake.authentication import Login
from mailrelay_gateway.intake.settings import ListenerSettings
from mailrelay_gateway.policy.chain import MAIL_CHAIN, RCPT_CHAIN, MailFacts, RcptFacts, decide
from mailrelay_gateway.policy.senders import SenderEntry
from mailrelay_gateway.smtp.refusal import Problem


class Origin(NamedTuple):
    """Where a message comes from, for its trace header and the log."""

    client: str  # its IP address
    tls: str  # version and cipher; "": in cleartext
    helo: str  # the name that the client gives
    protocol: str  # as in Received (RFC 3848)


#: Nothing is known yet.
UNKNOWN = Origin("", "", "", "")


class AnyListener(Protocol):
    """A listener, whatever its protocol: see OpenListener."""

    @property
    def settings(self) -> ListenerSettings:
        """Those in force now."""
        ...

    def admits(self, client: str) -> bool:
        """Whether a client with this address may use it."""
        ...


def judge_sender(
    listener: AnyListener,
    origin: Origin,
    login: Login | None,
    entry: SenderEntry | None,
    reverse_path: str,
    size: int,
) -> Problem | None:
    """Whether that client may send as that address now. `entry` is who logged in, according to the
    current configuration; `size` the declared size of the message (0: none).
    """
    settings = listener.settings
    return decide(
        MAIL_CHAIN,
        MailFacts(
            bool(origin.tls),
            settings.tls is not None,
            settings.auth_required,
            listener.admits(origin.client),
            login is not None,
            entry,
            reverse_path,
            size,
            settings.max_size,
        ),
    )


def judge_recipient(
    settings: ListenerSettings,
    entry: SenderEntry | None,
    reverse_path: str,
    recipient: str,
    accepted: int,
) -> Problem | None:
    """Whether this sender's message, which has `accepted` recipients, may have this one too."""
    routing = settings.routing
    namespace = "" if entry is None else entry.identity.namespace
    return decide(
        RCPT_CHAIN,
        RcptFacts(
            routing is None or routing.takes(reverse_path, recipient, namespace),
            accepted,
            settings.max_recipients,
            settings.defers_surplus,
        ),
    )
