"""A queue on a real spool, with a courier whose answers the test chooses.

A fake of delivery, nothing else.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import apsw

from mailrelay_gateway.contract.files import GatewayConfig
from mailrelay_gateway.message.body import whole
from mailrelay_gateway.message.effect import Scope
from mailrelay_gateway.message.envelope import (
    ANONYMOUS,
    Attempt,
    Identity,
    Message,
    Outcome,
    Result,
)
from mailrelay_gateway.message.lane import LaneKey
from mailrelay_gateway.metrics import Metrics
from mailrelay_gateway.queue.disk.schema import DATABASE
from mailrelay_gateway.queue.disk.store import DiskStore
from mailrelay_gateway.queue.scheduler import Scheduler
from mailrelay_gateway.smtp.refusal import Problem
from tests.models.queue_config import REPLIES, changed, config

__all__ = ["REPLIES", "changed", "config"]

Choose = Callable[[Attempt, int], Result]


class ChosenCourier:
    """Takes whatever is ready and ends it as `choose(attempt, recipient)` says; keeps a list of
    what was delivered.
    """

    def __init__(self, choose: Choose) -> None:
        self.choose = choose
        self.work: Scheduler | None = None
        self.delivered: list[tuple[str, str]] = []  # (queue id, address)
        self.bodies: dict[str, bytes] = {}
        self.damaged: list[str] = []  # queue ids of attempts whose body was not as long as it was
        self.tried: list[tuple[str, str, str]] = []  # (upstream, queue id, address)
        self.paused = False
        #: If set, HELD is of the sender's namespace only, for so many seconds.
        self.tenant_pause: float | None = None
        #: With a delay it works like ten connections, each of which takes so many seconds.
        self.delay = 0.0
        self._busy = 0

    def wake(self, lane: LaneKey) -> None:
        """Take and end attempts until there are none."""
        assert self.work is not None
        while not self.paused and self._busy < 10:
            attempt = self.work.take(lane)
            if attempt is None:
                return
            if self.delay:
                self._busy += 1
                asyncio.get_running_loop().call_later(self.delay, self._end_later, attempt)
            else:
                self.end(attempt)

    def _end_later(self, attempt: Attempt) -> None:
        self._busy -= 1
        self.end(attempt)
        self.wake(attempt.lane)

    def end(self, attempt: Attempt) -> None:
        """End one attempt."""
        assert self.work is not None
        outcomes = []
        body = attempt.message.body
        octets = attempt.message.prelude + whole(body)
        self.bodies[attempt.message.queue_id] = octets
        if len(octets) != attempt.message.size:
            self.damaged.append(attempt.message.queue_id)
        for recipient in attempt.recipients:
            result = self.choose(attempt, recipient.index)
            self.tried.append((attempt.upstream, attempt.message.queue_id, recipient.address))
            if result is Result.DELIVERED:
                self.delivered.append((attempt.message.queue_id, recipient.address))
            reason, reply = REPLIES[result]
            outcome = Outcome(recipient.index, result, reason, reply, "192.0.2.1:25")
            if result is Result.HELD and self.tenant_pause is not None:
                outcome = replace(outcome, scope=Scope.NAMESPACE, retry_after=self.tenant_pause)
            outcomes.append(outcome)
        self.work.finish(attempt, outcomes)


class Rig:
    """One running queue."""

    def __init__(
        self, scheduler: Scheduler, courier: ChosenCourier, store: DiskStore, metrics: Metrics
    ) -> None:
        self.scheduler = scheduler
        self.courier = courier
        self.store = store
        self.metrics = metrics
        self.failures: list[str] = []

    async def submit(
        self,
        *recipients: str,
        sender: str = "app@example.com",
        body: bytes = b"A: b\r\n\r\nhi\r\n",
        identity: Identity = ANONYMOUS,
    ) -> str:
        """Store one message; its queue id. Raises Refused with the problem."""
        queue_id = self.scheduler.new_id()
        message = Message(
            queue_id=queue_id,
            envelope_sender=sender,
            recipient_count=len(recipients),
            identity=identity,
            listener="submission",
            received_at=time.time(),
            size=len(body),
            body=body,
            eight_bit=False,
        )
        await self.accept(message, *recipients)
        return queue_id

    async def accept(self, message: Message, *recipients: str) -> None:
        """Store this message. Raises Refused with the problem."""
        answer: asyncio.Future[Problem | None] = asyncio.get_running_loop().create_future()
        self.scheduler.accept(message, recipients, answer.set_result)
        problem = await answer
        if problem is not None:
            raise Refused(problem)


class Refused(Exception):
    """The queue did not take a message."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.reason)
        self.problem = problem


@asynccontextmanager
async def running(
    folder: Path,
    found: GatewayConfig,
    choose: Choose,
    *,
    seed: int = 1,
    low_water: int = 0,
    size: int | None = None,
) -> AsyncIterator[Rig]:
    """A queue in `folder`, stopped in order at the end."""
    metrics = Metrics()
    metrics.configure(found)
    failures: list[str] = []
    store = DiskStore(
        folder,
        metrics=metrics,
        on_failure=failures.append,
        low_water=low_water,
        size=size,
        reserve=65536,
    )
    opened = store.open(now=time.time(), uncertain_until=time.time() + 0.1)
    loop = asyncio.get_running_loop()
    store.start(loop)
    scheduler = Scheduler(store, metrics=metrics, rng=random.Random(seed))
    courier = ChosenCourier(choose)
    courier.work = scheduler
    scheduler.attach({upstream.name: courier for upstream in found.relay.upstreams})
    scheduler.start(loop, found, opened)
    rig = Rig(scheduler, courier, store, metrics)
    rig.failures = failures
    try:
        yield rig
    finally:
        scheduler.stop_taking()
        await store.close(10.0)


def rows(folder: Path, sql: str) -> Sequence[tuple[object, ...]]:
    """What the database says, read from outside."""
    connection = apsw.Connection(str(folder / DATABASE), flags=apsw.SQLITE_OPEN_READONLY)
    try:
        return list(connection.execute(sql))
    finally:
        connection.close()
