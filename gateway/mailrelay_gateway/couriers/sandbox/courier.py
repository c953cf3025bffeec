"""The courier of sandbox upstreams: takes attempts like any courier, and stores the messages
instead of sending them.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Protocol, TypeVar

import structlog

from mailrelay_gateway.contract.documents import Sandbox
from mailrelay_gateway.contract.files import GatewayConfig
from mailrelay_gateway.contract.moments import rfc3339
from mailrelay_gateway.contract.status import UpstreamState, UpstreamStatus
from mailrelay_gateway.couriers.sandbox.store import SandboxStore, UnreadableBody
from mailrelay_gateway.message.envelope import Attempt, Outcome, Result
from mailrelay_gateway.message.lane import LaneKey
from mailrelay_gateway.metrics import Metrics
from mailrelay_gateway.reasons import Reason
from mailrelay_gateway.smtp.reply import Reply

log = structlog.get_logger()

#: Attempts captured in one transaction.
BATCH = 64
#: Seconds until a failed store is retried.
RETRY_AFTER = 5.0
#: Seconds for closing the store.
CLOSING = 2.0

T = TypeVar("T")

CAPTURED = Reply(250, "2.0.0", "Captured")


class Work(Protocol):
    """The part of the queue's interface that the sandbox needs."""

    def take(self, lane: LaneKey) -> Attempt | None:
        """The next attempt."""

    def finish(self, attempt: Attempt, outcomes: Sequence[Outcome]) -> None:
        """Report the outcomes."""

    def give_back(self, attempt: Attempt) -> None:
        """Return an attempt that was not started."""


class SandboxCourier:
    """Captures the mail of all sandbox upstreams of one gateway."""

    def __init__(
        self, work: Work, open_store: Callable[[], SandboxStore], metrics: Metrics
    ) -> None:
        """Take from `work` and capture into the store. The store is opened when first needed: a
        damaged file must not end a gateway that captures nothing.
        """
        self._work = work
        self._open_store = open_store
        self._store: SandboxStore | None = None  # used by the sandbox's thread only
        self._trouble: dict[str, tuple[str, float]] = {}  # the last failure and its start
        self._metrics = metrics
        self._keep: dict[str, int] = {}
        self._busy: dict[str, asyncio.Task[None]] = {}
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="sandbox")
        self._stopping = False
        self._stop = asyncio.Event()

    def prepare(self, config: GatewayConfig) -> None:
        """Nothing to prepare."""

    def configure(self, config: GatewayConfig) -> None:
        """Capture for the sandbox upstreams of this configuration."""
        self._keep = {
            upstream.name: upstream.settings.keep
            for upstream in config.relay.upstreams
            if isinstance(upstream.settings, Sandbox)
        }

    def wake(self, lane: LaneKey) -> None:
        """Work is ready."""
        upstream = lane.upstream
        if upstream in self._keep and upstream not in self._busy and not self._stopping:
            self._busy[upstream] = asyncio.get_running_loop().create_task(
                self._capture_all(upstream)
            )

    def status(self) -> list[UpstreamStatus]:
        """A sandbox accepts mail unless its file is unusable."""
        return [self._status(name) for name in self._keep]

    def _status(self, name: str) -> UpstreamStatus:
        if name not in self._trouble:
            return UpstreamStatus(
                name=name, state=UpstreamState.UP, reason="", message="", since="", senders=()
            )
        error, since = self._trouble[name]
        return UpstreamStatus(
            name=name,
            state=UpstreamState.HELD,
            reason=Reason.INTERNAL_ERROR,
            message=f"captured mail cannot be stored: {error}",
            since=rfc3339(since),
            senders=(),
        )

    async def run(self, read: Callable[[SandboxStore], T]) -> T:
        """Call `read` with the store in the sandbox's thread."""
        return await asyncio.get_running_loop().run_in_executor(self._executor, self._use, read)

    def _use(self, read: Callable[[SandboxStore], T]) -> T:
        if self._store is None:
            self._store = self._open_store()
        return read(self._store)

    async def stop(self, grace: float) -> None:
        """Finish the current batch and close the store; `run` opens it again if needed."""
        self._stopping = True
        self._stop.set()
        async with asyncio.timeout(grace + CLOSING):
            await asyncio.gather(*self._busy.values(), return_exceptions=True)
            await asyncio.get_running_loop().run_in_executor(self._executor, self._close)

    def _close(self) -> None:
        if self._store is not None:
            self._store.close()
            self._store = None

    async def _capture_all(self, upstream: str) -> None:
        try:
            while attempts := self._take(upstream):
                try:
                    await self.run(partial(_capture, attempts, self._keep.get(upstream, 1)))
                except UnreadableBody as error:  # affects only this message, which is deferred
                    for attempt in attempts:
                        if attempt.number == error.number:
                            queue_id = attempt.message.queue_id
                            log.error("body_damaged", queue_id=queue_id, error=str(error))
                            self._defer(attempt)
                        else:
                            self._work.give_back(attempt)
                    continue
                except Exception as error:  # such as a full disk: the mail stays queued
                    log.error("sandbox_failed", upstream=upstream, error=str(error))
                    self._trouble.setdefault(upstream, (str(error), time.time()))
                    for attempt in attempts:
                        self._work.give_back(attempt)
                    with contextlib.suppress(TimeoutError):
                        async with asyncio.timeout(RETRY_AFTER):
                            await self._stop.wait()
                    continue
                self._trouble.pop(upstream, None)
                for attempt in attempts:
                    self._finish(attempt)
        finally:
            del self._busy[upstream]

    def _take(self, upstream: str) -> list[Attempt]:
        """The next batch; empty for an upstream that is no longer a sandbox."""
        attempts: list[Attempt] = []
        lane = LaneKey(upstream)
        while upstream in self._keep and not self._stopping and len(attempts) < BATCH:
            attempt = self._work.take(lane)
            if attempt is None:
                break
            attempts.append(attempt)
        return attempts

    def _defer(self, attempt: Attempt) -> None:
        self._metrics.delivery_attempts(attempt.upstream, "deferred", "none").inc()
        self._work.finish(
            attempt,
            [Outcome(r.index, Result.DEFERRED, Reason.INTERNAL_ERROR) for r in attempt.recipients],
        )

    def _finish(self, attempt: Attempt) -> None:
        outcomes = [
            Outcome(r.index, Result.DELIVERED, Reason.DELIVERED, CAPTURED, "sandbox")
            for r in attempt.recipients
        ]
        self._metrics.delivery_attempts(attempt.upstream, "delivered", "2xx").inc(len(outcomes))
        log.info(
            "captured",
            queue_id=attempt.message.queue_id,
            upstream=attempt.upstream,
            envelope_sender=attempt.message.envelope_sender,
            recipients=[r.address for r in attempt.recipients],
            recipient_count=len(attempt.recipients),
            size=attempt.message.size,
        )
        self._work.finish(attempt, outcomes)


def _capture(attempts: Sequence[Attempt], keep: int, store: SandboxStore) -> None:
    store.capture(attempts, keep)
