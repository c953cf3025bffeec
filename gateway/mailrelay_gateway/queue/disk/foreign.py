"""Messages of other databases, as values: `sources` reads them and `takeover` stores them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Protocol

from mailrelay_gateway.message.envelope import Identity
from mailrelay_gateway.message.route import Route


@dataclass(frozen=True, slots=True, kw_only=True)
class ForeignRecipient:
    """A recipient of another database."""

    n: int
    address: str
    state: int
    route: Route
    pinned: bool
    attempts: int
    waited: float
    first_tried_at: float | None
    next_at: float | None
    upstream: str
    reason: str
    reply: str


@dataclass(slots=True, kw_only=True)
class ForeignMessage:
    """A message of another database, with those of its recipients that could be read."""

    queue_id: str
    sender: str
    identity: Identity
    recipient_count: int
    listener: str
    received_at: float
    size: int
    flags: int
    message_id: str
    file: str | None  # name of its body's file
    prelude: bytes
    body: bytes | None  # None: in the file, or it could not be read
    recipients: list[ForeignRecipient] = field(default_factory=list)


@dataclass(frozen=True, slots=True, kw_only=True)
class ForeignLetter:
    """A dead letter of another database."""

    queue_id: str
    namespace: str
    name: str
    sender: str
    received_at: float
    size: int
    message: bytes
    recipient: int
    address: str
    upstream: str
    reason: str
    reply: str
    attempts: int
    failed_at: float


class Source(Protocol):
    """A database to read. `lost` counts the messages in it that cannot be read."""

    lost: int

    def messages(self) -> Iterator[ForeignMessage]:
        """Everything that can be read, in the order of acceptance."""
        ...

    def letters(self) -> Iterator[ForeignLetter]:
        """All dead letters that can be read."""
        ...
