"""What an outcome means for those who come next: how its lane or its connections change, and what a
hold covers. Pure: values only.

The classifier decides them from the upstream's words; the pool and the queue carry them out. An
effect says what to do, never how: by how much a pace shrinks is the pace's business.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

#: A provider is believed for a day: a time further away is a misreading, or its mistake.
LONGEST_PAUSE = 86_400.0


@dataclass(frozen=True, slots=True)
class Slow:
    """The upstream is throttling: back off the lane now, and recover slowly. Repeated, the pauses
    grow to `longest` seconds; None: to the lane's own bound.
    """

    longest: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PauseUntil:
    """Nothing goes out on this lane until then: a quota is used up, or the upstream named a time.

    Exactly one is given: `at` in Unix seconds ("try again after 1 May 10:00"), or `seconds` from
    the reply on. The classifier reads no clock, so `moment` is where the two meet.
    """

    at: float | None = None
    seconds: float | None = None

    def __post_init__(self) -> None:
        """Make sure that there is one time, and not two."""
        if (self.at is None) == (self.seconds is None):
            raise ValueError("PauseUntil takes either `at` or `seconds`")

    def moment(self, now: float) -> float:
        """The end of the pause in Unix seconds: not before `now`, and at most a day away."""
        if self.at is not None:
            return min(max(now, self.at), now + LONGEST_PAUSE)
        assert self.seconds is not None
        return now + min(max(0.0, self.seconds), LONGEST_PAUSE)


@dataclass(frozen=True, slots=True)
class Cap:
    """The upstream wants fewer connections: at most `connections`; None: half of those open."""

    connections: int | None = None


@dataclass(frozen=True, slots=True)
class Split:
    """Too many recipients for one transaction: this one goes at once in the next transaction of
    the same lane, and it does not count as an attempt.

    Only given where another recipient of the same transaction was taken, so that each transaction
    leaves fewer for the next and the splitting comes to an end.
    """


@dataclass(frozen=True, slots=True)
class Reconnect:
    """This connection has had its share ("too many messages in this connection"): the next message
    takes a new one, and nothing else is wrong.
    """


Effect = Slow | PauseUntil | Cap | Split | Reconnect


class Scope(StrEnum):
    """Whose mail a hold covers."""

    UPSTREAM = "upstream"  # everybody's
    NAMESPACE = "namespace"  # that of the sender's namespace ("tenant paused")


@dataclass(frozen=True, slots=True, kw_only=True)
class HoldScope:
    """A hold's scope with its names filled in, as a key: an upstream, or a namespace's mail at it.

    `namespace` None: everybody's. The gateway's own mail (notices) has the namespace "".
    """

    upstream: str
    namespace: str | None = None

    @classmethod
    def of(cls, scope: Scope, *, upstream: str, namespace: str) -> HoldScope:
        """What a hold of that scope covers that an attempt of `namespace` at `upstream` caused."""
        return cls(upstream=upstream, namespace=namespace if scope is Scope.NAMESPACE else None)
