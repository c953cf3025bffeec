"""The backlog, a set of keys with due times. Time and jitter are arguments. Pure.

Rule 1: a key that is added is handed out at least once afterwards; if a worker has it, once more
after that worker. Rule 2: no key is with two workers at a time. Rule 3: a key is stored once,
however often it is added, so that the length is bounded by the number of objects. Rule 4: of the
keys that are due, the most urgent come first, and a key stays as urgent until a round of it has
succeeded. Rule 5: between two rounds of a key there is a pause, so that an object that changes
constantly does not occupy the workers. Times are seconds on one monotonic clock.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass
from enum import IntEnum

#: First and longest pause after failures. client-go's defaults are 5 ms and 1000 s: the first would
#: hammer an API server that is restarting, the last would keep tenants waiting long after an
#: outage.
FIRST_BACK_OFF = 1.0
LONGEST_BACK_OFF = 120.0
#: The longest pause if only the API server did not answer: everything is up to date a minute after
#: an outage.
LONGEST_SILENCE = 30.0
#: Minimum seconds from the end of a key's round to its next one.
REST = 0.25


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Key:
    """What to reconcile: kind, namespace (empty for cluster-scoped objects) and name."""

    kind: str
    namespace: str
    name: str

    def __str__(self) -> str:
        """`KIND NAMESPACE/NAME`."""
        return f"{self.kind} {self.namespace}/{self.name}"


class Urgency(IntEnum):
    """Why a key is on the backlog; the highest comes first."""

    #: A resync, or something that runs has changed.
    ROUTINE = 0
    #: Somebody waits: a new object, a first login.
    AWAITED = 1
    #: A permission may have ended. A newcomer can wait for thousands of others; this cannot.
    REVOKING = 2


@dataclass(slots=True)
class _Entry:
    """One key's state: when it is due (None: not waiting), how urgent it is, how urgent the round
    is that a worker does for it (None: no worker has it), and its consecutive failures."""

    due: float | None = None
    urgency: Urgency = Urgency.ROUTINE
    working: Urgency | None = None
    failures: int = 0

    @property
    def in_flight(self) -> bool:
        """Whether a worker has it."""
        return self.working is not None


_DESCENDING = tuple(sorted(Urgency, reverse=True))


class Backlog:
    """Keys that wait for a worker. Not thread-safe."""

    def __init__(self) -> None:
        """Start empty."""
        self._entries: dict[Key, _Entry] = {}
        # (due, sequence, key) by urgency; entries whose due time or urgency has changed are skipped
        # when they surface.
        self._heaps: dict[Urgency, list[tuple[float, int, Key]]] = {one: [] for one in _DESCENDING}
        self._sequence = 0
        # Keys in the pause after their last round, and its end.
        self._resting: dict[Key, float] = {}

    def __len__(self) -> int:
        """The number of keys that wait or are with a worker."""
        return len(self._entries)

    def __repr__(self) -> str:
        """Show the keys that wait and those in flight, for failing tests."""
        waiting = sum(1 for entry in self._entries.values() if entry.due is not None)
        in_flight = sum(1 for entry in self._entries.values() if entry.in_flight)
        return f"<Backlog {waiting} waiting, {in_flight} in flight>"

    def waiting(self, now: float) -> int:
        """The number of keys that are overdue or in flight, for the metric `backlog`."""
        return sum(
            1
            for entry in self._entries.values()
            if entry.in_flight or (entry.due is not None and entry.due <= now)
        )

    def add(self, key: Key, *, due: float, urgency: Urgency = Urgency.ROUTINE) -> None:
        """Schedule the key at `due` or, if it is already waiting, at the earlier time; it never
        becomes less urgent by that."""
        entry = self._entries.setdefault(key, _Entry())
        due = max(due, self._resting.get(key, due))
        sooner = entry.due is None or due < entry.due
        if not sooner and entry.urgency >= urgency:
            return
        entry.due = due if entry.due is None else min(due, entry.due)
        entry.urgency = max(entry.urgency, urgency)
        if not entry.in_flight:
            self._push(key, entry)

    def take(self, *, now: float, least: Urgency = Urgency.ROUTINE) -> Key | None:
        """Hand out the key that has been due for longest, of the most urgent that are due, and of
        none less urgent than `least`; the caller must call `done` or `failed`."""
        for urgency in _DESCENDING:
            if urgency < least:
                return None
            key = self._first(urgency)
            if key is None:
                continue
            entry = self._entries[key]
            if entry.due is None or entry.due > now:
                continue
            heapq.heappop(self._heaps[urgency])
            entry.due, entry.urgency, entry.working = None, Urgency.ROUTINE, urgency
            return key
        return None

    def next_due(self, *, least: Urgency = Urgency.ROUTINE) -> float | None:
        """When the next waiting key is due, of those at least as urgent; None if none waits."""
        firsts = [self._first(urgency) for urgency in _DESCENDING if urgency >= least]
        dues = [self._entries[key].due for key in firsts if key is not None]
        return min((due for due in dues if due is not None), default=None)

    def done(
        self, key: Key, *, look_again_at: float | None = None, now: float | None = None
    ) -> None:
        """The round succeeded; hand the key out again at that time, or earlier if it was added
        meanwhile, but not before its pause from `now` is over."""
        self._rest(key, now)
        self._release(key, failures=0, again=look_again_at)

    def failed(
        self, key: Key, *, now: float, jitter: float, longest: float = LONGEST_BACK_OFF
    ) -> float:
        """The round failed: hand the key out again after a pause that doubles each time, up to
        `longest`, as urgently as before; returns the pause.

        `jitter` in [0, 1) spreads keys that failed together: it shortens the pause by up to a
        quarter. Adding the key from now on ends the pause, having added it meanwhile does not: a
        failing object that keeps changing must not become a busy loop.
        """
        failures = self._held(key).failures + 1
        pause = min(longest, FIRST_BACK_OFF * 2.0 ** min(failures - 1, 30))
        pause *= 1.0 - 0.25 * jitter
        entry = self._held(key)
        meanwhile, failed = entry.urgency, entry.working or Urgency.ROUTINE
        entry.due, entry.urgency = None, failed
        self._rest(key, now)
        self._release(key, failures=failures, again=now + pause)
        if meanwhile > Urgency.ROUTINE:
            self.add(key, due=now, urgency=meanwhile)
        return pause

    def forget(self, key: Key) -> None:
        """Drop the key of a deleted object, unless it was added meanwhile."""
        self._release(key, failures=0, again=None)

    def _held(self, key: Key) -> _Entry:
        entry = self._entries.get(key)
        if entry is None or not entry.in_flight:
            raise ValueError(f"{key} is not with a worker")
        return entry

    def _rest(self, key: Key, now: float | None) -> None:
        if now is None:
            return
        self._resting[key] = now + REST
        if len(self._resting) > 64 + 4 * len(self._entries):
            self._resting = {k: until for k, until in self._resting.items() if until > now}

    def _release(self, key: Key, *, failures: int, again: float | None) -> None:
        entry = self._held(key)
        entry.working = None
        entry.failures = failures
        if again is not None and (entry.due is None or again < entry.due):
            entry.due = again
        if entry.due is None:
            del self._entries[key]
            return
        entry.due = max(entry.due, self._resting.get(key, entry.due))
        self._push(key, entry)

    def _push(self, key: Key, entry: _Entry) -> None:
        heap = self._heaps[entry.urgency]
        self._sequence += 1
        heapq.heappush(heap, (entry.due or 0.0, self._sequence, key))
        # Stale entries are dropped when they surface; if they are the majority, rebuild the heap.
        if len(heap) > 64 + 4 * len(self._entries):
            self._rebuild()

    def _rebuild(self) -> None:
        for urgency, heap in self._heaps.items():
            heap[:] = [
                (entry.due, number, key)
                for number, (key, entry) in enumerate(self._entries.items())
                if entry.due is not None and not entry.in_flight and entry.urgency is urgency
            ]
            heapq.heapify(heap)
        self._sequence = len(self._entries)

    def _first(self, urgency: Urgency) -> Key | None:
        """The first valid key of the heap; drops stale entries before it."""
        heap = self._heaps[urgency]
        while heap:
            due, _, key = heap[0]
            entry = self._entries.get(key)
            if (
                entry is not None
                and not entry.in_flight
                and entry.due == due
                and entry.urgency is urgency
            ):
                return key
            heapq.heappop(heap)
        return None
