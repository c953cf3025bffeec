"""The disk store and a store in plain dictionaries answer alike, whatever they are asked."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import Coroutine
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from mailrelay_gateway.message.envelope import Result
from mailrelay_gateway.message.route import Route, Sketch
from mailrelay_gateway.queue.item import Job, Move, Recipient, State
from mailrelay_gateway.queue.store import Backlog, Counts, Entry, Part
from mailrelay_gateway.reasons import Reason
from tests.integration.store.rig import (
    AB,
    NOW,
    OTHER,
    TEAM,
    A,
    B,
    StoreRig,
    disk,
    message,
    moves,
    octets,
    ready,
    want,
)
from tests.integration.store.vfs import RecordingVFS
from tests.models.memory_store import MemoryStore

T = TypeVar("T")

ROUTES = (A, B, AB, Route(("b",), "mx.example.com"))
IDENTITIES = (TEAM, OTHER, replace(TEAM, username="renamed"))
RESULTS = (Result.DELIVERED, Result.DEFERRED, Result.FAILED, Result.HELD, Result.UNCERTAIN)


def told(job: Job) -> tuple[object, ...]:
    """What a job says."""
    return (job.seq, job.message.queue_id, octets(job.message), job.route, job.recipients)


def counted(counts: Counts) -> tuple[object, ...]:
    """What a count says of the queue."""
    return (
        {key: figures for key, figures in counts.by_route.items() if figures.recipients},
        ready(counts.ready),
        counts.messages,
        counts.oldest,
    )


class TwoStores(RuleBasedStateMachine):
    """Asks both the same."""

    @initialize()
    def begin(self) -> None:
        self.runner = asyncio.Runner()
        memory = Path("/dev/shm")
        self.folder = Path(tempfile.mkdtemp(dir=memory if memory.is_dir() else None))
        self.vfs = RecordingVFS()
        self.vfs.sync = False  # nobody pulls the plug here
        self.now = NOW
        self.disk = self._disk()
        self.model = StoreRig(MemoryStore())
        self.jobs: list[Job] = []
        self.moved: list[Job] = []
        self._run(self._open())

    def _disk(self) -> StoreRig:
        return disk(
            self.folder,
            vfs=self.vfs.name,
            sync_bodies=lambda _: None,
            checkpoint_after=50,
            reserve=0,
            clock=lambda: self.now,
        )

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        return self.runner.run(work)

    async def _open(self) -> None:
        until = self.now + 300
        ours = self.disk.open(now=self.now, uncertain_until=until)
        theirs = self.model.open(now=self.now, uncertain_until=until)
        assert ready(ours.ready) == ready(theirs.ready)
        assert ours.messages == theirs.messages
        assert ours.next_at == theirs.next_at
        assert {*ours.found} == {*theirs.found}
        self.disk.seq = self.model.seq = max(self.disk.seq, self.model.seq)

    def teardown(self) -> None:
        if hasattr(self, "runner"):
            self._run(self.disk.close())
            self.runner.close()
            shutil.rmtree(self.folder)

    @rule(
        shape=st.lists(
            st.tuples(st.sampled_from(ROUTES), st.integers(1, 3), st.booleans()),
            min_size=1,
            max_size=2,
            unique_by=lambda part: part[0],
        ),
        identity=st.sampled_from(IDENTITIES),
        large=st.booleans(),
        adopted=st.booleans(),
        data=st.data(),
    )
    def put(
        self,
        shape: list[tuple[Route, int, bool]],
        identity: Any,
        large: bool,
        adopted: bool,
        data: st.DataObject,
    ) -> None:
        """A message arrives, from a client or from a peer."""
        addresses = [f"{n}@example.com" for n in range(sum(count for _, count, _ in shape))]
        plain = message(*addresses, identity=identity, received_at=self.now)
        if large:
            body = self.disk.write_body(plain.queue_id, plain.queue_id.encode() * 12_000)
            plain = message(
                *addresses,
                identity=identity,
                received_at=self.now,
                queue_id=plain.queue_id,
                body=body,
            )
        seq, parts, n = self.disk.next(), [], 0
        for route, count, leased in shape:
            recipients = tuple(Recipient(m, addresses[m]) for m in range(n, n + count))
            n += count
            upstream = route.upstreams[-1] if leased and not adopted else None
            parts.append(Part(route=route, recipients=recipients, leased_at=upstream))
            if upstream is not None:
                self.jobs.append(Job(seq, plain, route, recipients, upstream))
        entry = Entry(seq, plain, parts)
        states = data.draw(self._states(parts)) if adopted else {}
        for rig in (self.disk, self.model):
            if adopted:
                assert self._run(rig.adopt(entry, states)) is None
            else:
                assert self._run(rig.accept(entry)) is None

    def _states(self, parts: list[Part]) -> st.SearchStrategy[dict[int, Move]]:
        def move(recipient: Recipient, route: Route) -> st.SearchStrategy[Move]:
            return st.builds(
                lambda deferred, after: Move(
                    recipient=replace(
                        recipient,
                        attempts=2,
                        first_tried_at=self.now - 50,
                        waited=12.0,
                        pinned=not deferred,
                    ),
                    state=State.DEFERRED if deferred else State.UNCERTAIN,
                    route=route if deferred else Route(route.upstreams[:1], route.destination),
                    reason=Reason.UPSTREAM_DEFERRED,
                    next_at=self.now + after,
                ),
                st.booleans(),
                st.integers(1, 500),
            )

        everyone = {r.index: move(r, p.route) for p in parts for r in p.recipients}
        return st.fixed_dictionaries({}, optional=everyone)

    @rule(route=st.sampled_from(ROUTES), sender=st.sampled_from(["uid-1", "uid-2"]))
    def claim(self, route: Route, sender: str) -> None:
        """What is ready is tried."""
        ours, theirs = (
            self._run(rig.claim(want(route, sender))) for rig in (self.disk, self.model)
        )
        assert sorted(map(told, ours), key=repr) == sorted(map(told, theirs), key=repr)
        assert [job.seq for job in ours] == sorted(job.seq for job in ours)
        self.jobs += ours

    @precondition(lambda self: self.jobs)
    @rule(
        which=st.integers(0, 100),
        results=st.lists(st.sampled_from(RESULTS), min_size=1, max_size=3),
        later=st.sampled_from(ROUTES),
    )
    def finish(self, which: int, results: list[Result], later: Route) -> None:
        """An attempt ends, for each recipient in its own way."""
        job = self.jobs.pop(which % len(self.jobs))
        ended = [
            moves(job, results[n % len(results)], now=self.now, route=later)[n]
            for n in range(len(job.recipients))
        ]
        for rig in (self.disk, self.model):
            assert self._run(rig.finish(job, ended, now=self.now)) is None

    @rule(seconds=st.sampled_from([1, 31, 400, 5000]))
    def wait(self, seconds: int) -> None:
        """Time passes."""
        self.now += seconds
        ours, theirs = (
            self._run(rig.due(now=self.now, latest=self.now + 20_000))
            for rig in (self.disk, self.model)
        )
        assert ready(ours.ready) == ready(theirs.ready)
        assert ours.next_at == theirs.next_at

    @rule(
        stale=st.lists(st.sampled_from(ROUTES), min_size=1, max_size=2, unique=True),
        most=st.sampled_from([1, 2, 1000]),
    )
    def reroute(self, stale: list[Route], most: int) -> None:
        """The configuration names other routes."""

        def choose(sketch: Sketch) -> Route:
            return A if sketch.address.startswith("0") else AB

        answers = []
        for rig in (self.disk, self.model):
            total: dict[tuple[Backlog, Backlog], int] = {}
            recipients = 0
            more = True
            while more:
                page = self._run(rig.reroute(stale, choose, most))
                more = page.more
                recipients += page.recipients
                assert page.recipients <= most
                for key, count in page.ready.items():
                    total[key] = total.get(key, 0) + count
            answers.append((total, recipients))
        assert answers[0] == answers[1]

    @rule()
    def restart(self) -> None:
        """The gateway ends, and another begins: what was leased is uncertain."""
        self._run(self.disk.close())
        self.disk = self._disk()
        assert isinstance(self.model.store, MemoryStore)
        self.model = StoreRig(self.model.store.crash())
        self.jobs = []
        self._run(self._open())

    @invariant()
    def both_count_alike(self) -> None:
        """All that is known of the queue is the same."""
        if hasattr(self, "disk"):
            ours, theirs = (self._run(rig.count()) for rig in (self.disk, self.model))
            assert counted(ours) == counted(theirs)


TestTwoStores = TwoStores.TestCase
TestTwoStores.settings = settings(max_examples=15, stateful_step_count=25, deadline=None)
