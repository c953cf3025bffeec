"""When a pool opens a connection: in parallel, but never all at once. Pure: facts in, a plan out.

An idle pool opens one for the first message, and a backlog brings one more with each success. One
that is slow to open delays no other: after `stagger` the next one starts, as long as there may be
more. While the upstream is held it is only probed; after it asked us to slow down the pool does not
grow until a message gets through.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mailrelay_gateway.message_value import message_value

#: Parallel openings to a held upstream: a probe that stalls does not delay the next one, and there
#: are not more than that.
PROBES = 2


@message_value(frozen=True, slots=True, kw_only=True)
class Scene:
    """The facts for a decision. Times are the loop's."""

    now: float
    ready: bool  # there is work that no idle connection takes
    held: bool
    probe_at: float  # counts while held
    places: int  # how many connections there may be
    connections: int  # opened, and not yet closed
    began: Sequence[float]  # when each opening in progress began
    not_before: float  # connections closed by the server in a row
    slowed: bool  # the upstream asked us to slow down, and nothing got through since
    stagger: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The plan: `open` one now; or look `again` then, if nothing happens before. `full`: there is
    work, and there may be no more connections.
    """

    open: bool = False
    again: float | None = None
    full: bool = False


_NOTHING = Plan()
_OPEN = Plan(open=True)
_FULL = Plan(full=True)


def plan_opening(scene: Scene) -> Plan:
    """Whether to open a connection now, and if not, when to decide again."""
    taken = scene.connections + len(scene.began)
    if scene.held:
        if scene.now < scene.probe_at:
            return Plan(again=scene.probe_at)
        if len(scene.began) >= PROBES or taken >= scene.places:
            return _NOTHING  # we look again when one of them ends
        return _OPEN
    if not scene.ready:
        return _NOTHING
    if taken >= scene.places or (scene.slowed and taken):
        return _FULL
    soonest = scene.not_before
    if scene.began:
        soonest = max(soonest, scene.began[-1] + scene.stagger)
    if scene.now < soonest:
        return Plan(again=soonest)
    return _OPEN
