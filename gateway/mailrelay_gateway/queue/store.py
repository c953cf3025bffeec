"""What the scheduler needs of a queue store: meanings, no statements. The Protocol and its values.

A store keeps messages and their recipients durably. It knows nothing of turns, paces or retries: it
is told what to mark, and answers what is there. Every method but `open` is called in the event loop
and returns at once; the answer comes by a callback in the loop, exactly once. An answer of Problem
(or `problem` set) says that nothing of the request has happened and nothing will.

One suite (tests/integration/store) is passed by every implementation.

    READY ──claim──> LEASED ──finish──> removed | dead | READY | DEFERRED | UNCERTAIN
      ^                                                             │
      └────────────────────────────── due ──────────────────────────┘
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, Protocol

from mailrelay_gateway.message.envelope import Message
from mailrelay_gateway.message.route import Choose, Route
from mailrelay_gateway.queue.item import Job, Move, Recipient, State
from mailrelay_gateway.smtp.refusal import Problem

Done = Callable[[Problem | None], None]


class StoreError(RuntimeError):
    """The store cannot be used; the text is a sentence that says where, and what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lease:
    """Who tries, and until when no other gateway may (Unix seconds): in a store that several
    gateways share, expired leases are uncertain. A store with only one owner at a time needs
    neither.

    `put_off_until` is for messages whose body cannot be read.
    """

    owner: str
    ends_at: float
    put_off_until: float


@dataclass(slots=True, eq=False)
class Entry:
    """A message to be stored: its recipients, by route. No recipient twice.

    `leased_at` names the upstream at which the first attempt of a part starts at once: its lease is
    part of the same transaction.
    """

    seq: int
    message: Message
    parts: Sequence[Part]


class Part(NamedTuple):
    """The recipients of a message that have the same route."""

    route: Route
    recipients: tuple[Recipient, ...]
    leased_at: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Want:
    """A claim: the oldest READY messages of a sender (Identity.uid) on a route, at most `messages`
    of them and at most `octets` of bodies that are kept in memory (but always one message), to be
    tried at `upstream`.
    """

    route: Route
    sender: str
    upstream: str
    messages: int
    octets: int


@dataclass(slots=True, eq=False)
class Ended:
    """The result of an attempt: a move for each of its recipients, and notices that are stored in
    the same transaction.
    """

    job: Job
    moves: Sequence[Move]
    upstream: str
    now: float
    notices: Sequence[Entry] = ()


class Backlog(NamedTuple):
    """Mail of one sender on one route."""

    route: Route
    sender: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Due:
    """Recipients that have become READY because they are due, counted by backlog; `next_at` is when
    to ask again (Unix seconds; None: nothing has a time). `more`: ask again at once.
    """

    ready: Mapping[Backlog, int]
    next_at: float | None
    more: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """What one route has of what is ready or leased, or of what is deferred."""

    recipients: int = 0
    messages: int = 0
    octets: int = 0  # of the messages, each counted once
    oldest: float | None = None  # Unix seconds at which the oldest of them was accepted


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """A count of the queue, as of a committed moment that may be past.

    `by_route` separates what is deferred (DEFERRED, UNCERTAIN: True) from what is not (READY,
    LEASED). `ready` has recipients by backlog; `next_at` is when the next recipient is due;
    `seconds` is how long counting took.
    """

    by_route: Mapping[tuple[Route, bool], Figures]
    ready: Mapping[Backlog, int]
    messages: int
    oldest: float | None
    next_at: float | None
    dead_letters: int
    free_octets: int
    seconds: float


