"""Watches an upstream while work waits and no connection is free, and listens to it once it has
stalled: what is known of it from one look to the next. Pure, but for what it remembers; when
silence is a stall is decided in `stalls`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from mailrelay_gateway.contract.stage import Stage
from mailrelay_gateway.couriers.replies.verdict import Failure
from mailrelay_gateway.couriers.smtp.deadlines import READ_FIRST
from mailrelay_gateway.couriers.smtp.stalls import Waiting, describe, more_patience, stalled_at

#: So often we look whether anything moves before silence counts as a stall.
LOOKS = 4
#: Seconds between two looks at an upstream that has stalled: whether one of its connections got on.
LISTEN_INTERVAL = 0.25

#: All that wait for the upstream: connections, and openings.
AllWaiting = tuple[Sequence[Waiting], Sequence[Waiting]]


class StallWatch:
    """What is known of one pool's silence. Times are the loop's."""

    __slots__ = ("_patience", "_stalled_at", "_suspected", "_watched_at")

    def __init__(self, patience: float) -> None:
        """So many seconds of silence are a stall."""
        self._patience = patience
        self._stalled_at = 0.0
        self._suspected = False  # of having stalled
        self._watched_at = 0.0  # when to look whether anything moves

    def expect(self, patience: float) -> None:
        """It is another upstream now."""
        self._patience = patience

    def watch(self, waiting: Callable[[], AllWaiting], now: float) -> float | Failure | None:
        """Work waits, and no connection is free: when to look again; or in what it has stalled.
        None where nobody waits for it either.
        """
        if now < self._watched_at:
            return self._watched_at
        busy, openings = waiting()
        if not busy and not openings:
            return None
        at = stalled_at(busy, openings, self._patience)
        if now < at - 0.001:  # timers may ring a clock tick early
            # Octets on their way out are only seen to move when looked at.
            self._suspected = False
            self._watched_at = min(at, now + self._patience / LOOKS)
            return self._watched_at
        if not self._suspected:
            # It may be we who were busy: what has come meanwhile is read first.
            self._suspected = True
            return now + READ_FIRST
        self._suspected = False
        self._stalled_at = now
        # The newest one, too, has had its moment by now.
        return describe((*busy, *openings), now - at + self._patience)

    def listen(self, waiting: AllWaiting, now: float) -> float | None:
        """It has stalled: one that gets on is enough to go on with all. When to look again; None
        when one got on.
        """
        busy, openings = waiting
        # What is opened meanwhile may get as far as the others did: only if it opens is it news.
        old = [one for one in openings if one.since <= self._stalled_at]
        heard = [one for one in (*busy, *old) if one.heard > self._stalled_at]
        if not heard:
            return now + LISTEN_INTERVAL
        if any(one.stage >= Stage.MAIL for one in heard):
            silence = now - self._stalled_at + self._patience
            self._patience = more_patience(self._patience, silence)
        return None
