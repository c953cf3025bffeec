"""The interface to the queue that delivery needs. The queue implements it; `process` connects the
two.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from mailrelay_gateway.message.effect import Effect
from mailrelay_gateway.message.envelope import Attempt, Outcome
from mailrelay_gateway.message.lane import LaneKey
from mailrelay_gateway.reasons import Reason


class Work(Protocol):
    """The source of attempts and the destination of their outcomes. All calls are made in the event
    loop and return at once.

    Every attempt taken is ended by exactly one `finish` or `give_back`. The queue calls
    `Courier.wake(lane)` whenever an attempt becomes ready, or `not_before` becomes earlier. A wake
    is only a hint: `ready` and `not_before` are authoritative, so that a hint may be missed.
    """

    def ready(self, lane: LaneKey) -> bool:
        """Whether `take` would return an attempt now. Called often, so it must be cheap."""
        ...

    def not_before(self, lane: LaneKey) -> float | None:
        """The Unix time before which nothing may start in the lane although it has work; the
        courier checks again then, without a wake. None: no limit.
        """
        ...

    def take(self, lane: LaneKey, most: int | None = None) -> Attempt | None:
        """The next attempt, with its lease already on disk; None if nothing is ready.

        `most`: the largest number of recipients that the upstream has accepted in one
        transaction; the others stay ready for the next one. A queue that cannot split returns all.
        """
        ...

    def finish(self, attempt: Attempt, outcomes: Sequence[Outcome]) -> None:
        """Report one outcome per recipient of the attempt, in order."""
        ...

    def give_back(self, attempt: Attempt) -> None:
        """The upstream cannot have seen it: it does not count and may be taken again at once."""
        ...

    def hold(self, upstream: str, reason: Reason, detail: str) -> None:
        """Hold the upstream: its messages use the next upstream of their route, or wait.
        Idempotent. One tenant's mail is held by an outcome (HELD, with the scope NAMESPACE).
        """
        ...

    def release(self, upstream: str) -> None:
        """The upstream accepts mail: remove holds of all scopes. Allowed for one that is not
        held.
        """
        ...

    def slow(self, lane: LaneKey, effect: Effect, retry_after: float | None) -> None:
        """Apply the upstream's throttling to the lane (Slow or PauseUntil), once per transaction or
        session, before its `finish`. `retry_after`: seconds, from the upstream's reply.
        """
        ...
