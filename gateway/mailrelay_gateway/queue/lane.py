"""One lane in memory: the jobs that are leased ahead for it, and its pauses.

Pure.

A lane holds what its connections need next, never the whole queue. Senders take turns in it,
however much mail each of them has.
"""

from __future__ import annotations

from collections import deque

from mailrelay_gateway.message.lane import LaneKey
from mailrelay_gateway.queue.fair_queue import FairQueue
from mailrelay_gateway.queue.startable import WEIGHT, Startable
from mailrelay_gateway.queue.store import Backlog

#: Seconds by which a lane slows down at the first sign of throttling, and at most.
FIRST_PAUSE = 1.0
LONGEST_PAUSE = 300.0


class Side:
    """What a lane has of one class."""

    __slots__ = ("claiming", "in_turns", "jobs", "turns")

    def __init__(self, jobs: FairQueue) -> None:
        """`jobs` are leased."""
        self.jobs = jobs
        self.claiming = 0  # jobs that the store was asked for
        #: What is READY on disk that this lane serves, in the order of its turns: a sender has one
        #: for each route, so that nothing waits behind what the sender has on another.
        self.turns: deque[Backlog] = deque()
        self.in_turns: set[Backlog] = set()

    @property
    def ahead(self) -> int:
        """Jobs that are leased, or asked for, and have not been started."""
        return self.jobs.length + self.claiming


class Lane:
    """The jobs leased ahead for one lane, and when it may start the next."""

    __slots__ = (
        "bulk",
        "depth",
        "key",
        "not_before",
        "pause",
        "startable",
        "transactional",
    )

    def __init__(self, key: LaneKey, depth: int) -> None:
        """A lane that keeps about `depth` jobs leased ahead of its connections."""
        self.key = key
        self.depth = depth
        self.startable = Startable()
        self.transactional = Side(self.startable.transactional)
        self.bulk = Side(self.startable.bulk)
        self.not_before = 0.0  # monotonic seconds
        self.pause = 0.0  # by how much the last sign of throttling slowed it down

    def __repr__(self) -> str:
        """What it holds."""
        turns = len(self.transactional.turns) + len(self.bulk.turns)
        return f"<Lane {self.key} startable={len(self.startable)} backlogs={turns}>"

    def side(self, backlog: Backlog) -> Side:
        """What it has of the class of this backlog."""
        return self.bulk if backlog.route.bulk else self.transactional

    def depth_of(self, side: Side) -> int:
        """About how many jobs of a class are leased ahead: of Bulk few while Transactional waits,
        so that the weight decides and not who was leased first.
        """
        first = self.transactional
        if side is first or not (first.turns or first.jobs.length or first.claiming):
            return self.depth
        return max(1, self.depth // (WEIGHT + 1))

    def slow(self, now: float, jitter: float, longest: float = LONGEST_PAUSE) -> None:
        """The upstream throttles: pause, each time for twice as long, up to `longest` seconds.
        Further signs during a pause have the same cause and change nothing.
        """
        if now < self.not_before:
            return
        self.pause = min(max(FIRST_PAUSE, self.pause * 2), longest)
        self.not_before = now + self.pause * (0.75 + jitter / 2)

    def pause_until(self, moment: float) -> None:
        """Start nothing before `moment` (monotonic seconds)."""
        self.not_before = max(self.not_before, moment)

    def succeeded(self) -> None:
        """A message was accepted: recover slowly."""
        if self.pause:
            self.pause = self.pause / 2 if self.pause > FIRST_PAUSE / 2 else 0.0
