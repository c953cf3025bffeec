"""What waits on a route that the configuration has no more is given another, whenever it came."""

from __future__ import annotations

import asyncio
import random

from mailrelay_gateway.message.route import Route
from mailrelay_gateway.queue.item import Recipient, State
from mailrelay_gateway.queue.reroutes import Reroutes
from mailrelay_gateway.queue.store import Backlog, Entry, Part
from mailrelay_gateway.queue.turns import Turns
from tests.models.memory_store import MemoryStore
from tests.simulation.virtual import VirtualLoop
from tests.unit.queue.build import message

A, B = Route(("first",)), Route(("second",))
GONE = Route(("gone",), pinned=True)


class Rig:
    """Reroutes over a store in memory, in virtual time."""

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.store = MemoryStore(random.Random(1))
        self.store.start(self.loop)
        self.turns = Turns()
        self.runs = 0
        self.reroutes = Reroutes(
            self.store, self.turns, loop=self.loop, found=self.found, done=self.done
        )

    def found(self, backlog: Backlog, recipients: int) -> None:
        self.turns.found(backlog, recipients, self.loop.time())

    def done(self) -> None:
        self.runs += 1

    def configure(self, route: Route) -> None:
        self.turns.configure({route.upstreams[0]: 10}, self.loop.time())
        self.reroutes.configure({route}, route.upstreams, lambda _sketch: route)

    async def store_one(self, seq: int, route: Route, *, told: bool = True) -> None:
        recipients = (Recipient(0, "c@d.example"),)
        stored = self.loop.create_future()
        entry = Entry(seq, message(seq), [Part(route=route, recipients=recipients)])
        self.store.accept(entry, stored.set_result)
        await stored
        if told:
            self.found(Backlog(route, "u"), 1)

    @property
    def routes(self) -> list[Route]:
        assert all(row.state is State.READY for row in self.store.rows.values())
        return [row.route for row in self.store.rows.values()]


def test_what_is_pinned_is_not_forgotten_behind_what_is_not() -> None:
    async def live() -> None:
        rig = Rig()
        await rig.store_one(1, A)
        await rig.store_one(2, GONE)
        rig.configure(B)
        await asyncio.sleep(10.0)
        assert rig.routes == [B, GONE], "the upstream may come back"
        await asyncio.sleep(60.0)
        assert rig.routes == [B, B]

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(live())


def test_what_comes_while_the_last_page_is_turned_is_not_forgotten() -> None:
    async def live() -> None:
        rig = Rig()
        await rig.store_one(1, A)
        rig.configure(B)  # a page is under way
        storing = asyncio.ensure_future(rig.store_one(2, A, told=False))
        rig.found(Backlog(A, "u"), 1)
        await storing
        await asyncio.sleep(10.0)
        assert rig.routes == [B, B]

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(live())


def test_a_route_that_comes_back_while_a_page_is_turned_starts_again() -> None:
    async def live() -> None:
        rig = Rig()
        await rig.store_one(1, A)
        rig.configure(B)
        rig.configure(A)  # before the page has been answered
        runs = rig.runs
        await asyncio.sleep(10.0)
        assert rig.routes == [A]
        assert rig.turns.lane_for(A, rig.loop.time()) is not None
        assert rig.runs > runs, "somebody is told that it may start"

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(live())


def test_a_change_of_routes_looks_at_all_that_waits_although_its_route_is_still_one() -> None:
    async def live() -> None:
        rig = Rig()
        await rig.store_one(1, A)
        await rig.store_one(2, B)
        rig.turns.configure({"first": 10, "second": 10}, rig.loop.time())
        names = ("first", "second")
        rig.reroutes.configure({A, B}, names, lambda _sketch: A, review=True)
        # changed again before the first page was answered: what it passed is looked at again
        rig.reroutes.configure({A, B}, names, lambda _sketch: B, review=True)
        await asyncio.sleep(10.0)
        assert rig.routes == [B, B]
        # not reviewed: a route that is the configuration's stays
        rig.reroutes.configure({A, B}, names, lambda _sketch: A)
        await asyncio.sleep(10.0)
        assert rig.routes == [B, B]

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(live())
