"""The values passed between intake, queue and couriers: identity, message, attempt, outcome. Pure.

Values only, without behaviour or I/O. They are created once and shared, never copied per
recipient.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from mailrelay_gateway.message.body import Body
from mailrelay_gateway.message.effect import Effect, Scope
from mailrelay_gateway.message.lane import LaneKey
from mailrelay_gateway.message_value import message_value
from mailrelay_gateway.reasons import Reason
from mailrelay_gateway.smtp.dsn import DsnParameters
from mailrelay_gateway.smtp.reply import Reply


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """The MailSender that logged in. Kept with the message until it is removed."""

    namespace: str
    name: str
    uid: str
    username: str

    def __str__(self) -> str:
        """The name for the log: the MailSender, not its username, which its owner may have
        chosen."""
        return f"{self.namespace}/{self.name}" if self.namespace else self.name


#: The identity of listeners with `authentication.mode: None`.
ANONYMOUS = Identity(namespace="", name="anonymous", uid="anonymous", username="anonymous")

#: The identity of the gateway's own messages: delivery status notifications.
POSTMASTER = Identity(namespace="", name="postmaster", uid="postmaster", username="postmaster")


@message_value(frozen=True, slots=True, kw_only=True)
class Envelope:
    """The SMTP envelope, which is independent of the message's header."""

    envelope_sender: str  # reverse-path without angle brackets; "" is the null sender
    recipients: Sequence[str]  # without duplicates, at least one
    smtputf8: bool = False  # whether addresses and header may be UTF-8
    dsn: DsnParameters | None = None  # None: none were given


@message_value(frozen=True, slots=True, kw_only=True)
class Message:
    """A message as accepted: what is stored before 250 and what each attempt sends.

    `prelude` is what the gateway prepends (trace header fields), `body` the client's header and
    body; both with CRLF line ends, not dot-stuffed. They are separate because a DKIM signature has
    to precede what it signs. A stored body belongs to the queue once it has accepted the message.
    """

    queue_id: str  # 26 characters, time-ordered, unique over replicas
    envelope_sender: str  # reverse-path without angle brackets; "" is the null sender
    recipient_count: int  # as accepted
    identity: Identity
    listener: str
    received_at: float  # Unix seconds
    size: int  # octets of `prelude` and `body` together
    prelude: bytes = b""
    body: Body
    eight_bit: bool  # has an octet above 127: BODY=8BITMIME for upstreams that offer it
    smtputf8: bool = False  # an address or the header is UTF-8
    bulk: bool = False  # its class: Bulk, else Transactional
    long_lines: bool = False  # has body lines over 998 octets: never sent as it is
    dsn: DsnParameters | None = None  # as the client gave them; None: it gave none
    message_id: str = ""  # for logs; with angle brackets


@message_value(frozen=True, slots=True)
class AttemptRecipient:
    """One recipient of an attempt: `index` among the message's recipients, and how often it was
    tried before.
    """

    index: int
    address: str
    attempts: int


@message_value(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One attempt to deliver a message: leased on disk before it starts, ended by exactly one
    `finish`.
    """

    number: int  # unique in this process
    message: Message
    upstream: str
    recipients: tuple[AttemptRecipient, ...]
    destination: str = ""

    @property
    def lane(self) -> LaneKey:
        """The lane that it was taken from."""
        return LaneKey(self.upstream, self.destination)


class Result(StrEnum):
    """The result of one recipient in one attempt; the label `result` of
    delivery_attempts_total.
    """

    DELIVERED = "delivered"
    DEFERRED = "deferred"  # try again later; counts as an attempt
    FAILED = "failed"  # permanent: DSN and dead letter
    HELD = "held"  # the upstream's fault, not the message's: does not count
    UNCERTAIN = "uncertain"  # possibly delivered: retried slowly at the same upstream


@message_value(frozen=True, slots=True)
class Outcome:
    """The outcome of one recipient's attempt.

    `reply` is the upstream's, verbatim; None if there was none, and then `detail` describes the
    error. `effect` and `retry_after` are the consequences of the reply; `scope` applies to HELD
    only.
    """

    index: int
    result: Result
    reason: Reason
    reply: Reply | None = None
    host: str = ""  # "host:port" that answered
    effect: Effect | None = None
    retry_after: float | None = None  # seconds, from the reply; None: by the retry schedule
    scope: Scope = Scope.UPSTREAM
    detail: str = ""
    dsn_passed: bool = False  # the upstream took the DSN parameters: notices are its business
