"""The workers: they take keys from the backlog, have them reconciled, and hand them back. And
the doorbell between.

One Workers per process; `run` ends only by cancellation.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable

import structlog

from mailrelay_operator.cluster.port import ClusterError
from mailrelay_operator.engine.backlog import Backlog, Key
from mailrelay_operator.engine.metrics import OperatorMetrics
from mailrelay_operator.engine.reconcile import AFTER_CONFLICT, Overtaken

log = structlog.get_logger()

#: Rounds at a time. Each is bound by the API server's answers; client-go's controllers default to 1
#: or 5.
WORKERS = 4
#: Seconds for one round: 16 Secrets and a thousand tenants' take half a minute at worst.
ROUND_DEADLINE = 180.0


class Doorbell:
    """Adds keys to the backlog, and wakes a worker for them."""

    def __init__(self, backlog: Backlog, monotonic: Callable[[], float]) -> None:
        """Ring for this backlog."""
        self.backlog = backlog
        self.monotonic = monotonic
        self._waiting: set[asyncio.Future[None]] = set()  # at most one per worker

    def add(self, key: Key, *, delay: float = 0.0) -> None:
        """Have the key looked at, now or in `delay` seconds."""
        self.backlog.add(key, due=self.monotonic() + delay)
        self.ring()

    def ring(self) -> None:
        """The backlog has changed: whoever waits looks anew, when the next key is due included."""
        for waiter in self._waiting:
            if not waiter.done():
                waiter.set_result(None)

    async def wait(self) -> None:
        """Return when the backlog has changed or its next key is due."""
        due = self.backlog.next_due()
        waiter = asyncio.get_running_loop().create_future()
        self._waiting.add(waiter)
        try:
            async with asyncio.timeout(None if due is None else max(0.0, due - self.monotonic())):
                await waiter
        except TimeoutError:
            return
        finally:
            self._waiting.discard(waiter)


class Workers:
    """N workers over one backlog."""

    def __init__(
        self,
        *,
        doorbell: Doorbell,
        reconcile: Callable[[Key], Awaitable[float | None]],
        metrics: OperatorMetrics,
        rng: random.Random,
    ) -> None:
        """Take keys where `doorbell` puts them; `reconcile` returns the seconds until the next
        look."""
        self._doorbell = doorbell
        self._backlog = doorbell.backlog
        self._reconcile = reconcile
        self._metrics = metrics
        self._rng = rng

    async def run(self, count: int = WORKERS) -> None:
        """Work until cancelled."""
        async with asyncio.TaskGroup() as group:
            for _ in range(count):
                group.create_task(self._work())

    async def _work(self) -> None:
        while True:
            now = self._doorbell.monotonic()
            key = self._backlog.take(now=now)
            self._metrics.backlog(self._backlog.waiting(now))
            if key is None:
                await self._doorbell.wait()
                continue
            await self._round(key)

    async def _round(self, key: Key) -> None:
        began = self._doorbell.monotonic()
        try:
            async with asyncio.timeout(ROUND_DEADLINE):
                pause = await self._reconcile(key)
        except Overtaken as error:
            log.info("overtaken", object=str(key), detail=str(error))
            self._finish(key, "conflict", began, AFTER_CONFLICT)
        except (ClusterError, TimeoutError) as error:
            self._fail(key, began, str(error) or f"the round took over {ROUND_DEADLINE:g} s")
        except Exception as error:
            # A mistake of ours in one key must not stop the others.
            log.exception("internal-error", object=str(key))
            self._fail(key, began, repr(error))
        except asyncio.CancelledError:
            self._finish(key, "failed", began, 0.0)
            raise
        else:
            self._finish(key, "ok", began, pause)

    def _finish(self, key: Key, result: str, began: float, pause: float | None) -> None:
        now = self._doorbell.monotonic()
        self._metrics.reconciled(key.kind, result, now - began)
        self._backlog.done(key, look_again_at=None if pause is None else now + pause)
        self._doorbell.ring()

    def _fail(self, key: Key, began: float, detail: str) -> None:
        now = self._doorbell.monotonic()
        self._metrics.reconciled(key.kind, "failed", now - began)
        pause = self._backlog.failed(key, now=now, jitter=self._rng.random())
        self._doorbell.ring()
        log.warning("failed", object=str(key), detail=detail, again_in=round(pause, 1))
