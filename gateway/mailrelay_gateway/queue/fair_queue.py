"""Jobs of which each sender has its turn. Pure."""

from __future__ import annotations

from collections import deque

from mailrelay_gateway.queue.item import Job

#: Recipients of one attempt, at most: Postfix's smtpd_recipient_limit, which RFC 5321 section
#: 4.5.3.1.8 wants to be at least 100.
MAX_RECIPIENTS = 1000


class FairQueue:
    """Jobs by sender; each pop serves the sender whose turn it is.

    Recipients of a message that is waiting here already on the same route join it, so that they are
    one transaction. Those on another route do not: they may only take its other upstreams.
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
        if (
            known is not None
            and known.route == job.route
            and len(known.recipients) + len(job.recipients) <= MAX_RECIPIENTS
        ):
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
