"""The health of one upstream as a table-driven state machine, and the order in which its hosts are
tried. Pure.

    Unknown ──opened──> Up ──failed, or we are refused──> Held ──opened──> Up
                        Held: probes after 5 s, 10 s, ... 5 min, for as long as it takes
                        Up ──stalled──> Held ──opened, or heard──> Up

A connection that fails while others work says that the upstream wants no more of them: it caps the
pool for a while.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum, auto

from mailrelay_gateway.contract.documents import HostPort
from mailrelay_gateway.contract.stage import Stage
from mailrelay_gateway.contract.status import UpstreamState
from mailrelay_gateway.couriers.replies.verdict import Failure
from mailrelay_gateway.message.effect import PauseUntil
from mailrelay_gateway.reasons import Reason


@dataclass(frozen=True, slots=True, kw_only=True)
class Probing:
    """Seconds between probes of an upstream that is held, and how long a bad sign counts."""

    first: float = 5.0
    longest: float = 300.0
    factor: float = 2.0
    spread: float = 0.2  # of the interval, both ways: replicas should not probe together
    cap: float = 60.0  # no further connections after one too many was refused
    shun: float = 300.0  # a host that failed is tried last


class Happening(Enum):
    """What the pool saw."""

    OPENED = auto()  # a session reached the point where MAIL may be sent
    ACCEPTED = auto()  # MAIL or later was answered with 2xx
    FAILED = auto()  # no session could be opened, and there is no other
    FAILED_EXTRA = auto()  # no session could be opened, but others work
    LOGIN_REFUSED = auto()  # MAIL or later was answered with a refusal of us
    BARREN = auto()  # connection after connection was closed before it was of any use
    STALLED = auto()  # all connections are waiting, and none makes progress
    HEARD = auto()  # one of them has made progress
    CHANGED = auto()  # the configuration changed: earlier results are worthless


class Action(Enum):
    """What the pool has to do."""

    NOTHING = auto()
    RELEASE = auto()
    HOLD = auto()  # tell the queue, and probe after `pause`
    CAP = auto()  # open no more connections for `Probing.cap`
    PROBE = auto()  # probe at once


TABLE: dict[tuple[UpstreamState, Happening], tuple[UpstreamState, Action]] = {
    (UpstreamState.UNKNOWN, Happening.OPENED): (UpstreamState.UP, Action.RELEASE),
    (UpstreamState.UNKNOWN, Happening.ACCEPTED): (UpstreamState.UP, Action.RELEASE),
    (UpstreamState.UNKNOWN, Happening.FAILED): (UpstreamState.HELD, Action.HOLD),
    (UpstreamState.UNKNOWN, Happening.FAILED_EXTRA): (UpstreamState.UNKNOWN, Action.CAP),
    (UpstreamState.UNKNOWN, Happening.LOGIN_REFUSED): (UpstreamState.HELD, Action.HOLD),
    (UpstreamState.UNKNOWN, Happening.BARREN): (UpstreamState.HELD, Action.HOLD),
    (UpstreamState.UNKNOWN, Happening.STALLED): (UpstreamState.HELD, Action.HOLD),
    (UpstreamState.UNKNOWN, Happening.HEARD): (UpstreamState.UNKNOWN, Action.NOTHING),
    (UpstreamState.UNKNOWN, Happening.CHANGED): (UpstreamState.UNKNOWN, Action.NOTHING),
    (UpstreamState.UP, Happening.OPENED): (UpstreamState.UP, Action.NOTHING),
    (UpstreamState.UP, Happening.ACCEPTED): (UpstreamState.UP, Action.NOTHING),
    (UpstreamState.UP, Happening.FAILED): (UpstreamState.HELD, Action.HOLD),
    (UpstreamState.UP, Happening.FAILED_EXTRA): (UpstreamState.UP, Action.CAP),
    (UpstreamState.UP, Happening.LOGIN_REFUSED): (UpstreamState.HELD, Action.HOLD),
    (UpstreamState.UP, Happening.BARREN): (UpstreamState.HELD, Action.HOLD),
    (UpstreamState.UP, Happening.STALLED): (UpstreamState.HELD, Action.HOLD),
    (UpstreamState.UP, Happening.HEARD): (UpstreamState.UP, Action.NOTHING),
    (UpstreamState.UP, Happening.CHANGED): (UpstreamState.UNKNOWN, Action.NOTHING),
    (UpstreamState.HELD, Happening.OPENED): (UpstreamState.UP, Action.RELEASE),
    (UpstreamState.HELD, Happening.ACCEPTED): (UpstreamState.UP, Action.RELEASE),
    (UpstreamState.HELD, Happening.FAILED): (UpstreamState.HELD, Action.HOLD),
    (UpstreamState.HELD, Happening.FAILED_EXTRA): (UpstreamState.HELD, Action.HOLD),
    # From a connection that was open when the hold began: the same refusal once more.
    (UpstreamState.HELD, Happening.LOGIN_REFUSED): (UpstreamState.HELD, Action.NOTHING),
    (UpstreamState.HELD, Happening.BARREN): (UpstreamState.HELD, Action.NOTHING),
    (UpstreamState.HELD, Happening.STALLED): (UpstreamState.HELD, Action.NOTHING),
    # Only of one that had stalled: see `step`.
    (UpstreamState.HELD, Happening.HEARD): (UpstreamState.UP, Action.RELEASE),
    (UpstreamState.HELD, Happening.CHANGED): (UpstreamState.HELD, Action.PROBE),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Health:
    """What is known about an upstream. `since` is Unix seconds; `failures` in a row, until a
    message passed the `stage` of the last failure. `stalled`: it is held for its silence, and
    nothing has failed.
    """

    state: UpstreamState = UpstreamState.UNKNOWN
    since: float = 0.0
    failures: int = 0
    stage: Stage | None = None
    reason: Reason | None = None
    detail: str = ""
    stalled: bool = False


def step(
    health: Health,
    happening: Happening,
    *,
    now: float,
    failure: Failure | None = None,
    passed: Stage = Stage.MAIL,
) -> tuple[Health, Action]:
    """The next health and what to do about it. `failure` belongs to FAILED, FAILED_EXTRA,
    LOGIN_REFUSED, BARREN and STALLED, `passed` to ACCEPTED: the furthest stage that was answered
    with 2xx.

    A session that opens does not reset `failures`, nor does a MAIL if RCPT was refused: an upstream
    that accepts our login and then refuses everything must still be probed more and more slowly.
    """
    if happening is Happening.ACCEPTED and health.stage is not None and passed < health.stage:
        return health, Action.NOTHING
    if happening is Happening.HEARD and not health.stalled:
        return health, Action.NOTHING
    state, action = TABLE[health.state, happening]
    since = health.since if state is health.state else now
    if action is Action.HOLD:
        assert failure is not None
        if happening is Happening.STALLED:
            return replace(
                health,
                state=state,
                since=since,
                reason=failure.reason,
                detail=failure.detail,
                stalled=True,
            ), action
        return Health(
            state=state,
            since=since,
            failures=health.failures + 1,
            stage=failure.stage,
            reason=failure.reason,
            detail=failure.detail,
        ), action
    if happening in (Happening.ACCEPTED, Happening.CHANGED):
        health = replace(health, failures=0, stage=None)
    if state is UpstreamState.HELD:
        return health, action
    return replace(health, state=state, since=since, reason=None, detail="", stalled=False), action


def pause(failures: int, settings: Probing, jitter: float) -> float:
    """Seconds until the next probe after this many failures in a row; `jitter` is a random number
    in [0, 1).
    """
    plain = settings.first * settings.factor ** min(failures - 1, 32)
    return min(plain, settings.longest) * (1 + settings.spread * (2 * jitter - 1))


def rest(failure: Failure, seconds: float, now: float) -> float:
    """Minimum seconds of a hold: these, or until the Unix time that the upstream named."""
    if isinstance(failure.effect, PauseUntil):
        return max(seconds, failure.effect.moment(now) - now)
    return seconds


def order_hosts(
    hosts: Sequence[HostPort], shunned: Mapping[HostPort, float], now: float
) -> list[HostPort]:
    """The hosts as configured, but those that failed lately (`shunned` until that time) come last,
    the one that failed longest ago first.
    """
    return sorted(hosts, key=lambda host: until if (until := shunned.get(host, 0.0)) > now else 0.0)
