"""Whether the process is alive: each loop that must never stand still says so each time round. That
the API server is away is no reason to be restarted: the loops go round all the same.
"""

from __future__ import annotations

from collections.abc import Callable

#: Seconds: a watch is renewed at least every five minutes, a round ends within two.
STALE_AFTER = 900.0


class Pulse:
    """When each loop was last seen alive, on one monotonic clock."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        """Know no loop yet."""
        self._monotonic = monotonic
        self._seen: dict[str, float] = {}

    def beat(self, loop: str) -> None:
        """This loop is alive."""
        self._seen[loop] = self._monotonic()

    def stuck(self) -> str | None:
        """The loop that stands still; None: all is well."""
        now = self._monotonic()
        return next((name for name, at in self._seen.items() if now - at > STALE_AFTER), None)
