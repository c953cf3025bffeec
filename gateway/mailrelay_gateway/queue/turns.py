"""Decides whose turn it is: what to lease next for which lane, and which lanes may start. Pure.

The queue is on disk by route and sender, and only the counts of what is READY there are known
here. A lane serves a route if it is the first of the route's lanes that works: an upstream that is
held or released changes nothing on disk. Each lane keeps a few jobs leased ahead; who gets the next
lease goes by turns between senders, so a sender with one message is not kept waiting by one with a
million.

Nothing is triggered by an edge: `wants` says what to lease from what is known now, however it came
about, and may be asked at any time.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from mailrelay_gateway.message.body import INLINE_BODY_LIMIT
from mailrelay_gateway.message.lane import LaneKey
from mailrelay_gateway.message.route import Route
from mailrelay_gateway.queue.item import Job
from mailrelay_gateway.queue.lane import Lane, Side
from mailrelay_gateway.queue.store import Backlog, Want

#: Jobs leased ahead in all lanes together, and octets of their bodies.
WINDOW = 2000
WINDOW_OCTETS = 64 * 1024 * 1024
#: Jobs leased ahead for each connection, and in a lane at most: as many as finish during one
#: commit. More would only make others wait behind them.
AHEAD_PER_CONNECTION = 4
AHEAD_PER_LANE = 64
#: While so few senders have jobs leased in a lane, another one is given a lease at once.
FEW_SENDERS = 8
#: A lane that pauses for longer (seconds) leaves its messages to the next upstream of their route.
LONG_PAUSE = 60.0


@dataclass(slots=True, eq=False)
class RouteBacklog:
    """What is READY on disk on one route, by sender; never an entry of 0."""

    route: Route
    ready: dict[str, int] = field(default_factory=dict)
    lane: LaneKey | None = None  # that serves it at present


class Turns:
    """The in-memory view of the queue."""

    def __init__(self, *, window: int = WINDOW, window_octets: int = WINDOW_OCTETS) -> None:
        """Start empty."""
        self._window = window
        self._window_octets = window_octets
        self._depths: dict[str, int] = {}  # by upstream
        self._held: set[str] = set()
        #: Senders whose mail an upstream refuses: (upstream, sender).
        self._away: set[tuple[str, str]] = set()
        self._stale: set[Route] = set()
        self._routes: dict[Route, RouteBacklog] = {}
        self._claimed: dict[Backlog, int] = {}  # being claimed: READY when requested
        self._octets = 0  # of bodies in memory, in all lanes
        self._asked_octets = 0
        self._ahead = 0  # jobs leased ahead or requested, in all lanes
        self._resting = False  # a lane has a long pause, or had one when it was last looked at
        self._short: dict[LaneKey, None] = {}  # lanes that found no room in the window, in order
        self.lanes: dict[LaneKey, Lane] = {}
        self.stopped = False  # suspended, or stopping: nothing may start

    # --- what is told

    def configure(self, connections: Mapping[str, int], now: float) -> list[Job]:
        """Set the upstreams and the number of connections of each. Returns the jobs whose lane is
        gone: their leases must be returned.
        """
        self._depths = {
            name: min(AHEAD_PER_CONNECTION * count, AHEAD_PER_LANE)
            for name, count in connections.items()
        }
        self._held &= self._depths.keys()
        self._away = {one for one in self._away if one[0] in self._depths}
        orphans: list[Job] = []
        for key in list(self.lanes):
            depth = self._depths.get(key.upstream)
            if depth is None:
                orphans += self._empty(self.lanes.pop(key))
            else:
                self.lanes[key].depth = depth
        self.assign(now)
        return orphans

    def hold(self, upstream: str, now: float) -> list[Job]:
        """Hold the upstream. Returns the jobs whose leases must be returned."""
        self._held.add(upstream)
        jobs: list[Job] = []
        for key, lane in self.lanes.items():
            if key.upstream == upstream:
                jobs += self._empty(lane)
        self.assign(now)
        return jobs

    def pause(self, lane: Lane, now: float) -> list[Job]:
        """The lane pauses. Returns the jobs whose leases must be returned: those of a long pause,
        which another lane may take. A short one changes nothing, and is frequent.
        """
        if not self._rests(lane, now):
            return []
        self._resting = True
        jobs = self._empty(lane)
        self.assign(now)
        return jobs

    def pause_over(self, now: float) -> None:
        """A lane's pause has ended: if it was long, the lane serves again."""
        if self._resting:
            self._resting = any(self._rests(lane, now) for lane in self.lanes.values())
            self.assign(now)

    def forget_pauses(self, upstream: str) -> None:
        """It may be a different upstream by now."""
        for key, lane in self.lanes.items():
            if key.upstream == upstream:
                lane.not_before = lane.pause = 0.0

    def release(self, upstream: str, now: float) -> None:
        """Release the upstream."""
        self._held.discard(upstream)
        self.assign(now)

    def send_away(self, upstream: str, senders: Iterable[str], now: float) -> list[Job]:
        """The upstream takes no mail of these senders: theirs takes the next one of its route, or
        waits. Returns the jobs whose leases must be returned.
        """
        jobs: list[Job] = []
        for sender in senders:
            self._away.add((upstream, sender))
            for key, lane in self.lanes.items():
                if key.upstream == upstream:
                    octets = lane.startable.octets
                    taken = lane.startable.take_out(sender)
                    self._octets -= octets - lane.startable.octets
                    self._ahead -= len(taken)
                    jobs += taken
        self.assign(now)
        return jobs

    def take_back(self, upstream: str, senders: Iterable[str], now: float) -> None:
        """The upstream is to be asked again for these senders."""
        self._away -= {(upstream, sender) for sender in senders}
        self.assign(now)

    def is_held(self, upstream: str) -> bool:
        """Whether the upstream is held."""
        return upstream in self._held

    def mark_stale(self, routes: Iterable[Route], now: float) -> bool:
        """These routes are no longer the configuration's: nothing on them starts until it has
        been given another. True: others than before; those that are stale no more may start.
        """
        before, self._stale = self._stale, set(routes)
        if self._stale == before:
            return False
        self.assign(now)
        return True

    def found(self, backlog: Backlog, recipients: int, now: float) -> None:
        """So many more recipients are READY on disk."""
        if recipients <= 0:
            return
        known = self._routes.get(backlog.route)
        if known is None:
            known = self._routes[backlog.route] = RouteBacklog(backlog.route)
            self._assign(known, now)
        before = known.ready.get(backlog.sender, 0)
        known.ready[backlog.sender] = before + recipients
        if not before and (key := self._lane_of(known, backlog.sender, now)) is not None:
            self._give_turn(self.lanes[key], backlog)

    def gone(self, backlog: Backlog, recipients: int) -> None:
        """So many recipients fewer are READY on disk."""
        known = self._routes.get(backlog.route)
        if known is None:
            return
        left = known.ready.get(backlog.sender, 0) - recipients
        if left > 0:
            known.ready[backlog.sender] = left
        else:
            known.ready.pop(backlog.sender, None)
            if not known.ready:
                self._forget(known)

    def ready(self, backlog: Backlog) -> int:
        """How many recipients of this backlog are known to be READY on disk."""
        known = self._routes.get(backlog.route)
        return 0 if known is None else known.ready.get(backlog.sender, 0)

    def backlogs(self) -> dict[Backlog, int]:
        """All that is known to be READY on disk."""
        return {
            Backlog(route, sender): count
            for route, known in self._routes.items()
            for sender, count in known.ready.items()
        }

    def routes(self) -> list[Route]:
        """The routes on which something is READY on disk."""
        return list(self._routes)

    def is_busy(self, backlog: Backlog) -> bool:
        """Whether a claim on this backlog is in progress, so that its count is about to change."""
        return backlog in self._claimed

    # --- which lane

    def lane_for(self, route: Route, now: float, sender: str = "") -> Lane | None:
        """The lane that serves a route at present: the first one that is configured, not held (nor
        for the `sender`), and not in a long pause. None: its mail has to wait.
        """
        if self._stale and route in self._stale:
            return None
        paused: LaneKey | None = None
        for key in route.lanes:
            if key.upstream not in self._depths or key.upstream in self._held:
                continue
            if self._away and (key.upstream, sender) in self._away:
                continue
            lane = self.lanes.get(key)
            if lane is not None and self._rests(lane, now):
                paused = paused or key
                continue
            return lane or self._make(key)
        return self.lanes[paused] if paused is not None else None

    def serving(self, backlog: Backlog, now: float) -> Lane | None:
        """The lane that serves the READY mail of this backlog, if any."""
        known = self._routes.get(backlog.route)
        if known is None:
            return None
        key = self._lane_of(known, backlog.sender, now)
        return None if key is None else self.lanes.get(key)

    def _lane_of(self, known: RouteBacklog, sender: str, now: float) -> LaneKey | None:
        """The lane that serves this sender's mail on a route: the route's, but for those whose mail
        an upstream of it refuses.
        """
        if self._away and any((name, sender) in self._away for name in known.route.upstreams):
            lane = self.lane_for(known.route, now, sender)
            return None if lane is None else lane.key
        return known.lane

    def is_lost(self, route: Route) -> bool:
        """Whether no upstream of the route is configured (and nobody is looking for another)."""
        return route not in self._stale and not any(n in self._depths for n in route.upstreams)

    def home(self, route: Route) -> str:
        """The upstream under whose name a route's messages are counted: the one that serves it,
        else the first that is configured, else the first.
        """
        known = self._routes.get(route)
        if known is not None and known.lane is not None:
            return known.lane.upstream
        for name in route.upstreams:
            if name in self._depths and name not in self._held:
                return name
        for name in route.upstreams:
            if name in self._depths:
                return name
        return route.upstreams[0] if route.upstreams else ""

    def assign(self, now: float) -> None:
        """Determine for each route again which lane serves it: after holds, releases, long pauses
        and new configurations.
        """
        for lane in self.lanes.values():
            for side in (lane.transactional, lane.bulk):
                side.turns.clear()
                side.in_turns.clear()
        # What was perhaps delivered has waited for long, and is little.
        for known in sorted(self._routes.values(), key=lambda known: not known.route.pinned):
            self._assign(known, now)
            if known.lane is None and not self._away:
                continue
            for sender in known.ready:
                key = self._lane_of(known, sender, now)
                if key is not None:
                    self._give_turn(self.lanes[key], Backlog(known.route, sender))

    def _assign(self, known: RouteBacklog, now: float) -> None:
        lane = self.lane_for(known.route, now)
        known.lane = lane.key if lane is not None else None

    def _rests(self, lane: Lane, now: float) -> bool:
        return lane.not_before - now > LONG_PAUSE

    def _make(self, key: LaneKey) -> Lane:
        lane = self.lanes[key] = Lane(key, self._depths[key.upstream])
        return lane

    def _forget(self, known: RouteBacklog) -> None:
        del self._routes[known.route]

    def _give_turn(self, lane: Lane, backlog: Backlog) -> None:
        side = lane.side(backlog)
        if backlog not in side.in_turns:
            side.in_turns.add(backlog)
            side.turns.append(backlog)

    def _empty(self, lane: Lane) -> list[Job]:
        self._octets -= lane.startable.octets
        jobs = lane.startable.clear()
        self._ahead -= len(jobs)
        return jobs

    # --- leases

    def may_lease_at_once(self, backlog: Backlog, octets: int, now: float) -> Lane | None:
        """The lane in which a new message may be leased in the same transaction that stores it;
        None: it goes to disk, behind the mail that its sender has there already.
        """
        if self.stopped:
            return None
        if (self._routes and self.ready(backlog)) or (self._claimed and backlog in self._claimed):
            return None
        lane = self.lane_for(backlog.route, now, backlog.sender)
        if lane is None or now < lane.not_before or not self._has_room(lane, backlog):
            return None
        if self._ahead >= self._window or self._octets_left() < octets:
            return None
        return lane

    def reserve(self, lane: Lane, backlog: Backlog) -> None:
        """Keep a place for a fresh message that is being stored."""
        lane.side(backlog).claiming += 1
        self._ahead += 1

    def reserved(self, lane: Lane, backlog: Backlog) -> None:
        """Give that place back: the message is stored, or was refused."""
        lane.side(backlog).claiming -= 1
        self._ahead -= 1

    def _has_room(self, lane: Lane, backlog: Backlog) -> bool:
        """A sender that has nothing leased yet gets a lease even if others fill the lane."""
        side = lane.side(backlog)
        ahead, depth = side.ahead, lane.depth_of(side)
        if ahead < depth:
            return True
        return backlog.sender not in side.jobs and ahead < 2 * depth

    def _octets_left(self) -> int:
        return self._window_octets - self._octets - self._asked_octets

    def wants(self, lane: Lane, now: float) -> list[Want]:
        """What to lease for a lane now, by turns of its senders. The caller makes the claim and
        passes the result to `claimed`.
        """
        if self.stopped or now < lane.not_before:
            return []
        wants = self._wants_of(lane, lane.transactional, now) if lane.transactional.turns else []
        if lane.bulk.turns:
            wants += self._wants_of(lane, lane.bulk, now)
        return wants

    def _wants_of(self, lane: Lane, side: Side, now: float) -> list[Want]:
        """The same of one class."""
        depth = lane.depth_of(side)
        newcomers_only = side.ahead > depth >> 1
        if newcomers_only and side.jobs.senders >= FEW_SENDERS:
            return []
        room = 2 * depth if newcomers_only else depth
        room -= side.ahead
        if room <= 0:
            return []
        octets = self._octets_left()
        places = min(room, self._window - self._ahead, max(1, octets // INLINE_BODY_LIMIT))
        if places <= 0 or octets <= 0:
            self._short[lane.key] = None
            return []
        picked: list[tuple[RouteBacklog, str]] = []
        for _ in range(len(side.turns)):
            if len(picked) >= places:
                break
            backlog = side.turns.popleft()
            known = self._routes.get(backlog.route)
            if (
                known is None
                or backlog.sender not in known.ready
                or self._lane_of(known, backlog.sender, now) != lane.key
            ):
                side.in_turns.discard(backlog)
                continue
            side.turns.append(backlog)
            if newcomers_only and backlog.sender in side.jobs:
                continue
            if backlog not in self._claimed:
                picked.append((known, backlog.sender))
        if not picked:
            return []
        each = 1 if newcomers_only else max(1, places // len(picked))
        share = octets // len(picked)
        wants = []
        for known, sender in picked:
            messages = min(each, known.ready[sender])
            want = Want(
                route=known.route,
                sender=sender,
                upstream=lane.key.upstream,
                messages=messages,
                # No more than they can need: other lanes use the rest meanwhile.
                octets=min(share, messages * INLINE_BODY_LIMIT),
            )
            wants.append(want)
        for known, sender in picked:  # last in line, also when turns are assigned again
            known.ready[sender] = known.ready.pop(sender)
        for want in wants:
            backlog = Backlog(want.route, want.sender)
            self._claimed[backlog] = self.ready(backlog)
            side.claiming += want.messages
            self._ahead += want.messages
            self._asked_octets += want.octets
        return wants

    def next_short(self) -> Lane | None:
        """A lane that found no room in the window when it was last asked what it wants, the first
        of them; it counts as such no more, and is to be asked again.
        """
        while self._short:
            key = next(iter(self._short))
            del self._short[key]
            lane = self.lanes.get(key)
            if lane is not None:
                return lane
        return None

    def is_short(self, lane: Lane) -> bool:
        """Whether it has found no room again."""
        return lane.key in self._short

    def claimed(
        self, lane: Lane, wants: Iterable[Want], jobs: Iterable[Job] | None, now: float
    ) -> list[Job]:
        """A claim was answered: with jobs, which can start now, or not at all (None: the store has
        failed). Returns jobs that may not start after all: their leases must be returned.
        """
        taken: dict[Backlog, int] = {}
        known: dict[Backlog, int] = {}
        back: list[Job] = []
        alive = self.lanes.get(lane.key) is lane
        for want in wants:
            backlog = Backlog(want.route, want.sender)
            known[backlog] = self._claimed.pop(backlog)
            lane.side(backlog).claiming -= want.messages
            self._ahead -= want.messages
            self._asked_octets -= want.octets
            taken[backlog] = 0
        for job in jobs or ():
            backlog = Backlog(job.route, job.message.identity.uid)
            taken[backlog] = taken.get(backlog, 0) + len(job.recipients)
            if alive and self.may_start(lane, now, job.message.identity.uid):
                self.start_later(lane, job)
            else:
                back.append(job)
        for backlog, recipients in taken.items():
            if jobs is not None:
                # none at all: our count was too high, and the disk is right
                self.gone(backlog, recipients or known.get(backlog, 0))
        return back

    def may_start(self, lane: Lane, now: float, sender: str) -> bool:
        """Whether jobs of this sender in this lane may start soon; short pauses are ignored."""
        name = lane.key.upstream
        held = name in self._held or (bool(self._away) and (name, sender) in self._away)
        return not (self.stopped or held or self._rests(lane, now))

    def start_later(self, lane: Lane, job: Job, *, first: bool = False, turn: bool = False) -> None:
        """Put a leased job into its lane, `first` of its sender, or with the next `turn` of all."""
        before = lane.startable.octets
        if lane.startable.push(job, first=first, turn=turn):
            self._ahead += 1
            self._octets += lane.startable.octets - before

    def take(self, lane: Lane) -> Job:
        """The next job in turn."""
        before = lane.startable.octets
        job = lane.startable.pop()
        self._ahead -= 1
        self._octets -= before - lane.startable.octets
        return job

    def stop(self) -> list[Job]:
        """Start nothing from now on. Returns the jobs whose leases must be returned."""
        self.stopped = True
        return [job for lane in self.lanes.values() for job in self._empty(lane)]

    def resume(self, now: float) -> None:
        """Jobs may start again."""
        self.stopped = False
        self.assign(now)
