"""What delivery needs of the queue. The queue implements it; `process` joins the two. Nothing but
the Protocol.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from mailrelay_gateway.message.effect import Effect, HoldScope
from mailrelay_gateway.message.envelope import Attempt, Outcome
from mailrelay_gateway.message.lane import LaneKey
from mailrelay_gateway.reasons import Reason


class Work(Protocol):
    """Where attempts come from and where their outcomes go. All calls are made in the event loop
    and return at once.

    Every attempt taken is ended by exactly one `finish` or one `give_back`. In return the queue
    calls `Courier.wake(lane)` whenever an attempt has become ready, or `not_before` has become
    sooner. A wake is only a hint to ask: what is true is what `ready` and `not_before` say, so that
    a hint that comes at a bad moment loses nothing.
    """

    def ready(self, lane: LaneKey) -> bool:
        """Whether `take` would give an attempt now. Asked often: a few comparisons at most."""
        ...

    def not_before(self, lane: LaneKey) -> float | None:
        """The Unix time before which nothing may start in the lane although it has work: the
        courier asks again then, without a wake. None: no time is named.
        """
        ...

    def take(self, lane: LaneKey, most: int | None = None) -> Attempt | None:
        """The next attempt, its lease already on disk; None: nothing is ready.

        `most`: the upstream has taken no more recipients in one transaction; what is over them
        stays ready for the next one. A queue that cannot part them gives them all.
        """
        ...

    def finish(self, attempt: Attempt, outcomes: Sequence[Outcome]) -> None:
        """What it came to: one outcome per recipient of the attempt, in their order."""
        ...

    def give_back(self, attempt: Attempt) -> None:
        """The upstream cannot have seen it: nothing is counted, it may be taken again at once."""
        ...

    def hold(
        self, upstream: str, reason: Reason, detail: str, scope: HoldScope | None = None
    ) -> None:
        """The upstream's trouble: its messages take the next upstream of their route, or wait; with
        a `scope` only those that it covers. May be repeated.
        """
        ...

    def release(self, upstream: str) -> None:
        """The upstream takes mail: no hold of any scope is left. May be said of one that was not
        held.
        """
        ...

    def slow(self, lane: LaneKey, effect: Effect, retry_after: float | None) -> None:
        """What the upstream's words mean for the lane's pace (Slow or PauseUntil), said once for
        the transaction or session that heard them, before its `finish`. `retry_after`: seconds, as
        the upstream named them.
        """
        ...
