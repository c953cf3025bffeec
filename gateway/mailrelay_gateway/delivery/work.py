"""What delivery needs of the queue. The queue implements it; `__main__` joins the two. Nothing but
the Protocol.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from mailrelay_gateway.message.envelope import Attempt, Outcome
from mailrelay_gateway.reasons import Reason


class Work(Protocol):
    """Where attempts come from and where their outcomes go. All calls are made in the event loop
    and return at once.

    Every attempt taken is ended by exactly one `finish` or one `give_back`. In return the queue
    calls `Courier.wake(upstream)` whenever an attempt has become ready. A wake is only a hint to
    ask: what is true is what `ready` says, so that a hint that comes at a bad moment loses nothing.
    """

    def ready(self, upstream: str) -> bool:
        """Whether `take` would give an attempt now. Asked often: a few comparisons at most."""
        ...

    def take(self, upstream: str) -> Attempt | None:
        """The next attempt, its lease already on disk; None: nothing is ready."""
        ...

    def finish(self, attempt: Attempt, outcomes: Sequence[Outcome]) -> None:
        """What it came to: one outcome per recipient of the attempt, in their order."""
        ...

    def give_back(self, attempt: Attempt) -> None:
        """The upstream cannot have seen it: nothing is counted, it may be taken again at once."""
        ...

    def hold(self, upstream: str, reason: Reason, detail: str) -> None:
        """The upstream's trouble: its messages take the next upstream of their route, or wait. May
        be repeated.
        """
        ...

    def release(self, upstream: str) -> None:
        """The upstream takes mail. May be said of one that was not held."""
        ...
