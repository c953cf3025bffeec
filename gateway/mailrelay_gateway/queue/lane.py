"""One upstream's part of the queue in memory: what may start, what waits for a lease, what still
lies on disk.

A lane holds a window of the queue, never the queue. It shares its upstream fairly: senders take
turns, whatever each of them has waiting. It decides nothing about time or disk; the scheduler does.
"""

from __future__ import annotations

from collections import deque

from mailrelay_gateway.queue.item import Job

#: Jobs of one upstream in memory; the rest stays on disk until there is room.
WINDOW = 2000
#: Below so many waiting jobs the next page is read from disk.
REFILL_BELOW = 500


class FairQueue:
    """Jobs by sender; each pop serves the sender whose turn it is."""

    __slots__ = ("_by_sender", "_length", "_turns")

    def __init__(self) -> None:
        """Start empty."""
        self._by_sender: dict[str, deque[Job]] = {}
        self._turns: deque[str] = deque()
        self._length = 0

    def __len__(self) -> int:
        return self._length

    def push(self, job: Job) -> None:
        """Add a job behind the others of its sender."""
        uid = job.message.identity.uid
        jobs = self._by_sender.get(uid)
        if jobs is None:
            jobs = self._by_sender[uid] = deque()
            self._turns.append(uid)
        jobs.append(job)
        self._length += 1

    def pop(self) -> Job:
        """The next job of the sender whose turn it is; IndexError when empty."""
        uid = self._turns.popleft()
        jobs = self._by_sender[uid]
        job = jobs.popleft()
        if jobs:
            self._turns.append(uid)
        else:
            del self._by_sender[uid]
        self._length -= 1
        return job

    def clear(self) -> list[Job]:
        """Take all jobs out."""
        jobs = []
        while self._length:
            jobs.append(self.pop())
        return jobs


class Lane:
    """The window of one upstream."""

    __slots__ = (
        "_held_since",
        "_held_total",
        "depth",
        "held",
        "leasing",
        "name",
        "on_disk_from",
        "paging",
        "ready",
        "startable",
    )

    def __init__(self, name: str, depth: int) -> None:
        """A lane that keeps up to `depth` jobs leased ahead of their connections."""
        self.name = name
        self.depth = depth
        self.ready = FairQueue()
        self.startable: deque[Job] = deque()
        self.leasing = 0
        self.held = False
        self.paging = False
        # (seq, n) after which READY rows lie on disk
        self.on_disk_from: tuple[int, int] | None = None
        self._held_since = 0.0
        self._held_total = 0.0

    @property
    def full(self) -> bool:
        """Whether the window takes no more."""
        return len(self.ready) + len(self.startable) + self.leasing >= WINDOW

    @property
    def room_to_lease(self) -> int:
        """How many more jobs may be leased ahead."""
        return 0 if self.held else self.depth - len(self.startable) - self.leasing

    def leave_on_disk(self, seq: int, n: int) -> None:
        """Remember that the READY row (seq, n) is not in memory."""
        before = (seq, n - 1)
        if self.on_disk_from is None or before < self.on_disk_from:
            self.on_disk_from = before

    def hold(self, now: float) -> None:
        """Start holding, at monotonic time `now`."""
        if not self.held:
            self.held = True
            self._held_since = now

    def release(self, now: float) -> None:
        """Stop holding."""
        if self.held:
            self.held = False
            self._held_total += now - self._held_since

    def held_seconds(self, now: float) -> float:
        """For how long it was held in all: what waited meanwhile is not charged for it."""
        return self._held_total + (now - self._held_since if self.held else 0.0)
