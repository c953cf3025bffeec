"""An upstream that notes when final dots come, over the real scheduler and a store in memory, in
virtual time.
"""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from mailrelay_gateway.contract.files import GatewayConfig
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
from mailrelay_gateway.queue.kept_quotas import Kept
from mailrelay_gateway.queue.scheduler import Scheduler
from mailrelay_gateway.queue.store import Opened, QueueStore
from tests.models.memory_store import MemoryStore
from tests.models.queue_config import REPLIES

LANE = LaneKey("u")
#: Messages that wait in the queue at a time: the store in memory looks at all of them.
WAITING = 100


@dataclass
class Dots:
    """The final dots of one upstream: when, and how many recipients each was for."""

    seen: list[tuple[float, int]] = field(default_factory=list)

    @property
    def recipients(self) -> int:
        return sum(recipients for _, recipients in self.seen)

    def most_in(self, per: float, *, messages: bool = False) -> int:
        """The most units in any window of `per` seconds, which does not have its end."""
        window: deque[tuple[float, int]] = deque()
        most = used = 0
        for at, recipients in sorted(self.seen):
            units = 1 if messages else recipients
            window.append((at, units))
            used += units
            while at - window[0][0] >= per - 1e-9:
                used -= window.popleft()[1]
            most = max(most, used)
        return most


class Gateway:
    """A gateway whose courier has a number of connections, over which a message takes as long as
    the dice say: so long until its final dot, and so long until the reply to that.
    """

    def __init__(
        self,
        found: GatewayConfig,
        dots: Dots,
        dice: random.Random,
        *,
        connections: int = 10,
        latency: Callable[[random.Random], float] = lambda dice: dice.uniform(0.001, 0.01),
        store: QueueStore | None = None,
        opened: Opened | None = None,
        quotas: Kept | None = None,
    ) -> None:
        self.dice = dice
        self.dots = dots
        self.loop = asyncio.get_running_loop()
        self.free = connections
        self.latency = latency
        self.began_at = self.loop.time()
        self.metrics = Metrics()
        self.metrics.configure(found)
        self.store: QueueStore = store or MemoryStore(random.Random(dice.random()))
        if opened is None:
            opened = self.store.open(now=self.loop.time(), uncertain_until=self.loop.time())
        self.store.start(self.loop)
        self.scheduler = Scheduler(
            self.store,
            metrics=self.metrics,
            rng=random.Random(dice.random()),
            clock=self.loop.time,
            count_interval=1e9 if quotas is None else 1.0,
            quotas=quotas,
        )
        self.taken: list[Attempt] = []
        self.ended: list[tuple[float, str]] = []  # when, and the queue id
        self.submitted = 0
        self.attach(found)
        self.scheduler.start(self.loop, found, opened)

    def attach(self, found: GatewayConfig) -> None:
        self.scheduler.attach({upstream.name: self for upstream in found.relay.upstreams})

    def configure(self, found: GatewayConfig) -> None:
        self.attach(found)
        self.scheduler.configure(found)

    # --- Courier

    def wake(self, lane: LaneKey) -> None:
        while self.free:
            attempt = self.scheduler.take(lane)
            if attempt is None:
                return
            self.free -= 1
            self.taken.append(attempt)
            self.loop.call_later(self.latency(self.dice), self._dot, attempt)

    def _dot(self, attempt: Attempt) -> None:
        self.dots.seen.append((self.loop.time(), len(attempt.recipients)))
        self.loop.call_later(self.latency(self.dice), self._end, attempt)

    def _end(self, attempt: Attempt) -> None:
        self.free += 1
        self.ended.append((self.loop.time(), attempt.message.queue_id))
        reason, reply = REPLIES[Result.DELIVERED]
        self.scheduler.finish(
            attempt,
            [Outcome(each.index, Result.DELIVERED, reason, reply) for each in attempt.recipients],
        )
        self.wake(attempt.lane)

    # --- what comes in

    def submit(
        self, recipients: int = 1, identity: Identity = ANONYMOUS, *, bulk: bool = False
    ) -> str:
        body = b"A: b\r\n\r\nhi\r\n"
        message = Message(
            queue_id=self.scheduler.new_id(),
            envelope_sender="app@example.com",
            recipient_count=recipients,
            identity=identity,
            listener="submission",
            received_at=self.loop.time(),
            size=len(body),
            bulk=bulk,
            body=body,
            eight_bit=False,
        )
        addresses = [f"r{n}@x.example" for n in range(recipients)]
        self.scheduler.accept(message, addresses, lambda _: None)
        self.submitted += recipients
        return message.queue_id

    async def send(self, recipients: int, most: int = 1) -> None:
        """Send to so many recipients, at most `most` with a message, and wait until all have it."""
        left = recipients
        assert isinstance(self.store, MemoryStore)
        while left or self.store.messages:
            while left and len(self.store.messages) < WAITING:
                for _ in range(10):
                    each = min(left, self.dice.randint(1, most))
                    if each:
                        self.submit(each)
                        left -= each
                await asyncio.sleep(0.1)
            await asyncio.sleep(0.5)
