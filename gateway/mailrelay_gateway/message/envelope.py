"""The values that cross the walls between intake, queue and couriers: identity, message, attempt,
outcome. Pure.

Only values live here: no behaviour, no I/O. They are made once and shared, never copied per
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
from mailrelay_gateway.smtp.reply import Reply


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """Whose mail it is: the MailSender that logged in. Kept with the message for its whole life."""

    namespace: str
    name: str
    uid: str
    username: str

    def __str__(self) -> str:
        """As the log names it: the MailSender, never its username, which its owner may have
        brought along."""
        return f"{self.namespace}/{self.name}" if self.namespace else self.name


#: The identity of listeners with `authentication.mode: None`.
ANONYMOUS = Identity(namespace="", name="anonymous", uid="anonymous", username="anonymous")

#: The identity of what the gateway itself sends: delivery status notifications.
POSTMASTER = Identity(namespace="", name="postmaster", uid="postmaster", username="postmaster")


@message_value(frozen=True, slots=True, kw_only=True)
class Envelope:
    """From whom and to whom, whatever the message's header says."""

    envelope_sender: str  # reverse-path without angle brackets; "" is the null sender
    recipients: Sequence[str]  # each once, at least one


@message_value(frozen=True, slots=True, kw_only=True)
class Message:
    """A message as accepted: what is stored before 250 and what each attempt sends.

    `prelude` is what we put in front (trace header fields), `body` the client's header and body;
    both with CRLF line ends, not dot-stuffed. They are kept apart because a DKIM signature has to
    stand in front of what it signs. A stored body belongs to the queue once it took the message.
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
    eight_bit: bool  # an octet above 127 stands in it: BODY=8BITMIME towards upstreams that know it
    smtputf8: bool = False
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
    """One try to hand a message over: leased on disk before anyone sees it, ended by exactly one
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
    """What became of one recipient in one attempt; the label `result` of
    delivery_attempts_total.
    """

    DELIVERED = "delivered"  # gone
    DEFERRED = "deferred"  # try again later; counts as an attempt
    FAILED = "failed"  # permanent: DSN and dead letter
    HELD = "held"  # the upstream's trouble, not the message's: nothing counts
    UNCERTAIN = "uncertain"  # perhaps delivered: slowly again at the same upstream


@message_value(frozen=True, slots=True)
class Outcome:
    """What one recipient's attempt came to.

    `reply` is the upstream's, verbatim; None when there was none, and then `detail` says in words
    what came instead. `effect` and `retry_after` are what the upstream's words mean for what comes
    next; `scope` counts for HELD only.
    """

    index: int
    result: Result
    reason: Reason
    reply: Reply | None = None
    host: str = ""  # "host:port" that answered
    effect: Effect | None = None
    retry_after: float | None = None  # seconds, as the upstream named them; None: by our schedule
    scope: Scope = Scope.UPSTREAM
    detail: str = ""
