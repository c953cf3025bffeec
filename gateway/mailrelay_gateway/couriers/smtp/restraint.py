"""Limits that the upstream's replies have put on the pool: fewer connections, no new ones, fewer
recipients in a transaction. The queue, which is told here, decides how long its lane rests.
"""

from __future__ import annotations

from typing import Protocol

import structlog

from mailrelay_gateway.couriers.smtp.surroundings import Surroundings
from mailrelay_gateway.message.effect import Cap, Effect, PauseUntil, Slow
from mailrelay_gateway.message.lane import LaneKey

log = structlog.get_logger()

#: Seconds for which "too many recipients" is remembered: providers change their limits, and a try
#: costs only one more transaction.
SPLIT_FOR = 3600.0


class Clock(Protocol):
    """As much of an event loop as is needed here."""

    def time(self) -> float:
        """Seconds of a clock that only goes forward."""
        ...


class Restraint:
    """The restraint of one pool. Times are the loop's."""

    __slots__ = (
        "_around",
        "_cap",
        "_lane",
        "_paced_until",
        "_recipients",
        "_recipients_until",
        "slowed",
    )

    def __init__(self, lane: LaneKey, surroundings: Surroundings) -> None:
        """Begin without limits."""
        self._lane = lane
        self._around = surroundings
        self._paced_until = 0.0  # Unix seconds
        self.forget()

    def forget(self) -> None:
        """It may be a different upstream by now."""
        self._cap: tuple[int, float] | None = None  # at most this many, until then
        self._recipients_until = 0.0
        #: How many recipients of a transaction were accepted when it had too many.
        self._recipients: int | None = None
        #: It asked us to slow down, and no message got through since.
        self.slowed = False

    def hear(self, effect: Effect, retry_after: float | None, connections: int, now: float) -> None:
        """Apply the effects of one transaction or one opening, made while there were so many
        connections.
        """
        if isinstance(effect, Cap):
            wanted = effect.connections
            self.cap(max(1, connections // 2 if wanted is None else wanted), now)
        elif isinstance(effect, Slow | PauseUntil):
            self.slowed = True
            self._around.work.slow(self._lane, effect, retry_after)
            self._count_pause()

    def cap(self, connections: int, now: float) -> None:
        """At most so many connections for a while; of two caps the lower one counts."""
        if self._cap is not None and now < self._cap[1]:
            connections = min(connections, self._cap[0])
        self._cap = (max(1, connections), now + self._around.probing.cap)

    def places(self, most: int, now: float) -> tuple[int, float | None]:
        """How many connections there may be, of `most` configured, and until when."""
        if self._cap is not None:
            connections, until = self._cap
            if now < until:
                return min(connections, most), until
            self._cap = None
        return most, None

    def split(self, taken: int, now: float) -> None:
        """This many recipients of a transaction were accepted, and the others were too many."""
        known = self._recipients
        if known is None or now >= self._recipients_until or taken < known:
            log.info(
                "upstream_recipients_capped", upstream=self._lane.upstream, recipient_count=taken
            )
            self._recipients = taken
            self._recipients_until = now + SPLIT_FOR

    def recipients(self, clock: Clock) -> int | None:
        """How many recipients a transaction may have; None: any number."""
        if self._recipients is not None and clock.time() >= self._recipients_until:
            self._recipients = None
        return self._recipients

    def _count_pause(self) -> None:
        """Count the seconds for which the lane rests, each of them once."""
        now = self._around.clock()
        until = self._around.work.not_before(self._lane)
        if until is None:
            return
        seconds = until - max(now, self._paced_until)
        if seconds > 0:
            self._around.metrics.upstream_paced_seconds(self._lane.upstream).inc(seconds)
            self._paced_until = until
