"""The real store in a real folder. Its threads live in real time: virtual time stands still while
they have work. Of what was asked for last when the gateway died, some was never begun and some was
done unheard; the next life opens a copy of the files as they lay then.
"""

from __future__ import annotations

import asyncio
import random
import shutil
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import apsw

from mailrelay_gateway.file_body import FileBody
from mailrelay_gateway.message.body import Body
from mailrelay_gateway.message.route import Choose, Route
from mailrelay_gateway.metrics import Metrics
from mailrelay_gateway.queue.disk.folder import Layout
from mailrelay_gateway.queue.disk.store import DiskStore
from mailrelay_gateway.queue.item import Move
from mailrelay_gateway.queue.store import Done, Ended, Entry, Lease, Opened, Want
from mailrelay_gateway.smtp.refusal import Problem
from tests.simulation.virtual import VirtualLoop

Ask = Callable[[Callable[[Any], None]], None]


class Delayed:
    """A store whose requests take a while to reach it, in order. Implements `QueueStore`."""

    def __init__(self, store: DiskStore, dice: random.Random) -> None:
        self.real = store
        self._dice = dice
        self._on_way: deque[tuple[Ask, Callable[[Any], None]]] = deque()
        self._reads = 0
        self._dead = False

    @property
    def busy(self) -> bool:
        """Whether one of its threads is about to answer."""
        return self._reads > 0 or self.real.waiting_seconds() > 0

    def die(self) -> None:
        """Some of what was on its way arrives; nobody hears of it."""
        self._dead = True
        for ask, _ in self._on_way:
            if self._dice.random() < 0.5:
                break
            ask(lambda _answer: None)
        self._on_way.clear()

    def _ask(self, ask: Ask, done: Callable[[Any], None]) -> None:
        self._on_way.append((ask, done))
        asyncio.get_running_loop().call_later(self._dice.choice((0.0, 0.001, 0.05)), self._arrive)

    def _arrive(self) -> None:
        if not self._on_way:
            return
        ask, done = self._on_way.popleft()
        ask(lambda answer: None if self._dead else done(answer))

    def _read(self, ask: Ask, done: Callable[[Any], None]) -> None:
        def begin(answer: Callable[[Any], None]) -> None:
            def read(found: Any) -> None:
                self._reads -= 1
                answer(found)

            self._reads += 1
            ask(read)

        self._ask(begin, done)

    # --- QueueStore

    def open(self, *, now: float, uncertain_until: float) -> Opened:
        return self.real.open(now=now, uncertain_until=uncertain_until)

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        self.real.start(loop)

    async def close(self, deadline: float) -> None:
        while self._on_way:
            await asyncio.sleep(0.01)
        await self.real.close(deadline)

    @property
    def failed(self) -> bool:
        return self.real.failed

    def problem(self, octets: int = 0) -> Problem | None:
        return self.real.problem(octets)

    def body_path(self, queue_id: str) -> Path:
        return self.real.body_path(queue_id)

    def waiting_seconds(self) -> float:
        return self.real.waiting_seconds()

    def accept(self, entry: Entry, done: Done) -> None:
        self._ask(lambda answer: self.real.accept(entry, answer), done)

    def claim(self, wants: Sequence[Want], lease: Lease, done: Callable[[Any], None]) -> None:
        self._ask(lambda answer: self.real.claim(wants, lease, answer), done)

    def finish(self, ended: Ended, done: Done) -> None:
        self._ask(lambda answer: self.real.finish(ended, answer), done)

    def due(self, *, now: float, latest: float, most: int, done: Callable[[Any], None]) -> None:
        self._ask(
            lambda answer: self.real.due(now=now, latest=latest, most=most, done=answer), done
        )

    def count(self, done: Callable[[Any], None]) -> None:
        self._read(self.real.count, done)

    def find(self, queue_id: str, done: Callable[[Any], None]) -> None:
        self._read(lambda answer: self.real.find(queue_id, answer), done)

    def reroute(
        self, stale: Sequence[Route] | None, choose: Choose, most: int, done: Callable[[Any], None]
    ) -> None:
        self._ask(lambda answer: self.real.reroute(stale, choose, most, answer), done)

    def adopt(self, entry: Entry, states: Mapping[int, Move], done: Done) -> None:
        self._ask(lambda answer: self.real.adopt(entry, states, answer), done)


class DiskDepot:
    """Implements `depots.Depot`."""

    store: Delayed

    def __init__(self, dice: random.Random, folder: Path) -> None:
        self._dice = dice
        self._folder = folder
        self._life = 0
        self._failures: list[str] = []
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualLoop)
        loop.wait_for(lambda: self.store.busy)

    @property
    def _layout(self) -> Layout:
        return Layout(self._folder / str(self._life))

    def open(self, clock: Callable[[], float], *, uncertain_until: float) -> Opened:
        real = DiskStore(
            self._layout.root,
            metrics=Metrics(),
            on_failure=self._failures.append,
            low_water=0,
            reserve=4096,
            clock=clock,
            checkpoint_after=1 << 40,  # never while files are copied
        )
        self.store = Delayed(real, self._dice)
        return self.store.open(now=clock(), uncertain_until=uncertain_until)

    async def crash(self) -> None:
        self.store.die()
        await asyncio.sleep(0.1)  # what has arrived is handed to the threads
        while self.store.busy:
            await asyncio.sleep(0.01)
        before = self._layout.root
        self._life += 1
        shutil.copytree(before, self._layout.root)
        await self.store.real.close(10.0)
        shutil.rmtree(before)

    async def close(self) -> None:
        await self.store.close(10.0)

    def lay(self, body: bytes, queue_id: str) -> Body:
        path = self.store.body_path(queue_id)
        path.write_bytes(body)
        return FileBody(path, len(body))

    def messages(self) -> int:
        assert not self._failures, self._failures
        return int(self._query("SELECT count(*) FROM messages")[0][0])

    def left(self) -> Sequence[object]:
        return self._query("SELECT * FROM recipients")

    def dead(self) -> Sequence[tuple[str, str]]:
        return self._query(
            "SELECT m.id, l.address FROM dead_letters l JOIN dead_messages m ON m.n = l.message"
        )

    def _query(self, statement: str) -> list[Any]:
        connection = apsw.Connection(str(self._layout.database), flags=apsw.SQLITE_OPEN_READONLY)
        try:
            return list(connection.execute(statement))
        finally:
            connection.close()