@dataclass(frozen=True, slots=True)
class FoundLease:
    """An attempt that was in progress when its gateway died: possibly delivered."""

    queue_id: str
    address: str
    upstream: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Quarantine:
    """What is in quarantine because it is damaged or unreferenced: see `mailrelay queue
    salvage`.
    """

    databases: int = 0
    bodies: int = 0
    octets: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """What was found at startup. Leases found have become UNCERTAIN, pinned to the upstream at
    which they were tried (their route is that upstream alone).
    """

    next_seq: int
    ready: Mapping[Backlog, int]
    next_at: float | None
    messages: int
    found: Sequence[FoundLease] = ()
    quarantine: Quarantine = field(default_factory=Quarantine)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rerouted:
    """One page of `reroute`: READY recipients that changed backlog (from -> to, how many), and
    whether there are more to look at.
    """

    ready: Mapping[tuple[Backlog, Backlog], int]
    recipients: int
    more: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """What the store knows about a queue id: its queued recipients, or that it has left."""

    message: Message | None
    recipients: Sequence[tuple[Recipient, State, Route]]
    left_at: float | None = None


class QueueStore(Protocol):
    """Stores the queue."""

    # --- life

    def open(self, *, now: float, uncertain_until: float) -> Opened:
        """Prepare and take stock. Blocks; called before the loop serves.

        Leases of a gateway that died become UNCERTAIN until `uncertain_until`. Raises StoreError.
        """
        ...

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Serve requests; callbacks run in `loop`."""
        ...

    async def close(self, deadline: float) -> None:
        """Commit all requests, and close; after `deadline` seconds close without that."""
        ...

    @property
    def failed(self) -> bool:
        """Whether it cannot continue, so that the process must end. No new attempt may start."""
        ...

    # --- accepting

    def problem(self, octets: int = 0) -> Problem | None:
        """Why a message of so many octets (0: not known yet) cannot be accepted now, if so. Asked
        before each message; looks at the volume seldom.
        """
        ...

    def body_path(self, queue_id: str) -> Path:
        """Where to write a body above INLINE_BODY_LIMIT before `accept`; fsynced by the writer."""
        ...

    def accept(self, entry: Entry, done: Done) -> None:
        """Store a message. `done(None)` is called once it is durable.

        A body that is a FileBody at `body_path` belongs to the store from then on. After a Problem
        the message is not stored, whatever a later start finds, and its file is removed, unless the
        store has failed.
        """
        ...

    # --- delivering

    def claim(
        self, wants: Sequence[Want], lease: Lease, done: Callable[[Sequence[Job] | Problem], None]
    ) -> None:
        """Lease READY messages and give them, bodies included, in the order of `wants`.

        All READY recipients of a message on one route make one job (at most 1,000; pinned ones
        apart from others). A message whose body cannot be read is not given but deferred with
        InternalError until `lease.put_off_until`, and logged. Fewer jobs than wanted: there are
        no more.
        """
        ...

    def finish(self, ended: Ended, done: Done) -> None:
        """Carry out the result of an attempt. Needs only what `ended` contains."""
        ...

    def due(
        self, *, now: float, latest: float, most: int, done: Callable[[Due | Problem], None]
    ) -> None:
        """Make READY what is due at `now`, at most `most` recipients, the most overdue first; and
        what is due after `latest`, since a clock was ahead when that was written.
        """
        ...

    # --- looking

    def count(self, done: Callable[[Counts | Problem], None]) -> None:
        """Count, without delaying anything else."""
        ...

    def find(self, queue_id: str, done: Callable[[Known | Problem | None], None]) -> None:
        """What is known about a queue id; None: nothing."""
        ...

    def reroute(
        self,
        stale: Sequence[Route] | None,
        choose: Choose,
        most: int,
        done: Callable[[Rerouted | Problem], None],
    ) -> None:
        """Give up to `most` waiting recipients (READY, DEFERRED or UNCERTAIN, never LEASED) on
        these routes (None: on all that are not pinned) the route that `choose` says, which unpins
        them. One for which a stale route is chosen (None: its own) stays, and is not looked at
        again in this run of pages.
        """
        ...

    def adopt(self, entry: Entry, states: Mapping[int, Move], done: Done) -> None:
        """Take over a message from a peer, with the state of each recipient there (by index). If
        the queue id is or was here (tombstones: 7 days, at most 100,000), the answer is None and it
        is not stored again.
        """
        ...

    def waiting_seconds(self) -> float:
        """How long the current commit has been running, for liveness; 0 when none is running, and
        while it only waits for another program's lock.
        """
        ...
