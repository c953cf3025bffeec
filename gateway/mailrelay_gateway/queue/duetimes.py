"""Makes recipients READY when they are due.

Level-triggered: each answer of the store says when to ask again, and one timer is set for the
earliest known time.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from mailrelay_gateway.queue.store import Backlog, Due, QueueStore
from mailrelay_gateway.smtp.refusal import Problem

#: Recipients that are made READY in one transaction: a few milliseconds.
PAGE = 500
#: Seconds until the next query after one that failed.
AGAIN = 30.0
#: The longest time for which the timer is set (seconds): the clock may be changed meanwhile.
LONGEST_SLEEP = 30.0
_NEVER = float("inf")


class DueTimes:
    """Decides when to query the store for due recipients."""

    def __init__(
        self,
        store: QueueStore,
        *,
        loop: asyncio.AbstractEventLoop,
        clock: Callable[[], float],
        longest: Callable[[], float],
        found: Callable[[Backlog, int], None],
    ) -> None:
        """`clock` returns Unix seconds, `longest` the longest possible pause (a recipient that
        waits for twice as long got its time from a clock that was ahead); `found` is called with
        what has become READY.
        """
        self._store = store
        self._loop = loop
        self._clock = clock
        self._longest = longest
        self._found = found
        self._at = _NEVER
        self._timer: asyncio.TimerHandle | None = None
        self._looking = False
        self._stopped = False

    def look_at(self, at: float) -> None:
        """Make sure that what is due at Unix time `at` is queried then."""
        if at < self._at:
            self._at = at
            self._set_timer()

    def stop(self) -> None:
        """Stop."""
        self._stopped = True
        self._set_timer()

    def _set_timer(self) -> None:
        """While a query is running, its answer sets the timer."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._stopped or self._looking or self._at == _NEVER:
            return
        pause = max(0.0, self._at - self._clock())
        if pause > 2 * self._longest():
            pause = 0.0
        self._timer = self._loop.call_later(min(pause, LONGEST_SLEEP), self._look)

    def _look(self) -> None:
        now = self._clock()
        latest = now + 2 * self._longest()
        if now < self._at <= latest:
            self._set_timer()  # slept LONGEST_SLEEP only, or the clock was set back
            return
        self._looking = True
        self._at = _NEVER
        self._store.due(now=now, latest=latest, most=PAGE, done=self._looked)

    def _looked(self, due: Due | Problem) -> None:
        self._looking = False
        now = self._clock()
        if isinstance(due, Problem):
            next_at: float | None = now + AGAIN
        else:
            next_at = now if due.more else due.next_at
            for backlog, recipients in due.ready.items():
                self._found(backlog, recipients)
        if next_at is not None:
            self._at = min(self._at, next_at)
        self._set_timer()
