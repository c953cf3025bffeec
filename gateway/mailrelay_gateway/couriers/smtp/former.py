"""The owner of connections with outdated settings: they finish their message, and what they learn
about the former upstream or login is ignored.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from mailrelay_gateway.contract.stage import Stage
from mailrelay_gateway.couriers.replies.verdict import Failure, Verdict
from mailrelay_gateway.couriers.smtp.breaker import Breaker, judge
from mailrelay_gateway.couriers.smtp.connection import Connection
from mailrelay_gateway.couriers.smtp.sender_faults import unattributable_outcomes
from mailrelay_gateway.message.envelope import Attempt, Message, Outcome
from mailrelay_gateway.smtp.client.events import Transcript


class Former:
    """Implements `owner.Owner`."""

    recipients_cap: int | None = None

    def __init__(self, changed: Callable[[], None]) -> None:
        """`changed` is called when a connection is gone."""
        self.connections: set[Connection] = set()
        self._breaker = Breaker()
        self._changed = changed

    def take_over(self, connections: Iterable[Connection], breaker: Breaker) -> None:
        """Own these from now on; `breaker` knows what else their upstream has refused."""
        self._breaker = breaker
        for connection in connections:
            self.connections.add(connection)
            connection.hand_to(self)

    def connection_idle(self, connection: Connection) -> None:
        """See Owner. It is retired, and leaves."""

    def connection_leaving(self, connection: Connection) -> None:
        """See Owner."""

    def connection_closed(self, connection: Connection) -> None:
        """See Owner."""
        self.connections.discard(connection)
        self._changed()

    def backlog(self) -> None:
        """See Owner. The pool knows this when the connection is handed over."""

    def judge(self, connection: Connection, verdict: Verdict, message: Message) -> Verdict:
        """See Owner."""
        self._breaker, judged = judge(
            self._breaker, verdict, sender=message.identity.uid, message=message.queue_id
        )
        return judged

    def unattributable(self, attempt: Attempt, detail: str) -> list[Outcome]:
        """See Owner. They are retired, and take no attempts."""
        return unattributable_outcomes(attempt, detail)

    def mail_accepted(self, passed: Stage) -> None:
        """See Owner."""

    def heed(self, verdict: Verdict, transcript: Transcript) -> None:
        """See Owner."""

    def login_refused(self, failure: Failure) -> None:
        """See Owner."""
