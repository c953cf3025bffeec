"""What all sessions of all listeners share: the queue's intake, metrics, memory, logins, limits,
clocks, threads.
"""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from mailrelay_gateway.ingress.authentication import Authenticator
from mailrelay_gateway.ingress.budget import InFlightBudget
from mailrelay_gateway.ingress.intake import Intake
from mailrelay_gateway.ingress.ledger import Ledger
from mailrelay_gateway.metrics import Metrics
from mailrelay_gateway.policy.limits import Limits
from mailrelay_gateway.policy.problem import Problem

#: Threads that write large messages. A session has at most one job at a time, so no more wait than
#: there are sessions.
DISK_THREADS = 4
#: The label values of smtp_commands_total.
VERBS = (
    *(b"EHLO", b"HELO", b"STARTTLS", b"AUTH", b"MAIL", b"RCPT", b"DATA", b"BDAT"),
    *(b"RSET", b"NOOP", b"VRFY", b"HELP", b"QUIT", b"EXPN", b"ETRN", b"TURN", b"unknown"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeouts:
    """All clocks of a session, in seconds."""

    idle: float = (
        300.0  # without any octet from the client: RFC 5321 section 4.5.3.2.7, at least 5 minutes
    )
    handshake: float = 30.0
    content: float = (
        600.0  # for a message, plus a second for each `content_rate` octets of it that came
    )
    content_rate: int = 4096
    failure: float = 1.0  # from a failed login to its answer
    linger: float = 2.0  # between our last reply and the end, so that the client can read it
    drain: float = 30.0  # the same where the client is amid a message that is refused

    def content_seconds(self, octets: int) -> float:
        """How long a message may take of which `octets` have come: slow clients may, stalling ones
        may not.
        """
        return self.content + octets / self.content_rate


@dataclass(frozen=True, slots=True, kw_only=True)
class Caps:
    """How many sessions a listener serves at once, in all and from one client address, and how
    much of what is refused it takes.
    """

    connections: int = 1000
    #: By all listeners together: as many as there are file descriptors for, says the process.
    total: int = 4000
    # Postfix, smtpd_client_connection_count_limit: 50. Here a node's pods may share one address.
    per_client: int = 100
    # Octets beyond `limits.message.maxSize` that are taken and dropped before the session ends.
    # Postfix takes any number.
    drain: int = 256 * 1024 * 1024


class Commons:
    """Made once by Ingress, handed to every session."""

    def __init__(
        self,
        *,
        intake: Intake,
        metrics: Metrics,
        loop: asyncio.AbstractEventLoop,
        timeouts: Timeouts,
        caps: Caps,
        budget: InFlightBudget,
    ) -> None:
        """Make what is shared."""
        self.intake = intake
        self.metrics = metrics
        self.loop = loop
        self.timeouts = timeouts
        self.caps = caps
        self.budget = budget
        self.sessions = 0  # of all listeners
        self.limits = Limits()
        self.ledger = Ledger()
        self.authenticator = Authenticator(loop=loop)
        self.disk = ThreadPoolExecutor(DISK_THREADS, thread_name_prefix="body")
        self.verbs: dict[bytes, int] = dict.fromkeys(VERBS, 0)
        self.publish()

    def publish(self) -> None:
        """Add the commands since the last call to the metric: a plain number is what a hot path can
        afford.
        """
        for verb, count in self.verbs.items():
            self.metrics.smtp_commands(verb.decode()).inc(count)
            self.verbs[verb] = 0

    def problem(self) -> Problem | None:
        """Why no message can be taken now, whoever sends it: no storage, no memory."""
        return self.intake.problem() or self.budget.problem()

    def close(self) -> None:
        """Let the threads end."""
        self.authenticator.close()
        self.disk.shutdown(wait=False)
