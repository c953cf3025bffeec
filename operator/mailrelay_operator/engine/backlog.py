"""PURE: the backlog, a set of keys with due times. No clock, no randomness, no await: time and
jitter are arguments.

Rule 1: a key that was added is handed out at least once after that moment; adding it while a worker
has it means once more after that worker. Rule 2: no key is with two workers at a time. Rule 3: a
key is in here once, however often it was added, so that the length is bounded by the number of
objects. Times are seconds on one monotonic clock.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass

#: First pause after a failure, and the longest; client-go's defaults are 5 ms and 1000 s: the first
#: would hammer an API server that is restarting, the last would leave a tenant waiting after it is
#: back.
FIRST_BACK_OFF = 1.0
LONGEST_BACK_OFF = 120.0


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
    """One key's state: when it is due (None: not waiting), whether a worker has it, how often it
    failed in a row."""

    due: float | None = None
    in_flight: bool = False
    failures: int = 0


class Backlog:
    """Keys that wait for a worker. Not for several threads."""

    def __init__(self) -> None:
        """Start empty."""
        self._entries: dict[Key, _Entry] = {}
        # (due, sequence, key); entries whose due time has changed since are skipped when they come
        # up.
        self._heap: list[tuple[float, int, Key]] = []
        self._sequence = 0

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

    def add(self, key: Key, *, due: float) -> None:
        """Have the key handed out at `due` or, if it waits already, at the earlier of the two."""
        entry = self._entries.setdefault(key, _Entry())
        if entry.due is not None and entry.due <= due:
            return
        entry.due = due
        if not entry.in_flight:
            self._push(key, due)

    def take(self, *, now: float) -> Key | None:
        """The key that has been due for longest, now with the caller, who must answer `done` or
        `failed`."""
        key = self._first()
        if key is None:
            return None
        entry = self._entries[key]
        if entry.due is None or entry.due > now:
            return None
        heapq.heappop(self._heap)
        entry.due = None
        entry.in_flight = True
        return key

    def next_due(self) -> float | None:
        """When the next key is due that no worker has; None when nothing waits."""
        key = self._first()
        return None if key is None else self._entries[key].due

    def done(self, key: Key, *, look_again_at: float | None = None) -> None:
        """The key's work succeeded; hand it out again at that time, or earlier if it was added
        meanwhile."""
        self._release(key, failures=0, again=look_again_at)

    def failed(self, key: Key, *, now: float, jitter: float) -> float:
        """The key's work failed: hand it out again after a pause that doubles each time; returns
        the pause.

        `jitter` in [0, 1) spreads keys that failed together: the pause is shortened by up to a
        quarter. What was added meanwhile waits for the pause too: a failing object that keeps
        changing must not become a busy loop.
        """
        failures = self._held(key).failures + 1
        pause = min(LONGEST_BACK_OFF, FIRST_BACK_OFF * 2.0 ** min(failures - 1, 30))
        pause *= 1.0 - 0.25 * jitter
        self._held(key).due = None
        self._release(key, failures=failures, again=now + pause)
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

    def _release(self, key: Key, *, failures: int, again: float | None) -> None:
        entry = self._held(key)
        entry.in_flight = False
        entry.failures = failures
        if again is not None and (entry.due is None or again < entry.due):
            entry.due = again
        if entry.due is None:
            del self._entries[key]
        else:
            self._push(key, entry.due)

    def _push(self, key: Key, due: float) -> None:
        self._sequence += 1
        heapq.heappush(self._heap, (due, self._sequence, key))
        # Stale entries are dropped when they surface; were they ever the most, build the heap anew.
        if len(self._heap) > 64 + 4 * len(self._entries):
            self._heap = [
                (entry.due, number, key)
                for number, (key, entry) in enumerate(self._entries.items())
                if entry.due is not None and not entry.in_flight
            ]
            self._sequence = len(self._heap)
            heapq.heapify(self._heap)

    def _first(self) -> Key | None:
        """The first key of the heap that really waits for that time; stale entries are dropped on
        the way."""
        while self._heap:
            due, _, key = self._heap[0]
            entry = self._entries.get(key)
            if entry is not None and not entry.in_flight and entry.due == due:
                return key
            heapq.heappop(self._heap)
        return None
