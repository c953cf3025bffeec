"""What a connection tells whoever owns it: the seam between `connection` and `pool`. Nothing but
the Protocol.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from mailrelay_gateway.couriers.replies.classify import Failure, Verdict
from mailrelay_gateway.message.envelope import Message
from mailrelay_gateway.smtp.client.events import Transcript
from mailrelay_gateway.smtp.client.states import Phase

if TYPE_CHECKING:
    from mailrelay_gateway.couriers.smtp.connection import Connection


class Owner(Protocol):
    """What a connection tells its pool."""

    def connection_idle(self, connection: Connection) -> None:
        """Nothing was ready; it waits for `next`."""
        ...

    def connection_leaving(self, connection: Connection) -> None:
        """It takes no more work."""
        ...

    def connection_closed(self, connection: Connection) -> None:
        """It is gone. Said once."""
        ...

    def backlog(self) -> None:
        """There is probably more work than the connections that work can take."""
        ...

    @property
    def recipients_cap(self) -> int | None:
        """How many recipients a transaction may have at most; None: any number."""
        ...

    def judge(self, connection: Connection, verdict: Verdict, message: Message) -> Verdict:
        """The verdict in the light of what other messages got. Said for every transaction that the
        upstream has seen, before anything else about it.
        """
        ...

    def mail_accepted(self, passed: Phase) -> None:
        """The upstream let a message get past the stage `passed`: MAIL at least."""
        ...

    def heed(self, verdict: Verdict, transcript: Transcript) -> None:
        """What the upstream's words mean for what comes next. Said for every transaction, before
        the queue gets the attempt back.
        """
        ...

    def login_refused(self, failure: Failure) -> None:
        """MAIL or a later command was answered with a refusal of us, not of the message."""
        ...
