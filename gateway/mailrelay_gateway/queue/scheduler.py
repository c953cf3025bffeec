"""Gives each message its turn: takes what ingress accepted, hands attempts to delivery, writes down
what came of them.

It joins the spool (disk), the lanes (memory) and the clock. An attempt is handed out only once its
lease is on disk. Memory is bounded: WINDOW jobs a lane and BODY_BUDGET octets of bodies; whatever
does not fit stays on disk and is read when its turn comes. Everything runs in the event loop's
thread.

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

from mailrelay_gateway.config import GatewayConfig, QueueStatus
from mailrelay_gateway.message.effect import Effect, HoldScope
from mailrelay_gateway.message.envelope import (
    Attempt,
    AttemptRecipient,
    Message,
    Outcome,
    Result,
)
from mailrelay_gateway.message.lane import LaneKey
from mailrelay_gateway.metrics import Metrics
from mailrelay_gateway.policy.problem import Problem
from mailrelay_gateway.queue.gauges import show
from mailrelay_gateway.queue.ids import queue_id
from mailrelay_gateway.queue.item import Job, Move, Recipient, State, decide_move
from mailrelay_gateway.queue.lane import REFILL_BELOW, Lane
from mailrelay_gateway.queue.notices import write_notice
from mailrelay_gateway.queue.operations import Call, Finish, Lease, Store
from mailrelay_gateway.queue.pages import Count, DuePage, FoundLeases, Orphans, ReadyPage
from mailrelay_gateway.queue.retry import RetryPolicy
from mailrelay_gateway.queue.spool import Recovered, Spool
from mailrelay_gateway.reasons import Reason

log = structlog.get_logger()

#: Octets of bodies that waiting jobs in memory may keep; beyond, bodies are read again from disk.
BODY_BUDGET = 64 * 1024 * 1024
#: Seconds until what is due is looked for again after a look that failed.
DUE_AGAIN = 30.0
#: Attempts leased ahead for each connection of an upstream: as many as finish during one commit.
LEASES_AHEAD = 4
#: Seconds between two counts of the queue, at least; counting may take this share of the time.
COUNT_INTERVAL = 1.0
COUNT_SHARE = 0.02


class Courier(Protocol):
    """What delivers: told that there is work, it comes and takes it."""

    def wake(self, lane: LaneKey) -> None:
        """Work is ready in `lane`."""


Route = Callable[[GatewayConfig, Message], tuple[str, ...]]


class Scheduler:
    """The queue's mind. It is ingress's `Intake` and delivery's `Work`."""

    def __init__(
        self,
        spool: Spool,
        *,
        metrics: Metrics,
        route: Route,
        rng: random.Random,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Join a spool that is open; `start` begins. `clock` gives Unix seconds."""
        self._spool = spool
        self._metrics = metrics
        self._route = route
        self._rng = rng
        self._clock = clock
        self._couriers: Mapping[str, Courier] = {}
        self._lanes: dict[str, Lane] = {}
        self._running: dict[int, Job] = {}
        self._here: set[tuple[int, int]] = set()  # READY rows that are in memory
        self._next_seq = 1
        self._next_attempt = 0
        self._bodies = 0
        self._suspended = False
        self._stopping = False
        self._loading_due = False
        self._due_at = float("inf")
        self._due_timer: asyncio.TimerHandle | None = None
        self._count_timer: asyncio.TimerHandle | None = None
        self._status = QueueStatus()

    # --- life

    def start(
        self, loop: asyncio.AbstractEventLoop, config: GatewayConfig, recovered: Recovered
    ) -> None:
        """Begin with what the spool holds; couriers are to be there already (`attach`)."""
        self._loop = loop
        self._next_seq = recovered.next_seq
        retry = config.relay.retry
        self._policy = RetryPolicy(
            give_up_after=retry.give_up_after, max_interval=retry.max_interval
        )
        now = self._clock()
        leases = FoundLeases(now, now + self._policy.uncertain_delay(1, self._rng.random()))
        self._spool.submit(Call(leases.read, partial(self._found_leases, leases)))
        self.configure(config)
        if recovered.messages:
            for lane in self._lanes.values():
                lane.leave_on_disk(0, 0)
                self._refill(lane)
            self._load_due()
        self._count()

    def _found_leases(self, leases: FoundLeases, problem: Problem | None) -> None:
        if problem is None and leases.found:
            for queue_id, address, upstream in leases.found:
                self._metrics.delivery_attempts(upstream, Result.UNCERTAIN, "none").inc()
                log.warning(
                    "uncertain",
                    queue_id=queue_id,
                    recipient=address,
                    upstream=upstream,
                    reason=Reason.LEASE_FOUND,
                )
            self._wait_until(leases.next_at)

    def attach(self, couriers: Mapping[str, Courier]) -> None:
        """Say who delivers for which upstream; called before each `configure`."""
        before, self._couriers = self._couriers, couriers
        for name in couriers.keys() & before.keys():
            if couriers[name] is not before[name]:
                self.release(name)  # who held it releases it no more

    def configure(self, config: GatewayConfig) -> None:
        """Take a new configuration: lanes for its upstreams; what waits for one that is gone
        finds another.
        """
        self._config = config
        retry = config.relay.retry
        self._policy = RetryPolicy(
            give_up_after=retry.give_up_after, max_interval=retry.max_interval
        )
        self._suspended = config.relay.suspend
        names = [upstream.name for upstream in config.relay.upstreams]
        gone = [self._lanes.pop(name) for name in [n for n in self._lanes if n not in names]]
        for upstream in config.relay.upstreams:
            depth = LEASES_AHEAD * min(upstream.connections, 100)
            self._lanes.setdefault(upstream.name, Lane(upstream.name, depth)).depth = depth
        self._adopt()
        for lane in gone:
            self._unlease_startable(lane)
            self._reroute(lane)
        self._reroute_held()
        for lane in self._lanes.values():
            self._pump(lane)

    def stop_taking(self) -> None:
        """Hand out no more attempts; those under way may still finish."""
        self._stopping = True
        for timer in (self._due_timer, self._count_timer):
            if timer is not None:
                timer.cancel()
        for lane in self._lanes.values():
            self._unlease_startable(lane)

    def _unlease_startable(self, lane: Lane) -> None:
        jobs = list(lane.startable)
        lane.startable.clear()
        for job in jobs:
            self._unlease(job)

    @property
    def status(self) -> QueueStatus:
        """What waits, as last counted."""
        return self._status

    # --- ingress: Intake

    def problem(self) -> Problem | None:
        """Why no message can be accepted right now, if so."""
        return self._spool.problem(time.monotonic())

    def new_id(self) -> str:
        """A queue id."""
        return queue_id(self._clock(), self._rng.getrandbits(80))

    def body_path(self, queue_id: str) -> Path:
        """Where to write a body that is too large for memory."""
        return self._spool.body_path(queue_id)

    def accept(self, message: Message, done: Callable[[Problem | None], None]) -> None:
        """Store a message; `done(None)` comes once it is on disk."""
        problem = self._spool.problem(time.monotonic())
        if problem is not None:
            self._loop.call_soon(done, problem)
            return
        recipients = tuple([Recipient(n, address) for n, address in enumerate(message.recipients)])
        job = Job(self._next_seq, message, recipients, body_loaded=True)
        self._next_seq += 1
        lane = self._lane_for(job)
        job.upstream = lane.name
        leased = (
            lane.room_to_lease > 0
            and not self._suspended
            and not self._stopping
            and not len(lane.ready)
            and lane.on_disk_from is None
        )
        if leased:
            lane.leasing += 1
        stored = partial(self._stored, job, lane if leased else None, done)
        self._spool.submit(Store(job, lane.name, leased, stored))

    def _stored(
        self,
        job: Job,
        leased: Lane | None,
        done: Callable[[Problem | None], None],
        problem: Problem | None,
    ) -> None:
        if leased is not None:
            leased.leasing -= 1
        if problem is None:
            if leased is None:
                self._enter(job, fresh=True)
            elif leased.held or self._stopping or self._lanes.get(leased.name) is not leased:
                self._unlease(job)
            else:
                leased.startable.append(job)
                self._wake(leased)
        done(problem)

    # --- delivery: Work

    def ready(self, key: LaneKey) -> bool:
        """Whether an attempt in the lane `key` may start now."""
        lane = self._lanes.get(key.upstream)
        return not (lane is None or not lane.startable or self._suspended or self._stopping)

    def not_before(self, key: LaneKey) -> float | None:
        """Lanes have no pace yet."""
        del key
        return None

    def take(self, key: LaneKey, most: int | None = None) -> Attempt | None:
        """The next attempt in the lane `key`, its lease on disk; None when nothing may start. Jobs
        are not parted: `most` counts for nothing.
        """
        del most
        lane = self._lanes.get(key.upstream)
        if lane is None or not lane.startable or self._suspended or self._stopping:
            return None
        job = lane.startable.popleft()
        if len(lane.startable) + lane.leasing <= lane.depth >> 1:
            self._pump(lane)
        self._next_attempt += 1
        self._running[self._next_attempt] = job
        return Attempt(
            number=self._next_attempt,
            message=job.message,
            upstream=key.upstream,
            recipients=tuple(
                [AttemptRecipient(r.index, r.address, r.attempts) for r in job.recipients]
            ),
        )

    def finish(self, attempt: Attempt, outcomes: Sequence[Outcome]) -> None:
        """Write down what came of an attempt: remove, wait, give up with a notice, or hold."""
        job = self._running.pop(attempt.number)
        now = self._clock()
        by_index = {outcome.index: outcome for outcome in outcomes}
        moves = []
        for recipient in job.recipients:
            outcome = by_index[recipient.index]
            jitter = self._rng.random()
            moves.append(
                decide_move(recipient, outcome, now=now, policy=self._policy, jitter=jitter)
            )
            if outcome.result is Result.DELIVERED:
                waited = max(0.0, now - job.message.received_at)
                self._metrics.delivery_seconds(attempt.upstream).observe(waited)
        notices = self._notices(job, moves, now)
        done = partial(self._finished, job, moves, notices)
        self._spool.submit(Finish(job, moves, attempt.upstream, now, notices, done))

    def give_back(self, attempt: Attempt) -> None:
        """Nothing was sent for it: it may start again, the lease it has still holds."""
        job = self._running.pop(attempt.number)
        lane = self._lanes.get(attempt.upstream)
        if lane is None or lane.held or self._stopping:
            self._unlease(job)
        else:
            lane.startable.appendleft(job)
            self._loop.call_soon(self._wake, lane)

    def hold(
        self, upstream: str, reason: Reason, detail: str, scope: HoldScope | None = None
    ) -> None:
        """The upstream is in trouble: what may go elsewhere goes, the rest waits and is not
        charged for it. Whatever the scope, everybody's does.
        """
        del scope
        lane = self._lanes.get(upstream)
        if lane is None or lane.held:
            return
        lane.hold(time.monotonic())
        log.warning("upstream_held", upstream=upstream, reason=reason, detail=detail)
        self._unlease_startable(lane)
        self._reroute(lane)

    def release(self, upstream: str) -> None:
        """The upstream works again."""
        lane = self._lanes.get(upstream)
        if lane is None or not lane.held:
            return
        lane.release(time.monotonic())
        log.info("upstream_released", upstream=upstream)
        self._pump(lane)
        self._reroute_held()

    def slow(self, key: LaneKey, effect: Effect, retry_after: float | None) -> None:
        """Lanes have no pace yet."""

    def _reroute_held(self) -> None:
        """A way has opened: what waits in held lanes may go there."""
        for lane in list(self._lanes.values()):
            if lane.held:
                self._reroute(lane)

    def _reroute(self, lane: Lane) -> None:
        """Look for a lane again for each job of this one's window; held time is credited before."""
        now = time.monotonic()
        for job in lane.ready.clear():
            _credit(job, lane.held_seconds(now))
            self._enter(job)

    # --- turns

    def _lane_for(self, job: Job) -> Lane:
        """The first lane of the message's route that is not held; the first of all if every one
        is.
        """
        if job.recipients[0].pinned and job.upstream in self._lanes:
            return self._lanes[job.upstream]
        names = self._route(self._config, job.message)
        for name in names:
            lane = self._lanes[name]
            if not lane.held:
                return lane
        return self._lanes[names[0]]

    def _enter(self, job: Job, *, fresh: bool = False) -> None:
        """Put a job whose rows are READY on disk into a lane; where there is no room, leave it on
        disk.

        A fresh one never overtakes what was left on disk before it. Rows that a page brought here
        already are skipped.
        """
        lane = self._lane_for(job)
        if lane.full or (fresh and lane.on_disk_from is not None):
            first = self._config.relay.upstreams[0].name  # which orphans are given to
            at_home = self._lanes.get(job.upstream) or self._lanes[first]
            for recipient in job.recipients:
                self._here.discard((job.seq, recipient.index))
                at_home.leave_on_disk(job.seq, recipient.index)
            self._forget_body(job)
            return
        if fresh and (job.seq, 0) in self._here:
            return
        for recipient in job.recipients:
            self._here.add((job.seq, recipient.index))
        job.held_before = lane.held_seconds(time.monotonic())
        self._keep_body(job)
        lane.ready.push(job)
        self._pump(lane)

    def _admit(self, job: Job) -> None:
        """Take in a job that was read from disk, as far as it is not in memory already."""
        missing = [r for r in job.recipients if (job.seq, r.index) not in self._here]
        if missing:
            job.recipients = tuple(missing)
            self._enter(job)

    def _pump(self, lane: Lane) -> None:
        """Lease ahead what the connections will need next, and read on from disk when memory
        runs low.
        """
        room = 0 if self._suspended or self._stopping else lane.room_to_lease
        if room > 0 and len(lane.ready):
            now = time.monotonic()
            jobs = [lane.ready.pop() for _ in range(min(room, len(lane.ready)))]
            for job in jobs:
                _credit(job, lane.held_seconds(now))
            lane.leasing += len(jobs)
            self._spool.submit(Lease(jobs, lane.name, partial(self._leased, lane, jobs)))
        if lane.on_disk_from is not None and len(lane.ready) < REFILL_BELOW:
            self._refill(lane)
        if lane.startable:
            self._wake(lane)

    def _leased(self, lane: Lane, jobs: Sequence[Job], problem: Problem | None) -> None:
        lane.leasing -= len(jobs)
        if problem is not None:
            return  # the spool has failed; the process ends
        for job in jobs:
            job.upstream = lane.name
            self._bodies -= job.kept
            job.kept = 0
            for recipient in job.recipients:
                self._here.discard((job.seq, recipient.index))
            if lane.held or self._stopping or self._lanes.get(lane.name) is not lane:
                self._unlease(job)
            else:
                lane.startable.append(job)
        self._wake(lane)

    def _unlease(self, job: Job) -> None:
        """Take a lease back whose attempt never began."""
        moves = [Move(r, State.READY, None, Reason.CONNECTION_LOST, "") for r in job.recipients]
        done = partial(self._finished, job, moves, ())
        self._spool.submit(Finish(job, moves, job.upstream, self._clock(), (), done))

    def _finished(
        self,
        job: Job,
        moves: Sequence[Move],
        notices: Sequence[Store],
        problem: Problem | None,
    ) -> None:
        for notice in notices:
            notice.done(problem)
        if problem is not None:
            return  # the spool has failed; the process ends
        back = []
        for move in moves:
            if move.state is State.READY:
                back.append(move.recipient)
            elif move.next_at is not None:
                self._wait_until(move.next_at)
        if back:
            job.recipients = tuple(back)
            self._admit(job)

    def _wake(self, lane: Lane) -> None:
        courier = self._couriers.get(lane.name)
        if courier is not None and lane.startable and not self._suspended and not self._stopping:
            courier.wake(LaneKey(lane.name))

    # --- what lies on disk

    def _refill(self, lane: Lane) -> None:
        if lane.on_disk_from is None or lane.paging or lane.full or self._stopping:
            return
        lane.paging = True
        page = ReadyPage(lane.name, lane.on_disk_from)
        self._spool.submit(Call(page.read, partial(self._refilled, lane, page)))

    def _refilled(self, lane: Lane, page: ReadyPage, problem: Problem | None) -> None:
        """A short page saw every READY row that was committed: then nothing is left on disk,
        unless it did not fit.
        """
        lane.paging = False
        if problem is not None:
            return
        if lane.on_disk_from == page.after:
            lane.on_disk_from = None if page.short else page.last
        for job in page.jobs:
            self._admit(job)
        if lane.on_disk_from is None or lane.on_disk_from > page.after:
            self._pump(lane)  # otherwise nothing fitted: looked at again with the next count

    def _wait_until(self, at: float) -> None:
        """See to it that what is due at Unix time `at` is looked for then."""
        if at >= self._due_at or self._stopping:
            return
        self._due_at = at
        if self._due_timer is not None:
            self._due_timer.cancel()
        self._due_timer = self._loop.call_later(max(0.0, at - self._clock()), self._load_due)

    def _load_due(self) -> None:
        self._due_at = float("inf")
        if self._loading_due:
            self._wait_until(self._clock() + 0.05)
            return
        self._loading_due = True
        page = DuePage(self._clock())
        self._spool.submit(Call(page.read, partial(self._loaded_due, page)))

    def _loaded_due(self, page: DuePage, problem: Problem | None) -> None:
        self._loading_due = False
        if problem is not None:  # a failed spool ends the process; a damaged row must not end this
            self._wait_until(self._clock() + DUE_AGAIN)
            return
        for job in page.jobs:
            self._admit(job)
        if page.next_at is not None:
            self._wait_until(page.next_at)

    def _adopt(self) -> None:
        """Give the first upstream the rows of those that are gone and run no attempt."""
        orphans = Orphans([upstream.name for upstream in self._config.relay.upstreams])
        self._spool.submit(Call(orphans.read, partial(self._adopted, orphans)))

    def _adopted(self, orphans: Orphans, problem: Problem | None) -> None:
        if problem is None and orphans.found:
            first = self._lanes.get(orphans.names[0])
            log.warning(
                "rerouted",
                reason=Reason.UPSTREAM_GONE,
                recipients=orphans.found,
                upstream=orphans.names[0],
            )
            if first is not None:
                first.leave_on_disk(0, 0)
                self._refill(first)

    def _count(self) -> None:
        count = Count()
        self._spool.submit(Call(count.read, partial(self._counted, count)))

    def _counted(self, count: Count, problem: Problem | None) -> None:
        if problem is None:
            self._status = show(count, self._lanes, self._metrics, self._clock())
            self._spool.note_reusable(count.reusable)
            if not count.by_upstream.keys() <= self._lanes.keys():
                self._adopt()
        for lane in self._lanes.values():
            if len(lane.ready) < REFILL_BELOW:
                self._refill(lane)
        if not self._stopping:
            pause = max(COUNT_INTERVAL, count.seconds / COUNT_SHARE)
            self._count_timer = self._loop.call_later(pause, self._count)

    # --- bodies in memory

    def _keep_body(self, job: Job) -> None:
        body = job.message.body
        if not job.body_loaded or job.kept or isinstance(body, Path):
            return
        if self._bodies + len(body) > BODY_BUDGET:
            self._forget_body(job)
        else:
            job.kept = len(body)
            self._bodies += job.kept

    def _forget_body(self, job: Job) -> None:
        self._bodies -= job.kept
        job.kept = 0
        if job.body_loaded and isinstance(job.message.body, bytes):
            job.message = replace(job.message, body=b"")
            job.body_loaded = False

    # --- giving up

    def _notices(self, job: Job, moves: Sequence[Move], now: float) -> list[Store]:
        """The notification to the sender about recipients that have failed; none about a
        notification.
        """
        message = job.message
        failed = [move for move in moves if move.failed]
        for move in failed:
            log.warning(
                "dead_letter",
                queue_id=message.queue_id,
                recipient=move.recipient.address,
                reason=move.reason,
                reply=move.reply,
            )
        if not failed or not message.sender:
            return []
        notice = write_notice(
            message,
            failed,
            queue_id=self.new_id(),
            hostname=self._config.relay.hostname,
            now=now,
        )
        notice_job = Job(self._next_seq, notice, (Recipient(0, message.sender),), body_loaded=True)
        self._next_seq += 1
        lane = self._lane_for(notice_job)
        notice_job.upstream = lane.name
        self._metrics.dsn("failed").inc()
        done = partial(self._stored, notice_job, None, _ignore)
        return [Store(notice_job, lane.name, leased=False, done=done)]


def _ignore(_problem: Problem | None) -> None:
    """Nobody waits for a notice to be stored."""


def _credit(job: Job, held_seconds: float) -> None:
    """Excuse a job for the time for which its lane was held since it came to it."""
    held = held_seconds - job.held_before
    if held > 0:
        job.held_before = held_seconds
        job.recipients = tuple([_excuse(r, held) for r in job.recipients])


def _excuse(recipient: Recipient, held: float) -> Recipient:
    """A recipient whose clock does not count the seconds for which its upstream was held."""
    if recipient.first_tried_at is None:
        return recipient
    return replace(recipient, first_tried_at=recipient.first_tried_at + held)
