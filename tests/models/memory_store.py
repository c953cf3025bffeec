"""A queue store in plain dictionaries: what `queue.store.QueueStore` means, without a disk.

It answers in a later turn of the loop, one request after the other, as a writer thread would. A
gateway's death is `crash`: what was answered stays; what was not answered is done or not, as the
dice say.
"""

from __future__ import annotations

import asyncio
import random
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from mailrelay_gateway.message.envelope import Message
from mailrelay_gateway.message.route import Choose, Route, Sketch
from mailrelay_gateway.queue.item import Job, Move, Recipient, State
from mailrelay_gateway.queue.store import (
    Backlog,
    Counts,
    Done,
    Due,
    Ended,
    Entry,
    Figures,
    FoundLease,
    Known,
    Lease,
    Opened,
    Rerouted,
    Want,
)
from mailrelay_gateway.reasons import Reason
from mailrelay_gateway.smtp.refusal import Problem, refuse

FAILED = refuse(Reason.SPOOL_FAILED)


@dataclass
class Row:
    """One recipient."""

    recipient: Recipient
    state: State
    route: Route
    upstream: str = ""
    next_at: float | None = None


class MemoryStore:
    """Implements `QueueStore`."""

    def __init__(self, dice: random.Random | None = None) -> None:
        """Empty."""
        self.dice = dice or random.Random(0)
        self.messages: dict[int, Message] = {}
        self.rows: dict[tuple[int, int], Row] = {}
        self.dead: list[tuple[str, str, Reason]] = []  # queue id, address, reason
        self.left: dict[str, float] = {}
        self._requests: list[Callable[[], Callable[[], None]]] = []
        self._loop: asyncio.AbstractEventLoop | None = None
        self._busy = False
        self._gone = False

    # --- life

    def open(self, *, now: float, uncertain_until: float) -> Opened:
        found = []
        for (seq, _), row in self.rows.items():
            if row.state is State.LEASED:
                found.append(
                    FoundLease(self.messages[seq].queue_id, row.recipient.address, row.upstream)
                )
                first = row.recipient.first_tried_at
                row.recipient = replace(
                    row.recipient,
                    attempts=row.recipient.attempts + 1,
                    pinned=True,
                    first_tried_at=now if first is None else first,
                    waited=row.recipient.waited + uncertain_until - now,
                )
                row.state, row.next_at = State.UNCERTAIN, uncertain_until
                row.route = row.route.pinned_to(row.upstream)
        return Opened(
            next_seq=max(self.messages, default=0) + 1,
            ready=self._ready(),
            next_at=self._next_at(),
            messages=len(self.messages),
            found=found,
        )

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop

    async def close(self, deadline: float) -> None:
        async with asyncio.timeout(deadline):
            while self._requests or self._busy:
                await asyncio.sleep(0.001)

    def crash(self) -> MemoryStore:
        """The gateway dies: what the next one finds."""
        self._gone = True
        for request in self._requests:
            if self.dice.random() < 0.5:
                break
            request()  # done, and nobody was told
        survivor = MemoryStore(self.dice)
        survivor.messages, survivor.rows = self.messages, self.rows
        survivor.dead, survivor.left = self.dead, self.left
        return survivor

    @property
    def failed(self) -> bool:
        return False

    def problem(self, octets: int = 0) -> Problem | None:
        return None

    def body_path(self, queue_id: str) -> Path:
        raise NotImplementedError("bodies stay in memory here")

    def waiting_seconds(self) -> float:
        return 0.0

    # --- requests

    def _ask(self, request: Callable[[], Callable[[], None]]) -> None:
        self._requests.append(request)
        if not self._busy:
            self._busy = True
            assert self._loop is not None
            self._loop.call_later(self.dice.choice([0.0, 0.001, 0.05]), self._work)

    def _work(self) -> None:
        if self._gone:
            return
        assert self._loop is not None
        batch, self._requests = self._requests, []
        for answer in [request() for request in batch]:
            answer()
        self._busy = bool(self._requests)
        if self._busy:
            self._loop.call_later(self.dice.choice([0.0, 0.001, 0.05]), self._work)

    def accept(self, entry: Entry, done: Done) -> None:
        def run() -> Callable[[], None]:
            self._insert(entry)
            return lambda: done(None)

        self._ask(run)

    def _insert(self, entry: Entry) -> None:
        assert entry.seq not in self.messages
        self.messages[entry.seq] = entry.message
        for part in entry.parts:
            state = State.READY if part.leased_at is None else State.LEASED
            for recipient in part.recipients:
                key = (entry.seq, recipient.index)
                assert key not in self.rows
                self.rows[key] = Row(recipient, state, part.route, part.leased_at or "")

    def claim(
        self, wants: Sequence[Want], lease: Lease, done: Callable[[Sequence[Job] | Problem], None]
    ) -> None:
        def run() -> Callable[[], None]:
            jobs = [job for want in wants for job in self._claim(want)]
            return lambda: done(jobs)

        self._ask(run)

    def _claim(self, want: Want) -> list[Job]:
        jobs: dict[tuple[int, bool], list[Recipient]] = {}
        octets = 0
        for key in sorted(self.rows):
            seq, row = key[0], self.rows[key]
            message = self.messages[seq]
            if (
                row.state is not State.READY
                or row.route != want.route
                or message.identity.uid != want.sender
            ):
                continue
            job = (seq, row.recipient.pinned)
            if job not in jobs:
                if len({known for known, _ in jobs} | {seq}) > want.messages:
                    break
                if jobs and octets + message.size > want.octets:
                    break
                octets += message.size
            jobs.setdefault(job, []).append(row.recipient)
            row.state, row.upstream = State.LEASED, want.upstream
        return [
            Job(seq, self.messages[seq], want.route, tuple(recipients), want.upstream)
            for (seq, _), recipients in jobs.items()
        ]

    def finish(self, ended: Ended, done: Done) -> None:
        def run() -> Callable[[], None]:
            seq = ended.job.seq
            for move in ended.moves:
                key = (seq, move.recipient.index)
                assert self.rows[key].state is State.LEASED, "only what is leased can end"
                if move.failed:
                    self.dead.append(
                        (ended.job.message.queue_id, move.recipient.address, move.reason)
                    )
                if move.state is None:
                    del self.rows[key]
                else:
                    self.rows[key] = Row(
                        move.recipient, move.state, move.route, ended.upstream, move.next_at
                    )
            if not any(known == seq for known, _ in self.rows):
                self.left[self.messages.pop(seq).queue_id] = ended.now
            for notice in ended.notices:
                self._insert(notice)
            return lambda: done(None)

        self._ask(run)

    def due(
        self, *, now: float, latest: float, most: int, done: Callable[[Due | Problem], None]
    ) -> None:
        def run() -> Callable[[], None]:
            waiting = sorted(
                (row.next_at, key)
                for key, row in self.rows.items()
                if row.next_at is not None and not now < row.next_at <= latest
            )
            ready: defaultdict[Backlog, int] = defaultdict(int)
            for _, key in waiting[:most]:
                row = self.rows[key]
                row.state, row.next_at = State.READY, None
                ready[Backlog(row.route, self.messages[key[0]].identity.uid)] += 1
            due = Due(ready=ready, next_at=self._next_at(), more=len(waiting) > most)
            return lambda: done(due)

        self._ask(run)

    def _next_at(self) -> float | None:
        return min((r.next_at for r in self.rows.values() if r.next_at is not None), default=None)

    def _ready(self) -> dict[Backlog, int]:
        ready: defaultdict[Backlog, int] = defaultdict(int)
        for (seq, _), row in self.rows.items():
            if row.state is State.READY:
                ready[Backlog(row.route, self.messages[seq].identity.uid)] += 1
        return dict(ready)

    def count(self, done: Callable[[Counts | Problem], None]) -> None:
        def run() -> Callable[[], None]:
            figures: defaultdict[tuple[Route, bool], list[int]] = defaultdict(list)
            for (seq, _), row in self.rows.items():
                deferred = row.state in (State.DEFERRED, State.UNCERTAIN)
                figures[row.route, deferred].append(seq)
            counts = Counts(
                by_route={
                    key: Figures(
                        recipients=len(seqs),
                        messages=len(set(seqs)),
                        octets=sum(self.messages[seq].size for seq in set(seqs)),
                        oldest=min(self.messages[seq].received_at for seq in seqs),
                    )
                    for key, seqs in figures.items()
                },
                ready=self._ready(),
                messages=len(self.messages),
                oldest=min((m.received_at for m in self.messages.values()), default=None),
                next_at=self._next_at(),
                dead_letters=len(self.dead),
                free_octets=0,
                seconds=0.0,
            )
            return lambda: done(counts)

        self._ask(run)

    def find(self, queue_id: str, done: Callable[[Known | Problem | None], None]) -> None:
        def run() -> Callable[[], None]:
            known: Known | None = None
            for seq, message in self.messages.items():
                if message.queue_id == queue_id:
                    rows = [row for key, row in self.rows.items() if key[0] == seq]
                    known = Known(
                        message=message,
                        recipients=[(row.recipient, row.state, row.route) for row in rows],
                    )
            if known is None and queue_id in self.left:
                known = Known(message=None, recipients=(), left_at=self.left[queue_id])
            return lambda: done(known)

        self._ask(run)

    def reroute(
        self,
        stale: Sequence[Route] | None,
        choose: Choose,
        most: int,
        done: Callable[[Rerouted | Problem], None],
    ) -> None:
        def run() -> Callable[[], None]:
            ready: defaultdict[tuple[Backlog, Backlog], int] = defaultdict(int)
            moved = 0
            more = False
            for (seq, _), row in sorted(self.rows.items()):
                listed = not row.route.pinned if stale is None else row.route in stale
                if row.state is State.LEASED or not listed:
                    continue
                message = self.messages[seq]
                route = choose(
                    Sketch(
                        queue_id=message.queue_id,
                        sender=message.envelope_sender,
                        address=row.recipient.address,
                        identity=message.identity,
                        size=message.size,
                        bulk=row.route.bulk,
                    )
                )
                if route == row.route or (stale is not None and route in stale):
                    continue
                if moved >= most:
                    more = True
                    break
                moved += 1
                if row.state is State.READY:
                    uid = message.identity.uid
                    ready[Backlog(row.route, uid), Backlog(route, uid)] += 1
                row.route = route
                row.recipient = replace(row.recipient, pinned=False)
            page = Rerouted(ready=ready, recipients=moved, more=more)
            return lambda: done(page)

        self._ask(run)

    def adopt(self, entry: Entry, states: Mapping[int, Move], done: Done) -> None:
        def run() -> Callable[[], None]:
            queue_id = entry.message.queue_id
            known = any(m.queue_id == queue_id for m in self.messages.values())
            if not known and queue_id not in self.left:
                self._insert(entry)
                for index, move in states.items():
                    assert move.state is not None
                    row = self.rows[entry.seq, index]
                    row.recipient, row.state = move.recipient, move.state
                    row.route, row.next_at = move.route, move.next_at
            return lambda: done(None)

        self._ask(run)
