"""The workers, which take keys from a backlog, reconcile them and return them; and the doorbell,
which adds keys.

Relays and senders have separate backlogs and workers: a relay's round, which revokes permissions,
never waits for those of a thousand senders. Nor does it wait for the first rounds of hundreds of
relays: some workers take nothing but revocations. One Workers per process; `run` ends only by
cancellation.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable

import structlog

from mailrelay_operator.engine.backlog import (
    LONGEST_BACK_OFF,
    LONGEST_SILENCE,
    Backlog,
    Key,
    Urgency,
)
from mailrelay_operator.engine.metrics import OperatorMetrics
from mailrelay_operator.engine.reconcile import Unfinished

log = structlog.get_logger()

#: Concurrent rounds of relays and domains, and of senders. A round mostly waits for the API server,
#: some 50 ms for a write on a busy one; with sixteen the API server is the bottleneck.
RELAY_WORKERS = 8
SENDER_WORKERS = 16
#: Further workers of each backlog that only revoke: what ends a permission is never queued behind
#: what begins one. One of them may be with an object whose API calls hang.
REVOKERS = 2
#: Seconds for one round: a relay's first one writes 25 objects, each within its own deadline.
ROUND_DEADLINE = 120.0
#: Seconds after which an idle worker reports that it is alive.
IDLE = 60.0


class Doorbell:
    """Adds keys to the backlogs and wakes the workers."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        """Use this clock."""
        self.monotonic = monotonic
        self.relays = Backlog()
        self.senders = Backlog()
        self._waiting: set[asyncio.Future[None]] = set()  # at most one per worker

    def of(self, key: Key) -> Backlog:
        """The backlog of this key."""
        return self.senders if key.kind == "MailSender" else self.relays

    def add(self, key: Key, *, delay: float = 0.0, urgency: Urgency = Urgency.ROUTINE) -> None:
        """Schedule the key, now or in `delay` seconds."""
        self.of(key).add(key, due=self.monotonic() + delay, urgency=urgency)
        self.ring()

    def ring(self) -> None:
        """A backlog has changed: wake all waiting workers."""
        for waiter in self._waiting:
            if not waiter.done():
                waiter.set_result(None)

    async def wait(self, backlog: Backlog, least: Urgency) -> None:
        """Return when a backlog has changed, the next key of this one that is at least as urgent is
        due, or nothing happened for IDLE seconds."""
        due = backlog.next_due(least=least)
        pause = IDLE if due is None else min(IDLE, max(0.0, due - self.monotonic()))
        waiter = asyncio.get_running_loop().create_future()
        self._waiting.add(waiter)
        try:
            async with asyncio.timeout(pause):
                await waiter
        except TimeoutError:
            return
        finally:
            self._waiting.discard(waiter)

    def waiting(self) -> int:
        """The number of keys that are overdue or with a worker."""
        now = self.monotonic()
        return self.relays.waiting(now) + self.senders.waiting(now)


class Workers:
    """Workers over both backlogs."""

    def __init__(
        self,
        *,
        doorbell: Doorbell,
        reconcile: Callable[[Key], Awaitable[float | None]],
        metrics: OperatorMetrics,
        rng: random.Random,
        ready: Callable[[], Awaitable[object]] | None = None,
        beat: Callable[[str], None] = lambda _: None,
    ) -> None:
        """Take keys from the backlogs of `doorbell`; `reconcile` returns the seconds until the next
        round. Nothing starts before `ready` returns; `beat` is called on each iteration."""
        self._doorbell = doorbell
        self._reconcile = reconcile
        self._metrics = metrics
        self._rng = rng
        self._ready = ready
        self._beat = beat
        metrics.count_backlog(doorbell.waiting)

    async def run(self) -> None:
        """Work until cancelled."""
        if self._ready is not None:
            await self._ready()
        async with asyncio.TaskGroup() as group:
            for kind, count, backlog in (
                ("relay", RELAY_WORKERS, self._doorbell.relays),
                ("sender", SENDER_WORKERS, self._doorbell.senders),
            ):
                for number in range(count + REVOKERS):
                    least = Urgency.ROUTINE if number < count else Urgency.REVOKING
                    group.create_task(self._work(f"{kind} worker {number}", backlog, least))

    async def _work(self, name: str, backlog: Backlog, least: Urgency) -> None:
        while True:
            self._beat(name)
            key = backlog.take(now=self._doorbell.monotonic(), least=least)
            if key is None:
                await self._doorbell.wait(backlog, least)
                continue
            await self._round(key, backlog)

    async def _round(self, key: Key, backlog: Backlog) -> None:
        began = self._doorbell.monotonic()
        try:
            async with asyncio.timeout(ROUND_DEADLINE):
                pause = await self._reconcile(key)
        except Unfinished as error:
            result = "conflict" if error.conflict else "failed"
            longest = LONGEST_SILENCE if error.silent else LONGEST_BACK_OFF
            self._fail(key, backlog, began, str(error), result=result, longest=longest)
        except TimeoutError:
            self._fail(key, backlog, began, f"the round took over {ROUND_DEADLINE:g} s")
        except Exception as error:
            # A bug triggered by one key must not stop the others.
            log.exception("internal_error", object=str(key))
            self._fail(key, backlog, began, repr(error))
        except asyncio.CancelledError:
            self._finish(key, backlog, began, "failed", 0.0)
            raise
        else:
            self._finish(key, backlog, began, "ok", pause)

    def _finish(
        self, key: Key, backlog: Backlog, began: float, result: str, pause: float | None
    ) -> None:
        now = self._doorbell.monotonic()
        self._metrics.reconciled(key.kind, result, now - began)
        backlog.done(key, look_again_at=None if pause is None else now + pause, now=now)
        self._doorbell.ring()

    def _fail(
        self,
        key: Key,
        backlog: Backlog,
        began: float,
        detail: str,
        *,
        result: str = "failed",
        longest: float = LONGEST_BACK_OFF,
    ) -> None:
        now = self._doorbell.monotonic()
        self._metrics.reconciled(key.kind, result, now - began)
        pause = backlog.failed(key, now=now, jitter=self._rng.random(), longest=longest)
        self._doorbell.ring()
        level = log.info if result == "conflict" else log.warning
        level(result, object=str(key), detail=detail, again_in=round(pause, 1))
