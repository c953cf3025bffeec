"""What a connection tells whoever owns it: the seam between `connection` and `pool`. Nothing but
the Protocol; which class its connections are, it need not know.
"""

from __future__ import annotations

from typing import Protocol, TypeVar

from mailrelay_gateway.contract.stage import Stage
from mailrelay_gateway.couriers.replies.verdict import Failure, Verdict
from mailrelay_gateway.message.envelope import Attempt, Message, Outcome
from mailrelay_gateway.smtp.client.events import Transcript

#: The connection.
C_contra = TypeVar("C_contra", contravariant=True)


class Owner(Protocol[C_contra]):
    """What a connection tells its pool."""

    def connection_idle(self, connection: C_contra) -> None:
        """Nothing was ready; it waits for `next`."""
        ...

    def connection_leaving(self, connection: C_contra) -> None:
        """It takes no more work."""
        ...

    def connection_closed(self, connection: C_contra) -> None:
        """It is gone. Said once."""
        ...

    def backlog(self) -> None:
        """There is probably more work than the connections that work can take."""
        ...

    @property
    def recipients_cap(self) -> int | None:
        """How many recipients a transaction may have at most; None: any number."""
        ...

    def judge(self, connection: C_contra, verdict: Verdict, message: Message) -> Verdict:
        """The verdict in the light of what other messages got. Said for every transaction that the
        upstream has seen, before anything else about it.
        """
        ...

    def unattributable(self, attempt: Attempt, detail: str) -> list[Outcome]:
        """The outcomes of an attempt whose sender the upstream cannot be told of."""
        ...

    def mail_accepted(self, passed: Stage) -> None:
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
