"""Wakes lanes at the end of their pauses."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from mailrelay_gateway.message.lane import LaneKey
from mailrelay_gateway.queue.lane import Lane


class Pauses:
    """One timer per pausing lane."""

    def __init__(self, loop: asyncio.AbstractEventLoop, over: Callable[[], None]) -> None:
        """`over` is called when a pause has ended."""
        self._loop = loop
        self._over = over
        self._timers: dict[LaneKey, asyncio.TimerHandle] = {}
        self._stopped = False

    def watch(self, lane: Lane) -> None:
        """Make sure that the end of the lane's pause is noticed, even if it moves."""
        timer = self._timers.pop(lane.key, None)
        if timer is not None:
            timer.cancel()
        if not self._stopped:
            self._timers[lane.key] = self._loop.call_at(lane.not_before, self._ring, lane)

    def stop(self) -> None:
        """Cancel all timers."""
        self._stopped = True
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()

    def _ring(self, lane: Lane) -> None:
        self._timers.pop(lane.key, None)
        if lane.not_before > self._loop.time():
            self.watch(lane)
        else:
            self._over()
