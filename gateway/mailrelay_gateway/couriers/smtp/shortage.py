"""No descriptors for a connection: it is retried soon, and nothing is held for it."""

from __future__ import annotations

import structlog

from mailrelay_gateway.descriptors import is_shortage

log = structlog.get_logger()

#: Seconds until the next try: sessions end all the time.
PAUSE = 1.0


class Shortage:
    """The shortage of one pool. Times are the loop's."""

    __slots__ = ("not_before",)

    def __init__(self) -> None:
        """Begin without one."""
        self.not_before = 0.0

    def noted(self, upstream: str, error: Exception, now: float) -> bool:
        """Whether an opening failed for this reason. Logged once until one succeeds."""
        if not is_shortage(error):
            return False
        if not self.not_before:
            log.error("connect_failed", upstream=upstream, error=str(error))
        self.not_before = now + PAUSE
        return True

    def or_after(self, moment: float) -> float:
        """When the next connection may be opened: not before `moment`."""
        return max(self.not_before, moment)

    def over(self) -> None:
        """An opening had what it needed."""
        self.not_before = 0.0
