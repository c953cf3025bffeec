"""What a connection tells its owner: the interface between `connection` and `pool`. Only the
Protocol; it does not need to know the class of connections.
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
        """It is closed. Called once."""
        ...

    def backlog(self) -> None:
        """There is probably more work than the connections with work can take."""
        ...

    @property
    def recipients_cap(self) -> int | None:
        """The maximum number of recipients of a transaction; None: any number."""
        ...

    def judge(self, connection: C_contra, verdict: Verdict, message: Message) -> Verdict:
        """The verdict, considering what other messages got. Called for every transaction that the
        upstream has seen, before anything else about it.
        """
        ...

    def unattributable(self, attempt: Attempt, detail: str) -> list[Outcome]:
        """The outcomes of an attempt whose tenant cannot be named to the upstream."""
        ...

    def mail_accepted(self, passed: Stage) -> None:
        """A message passed the stage `passed`: MAIL at least."""
        ...

    def heed(self, verdict: Verdict, transcript: Transcript) -> None:
        """What the upstream's replies mean for what follows. Called for every transaction, before
        the queue gets the attempt back.
        """
        ...

    def login_refused(self, failure: Failure) -> None:
        """MAIL or a later command was answered with a refusal of us, not of the message."""
        ...
