"""The jobs that are leased ahead for one lane, of both classes, and whose turn it is. Pure.

Transactional goes before Bulk by weight: while both wait, one turn in ten is Bulk's, so that
neither starves. Within a class senders take turns.
"""

from __future__ import annotations

from mailrelay_gateway.queue.fair_queue import FairQueue
from mailrelay_gateway.queue.item import Job

#: Turns of Transactional for one of Bulk while both wait.
WEIGHT = 9


class Startable:
    """Two fair queues, and how many turns Transactional has had since Bulk's last."""

    __slots__ = ("_run", "bulk", "length", "octets", "transactional")

    def __init__(self) -> None:
        """Start empty."""
        self.transactional = FairQueue()
        self.bulk = FairQueue()
        self._run = 0
        self.length = 0  # jobs; for who asks for each message, quicker than len()
        self.octets = 0  # of bodies in memory

    def __len__(self) -> int:
        return self.length

    def push(self, job: Job, *, first: bool = False, turn: bool = False) -> bool:
        """Add a job to the queue of its class, as there."""
        queue = self.bulk if job.route.bulk else self.transactional
        if not queue.push(job, first=first, turn=turn):
            return False
        self.length += 1
        self.octets = self.transactional.octets + self.bulk.octets
        return True

    def head(self) -> Job:
        """What `pop` would return; IndexError when empty."""
        return (self.bulk if self._is_bulks_turn() else self.transactional).head()

    def pop(self) -> Job:
        """The next job of the sender whose turn it is; IndexError when empty."""
        queue = self.transactional
        if self.bulk.length:
            if self._is_bulks_turn():
                queue, self._run = self.bulk, 0
            else:
                self._run += 1
        job = queue.pop()
        self.length -= 1
        self.octets = self.transactional.octets + self.bulk.octets
        return job

    def _is_bulks_turn(self) -> bool:
        return bool(self.bulk.length) and (not self.transactional.length or self._run >= WEIGHT)

    def take_out(self, sender: str) -> list[Job]:
        """Take all jobs of one sender out."""
        jobs = self.transactional.take_out(sender) + self.bulk.take_out(sender)
        self.length -= len(jobs)
        self.octets = self.transactional.octets + self.bulk.octets
        return jobs

    def clear(self) -> list[Job]:
        """Take all jobs out."""
        self.length = self.octets = 0
        return self.transactional.clear() + self.bulk.clear()
