"""Liveness: each loop that must never block reports on every iteration. An unavailable API server
is no reason for a restart: the loops continue.
"""

from __future__ import annotations

from collections.abc import Callable

#: Seconds: a watch is renewed at least every five minutes, a round ends within two minutes.
STALE_AFTER = 900.0


class Pulse:
    """When each loop last reported, on one monotonic clock."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        """Start without loops."""
        self._monotonic = monotonic
        self._seen: dict[str, float] = {}

    def beat(self, loop: str) -> None:
        """This loop is alive."""
        self._seen[loop] = self._monotonic()

    def stuck(self) -> str | None:
        """A loop that no longer makes progress, if any."""
        now = self._monotonic()
        return next((name for name, at in self._seen.items() if now - at > STALE_AFTER), None)
