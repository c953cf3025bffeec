"""One timer for everything that a pool has to look at again."""

from __future__ import annotations

import asyncio
from collections.abc import Callable


class Alarm:
    """Calls back at the earliest of the moments that were asked for since it last rang."""

    __slots__ = ("_loop", "_ring", "_timer")

    def __init__(self, loop: asyncio.AbstractEventLoop, ring: Callable[[], None]) -> None:
        """Call `ring`, once a moment was asked for."""
        self._loop = loop
        self._ring = ring
        self._timer: asyncio.TimerHandle | None = None

    def ask(self, when: float | None) -> None:
        """Ring at `when`, in the loop's time, or sooner if that was asked before; None: not for
        this.
        """
        if when is None:
            return
        if self._timer is not None:
            if self._timer.when() <= when:
                return
            self._timer.cancel()
        self._timer = self._loop.call_at(max(when, self._loop.time()), self._rang)

    def stop(self) -> None:
        """Do not ring unless it is asked again."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _rang(self) -> None:
        self._timer = None
        self._ring()
