"""What the SMTP client reports to its owner, as values. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto

from mailrelay_gateway.contract.stage import Stage
from mailrelay_gateway.message_value import message_value
from mailrelay_gateway.smtp.reply import Reply


class Trouble(Enum):
    """Why a session ended other than by our QUIT."""

    REFUSED = auto()  # a 4xx or 5xx before MAIL: `reply` has it
    CLOSING = auto()  # 421: the server closes the channel (RFC 5321 section 3.8)
    PROTOCOL = auto()  # not SMTP, out of step, or unexpected octets: see `detail`
    NO_STARTTLS = auto()  # we require TLS and the server does not offer it
    NO_AUTH = auto()  # we have a login and the server offers no mechanism that we support
    CLEAR_LOGIN = auto()  # we have a login and neither TLS nor a loopback address


@dataclass(frozen=True, slots=True)
class SessionReady:
    """The session is up: TLS and login done as configured. Transactions may begin."""


@dataclass(frozen=True, slots=True)
class StartTls:
    """The owner must start TLS now, read nothing in cleartext, then call `tls_established`."""


@dataclass(frozen=True, slots=True)
class SendBody:
    """354 was received and at least one recipient accepted: the owner calls `send_body`, or
    `body_sent` after streaming.
    """


@message_value(frozen=True, slots=True)
class Transcript:
    """The replies of one transaction. None: there was no reply, or the command was never sent.

    `recipients` is in the order given to `begin`. `answered` counts the replies from MAIL on.
    """

    mail: Reply | None
    recipients: tuple[Reply | None, ...]
    data: Reply | None
    final: Reply | None
    answered: int
    dot_sent: bool  # the final dot was handed to the owner to send


@message_value(frozen=True, slots=True)
class TransactionEnded:
    """All replies of the transaction have arrived, and the session is ready for the next one."""

    transcript: Transcript


@dataclass(frozen=True, slots=True)
class SessionEnded:
    """Close the connection. A transaction in progress is in `SmtpClient.transcript`."""

    stage: Stage
    trouble: Trouble
    reply: Reply | None = None
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Goodbye:
    """The server replied to QUIT: close the connection."""


Event = SessionReady | StartTls | SendBody | TransactionEnded | SessionEnded | Goodbye
