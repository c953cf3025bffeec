"""Where a world keeps its queue: in memory, or on a real disk. A depot outlives the gateway's
deaths; each life opens its store anew.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Protocol

from mailrelay_gateway.message.body import Body
from mailrelay_gateway.queue.store import Opened, QueueStore
from tests.models.memory_store import MemoryStore


class Depot(Protocol):
    """What a world needs of it."""

    @property
    def store(self) -> QueueStore:
        """Of the present life."""
        ...

    def open(self, clock: Callable[[], float], *, uncertain_until: float) -> Opened:
        """Begin a life."""
        ...

    async def crash(self) -> None:
        """End it by force: of what was not answered, some was done."""
        ...

    async def close(self) -> None:
        """End it well."""
        ...

    def lay(self, body: bytes, queue_id: str) -> Body:
        """A large body, as whoever accepts it lays it down."""
        ...

    def messages(self) -> int:
        """How many are queued."""
        ...

    def left(self) -> Sequence[object]:
        """What is queued, for people."""
        ...

    def dead(self) -> Sequence[tuple[str, str]]:
        """Queue id and address of each dead letter."""
        ...


class MemoryDepot:
    """Implements `Depot` in memory."""

    def __init__(self, dice: random.Random) -> None:
        self.store = MemoryStore(dice)

    def open(self, clock: Callable[[], float], *, uncertain_until: float) -> Opened:
        return self.store.open(now=clock(), uncertain_until=uncertain_until)

    async def crash(self) -> None:
        self.store = self.store.crash()

    async def close(self) -> None:
        await self.store.close(10.0)
        self.store = self.store.crash()

    def lay(self, body: bytes, queue_id: str) -> Body:
        del queue_id
        return body

    def messages(self) -> int:
        return len(self.store.messages)

    def left(self) -> Sequence[object]:
        return list(self.store.rows.values())

    def dead(self) -> Sequence[tuple[str, str]]:
        return [(queue_id, address) for queue_id, address, _ in self.store.dead]
