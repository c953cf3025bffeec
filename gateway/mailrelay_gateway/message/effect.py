"""The effects of an outcome on later messages: on its lane or connections, and the scope of a hold.
Pure: values only.

The classifier derives them from the upstream's replies; the pool and the queue apply them. An
effect says what to do, not how: the pace decides by how much it slows down.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

#: Maximum time accepted from a provider's reply; anything longer is an error.
LONGEST_PAUSE = 86_400.0


@dataclass(frozen=True, slots=True)
class Slow:
    """The upstream is throttling: back off the lane, and recover slowly. Repeated pauses grow to
    `longest` seconds; None: to the lane's own bound.
    """

    longest: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PauseUntil:
    """Nothing is sent on this lane until then: a quota is exhausted, or the reply has a time.

    Exactly one is set: `at` in Unix seconds ("try again after 1 May 10:00"), or `seconds` from the
    reply on. The classifier has no clock, so `moment` combines the two.
    """

    at: float | None = None
    seconds: float | None = None

    def __post_init__(self) -> None:
        """Make sure that exactly one is set."""
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
    """The upstream allows fewer connections: at most `connections`; None: half of those open."""

    connections: int | None = None


@dataclass(frozen=True, slots=True)
class Split:
    """Too many recipients for one transaction: this one is sent in the next transaction of the same
    lane, and it does not count as an attempt.

    Only used if another recipient of the same transaction was accepted, so that each transaction
    leaves fewer for the next and the splitting ends.
    """


@dataclass(frozen=True, slots=True)
class Reconnect:
    """The connection's limit is reached ("too many messages in this connection"): the next message
    uses a new one.
    """


@dataclass(frozen=True, slots=True)
class Elsewhere:
    """This upstream cannot be given the message as it is (it lacks an extension): the others of its
    route are tried at once, and it does not count as an attempt. Without another it has failed.
    """


Effect = Slow | PauseUntil | Cap | Split | Reconnect | Elsewhere


class Scope(StrEnum):
    """Whose mail a hold covers."""

    UPSTREAM = "upstream"  # all mail
    NAMESPACE = "namespace"  # mail of the sender's namespace ("tenant paused")


@dataclass(frozen=True, slots=True, kw_only=True)
class HoldScope:
    """A hold's scope with its names, as a key: an upstream, or a namespace's mail at it.

    `namespace` None: all mail. The gateway's own mail (notices) has the namespace "".
    """

    upstream: str
    namespace: str | None = None

    @classmethod
    def of(cls, scope: Scope, *, upstream: str, namespace: str) -> HoldScope:
        """The scope of a hold caused by an attempt of `namespace` at `upstream`."""
        return cls(upstream=upstream, namespace=namespace if scope is Scope.NAMESPACE else None)
