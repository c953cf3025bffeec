"""Transactional mail overtakes Bulk, and Bulk goes on. Real scheduler, virtual time."""

from __future__ import annotations

import asyncio
import random
import tempfile
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

from mailrelay_gateway.message.envelope import Identity
from mailrelay_gateway.queue.item import Recipient, State
from mailrelay_gateway.queue.startable import WEIGHT
from tests.models import made
from tests.models.memory_store import MemoryStore, Row
from tests.models.queue_config import config
from tests.simulation.disk_depot import DiskDepot
from tests.simulation.paced import Dots, Gateway
from tests.simulation.virtual import VirtualLoop
from tests.simulation.worlds import MEMORY

NEWS = Identity(namespace="growth", name="news", uid="news", username="growth.news")
SHOP = Identity(namespace="shop", name="orders", uid="orders", username="shop.orders")
HUNDRED = (made.pace(name="second", count=100),)
QUEUED = 50_000


def run(life: Callable[[], Coroutine[Any, Any, None]]) -> None:
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(life())


def bulk_at(gateway: Gateway) -> list[bool]:
    """The classes of what was taken, in order."""
    return [attempt.message.bulk for attempt in gateway.taken]


def test_one_message_overtakes_fifty_thousand() -> None:
    """On the real store: 50,000 queued Bulk of one sender, and one Transactional of another."""

    async def life() -> None:
        loop = asyncio.get_running_loop()
        with tempfile.TemporaryDirectory(dir=MEMORY) as folder:
            dice = random.Random(1)
            depot = DiskDepot(dice, Path(folder))
            opened = depot.open(loop.time, uncertain_until=loop.time())
            found = config("u", pace=HUNDRED)
            gateway = Gateway(found, Dots(), dice, store=depot.store, opened=opened)
            for n in range(QUEUED):
                gateway.submit(identity=NEWS, bulk=True)
                if n % 1000 == 999:
                    await asyncio.sleep(0.2)
            await asyncio.sleep(5.0)
            left = QUEUED - len(gateway.taken)
            assert left > QUEUED * 0.9
            began = loop.time()
            queue_id = gateway.submit(identity=SHOP)
            await asyncio.sleep(10.0)
            sent = [at for at, one in gateway.ended if one == queue_id]
            assert sent
            assert sent[0] - began <= 2.0
            gateway.scheduler.stop_taking()
            await depot.close()

    run(life)


def test_bulk_keeps_its_share_beside_a_flood_of_transactional() -> None:
    async def life() -> None:
        gateway = Gateway(config("u", pace=HUNDRED), Dots(), random.Random(1))
        for _ in range(400):
            gateway.submit(identity=NEWS, bulk=True)
        await asyncio.sleep(2.0)
        before = len(gateway.taken)
        for _ in range(800):
            gateway.submit(identity=SHOP)
        await asyncio.sleep(8.0)
        gateway.scheduler.stop_taking()
        both = bulk_at(gateway)[before : before + 600]
        share = sum(both) / len(both)
        assert 0.8 / (WEIGHT + 1) < share < 2.0 / (WEIGHT + 1)

    run(life)


def test_a_senders_own_newsletter_does_not_stand_in_its_way() -> None:
    """Both classes of one sender."""

    async def life() -> None:
        gateway = Gateway(config("u", pace=HUNDRED), Dots(), random.Random(1))
        for _ in range(1000):
            gateway.submit(identity=NEWS, bulk=True)
        await asyncio.sleep(1.0)
        began = asyncio.get_running_loop().time()
        queue_id = gateway.submit(identity=NEWS)
        await asyncio.sleep(3.0)
        gateway.scheduler.stop_taking()
        (sent,) = [at for at, one in gateway.ended if one == queue_id]
        assert sent - began <= 1.0

    run(life)


def test_senders_of_one_class_take_turns() -> None:
    async def life() -> None:
        gateway = Gateway(config("u", pace=HUNDRED), Dots(), random.Random(1))
        for _ in range(600):
            gateway.submit(identity=NEWS, bulk=True)
        await asyncio.sleep(1.0)
        for _ in range(100):
            gateway.submit(identity=SHOP, bulk=True)
        before = len(gateway.taken)
        await asyncio.sleep(4.0)
        gateway.scheduler.stop_taking()
        taken = gateway.taken[before : before + 200]
        assert sum(one.message.identity is SHOP for one in taken) > 80

    run(life)


def test_the_class_lasts_over_retries_and_restarts() -> None:
    """What waits as Bulk on disk is Bulk for the next life too."""

    async def life() -> None:
        found = config("u", pace=HUNDRED)
        gateway = Gateway(found, Dots(), random.Random(1))
        for _ in range(200):
            gateway.submit(identity=NEWS, bulk=True)
        await asyncio.sleep(1.0)
        gateway.scheduler.stop_taking()
        assert isinstance(gateway.store, MemoryStore)
        store = gateway.store.crash()
        rows: list[Row] = [row for row in store.rows.values() if row.state is State.READY]
        assert rows
        assert all(row.route.bulk for row in rows)
        assert all(isinstance(row.recipient, Recipient) for row in rows)
        again = Gateway(found, Dots(), random.Random(2), store=store)
        await asyncio.sleep(1.0)
        for _ in range(50):
            again.submit(identity=SHOP)
        before = len(again.taken)
        await asyncio.sleep(1.0)
        again.scheduler.stop_taking()
        assert sum(bulk_at(again)[before : before + 50]) < 15

    run(life)
