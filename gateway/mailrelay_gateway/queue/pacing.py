"""Keeps the upstreams' paces: asks them before each attempt, and wakes lanes when they may go on.

What a pace allows is decided in `pace`. Nothing is polled: a lane with work that may not begin yet
is woken at the moment that its pace names, or when an attempt has ended and made it sooner.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import structlog

from mailrelay_gateway.contract.documents import RateUnit, RelayDocument, Upstream
from mailrelay_gateway.message.lane import LaneKey
from mailrelay_gateway.metrics import Metrics
from mailrelay_gateway.queue.item import Job
from mailrelay_gateway.queue.kept_quotas import Kept, Quotas, Used
from mailrelay_gateway.queue.lane import Lane
from mailrelay_gateway.queue.pace import Pace, Rate
from mailrelay_gateway.queue.turns import LONG_PAUSE

log = structlog.get_logger()

#: A timer is late rather than early (seconds), by a clock that rounds.
AFTER = 0.001
#: Seconds between two writes of what was used of quotas, at least: a crash forgets as much.
KEEP_INTERVAL = 10.0
#: Paces of upstreams that are gone from the configuration, the oldest forgotten first: one whose
#: Secret is missing for a moment comes back, and must not get its quota again.
MAX_GONE = 32


class Pacing:
    """The paces of all upstreams. An upstream without one costs a look-up, a relay without any
    nothing: see `on`.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        *,
        metrics: Metrics,
        wake: Callable[[Lane], None],
        rest: Callable[[Lane, float], None],
        clock: Callable[[], float],
        kept: Kept | None,
    ) -> None:
        """`clock` gives Unix seconds, `kept` keeps quotas over restarts. `wake` is told of a lane
        that may begin; `rest` of one that may not for so many seconds, since a quota is used up.
        """
        self._loop = loop
        self._metrics = metrics
        self._wake = wake
        self._rest = rest
        self._clock = clock
        self._kept = kept
        #: What was used before the start, by upstreams that have not been configured since.
        self._before: dict[str, Quotas] = {} if kept is None else dict(kept.read())
        self._written_at = loop.time()
        self._paces: dict[str, Pace] = {}
        self._gone: dict[str, Pace] = {}  # of upstreams that are not configured any more
        self._most: dict[LaneKey, int | None] = {}  # recipients that the courier last asked for
        self._waiting: dict[LaneKey, Lane] = {}  # in the order in which they have to wait
        self._resting: set[str] = set()  # upstreams whose quota is used up
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._since: dict[str, float] = {}  # when an upstream's lanes began to wait
        #: Whether any upstream has a pace: asked for each message.
        self.on = False
        self._stopped = False

    def configure(self, relay: RelayDocument) -> list[str]:
        """Keep to the paces of this configuration. Returns the upstreams that need not rest any
        more for a quota as it was.
        """
        now = self._loop.time()
        before, self._paces = self._paces, {}
        changed: list[str] = []
        for upstream in relay.upstreams:
            rates = _rates(upstream, relay.replicas)
            pace = before.get(upstream.name)
            if pace is not None and pace.rates != rates:
                changed.append(upstream.name)
            if not rates:
                continue
            if pace is None:
                pace = self._gone.pop(upstream.name, None)
            if pace is None:
                pace = Pace(rates, now)
                self._restore(upstream.name, pace, now)
            else:
                pace.follow(rates, now)
            self._paces[upstream.name] = pace
        gone = before.keys() - self._paces.keys()
        self._gone |= {name: before[name] for name in before if name in gone}
        while len(self._gone) > MAX_GONE:
            del self._gone[next(iter(self._gone))]
        changed += gone
        self.on = bool(self._paces)
        freed = [name for name in dict.fromkeys(changed) if name in self._resting]
        self._resting.difference_update(freed)
        for name in list(self._timers):
            self._ring(name)
        return freed

    def _restore(self, upstream: str, pace: Pace, now: float) -> None:
        used = self._before.pop(upstream, {})
        ahead = self._clock() - now  # of the loop's time
        for name, bucket in pace.quotas().items():
            bucket.restore([(at - ahead, units) for at, units in used.get(name, ())], now)

    def keep(self) -> None:
        """Write down what was used of the quotas, if that is due."""
        now = self._loop.time()
        if self._kept is None or not self._paces or now - self._written_at < KEEP_INTERVAL:
            return
        self._written_at = now
        kept, used = self._kept, self._used(now)
        if used:
            self._loop.run_in_executor(None, _write, kept, used)

    def _used(self, now: float) -> Used:
        ahead = self._clock() - now
        used = {
            upstream: {
                name: [(round(at + ahead, 3), units) for at, units in passed]
                for name, passed in pace.used(now).items()
            }
            for upstream, pace in (self._gone | self._paces).items()
        }
        return self._before | {upstream: quotas for upstream, quotas in used.items() if quotas}

    def stop(self) -> None:
        """Wake nobody any more, and keep the quotas."""
        if self._kept is not None and not self._stopped and (used := self._used(self._loop.time())):
            _write(self._kept, used)
        self._stopped = True
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()

    # --- attempts

    def most(self, lane: Lane, most: int | None) -> int | None:
        """How many recipients a transaction in this lane may have, of those that the courier asks
        for (None: any number).
        """
        pace = self._paces.get(lane.key.upstream)
        if pace is None:
            return most
        self._most[lane.key] = most
        if most is None or pace.most is None:
            return most or pace.most
        return min(most, pace.most)

    def wait(self, lane: Lane) -> float:
        """Seconds until the next attempt in a lane with work may begin; 0: now."""
        pace = self._paces.get(lane.key.upstream)
        if pace is None:
            return 0.0
        return pace.wait(self._recipients(lane, pace), self._loop.time())

    def _recipients(self, lane: Lane, pace: Pace) -> int:
        """Of the next transaction."""
        recipients = len(lane.startable.head().recipients)
        for bound in (pace.most, self._most.get(lane.key)):
            if bound is not None and bound < recipients:
                recipients = bound
        return recipients

    def begin(self, number: int, lane: Lane, job: Job) -> None:
        """An attempt was handed out."""
        pace = self._paces.get(lane.key.upstream)
        if pace is not None:
            pace.begin(number, len(job.recipients), self._loop.time())
            if self._resting:
                self._resting.discard(lane.key.upstream)

    def end(self, number: int, upstream: str, job: Job, *, seen: bool) -> None:
        """It has ended; `seen`: the upstream may have seen it."""
        pace = self._paces.get(upstream)
        if pace is None:
            return
        if seen:
            pace.end(number, len(job.recipients), self._loop.time())
        else:
            pace.cancel(number)
        if upstream in self._timers:
            self._ring(upstream)  # it may be sooner now

    def slow(self, upstream: str) -> None:
        """The upstream throttles."""
        pace = self._paces.get(upstream)
        if pace is not None:
            now = self._loop.time()
            pace.slow(now)
            factor = pace.factor(now)
            log.info("upstream_pace_reduced", upstream=upstream, factor=round(factor, 3))

    def show(self) -> None:
        """Publish what throttling has left of each pace, and keep what was used."""
        self.keep()
        now = self._loop.time()
        for name, pace in self._paces.items():
            self._metrics.upstream_pace_factor(name).set(pace.factor(now))

    # --- waiting

    def watch(self, lane: Lane) -> None:
        """A lane has work: make sure that it continues when its pace allows it."""
        upstream = lane.key.upstream
        pace = self._paces.get(upstream)
        if pace is None or self._stopped or not lane.startable.length:
            return
        now = self._loop.time()
        recipients = self._recipients(lane, pace)
        wait = pace.wait(recipients, now)
        if not wait:
            return
        if wait > LONG_PAUSE and self._rests(lane, pace, recipients, now):
            return
        self._since.setdefault(upstream, now)
        self._waiting[lane.key] = lane
        timer = self._timers.get(upstream)
        if timer is not None:
            if timer.when() <= now + wait + AFTER:
                return
            timer.cancel()
        self._timers[upstream] = self._loop.call_at(now + wait + AFTER, self._ring, upstream)

    def _rests(self, lane: Lane, pace: Pace, recipients: int, now: float) -> bool:
        """Whether it is a quota that makes it wait so long: then other upstreams may take it. Not
        while attempts are under way: those that are given back leave it room at once.
        """
        if pace.under_way:
            return False
        wait, quota = pace.quota_wait(recipients, now)
        if quota is None or wait <= LONG_PAUSE:
            return False
        upstream = lane.key.upstream
        if upstream not in self._resting:
            log.warning(
                "upstream_quota_used", upstream=upstream, pace=quota.name, seconds=round(wait, 1)
            )
        self._resting.add(upstream)
        self._metrics.upstream_paced_seconds(upstream).inc(wait)
        self._rest(lane, wait)
        return True

    def _ring(self, upstream: str) -> None:
        """Look again: whoever may not begin yet is watched again."""
        timer = self._timers.pop(upstream, None)
        if timer is not None:
            timer.cancel()
        since = self._since.pop(upstream, None)
        if since is not None:
            self._metrics.upstream_paced_seconds(upstream).inc(self._loop.time() - since)
        waiting = [lane for key, lane in self._waiting.items() if key.upstream == upstream]
        for lane in waiting:
            del self._waiting[lane.key]
        for lane in waiting:
            self._wake(lane)


def _rates(upstream: Upstream, replicas: int) -> list[Rate]:
    return [
        Rate.share(
            name=one.name,
            recipients=one.unit is RateUnit.RECIPIENTS,
            count=one.count,
            per=one.per,
            replicas=replicas,
        )
        for one in upstream.pace
    ]


def _write(kept: Kept, used: Used) -> None:
    try:
        kept.write(used)
    except OSError as error:
        log.error("quotas_not_kept", error=str(error.strerror))
