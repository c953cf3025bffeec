"""When a pool opens a connection: side by side, but never all at once. Pure: facts in, a plan out.

An idle pool opens one for the first message, and a backlog brings one more with each success. One
that is slow to open holds up nobody: after `stagger` the next one starts, as long as there may be
more. While the upstream is held it is only probed; after it asked us to slow down the pool does not
grow until a message gets through.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mailrelay_gateway.message_value import message_value

#: Openings of a held upstream at a time: a probe that stalls does not keep the next one waiting,
#: and no more knock at a door that is closed.
PROBES = 2


@message_value(frozen=True, slots=True, kw_only=True)
class Scene:
    """What a pool knows when it decides. Times are the loop's."""

    now: float
    ready: bool  # work waits that no idle connection takes
    held: bool
    probe_at: float  # counts while held
    places: int  # how many connections there may be
    connections: int  # opened, and not yet closed
    began: Sequence[float]  # when each opening under way began
    not_before: float  # connections were closed on us in a row
    slowed: bool  # the upstream asked us to slow down, and nothing got through since
    stagger: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What follows: `open` one now; or look `again` then, if nothing happens before. `full`: work
    waits, and there may be no more connections.
    """

    open: bool = False
    again: float | None = None
    full: bool = False


_NOTHING = Plan()
_OPEN = Plan(open=True)
_FULL = Plan(full=True)


def plan_opening(scene: Scene) -> Plan:
    """Whether to open a connection now, and if not, when to ask again."""
    taken = scene.connections + len(scene.began)
    if scene.held:
        if scene.now < scene.probe_at:
            return Plan(again=scene.probe_at)
        if len(scene.began) >= PROBES or taken >= scene.places:
            return _NOTHING  # whichever of them ends makes us look again
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
