"""Monitors an upstream while there is work and no connection is free, and after it has stalled.
Pure, except for its memory; `stalls` decides when silence is a stall.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from mailrelay_gateway.contract.stage import Stage
from mailrelay_gateway.couriers.replies.verdict import Failure
from mailrelay_gateway.couriers.smtp.deadlines import READ_FIRST
from mailrelay_gateway.couriers.smtp.stalls import Waiting, describe, more_patience, stalled_at

#: How often we check for progress before silence counts as a stall.
LOOKS = 4
#: Seconds between two checks of an upstream that has stalled.
LISTEN_INTERVAL = 0.25

#: Everything that waits for the upstream: connections, and openings.
AllWaiting = tuple[Sequence[Waiting], Sequence[Waiting]]


class StallWatch:
    """What is known about one pool's silence. Times are the loop's."""

    __slots__ = ("_patience", "_stalled_at", "_suspected", "_watched_at")

    def __init__(self, patience: float) -> None:
        """This many seconds of silence are a stall."""
        self._patience = patience
        self._stalled_at = 0.0
        self._suspected = False  # of having stalled
        self._watched_at = 0.0  # when to look whether anything moves

    def expect(self, patience: float) -> None:
        """It is a different upstream now."""
        self._patience = patience

    def watch(self, waiting: Callable[[], AllWaiting], now: float) -> float | Failure | None:
        """There is work, and no connection is free: when to check again; or the stage in which it
        has stalled. None if nothing waits for it either.
        """
        if now < self._watched_at:
            return self._watched_at
        busy, openings = waiting()
        if not busy and not openings:
            return None
        at = stalled_at(busy, openings, self._patience)
        if now < at - 0.001:  # timers may fire a clock tick early
            # Octets on their way out are only noticed when checked.
            self._suspected = False
            self._watched_at = min(at, now + self._patience / LOOKS)
            return self._watched_at
        if not self._suspected:
            # Perhaps we were busy: what has arrived meanwhile is read first.
            self._suspected = True
            return now + READ_FIRST
        self._suspected = False
        self._stalled_at = now
        # The newest one has had its time by now, too.
        return describe((*busy, *openings), now - at + self._patience)

    def listen(self, waiting: AllWaiting, now: float) -> float | None:
        """It has stalled: if one makes progress, all continue. When to check again; None if one
        has.
        """
        busy, openings = waiting
        # What is opened meanwhile may get as far as the others: only opening counts.
        old = [one for one in openings if one.since <= self._stalled_at]
        heard = [one for one in (*busy, *old) if one.heard > self._stalled_at]
        if not heard:
            return now + LISTEN_INTERVAL
        if any(one.stage >= Stage.MAIL for one in heard):
            silence = now - self._stalled_at + self._patience
            self._patience = more_patience(self._patience, silence)
        return None
