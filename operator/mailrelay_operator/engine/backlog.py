"""The backlog, a set of keys with due times. No clock, no randomness, no await: time and
jitter are arguments. Pure.

Rule 1: a key that was added is handed out at least once after that moment; adding it while a worker
has it means once more after that worker. Rule 2: no key is with two workers at a time. Rule 3: a
key is in here once, however often it was added, so that the length is bounded by the number of
objects. Rule 4: urgent keys (a right was taken away, somebody waits for a first login) come before
all others that are due. Rule 5: between two rounds of a key there is a rest, so that one object
that changes all the time leaves the workers to others. Times are seconds on one monotonic clock.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass

#: First pause after a failure, and the longest; client-go's defaults are 5 ms and 1000 s: the first
#: would hammer an API server that is restarting, the last would leave a tenant waiting after it is
#: back.
FIRST_BACK_OFF = 1.0
LONGEST_BACK_OFF = 120.0
#: The longest pause when nothing but the API server's silence was the matter: a minute after it is
#: back, all is as it should be.
LONGEST_SILENCE = 30.0
#: Seconds from the end of a key's round to its next one, whatever happens.
REST = 0.25


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Key:
    """What to reconcile: the kind's name, and which object of it (`namespace` is empty for a
    cluster's own)."""

    kind: str
    namespace: str
    name: str

    def __str__(self) -> str:
        """As a person writes it: Kind namespace/name."""
        return f"{self.kind} {self.namespace}/{self.name}"


@dataclass(slots=True)
class _Entry:
    """One key's state: when it is due (None: not waiting), whether that is urgent, whether a worker
    has it, how often it failed in a row."""

    due: float | None = None
    urgent: bool = False
    in_flight: bool = False
    failures: int = 0


class Backlog:
    """Keys that wait for a worker. Not for several threads."""

    def __init__(self) -> None:
        """Start empty."""
        self._entries: dict[Key, _Entry] = {}
        # (due, sequence, key), those that are urgent apart; entries whose due time or urgency has
        # changed since are skipped when they come up.
        self._heaps: dict[bool, list[tuple[float, int, Key]]] = {True: [], False: []}
        self._sequence = 0
        # Keys whose last round is so short a time ago that they rest, and until when.
        self._resting: dict[Key, float] = {}

    def __len__(self) -> int:
        """How many keys wait or are with a worker."""
        return len(self._entries)

    def __repr__(self) -> str:
        """Show what matters in a failing test: what waits, and what is in flight."""
        waiting = sum(1 for entry in self._entries.values() if entry.due is not None)
        in_flight = sum(1 for entry in self._entries.values() if entry.in_flight)
        return f"<Backlog {waiting} waiting, {in_flight} in flight>"

    def waiting(self, now: float) -> int:
        """How many keys are overdue or in flight: the figure behind the metric `backlog`."""
        return sum(
            1
            for entry in self._entries.values()
            if entry.in_flight or (entry.due is not None and entry.due <= now)
        )

    def add(self, key: Key, *, due: float, urgent: bool = False) -> None:
        """Have the key handed out at `due` or, if it waits already, at the earlier of the two; once
        urgent, it stays so until it is handed out."""
        entry = self._entries.setdefault(key, _Entry())
        due = max(due, self._resting.get(key, due))
        sooner = entry.due is None or due < entry.due
        if not sooner and entry.urgent >= urgent:
            return
        entry.due = due if entry.due is None else min(due, entry.due)
        entry.urgent = entry.urgent or urgent
        if not entry.in_flight:
            self._push(key, entry)

    def take(self, *, now: float) -> Key | None:
        """The urgent key that has been due for longest, else the other one that has, now with the
        caller, who must answer `done` or `failed`."""
        for urgent in (True, False):
            key = self._first(urgent=urgent)
            if key is None:
                continue
            entry = self._entries[key]
            if entry.due is None or entry.due > now:
                continue
            heapq.heappop(self._heaps[urgent])
            entry.due, entry.urgent, entry.in_flight = None, False, True
            return key
        return None

    def next_due(self) -> float | None:
        """When the next key is due that no worker has; None when nothing waits."""
        firsts = [self._first(urgent=urgent) for urgent in (True, False)]
        dues = [self._entries[key].due for key in firsts if key is not None]
        return min((due for due in dues if due is not None), default=None)

    def done(
        self, key: Key, *, look_again_at: float | None = None, now: float | None = None
    ) -> None:
        """The key's work succeeded; hand it out again at that time, or earlier if it was added
        meanwhile, but not before it has rested from `now`."""
        self._rest(key, now)
        self._release(key, failures=0, again=look_again_at)

    def failed(
        self, key: Key, *, now: float, jitter: float, longest: float = LONGEST_BACK_OFF
    ) -> float:
        """The key's work failed: hand it out again after a pause that doubles each time, up to
        `longest`; returns the pause.

        `jitter` in [0, 1) spreads keys that failed together: the pause is shortened by up to a
        quarter. What is added from now on cuts it short, what was added meanwhile waits for it: a
        failing object that keeps changing must not become a busy loop.
        """
        failures = self._held(key).failures + 1
        pause = min(longest, FIRST_BACK_OFF * 2.0 ** min(failures - 1, 30))
        pause *= 1.0 - 0.25 * jitter
        entry = self._held(key)
        urgent = entry.urgent
        entry.due, entry.urgent = None, False
        self._rest(key, now)
        self._release(key, failures=failures, again=now + pause)
        if urgent:
            self.add(key, due=now, urgent=True)
        return pause

    def forget(self, key: Key) -> None:
        """The object is gone and nothing is left to do: drop the key unless it was added
        meanwhile."""
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
        entry.in_flight = False
        entry.failures = failures
        if again is not None and (entry.due is None or again < entry.due):
            entry.due = again
        if entry.due is None:
            del self._entries[key]
            return
        entry.due = max(entry.due, self._resting.get(key, entry.due))
        self._push(key, entry)

    def _push(self, key: Key, entry: _Entry) -> None:
        heap = self._heaps[entry.urgent]
        self._sequence += 1
        heapq.heappush(heap, (entry.due or 0.0, self._sequence, key))
        # Stale entries are dropped when they surface; were they ever the most, build the heap anew.
        if len(heap) > 64 + 4 * len(self._entries):
            self._rebuild()

    def _rebuild(self) -> None:
        for urgent, heap in self._heaps.items():
            heap[:] = [
                (entry.due, number, key)
                for number, (key, entry) in enumerate(self._entries.items())
                if entry.due is not None and not entry.in_flight and entry.urgent is urgent
            ]
            heapq.heapify(heap)
        self._sequence = len(self._entries)

    def _first(self, *, urgent: bool) -> Key | None:
        """The first key of the heap that really waits for that time; stale entries are dropped on
        the way."""
        heap = self._heaps[urgent]
        while heap:
            due, _, key = heap[0]
            entry = self._entries.get(key)
            if (
                entry is not None
                and not entry.in_flight
                and entry.due == due
                and entry.urgent is urgent
            ):
                return key
            heapq.heappop(heap)
        return None
