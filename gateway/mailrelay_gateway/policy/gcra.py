"""The generic cell rate algorithm (ITU-T I.371, as in Redis-cell and Envoy), on plain floats. Pure:
time is an argument.

A bucket is one number: the time at which it will be full again ("theoretical arrival time"). A unit
moves it forward by one interval; it may not lie more than `burst` intervals ahead. So in any span
of t seconds at most rate * t + burst units pass.

More units at once than `burst` (a message with 50 recipients, a burst of 10) could never pass.
Therefore they pass when the bucket is full, and move it forward by all of them: the debt delays
later messages, and the rate holds over time.
"""

from __future__ import annotations

#: Tolerance for floating point, in seconds: a client that waited as told must not be refused again.
ROUNDING = 1e-6


class Gcra:
    """A rate: one unit each `interval` seconds, `burst` of them at once."""

    __slots__ = ("interval", "room")

    def __init__(self, *, interval: float, burst: float) -> None:
        """`interval` in seconds a unit, `burst` in units (at least 1)."""
        self.interval = interval
        self.room = interval * burst  # seconds that a bucket may lie ahead

    def wait(self, full_at: float, units: int, now: float) -> float:
        """Seconds until `units` may pass a bucket that is full at `full_at`; 0 when
        they may now.
        """
        ahead = full_at - now
        if ahead <= 0.0:
            return 0.0  # full: any number may pass
        # More than the burst: wait until it is full.
        room = max(0.0, self.room - units * self.interval)
        return ahead - room if ahead > room + ROUNDING else 0.0

    def charge(self, full_at: float, units: int, now: float) -> float:
        """When the bucket will be full after `units` passed."""
        return max(full_at, now) + units * self.interval

    def usage(self, full_at: float, now: float) -> float:
        """The used fraction of the burst: 0 for a full bucket, 1 and more for an
        empty one.
        """
        return max(0.0, (full_at - now) / self.room)
