"""When an upstream has stalled: there is work, every connection is opening or busy, and none makes
progress. Pure.

Deadlines are long, since patience with one connection costs little: ten minutes for the reply to a
final dot. When all of them wait, all mail waits, so the upstream is held after seconds and the next
one of the route takes the mail. What is in progress keeps its own deadlines, and is not blamed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from mailrelay_gateway.contract.stage import Stage
from mailrelay_gateway.couriers.replies.verdict import AWAITED, Failure
from mailrelay_gateway.reasons import Reason

#: Maximum seconds of silence: a server that inspects each message for long may need some patience,
#: but fail-over must not come later than this.
MOST_PATIENCE = 15.0

#: The part of the patience that a new opening has for itself.
MOMENT = 1 / 8

_AWAITED = {
    **AWAITED,
    Stage.TOKEN: "an access token from its endpoint",
    Stage.RESOLVE: "the address of its host from DNS",
    Stage.CONNECT: "an answer to our connection",
}


class Waiting(NamedTuple):
    """A connection, or an opening, that waits for the upstream."""

    stage: Stage
    since: float  # when it last made progress, or began
    heard: float  # when octets last came, or went; 0: never


def stalled_at(busy: Sequence[Waiting], openings: Sequence[Waiting], patience: float) -> float:
    """When the upstream counts as stalled, unless one of them makes progress before.

    Each transaction has its time. Of the openings the oldest one counts: the others were started
    because it is silent, and if they get no further, that changes nothing. The newest one has a
    moment to do better.
    """
    moments = [one.since + patience for one in busy]
    if openings:
        oldest = min(openings, key=lambda one: one.since)
        moments.append(max(oldest.since, oldest.heard) + patience)
        moments.append(max(one.since for one in openings) + patience * MOMENT)
    return max(moments)


def describe(waiting: Sequence[Waiting], seconds: float) -> Failure:
    """The seconds of silence in words; the stage is that of most of them, or the furthest."""
    counted = Counter(one.stage for one in waiting)
    stages = sorted(counted, key=lambda stage: (counted[stage], stage), reverse=True)
    where = " and ".join(_where(stage, counted[stage], len(waiting)) for stage in stages)
    return Failure(
        stages[0], Reason.UPSTREAM_TIMEOUT, f"has been silent for {seconds:.0f} s when we {where}"
    )


def _where(stage: Stage, count: int, of: int) -> str:
    if of == 1:
        return f"awaited {_AWAITED[stage]}, on the only connection"
    if count == of:
        return f"awaited {_AWAITED[stage]}, on all {of} connections"
    return f"awaited {_AWAITED[stage]} on {count} of {of} connections"


def more_patience(patience: float, silence: float) -> float:
    """How long to wait next time, after a stall that ended in a reply: the upstream was only
    slow.
    """
    return min(MOST_PATIENCE, max(patience, 1.5 * silence))
