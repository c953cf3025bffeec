"""Drives the queue: stores accepted messages, passes attempts to couriers, and records their
outcomes.

It decides nothing: `turns` decides whose turn it is, `item` what an outcome means for a recipient,
and the store what is durable. This module connects them and adds the clock. An attempt is handed
out only after its lease is durable. Everything runs in the event loop's thread.

Over 500 lines because each callback is half of a step whose other half must be read with it.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Protocol

import structlog

from mailrelay_gateway.contract.files import GatewayConfig
from mailrelay_gateway.contract.status import QueueStatus
from mailrelay_gateway.message.effect import Effect, PauseUntil, Scope, Slow
from mailrelay_gateway.message.envelope import (
    Attempt,
    AttemptRecipient,
    Message,
    Outcome,
    Result,
)
from mailrelay_gateway.message.lane import LaneKey
from mailrelay_gateway.message.route import Route, Sketch, by_class
from mailrelay_gateway.metrics import Metrics
from mailrelay_gateway.policy.routing import Routing, changed_upstreams, routes_differ
from mailrelay_gateway.queue.audit import Audit
from mailrelay_gateway.queue.duetimes import DueTimes
from mailrelay_gateway.queue.gauges import show
from mailrelay_gateway.queue.ids import queue_id
from mailrelay_gateway.queue.item import (
    Job,
    Move,
    Recipient,
    State,
    decide_moves,
    stand_in_moves,
)
from mailrelay_gateway.queue.kept_quotas import Kept
from mailrelay_gateway.queue.lane import LONGEST_PAUSE, Lane
from mailrelay_gateway.queue.notices import to_tell, write_notice
from mailrelay_gateway.queue.pacing import Pacing
from mailrelay_gateway.queue.pauses import Pauses
from mailrelay_gateway.queue.reroutes import Reroutes
from mailrelay_gateway.queue.retry import RetryPolicy
from mailrelay_gateway.queue.store import (
    Backlog,
    Counts,
    Ended,
    Entry,
    Lease,
    Opened,
    Part,
    QueueStore,
    Want,
)
from mailrelay_gateway.queue.tenants import TenantHolds
from mailrelay_gateway.queue.turns import Turns
from mailrelay_gateway.reasons import Reason
from mailrelay_gateway.smtp.refusal import Problem

log = structlog.get_logger()

# A look-up in an enum is slow (Python 3.11), and each message asks for these.
_DELIVERED, _READY = Result.DELIVERED, State.READY
_UPSTREAM = Scope.UPSTREAM

#: Seconds between two counts of the queue, at least; counting may take this share of the time.
COUNT_INTERVAL = 1.0
COUNT_SHARE = 0.02
#: Seconds for which a lease holds in a store that several gateways share: longer than any attempt.
LEASE = 3600.0
#: Seconds for which a message is put off whose body cannot be read, or with which we failed, at
#: most: a person is to look.
PUT_OFF = 3600.0


class Courier(Protocol):
    """A courier, which takes attempts when it is woken."""

    def wake(self, lane: LaneKey) -> None:
        """Work may be ready in `lane`."""


class Scheduler:
    """Makes no decisions. Implements the intake's `Intake` and the couriers' `Work`."""

    def __init__(
        self,
        store: QueueStore,
        *,
        metrics: Metrics,
        rng: random.Random,
        clock: Callable[[], float] = time.time,
        owner: str = "",
        count_interval: float = COUNT_INTERVAL,
        quotas: Kept | None = None,
    ) -> None:
        """Join a store that is open; `start` begins. `clock` gives Unix seconds; `owner` names us
        in leases; `count_interval` is the least time (seconds) between two counts; `quotas` keeps
        what was used of upstreams' quotas.
        """
        self._store = store
        #: Why a message of so many octets (0: not known yet) cannot be accepted now, if so. Called
        #: three times per message.
        self.problem = store.problem
        self._metrics = metrics
        self._rng = rng
        self._clock = clock
        self._owner = owner
        self._count_interval = count_interval
        self._quotas = quotas
        self._turns = Turns()
        self._audit = Audit()
        self._couriers: Mapping[str, Courier] = {}
        self._running: dict[int, Job] = {}
        self._next_seq = 1
        self._next_attempt = 0
        self._config: GatewayConfig | None = None
        self._suspended = False
        self._started = False
        self._stopping = False
        self._wake_due: set[LaneKey] = set()
        self._count_timer: asyncio.TimerHandle | None = None
        self._status = QueueStatus(messages=0, oldest="", dead_letters=0, unrouted=0)
        self.corrected = 0  # backlogs whose count in memory was wrong: a defect of ours each

    # --- life

    def start(self, loop: asyncio.AbstractEventLoop, config: GatewayConfig, opened: Opened) -> None:
        """Start with the store's contents; couriers must be attached already (`attach`)."""
        self._loop = loop
        self._started = True
        self._next_seq = opened.next_seq
        self._pauses = Pauses(loop, self._pause_over)
        self._tenants = TenantHolds(
            self._turns, loop=loop, give_back=self._give_leases_back, changed=self._pump_all
        )
        self._pacing = Pacing(
            loop,
            metrics=self._metrics,
            wake=self._wake,
            rest=self._rest,
            clock=self._clock,
            kept=self._quotas,
        )
        self._due = DueTimes(
            self._store,
            loop=loop,
            clock=self._clock,
            longest=lambda: self._policy.longest,
            found=self._found,
        )
        self._reroutes = Reroutes(
            self._store, self._turns, loop=loop, found=self._found, done=self._pump_all
        )
        for found in opened.found:
            self._metrics.delivery_attempts(found.upstream, Result.UNCERTAIN, "none").inc()
            log.warning(
                "uncertain",
                queue_id=found.queue_id,
                recipients=[found.address],
                recipient_count=1,
                upstream=found.upstream,
                reason=Reason.LEASE_FOUND,
            )
        for backlog, recipients in opened.ready.items():
            self._turns.found(backlog, recipients, loop.time())
        self.configure(config)
        if opened.next_at is not None:
            self._due.look_at(opened.next_at)
        self._count()

    def attach(self, couriers: Mapping[str, Courier]) -> None:
        """Set the couriers, by upstream; called before each `configure`."""
        before, self._couriers = self._couriers, couriers
        for name in couriers.keys() & before.keys():
            if couriers[name] is not before[name]:
                self.release(name)  # who held it releases it no more

    def configure(self, config: GatewayConfig) -> None:
        """Apply a new configuration. Mail on a route that it does not have is moved to another."""
        retry = config.relay.retry
        before = None if self._config is None else self._config.relay
        rested = self._pacing.configure(config.relay)
        for name in [*changed_upstreams(before, config.relay), *rested]:
            self._turns.forget_pauses(name)
        self._config = config
        self._tenants.configure(config)
        self._policy = RetryPolicy(
            give_up_after=retry.give_up_after,
            max_interval=retry.max_interval,
            warn_after=retry.warn_after,
        )
        routing = Routing(config.relay)
        both = [(route, route.of_class(bulk=True)) for route in routing.all]
        self._choose = by_class(routing.choose)
        #: The route of all mail, by class, if the configuration has only one.
        self._single_route = both[0] if len(both) == 1 else None
        self._suspended = config.relay.suspend
        connections = {upstream.name: upstream.connections for upstream in config.relay.upstreams}
        self._give_leases_back(self._turns.configure(connections, self._loop.time()))
        if self._suspended or self._stopping:
            self._give_leases_back(self._turns.stop())
        else:
            self._turns.resume(self._loop.time())
        self._reroutes.configure(
            {route for pair in both for route in pair},
            connections.keys(),
            self._choose,
            review=self._single_route is None and routes_differ(before, config.relay),
        )
        self._pump_all()

    def stop_taking(self) -> None:
        """Hand out no more attempts; those in progress may still finish."""
        self._stopping = True
        if not self._started:
            return
        self._due.stop()
        self._reroutes.stop()
        self._pauses.stop()
        self._tenants.stop()
        self._pacing.stop()
        if self._count_timer is not None:
            self._count_timer.cancel()
        self._give_leases_back(self._turns.stop())

    @property
    def status(self) -> QueueStatus:
        """The queue, as last counted."""
        return self._status

    # --- for intake: Intake

    def new_id(self) -> str:
        """A queue id."""
        return queue_id(self._clock(), self._rng.getrandbits(80))

    def body_path(self, queue_id: str) -> Path:
        """Where to write a body that is too large for memory."""
        return self._store.body_path(queue_id)

    def accept(
        self, message: Message, addresses: Sequence[str], done: Callable[[Problem | None], None]
    ) -> None:
        """Store a message for these recipients; `done(None)` comes once it is durable."""
        problem = self.problem(message.size)
        if problem is not None:
            self._loop.call_soon(done, problem)
            return
        now = self._loop.time()
        leased: list[tuple[Part, Lane]] = []
        parts: list[Part] = []
        for route, recipients in self._by_route(message, addresses):
            backlog = Backlog(route, message.identity.uid)
            lane = self._turns.may_lease_at_once(backlog, message.size, now)
            if lane is None:
                parts.append(Part(route, recipients))
            else:
                self._turns.reserve(lane, backlog)
                part = Part(route, recipients, lane.key.upstream)
                parts.append(part)
                leased.append((part, lane))
        entry = Entry(self._new_seq(), message, parts)
        self._store.accept(entry, partial(self._stored, entry, leased, done))

    def _new_seq(self) -> int:
        seq = self._next_seq
        self._next_seq += 1
        return seq

    def _by_route(
        self, message: Message, addresses: Sequence[str]
    ) -> Sequence[tuple[Route, tuple[Recipient, ...]]]:
        """A message's recipients by their routes."""
        recipients = tuple([Recipient(n, address) for n, address in enumerate(addresses)])
        if self._single_route is not None:
            return [(self._single_route[message.bulk], recipients)]
        by_route: dict[Route, list[Recipient]] = {}
        for recipient in recipients:
            by_route.setdefault(self._route(message, recipient), []).append(recipient)
        return [(route, tuple(some)) for route, some in by_route.items()]

    def _route(self, message: Message, recipient: Recipient) -> Route:
        """A recipient's route in the current configuration."""
        if self._single_route is not None:
            return self._single_route[message.bulk]
        return self._choose(
            Sketch(
                queue_id=message.queue_id,
                sender=message.envelope_sender,
                address=recipient.address,
                identity=message.identity,
                size=message.size,
                bulk=message.bulk,
            )
        )

    def _stored(
        self,
        entry: Entry,
        leased: Sequence[tuple[Part, Lane]],
        done: Callable[[Problem | None], None],
        problem: Problem | None,
    ) -> None:
        for part, lane in leased:
            self._turns.reserved(lane, Backlog(part.route, entry.message.identity.uid))
        if problem is None:
            self._enter(entry, leased)
        elif leased:
            self._pump_short()
        done(problem)

    def _enter(self, entry: Entry, leased: Sequence[tuple[Part, Lane]]) -> None:
        """What was stored can start if it was leased, and is READY on disk otherwise."""
        message = entry.message
        for part, lane in leased:
            upstream = lane.key.upstream
            job = Job(entry.seq, message, part.route, part.recipients, upstream)
            alive = self._turns.lanes.get(lane.key) is lane
            if alive and self._turns.may_start(lane, self._loop.time(), message.identity.uid):
                self._turns.start_later(lane, job)
                self._wake(lane)
            else:
                self._give_leases_back([job])
        for part in entry.parts:
            if part.leased_at is None:
                self._found(Backlog(part.route, message.identity.uid), len(part.recipients))

    # --- delivery: Work

    def ready(self, key: LaneKey) -> bool:
        """Whether an attempt in this lane may start now."""
        lane = self._turns.lanes.get(key)
        return not (
            lane is None
            or not lane.startable.length
            or self._turns.stopped
            or self._store.failed
            or (lane.not_before and lane.not_before > self._loop.time())
            or (self._pacing.on and self._pacing.wait(lane))
        )

    def not_before(self, key: LaneKey) -> float | None:
        """Unix seconds before which nothing may start in this lane; None: now."""
        lane = self._turns.lanes.get(key)
        if lane is None:
            return None
        seconds = lane.not_before - self._loop.time()
        if self._pacing.on and lane.startable.length:
            seconds = max(seconds, self._pacing.wait(lane))
        return self._clock() + seconds if seconds > 0 else None

    def take(self, key: LaneKey, most: int | None = None) -> Attempt | None:
        """The next attempt in this lane, its lease durable, for at most so many recipients; None
        when nothing may start.
        """
        if self._pacing.on and (paced := self._turns.lanes.get(key)) is not None:
            most = self._pacing.most(paced, most)
        while True:
            if not self.ready(key):
                return None
            lane = self._turns.lanes[key]
            job = self._turns.take(lane)
            if self._is_on_its_way(job):
                break
            self._give_leases_back([job])
        if most is not None and len(job.recipients) > most:
            rest = replace(job, recipients=job.recipients[most:])
            job.recipients = job.recipients[:most]
            self._turns.start_later(lane, rest, first=True)
        self._pump(lane)
        self._pump_short()
        self._next_attempt += 1
        if self._pacing.on:
            self._pacing.begin(self._next_attempt, lane, job)
        self._running[self._next_attempt] = job
        return Attempt(
            number=self._next_attempt,
            message=job.message,
            upstream=key.upstream,
            destination=key.destination,
            recipients=tuple(
                [AttemptRecipient(r.index, r.address, r.attempts) for r in job.recipients]
            ),
        )

    def finish(self, attempt: Attempt, outcomes: Sequence[Outcome]) -> None:
        """Record the result of an attempt: remove, retry, give up with a notice, or hold."""
        job = self._running.pop(attempt.number)
        now = self._clock()
        if self._pacing.on:
            self._pacing.end(attempt.number, attempt.upstream, job, seen=True)
        try:
            ended = self._ended(job, attempt, outcomes, now)
        except Exception:  # a defect of ours: a lease that is never ended would block its message
            log.exception("internal_error", queue_id=job.message.queue_id)
            moves = stand_in_moves(job, outcomes, next_at=now + self._put_off)
            ended = Ended(job, moves, attempt.upstream, now)
        self._store.finish(ended, partial(self._finished, ended))

    def _ended(self, job: Job, attempt: Attempt, outcomes: Sequence[Outcome], now: float) -> Ended:
        moves = decide_moves(
            job,
            outcomes,
            route_of=partial(self._route, job.message),
            now=now,
            policy=self._policy,
            jitter=self._rng.random(),
        )
        delivered = 0
        for outcome in outcomes:
            if outcome.scope is not _UPSTREAM and outcome.result is Result.HELD:
                self._tenants.hold(attempt, outcome)
            if outcome.result is _DELIVERED:
                delivered += 1
                waited = max(0.0, now - job.message.received_at)
                self._metrics.delivery_seconds(attempt.upstream).observe(waited)
        if delivered and (lane := self._turns.lanes.get(attempt.lane)) is not None:
            lane.succeeded()
        silent = delivered == len(moves) and job.message.dsn is None
        notices = () if silent else self._notices(job, moves, now)
        return Ended(job, moves, attempt.upstream, now, notices)

    @property
    def _put_off(self) -> float:
        """Seconds for which a message waits that a person is to look at."""
        return min(PUT_OFF, self._policy.max_interval)

    def _is_on_its_way(self, job: Job) -> bool:
        """Whether all its recipients still have the route on which they were leased: a reload may
        have changed the routes since.
        """
        single = self._single_route
        if job.pinned or job.route.pinned or (single and job.route is single[job.message.bulk]):
            return True
        return all(self._route(job.message, each) == job.route for each in job.recipients)

    def give_back(self, attempt: Attempt) -> None:
        """Nothing was sent: it may be started again with the lease that it still has."""
        job = self._running.pop(attempt.number)
        if self._pacing.on:
            self._pacing.end(attempt.number, attempt.upstream, job, seen=False)
        lane = self._turns.lanes.get(attempt.lane)
        uid = job.message.identity.uid
        if lane is None or not self._turns.may_start(lane, self._loop.time(), uid):
            self._give_leases_back([job])
        else:
            self._turns.start_later(lane, job, first=True, turn=True)
            self._wake(lane)

    def hold(self, upstream: str, reason: Reason, detail: str) -> None:
        """The upstream is in trouble: its messages use the next upstream of their route, or wait,
        which does not count.
        """
        if self._turns.is_held(upstream):
            return
        log.warning("upstream_held", upstream=upstream, reason=reason, detail=detail)
        self._give_leases_back(self._turns.hold(upstream, self._loop.time()))
        self._pump_all()

    def release(self, upstream: str) -> None:
        """The upstream works again."""
        self._tenants.release(upstream)
        if not self._turns.is_held(upstream):
            return
        log.info("upstream_released", upstream=upstream)
        self._turns.release(upstream, self._loop.time())
        self._pump_all()

    def slow(self, key: LaneKey, effect: Effect, retry_after: float | None = None) -> None:
        """The upstream wants fewer messages, or none for a while, in this lane."""
        lane = self._turns.lanes.get(key)
        if lane is None:
            return
        now = self._loop.time()
        if isinstance(effect, PauseUntil):
            lane.pause_until(now + effect.moment(self._clock()) - self._clock())
        elif isinstance(effect, Slow):
            if self._pacing.on and lane.not_before <= now:
                self._pacing.slow(key.upstream)
            lane.slow(now, self._rng.random(), effect.longest or LONGEST_PAUSE)
        if retry_after is not None:
            lane.pause_until(now + min(retry_after, self._policy.longest))
        if lane.not_before > now:
            self._pause(lane, now)

    def _rest(self, lane: Lane, seconds: float) -> None:
        """A quota of the lane's upstream is used up for so long."""
        now = self._loop.time()
        lane.pause_until(now + seconds)
        self._pause(lane, now)

    def _pause(self, lane: Lane, now: float) -> None:
        self._give_leases_back(self._turns.pause(lane, now))
        self._pauses.watch(lane)
        self._pump_all()

    def _pause_over(self) -> None:
        self._turns.pause_over(self._loop.time())
        self._pump_all()

    # --- turns

    def _found(self, backlog: Backlog, recipients: int) -> None:
        """So many more recipients are READY on disk: lease them when it is their turn."""
        self._turns.found(backlog, recipients, self._loop.time())
        lane = self._turns.serving(backlog, self._loop.time())
        if lane is not None:
            self._pump(lane)
        elif self._turns.is_lost(backlog.route):
            self._reroutes.check()

    def _pump_all(self) -> None:
        for lane in list(self._turns.lanes.values()):
            self._pump(lane)

    def _pump(self, lane: Lane) -> None:
        """Lease ahead what the connections of a lane will need next."""
        waits = lane.transactional.turns or lane.bulk.turns
        wants = self._turns.wants(lane, self._loop.time()) if waits else ()
        if wants:
            now = self._clock()
            lease = Lease(
                owner=self._owner,
                ends_at=now + LEASE,
                put_off_until=now + self._put_off,
            )
            self._store.claim(wants, lease, partial(self._claimed, lane, wants))
        if lane.startable.length:
            self._wake(lane)

    def _pump_short(self) -> None:
        """There may be room in the window again: lanes that found none get it, in turn."""
        while (lane := self._turns.next_short()) is not None:
            self._pump(lane)
            if self._turns.is_short(lane):
                break

    def _claimed(self, lane: Lane, wants: Sequence[Want], jobs: Sequence[Job] | Problem) -> None:
        now = self._loop.time()
        if isinstance(jobs, Problem):
            self._turns.claimed(lane, wants, None, now)
            return  # the store has failed and the process ends, or the count asks it again
        self._give_leases_back(self._turns.claimed(lane, wants, jobs, now))
        # Meanwhile another lane may serve them, which could not claim them during this claim.
        lanes = {
            serving.key: serving
            for want in wants
            if (serving := self._turns.serving(Backlog(want.route, want.sender), now))
        }
        if self._turns.lanes.get(lane.key) is lane:
            lanes[lane.key] = lane
        for one in lanes.values():
            self._pump(one)
        self._pump_short()

    def _wake(self, lane: Lane) -> None:
        """Tell the courier in a callback of its own: it may be inside `take`."""
        if lane.key not in self._wake_due:
            self._wake_due.add(lane.key)
            self._loop.call_soon(self._wake_now, lane.key)

    def _wake_now(self, key: LaneKey) -> None:
        self._wake_due.discard(key)
        courier = self._couriers.get(key.upstream)
        if courier is not None and self.ready(key):
            courier.wake(key)
        elif self._pacing.on and (lane := self._turns.lanes.get(key)) is not None:
            self._pacing.watch(lane)

    def _give_leases_back(self, jobs: Sequence[Job]) -> None:
        """Return leases whose attempts never started."""
        for job in jobs:
            pinned = job.pinned or job.route.pinned
            moves = [
                Move(
                    recipient=r,
                    state=State.READY,
                    route=job.route if pinned else self._route(job.message, r),
                    reason=Reason.NOT_STARTED,
                )
                for r in job.recipients
            ]
            ended = Ended(job, moves, job.upstream, self._clock())
            self._store.finish(ended, partial(self._finished, ended))

    def _finished(self, ended: Ended, problem: Problem | None) -> None:
        if problem is not None:
            return  # the store has failed; the process ends
        ready: dict[Backlog, int] = {}
        for move in ended.moves:
            if move.state is _READY:
                backlog = Backlog(move.route, ended.job.message.identity.uid)
                ready[backlog] = ready.get(backlog, 0) + 1
            elif move.next_at is not None:
                self._due.look_at(move.next_at)
        for backlog, recipients in ready.items():
            self._found(backlog, recipients)
        for notice in ended.notices:
            self._enter(notice, ())

    # --- counting

    def _count(self) -> None:
        self._store.count(self._counted)

    def _counted(self, counts: Counts | Problem) -> None:
        seconds = 0.0
        if isinstance(counts, Counts):
            seconds = counts.seconds
            self._status = show(counts, self._turns, self._metrics, self._clock())
            self._pacing.show()
            if counts.next_at is not None:
                self._due.look_at(counts.next_at)
            for backlog, difference in self._audit.compare(counts.ready, self._turns).items():
                self.corrected += 1
                log.error(
                    "queue_count_corrected",
                    upstreams=backlog.route.upstreams,
                    recipient_count=difference,
                )
                if difference > 0:
                    self._found(backlog, difference)
                else:
                    self._turns.gone(backlog, -difference)
        self._reroutes.check()  # no event must be relied on: one may have been missed
        self._pump_all()
        if not self._stopping:
            pause = max(self._count_interval, seconds / COUNT_SHARE)
            self._count_timer = self._loop.call_later(pause, self._count)

    # --- giving up

    def _notices(self, job: Job, moves: Sequence[Move], now: float) -> list[Entry]:
        """The notice to the sender, as it is stored."""
        for move in moves:
            if not move.failed:
                continue
            log.warning(
                "dead_letter",
                queue_id=job.message.queue_id,
                recipients=[move.recipient.address],
                recipient_count=1,
                reason=move.reason,
                reply=move.reply,
            )
        entries = []
        for action, told in to_tell(job.message, moves).items():
            assert self._config is not None  # an attempt has ended
            notice = write_notice(
                action,
                job.message,
                told,
                queue_id=self.new_id(),
                hostname=self._config.relay.hostname,
                now=now,
                policy=self._policy,
            )
            if notice is not None:
                self._metrics.dsn(action.value).inc()
                parts = [
                    Part(*each) for each in self._by_route(notice, [job.message.envelope_sender])
                ]
                entries.append(Entry(self._new_seq(), notice, parts))
        return entries
