"""What all sessions of all listeners share: the queue's intake, metrics, memory, logins, limits,
clocks, threads.
"""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from mailrelay_gateway.intake.authentication import Authenticator
from mailrelay_gateway.intake.budget import InFlightBudget
from mailrelay_gateway.intake.handover import Intake
from mailrelay_gateway.intake.ledger import Account, Ledger
from mailrelay_gateway.intake.places import Caps, Tally
from mailrelay_gateway.metrics import Metrics
from mailrelay_gateway.policy.limits import Limits
from mailrelay_gateway.smtp.refusal import Problem

#: Threads that write large messages. A session has at most one job at a time, so no more jobs wait
#: than there are sessions.
DISK_THREADS = 4
#: The label values of smtp_commands_total.
VERBS = (
    *(b"EHLO", b"HELO", b"STARTTLS", b"AUTH", b"MAIL", b"RCPT", b"DATA", b"BDAT"),
    *(b"RSET", b"NOOP", b"VRFY", b"HELP", b"QUIT", b"EXPN", b"ETRN", b"TURN", b"unknown"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeouts:
    """The timeouts of a session, in seconds."""

    idle: float = (
        300.0  # without any octet from the client: RFC 5321 section 4.5.3.2.7, at least 5 minutes
    )
    handshake: float = 30.0
    # from the connection to a login, where one is required: OpenSSH's LoginGraceTime
    login: float = 120.0
    # for our own answer, mainly a commit: if it has not come by then, it never will
    waiting: float = 900.0
    content: float = 600.0  # for a message, plus a second for each `content_rate` octets received
    content_rate: int = 4096
    failure: float = 1.0  # from a failed login to its answer
    linger: float = 2.0  # between our last reply and the end, so that the client can read it
    drain: float = 30.0  # the same while the client is sending a refused message

    def content_seconds(self, octets: int) -> float:
        """How long a message may take of which `octets` have arrived: slow clients may, stalled
        ones may not.
        """
        return self.content + octets / self.content_rate


class Commons:
    """Created once by the listeners, passed to every session."""

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
        self.tally = Tally()
        self.limits = Limits()
        self.ledger = Ledger()
        self.authenticator = Authenticator(loop=loop)
        self.disk = ThreadPoolExecutor(DISK_THREADS, thread_name_prefix="body")
        self.verbs: dict[bytes, int] = dict.fromkeys(VERBS, 0)
        self.publish()

    def publish(self) -> None:
        """Add the commands since the last call to the metric: the hot path only increments a
        number.
        """
        for verb, count in self.verbs.items():
            self.metrics.smtp_commands(verb.decode()).inc(count)
            self.verbs[verb] = 0

    def problem(self, account: Account | None = None) -> Problem | None:
        """Why no message can be accepted now (for that account): no storage, no memory."""
        return self.intake.problem() or self.budget.problem(account)

    def close(self) -> None:
        """Let the threads end."""
        self.authenticator.close()
        self.disk.shutdown(wait=False)
