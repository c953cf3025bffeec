"""A queue store under test, asked in plain awaits; and messages to put into it."""

from __future__ import annotations

import asyncio
import itertools
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from mailrelay_gateway.file_body import FileBody
from mailrelay_gateway.message.body import INLINE_BODY_LIMIT, Body, whole
from mailrelay_gateway.message.envelope import Identity, Message, Outcome, Result
from mailrelay_gateway.message.route import Choose, Route
from mailrelay_gateway.metrics import Metrics
from mailrelay_gateway.queue.disk.store import DiskStore
from mailrelay_gateway.queue.item import Job, Move, Recipient, State, decide_moves
from mailrelay_gateway.queue.retry import RetryPolicy
from mailrelay_gateway.queue.store import (
    Backlog,
    Counts,
    Due,
    Ended,
    Entry,
    Known,
    Lease,
    Opened,
    Part,
    QueueStore,
    Rerouted,
    Want,
)
from mailrelay_gateway.reasons import Reason
from mailrelay_gateway.smtp.dsn import DsnParameters
from mailrelay_gateway.smtp.refusal import Problem

NOW = 1_800_000_000.0
A = Route(("a",))
B = Route(("b",))
AB = Route(("a", "b"))
POLICY = RetryPolicy(give_up_after=86400.0, max_interval=3600.0)
LEASE = Lease(owner="me", ends_at=NOW + 3600, put_off_until=NOW + 3600)
TEAM = Identity(namespace="team", name="app", uid="uid-1", username="team.app")
OTHER = Identity(namespace="other", name="app", uid="uid-2", username="other.app")

_numbers = itertools.count(1)


def message(
    *recipients: str,
    body: Body | None = None,
    prelude: bytes = b"Received: here\r\n",
    identity: Identity = TEAM,
    queue_id: str = "",
    received_at: float = NOW,
    sender: str = "sender@example.org",
    dsn: DsnParameters | None = None,
) -> Message:
    """A message with a body of its own."""
    number = next(_numbers)
    body = b"Subject: %d\r\n\r\nbody %d\r\n" % (number, number) if body is None else body
    octets = len(body) if isinstance(body, bytes) else body.size
    return Message(
        queue_id=queue_id or f"{number:026d}",
        envelope_sender=sender,
        recipient_count=len(recipients),
        identity=identity,
        listener="submission",
        received_at=received_at,
        size=len(prelude) + octets,
        prelude=prelude,
        body=body,
        eight_bit=number % 2 == 0,
        smtputf8=number % 3 == 0,
        long_lines=number % 5 == 0,
        dsn=dsn,
        message_id=f"<{number}@example.org>",
    )


def entry(
    seq: int, message: Message, *addresses: str, route: Route = A, leased_at: str | None = None
) -> Entry:
    """All recipients on one route."""
    recipients = tuple(Recipient(n, address) for n, address in enumerate(addresses))
    return Entry(seq, message, [Part(route=route, recipients=recipients, leased_at=leased_at)])


def want(
    route: Route = A,
    sender: str = "uid-1",
    *,
    upstream: str = "",
    messages: int = 1000,
    octets: int = 1 << 30,
) -> Want:
    """A claim; of everything unless it says less."""
    return Want(
        route=route,
        sender=sender,
        upstream=upstream or route.upstreams[0],
        messages=messages,
        octets=octets,
    )


def moves(
    job: Job,
    result: Result,
    *,
    now: float = NOW,
    route: Route | None = None,
    reason: Reason = Reason.UPSTREAM_DEFERRED,
    only: Sequence[int] | None = None,
) -> list[Move]:
    """What becomes of a job; `only` these did not get it, the others did."""
    outcomes = [
        Outcome(
            r.index,
            result if only is None or r.index in only else Result.DELIVERED,
            reason,
            detail="as the test says",
        )
        for r in job.recipients
    ]
    return decide_moves(
        job,
        outcomes,
        route_of=lambda _: route or job.route,
        now=now,
        policy=POLICY,
        jitter=0.5,
    )


def octets(message: Message) -> bytes:
    """All of a message as it is sent."""
    return message.prelude + whole(message.body)


