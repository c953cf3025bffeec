"""A message is handed out as it comes: not only when the queue is next counted."""

from __future__ import annotations

import asyncio
import random

from mailrelay_gateway.message.envelope import ANONYMOUS, Message
from mailrelay_gateway.message.lane import LaneKey
from mailrelay_gateway.metrics import Metrics
from mailrelay_gateway.queue.scheduler import Scheduler
from tests.models.memory_store import MemoryStore
from tests.models.queue_config import config
from tests.simulation.virtual import VirtualLoop

#: Virtual seconds between two counts: longer than the test lives.
NEVER = 1e9


class Waiting:
    """A courier that notes when it is told of work."""

    def __init__(self) -> None:
        self.told: list[LaneKey] = []

    def wake(self, lane: LaneKey) -> None:
        """Note it."""
        self.told.append(lane)


def test_a_stored_message_wakes_its_courier_without_a_count() -> None:
    async def life() -> list[LaneKey]:
        loop = asyncio.get_running_loop()
        found = config("u")
        metrics = Metrics()
        metrics.configure(found)
        store = MemoryStore(random.Random(1))
        opened = store.open(now=loop.time(), uncertain_until=loop.time())
        store.start(loop)
        scheduler = Scheduler(
            store, metrics=metrics, rng=random.Random(1), clock=loop.time, count_interval=NEVER
        )
        courier = Waiting()
        scheduler.attach({"u": courier})
        scheduler.start(loop, found, opened)
        await asyncio.sleep(10.0)  # the count at the start is over
        body = b"A: b\r\n\r\nhi\r\n"
        message = Message(
            queue_id=scheduler.new_id(),
            envelope_sender="app@example.com",
            recipient_count=1,
            identity=ANONYMOUS,
            listener="submission",
            received_at=loop.time(),
            size=len(body),
            body=body,
            eight_bit=False,
        )
        scheduler.accept(message, ["a@x.example"], lambda _: None)
        await asyncio.sleep(1.0)
        scheduler.stop_taking()
        return courier.told

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        assert runner.run(life()) == [LaneKey("u")]
