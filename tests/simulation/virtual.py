"""An event loop whose time is virtual: when nothing is ready, it goes to the next timer at once."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Callable
from typing import Any


class _Jump(selectors.SelectSelector):
    """Waits for nothing; says how long the loop would have waited."""

    def __init__(self) -> None:
        super().__init__()
        self.slept: Callable[[float], None] = lambda _seconds: None
        #: Real seconds to wait for threads before time goes on; None: there are none.
        self.patience: Callable[[], float] = lambda: 0.0

    def select(self, timeout: float | None = None) -> list[Any]:
        ready = super().select(self.patience())
        if not ready and (timeout is None or timeout > 0):
            self.slept(3600.0 if timeout is None else timeout)
        return ready


class VirtualLoop(asyncio.SelectorEventLoop):
    """A loop that lives through days in a second."""

    def __init__(self) -> None:
        """Begin at time 1000."""
        self._now = 1000.0
        self.selector = _Jump()
        super().__init__(self.selector)
        self.selector.slept = self._advance

    def time(self) -> float:
        """Virtual seconds."""
        return self._now

    def _advance(self, seconds: float) -> None:
        self._now += seconds