class StoreRig:
    """A store in a running loop. Every request is awaited; a Problem is returned as it is."""

    def __init__(self, store: QueueStore) -> None:
        self.store = store
        self.seq = 0
        self.failures: list[str] = []

    def open(self, *, now: float = NOW, uncertain_until: float = NOW + 300) -> Opened:
        """Open and start."""
        opened = self.store.open(now=now, uncertain_until=uncertain_until)
        self.store.start(asyncio.get_running_loop())
        self.seq = opened.next_seq - 1
        return opened

    def next(self) -> int:
        """A number for a message."""
        self.seq += 1
        return self.seq

    def write_body(self, queue_id: str, octets: bytes) -> Body:
        """A body as the listener writes it: in memory up to the limit, else in a file."""
        if len(octets) <= INLINE_BODY_LIMIT:
            return octets
        path = self.store.body_path(queue_id)
        with path.open("wb") as file:
            file.write(octets)
            file.flush()
            os.fsync(file.fileno())
        return FileBody(path, len(octets))

    async def _ask(self, ask: Callable[..., None], *args: Any, **kwargs: Any) -> Any:
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        ask(*args, **kwargs, done=answer.set_result)
        return await asyncio.wait_for(answer, 60)

    async def accept(self, entry: Entry) -> Problem | None:
        return await self._ask(self.store.accept, entry)

    async def put(
        self,
        *addresses: str,
        route: Route = A,
        leased_at: str | None = None,
        identity: Identity = TEAM,
        body: bytes | None = None,
        queue_id: str = "",
    ) -> Job:
        """Accept a message to all on one route; what its first attempt would be."""
        plain = message(*addresses, identity=identity, queue_id=queue_id, body=body)
        if body is not None:
            stored = self.write_body(plain.queue_id, body)
            plain = message(*addresses, identity=identity, queue_id=plain.queue_id, body=stored)
        stored_entry = entry(self.next(), plain, *addresses, route=route, leased_at=leased_at)
        problem = await self.accept(stored_entry)
        assert problem is None, problem
        recipients = stored_entry.parts[0].recipients
        return Job(stored_entry.seq, plain, route, recipients, leased_at or "")

    async def claim(self, *wants: Want) -> list[Job]:
        jobs = await self._ask(self.store.claim, wants, LEASE)
        assert not isinstance(jobs, Problem), jobs
        return list(jobs)

    async def finish(
        self,
        job: Job,
        moves: Sequence[Move],
        *,
        now: float = NOW,
        notices: Sequence[Entry] = (),
    ) -> Problem | None:
        ended = Ended(job, moves, job.upstream, now, notices)
        return await self._ask(self.store.finish, ended)

    async def due(self, *, now: float, latest: float = 1e12, most: int = 10_000) -> Due:
        found = await self._ask(self.store.due, now=now, latest=latest, most=most)
        assert isinstance(found, Due), found
        return found

    async def count(self) -> Counts:
        counts = await self._ask(self.store.count)
        assert isinstance(counts, Counts), counts
        return counts

    async def find(self, queue_id: str) -> Known | None:
        known = await self._ask(self.store.find, queue_id)
        assert not isinstance(known, Problem), known
        return known

    async def reroute(
        self, stale: Sequence[Route] | None, choose: Choose, most: int = 1000
    ) -> Rerouted:
        found = await self._ask(self.store.reroute, stale, choose, most)
        assert isinstance(found, Rerouted), found
        return found

    async def adopt(self, entry: Entry, states: Mapping[int, Move]) -> Problem | None:
        return await self._ask(self.store.adopt, entry, states)

    async def close(self) -> None:
        await self.store.close(10.0)

    async def crash(self) -> None:
        """End as a process that is killed: nothing is written any more."""
        assert isinstance(self.store, DiskStore)
        self.store._group.failed = True
        await self.store.close(10.0)


def disk(folder: Path, failures: list[str] | None = None, **options: Any) -> StoreRig:
    """A rig of the disk store in `folder`; its failure is noted in `failures`."""
    failed: list[str] = [] if failures is None else failures
    rig = StoreRig(
        DiskStore(
            folder,
            on_failure=failed.append,
            **{
                "metrics": Metrics(),
                "low_water": 0,
                "reserve": 1 << 20,
                "clock": lambda: NOW,
                **options,
            },
        )
    )
    rig.failures = failed
    return rig


def ready(counts: Mapping[Backlog, int]) -> dict[tuple[Route, str], int]:
    """READY recipients by route and sender, as a plain dictionary."""
    return {(backlog.route, backlog.sender): n for backlog, n in counts.items() if n}


def states(known: Known | None) -> list[State]:
    """The states of a message's recipients."""
    assert known is not None
    return [state for _, state, _ in known.recipients]
