"""A lane that was throttled recovers by messages, not by recipients."""

from __future__ import annotations

import asyncio
import random

from mailrelay_gateway.message.effect import Slow
from mailrelay_gateway.message.envelope import ANONYMOUS, Message, Outcome, Result
from mailrelay_gateway.message.lane import LaneKey
from mailrelay_gateway.metrics import Metrics
from mailrelay_gateway.queue.scheduler import Scheduler
from tests.models.memory_store import MemoryStore
from tests.models.queue_config import REPLIES, config
from tests.simulation.virtual import VirtualLoop

LANE = LaneKey("u")


class Idle:
    """A courier that takes nothing by itself."""

    def wake(self, lane: LaneKey) -> None:
        """Leave it to the test."""


def test_a_message_to_many_counts_once_when_a_lane_recovers() -> None:
    async def life() -> float:
        loop = asyncio.get_running_loop()

        def clock() -> float:
            return loop.time() + 1_700_000_000.0

        async def throttled() -> float:
            scheduler.slow(LANE, Slow())
            until = scheduler.not_before(LANE)
            assert until is not None
            seconds = until - clock()
            await asyncio.sleep(seconds + 0.01)
            return seconds

        found = config("u")
        metrics = Metrics()
        metrics.configure(found)
        store = MemoryStore(random.Random(1))
        opened = store.open(now=clock(), uncertain_until=clock())
        store.start(loop)
        scheduler = Scheduler(
            store, metrics=metrics, rng=random.Random(1), clock=clock, count_interval=900.0
        )
        scheduler.attach({"u": Idle()})
        scheduler.start(loop, found, opened)
        body = b"A: b\r\n\r\nhi\r\n"
        message = Message(
            queue_id=scheduler.new_id(),
            envelope_sender="app@example.com",
            recipient_count=5,
            identity=ANONYMOUS,
            listener="submission",
            received_at=clock(),
            size=len(body),
            body=body,
            eight_bit=False,
        )
        scheduler.accept(message, [f"{n}@x.example" for n in range(5)], lambda _: None)
        await asyncio.sleep(1.0)
        attempt = scheduler.take(LANE)
        assert attempt is not None
        await throttled()
        await throttled()  # two seconds, more or less
        delivered = REPLIES[Result.DELIVERED]
        scheduler.finish(attempt, [Outcome(n, Result.DELIVERED, *delivered) for n in range(5)])
        seconds = await throttled()
        scheduler.stop_taking()
        return seconds

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        assert runner.run(life()) >= 1.5
