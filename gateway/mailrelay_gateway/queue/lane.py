"""One lane in memory: the jobs that are leased ahead for it, and what it was told about its pace.
Pure.

A lane holds what its connections need next, never the queue. Senders take turns in it, whatever
each of them has waiting.
"""

from __future__ import annotations

from collections import deque

from mailrelay_gateway.message.lane import LaneKey
from mailrelay_gateway.queue.item import Job
from mailrelay_gateway.queue.store import Backlog

#: Recipients of one attempt, at most: Postfix's smtpd_recipient_limit, which RFC 5321 section
#: 4.5.3.1.8 wants to be at least 100.
MAX_RECIPIENTS = 1000
#: Seconds by which a lane slows down at the first sign of throttling, and at most.
FIRST_PAUSE = 1.0
LONGEST_PAUSE = 300.0


class FairQueue:
    """Jobs by sender; each pop serves the sender whose turn it is.

    Recipients of a message that is waiting here already join it, so that they are one transaction.
    """

    __slots__ = ("_by_message", "_by_sender", "_turns", "length", "octets")

    def __init__(self) -> None:
        """Start empty."""
        self._by_sender: dict[str, deque[Job]] = {}
        self._by_message: dict[tuple[int, bool], Job] = {}
        self._turns: deque[str] = deque()
        self.length = 0  # jobs; for who asks for each message, quicker than len()
        self.octets = 0  # of bodies in memory

    def __len__(self) -> int:
        return self.length

    def __contains__(self, sender: str) -> bool:
        """Whether a job of this sender waits here."""
        return sender in self._by_sender

    @property
    def senders(self) -> int:
        """How many senders have jobs here."""
        return len(self._by_sender)

    def push(self, job: Job, *, first: bool = False, turn: bool = False) -> bool:
        """Add a job behind the others of its sender; `first` puts it before them, and `turn` before
        all. False: its recipients joined a job that waits here already.
        """
        key = (job.seq, job.pinned)
        known = self._by_message.get(key)
        if known is not None and len(known.recipients) + len(job.recipients) <= MAX_RECIPIENTS:
            known.recipients += job.recipients
            return False
        if known is None:
            self._by_message[key] = job
        self.octets += octets_in_memory(job)
        uid = job.message.identity.uid
        jobs = self._by_sender.get(uid)
        if jobs is None:
            jobs = self._by_sender[uid] = deque()
            self._turns.append(uid)
        if first:
            jobs.appendleft(job)
            if turn and self._turns[0] != uid:
                self._turns.remove(uid)
                self._turns.appendleft(uid)
        else:
            jobs.append(job)
        self.length += 1
        return True

    def head(self) -> Job:
        """What `pop` would return; IndexError when empty."""
        return self._by_sender[self._turns[0]][0]

    def pop(self) -> Job:
        """The next job of the sender whose turn it is; IndexError when empty."""
        uid = self._turns.popleft()
        jobs = self._by_sender[uid]
        job = jobs.popleft()
        if jobs:
            self._turns.append(uid)
        else:
            del self._by_sender[uid]
        self.length -= 1
        self.octets -= octets_in_memory(job)
        key = (job.seq, job.pinned)
        if self._by_message.get(key) is job:
            del self._by_message[key]
        return job

    def take_out(self, sender: str) -> list[Job]:
        """Take all jobs of one sender out."""
        jobs = self._by_sender.pop(sender, None)
        if jobs is None:
            return []
        self._turns.remove(sender)
        for job in jobs:
            self.length -= 1
            self.octets -= octets_in_memory(job)
            key = (job.seq, job.pinned)
            if self._by_message.get(key) is job:
                del self._by_message[key]
        return list(jobs)

    def clear(self) -> list[Job]:
        """Take all jobs out."""
        jobs = []
        while self.length:
            jobs.append(self.pop())
        return jobs


def octets_in_memory(job: Job) -> int:
    """Octets of the job's message that memory holds."""
    body = job.message.body
    return len(body) if isinstance(body, bytes) else 0


class Lane:
    """The jobs leased ahead for one lane, and when it may start the next."""

    __slots__ = (
        "claiming",
        "depth",
        "in_turns",
        "key",
        "not_before",
        "pause",
        "startable",
        "turns",
    )

    def __init__(self, key: LaneKey, depth: int) -> None:
        """A lane that keeps about `depth` jobs leased ahead of its connections."""
        self.key = key
        self.depth = depth
        self.startable = FairQueue()
        self.claiming = 0  # jobs that the store was asked for
        #: What is READY on disk that this lane serves, in the order of its turns: a sender has one
        #: for each route, so that nothing waits behind what the sender has on another.
        self.turns: deque[Backlog] = deque()
        self.in_turns: set[Backlog] = set()
        self.not_before = 0.0  # monotonic seconds
        self.pause = 0.0  # by how much the last sign of throttling slowed it down

    def __repr__(self) -> str:
        """What it holds."""
        return (
            f"<Lane {self.key} startable={len(self.startable)} claiming={self.claiming}"
            f" backlogs={len(self.turns)}>"
        )

    @property
    def ahead(self) -> int:
        """Jobs that are leased, or asked for, and have not been started."""
        return self.startable.length + self.claiming

    def slow(self, now: float, jitter: float, longest: float = LONGEST_PAUSE) -> None:
        """The upstream throttles: pause, each time twice as long, up to `longest` seconds. Further
        signs during a pause are of the same moment and change nothing.
        """
        if now < self.not_before:
            return
        self.pause = min(max(FIRST_PAUSE, self.pause * 2), longest)
        self.not_before = now + self.pause * (0.75 + jitter / 2)

    def pause_until(self, moment: float) -> None:
        """Start nothing before `moment` (monotonic seconds)."""
        self.not_before = max(self.not_before, moment)

    def succeeded(self) -> None:
        """A message was taken: recover slowly."""
        if self.pause:
            self.pause = self.pause / 2 if self.pause > FIRST_PAUSE / 2 else 0.0
