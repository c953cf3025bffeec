"""Whenever the power fails, every message that was answered 250 is there and whole.

A run of the store is recorded: each write, cut and sync of the database and its log, each sync of
the bodies' folder, and which bodies were there. Then the power fails after each of these events:
what was synced is there, and of what was not some is lost, some is torn.
"""

from __future__ import annotations

import asyncio
import os
import random
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from mailrelay_gateway.message.envelope import Result
from mailrelay_gateway.queue.item import Job
from tests.integration.store.rig import NOW, disk, moves, octets, want
from tests.integration.store.vfs import RecordingVFS, Sync, Truncate, Write

SECTOR = 512
DATABASE = ("queue2.db", "queue2.db-wal")


@dataclass(frozen=True, slots=True)
class FolderSync:
    """The names in bodies/ are durable."""


@dataclass(frozen=True, slots=True)
class Told:
    """A request was answered, or an end was asked for (`stored` False)."""

    queue_id: str
    stored: bool


Event = Write | Truncate | Sync | FolderSync | Told


@dataclass
class Tape:
    """What happened, in order, and which bodies' names were there after each event."""

    bodies: Path
    events: list[Event] = field(default_factory=list)
    listings: list[frozenset[str]] = field(default_factory=list)
    contents: dict[str, bytes] = field(default_factory=dict)  # of messages, by queue id
    files: dict[str, bytes] = field(default_factory=dict)  # of bodies

    def record(self, event: Event) -> None:
        """Take an event down (list.append: two threads do)."""
        names = frozenset(os.listdir(self.bodies)) if self.bodies.exists() else frozenset()
        self.listings.append(names)
        self.events.append(event)


async def run(tape: Tape, root: Path, seed: int) -> None:
    """Some life: accepted, leased along, claimed, deferred, delivered, with checkpoints between."""
    dice = random.Random(seed)
    vfs = RecordingVFS(tape.record)
    vfs.sync = False  # nobody pulls the plug here
    store = disk(
        root,
        vfs=vfs.name,
        checkpoint_after=60,
        sync_bodies=lambda _: tape.record(FolderSync()),
    )
    store.open()
    jobs: list[Job] = []

    async def put() -> None:
        large = dice.random() < 0.2
        body = dice.randbytes(300_000 if large else dice.choice([50, 3000, 40_000]))
        leased = "a" if dice.random() < 0.5 else None
        job = await store.put("x@example.com", "y@example.com", body=body, leased_at=leased)
        queue_id = job.message.queue_id
        tape.contents[queue_id] = octets(job.message)
        if large:
            tape.files[queue_id] = body
        tape.record(Told(queue_id, stored=True))
        if leased:
            jobs.append(job)

    async def end(job: Job) -> None:
        result = dice.choice([Result.DELIVERED, Result.DELIVERED, Result.DEFERRED, Result.FAILED])
        if result is not Result.DEFERRED:
            tape.record(Told(job.message.queue_id, stored=False))
        assert await store.finish(job, moves(job, result)) is None

    for turn in range(12):
        await asyncio.gather(*[put() for _ in range(dice.randrange(1, 4))])
        if turn % 4 == 3:
            await store.due(now=NOW + 1e6)
        jobs += await store.claim(want(messages=3))
        dice.shuffle(jobs)
        ending, jobs = jobs[:3], jobs[3:]
        await asyncio.gather(*[end(job) for job in ending])
    await store.crash()


class Disk:
    """The database's files at the end of each event, as far as they are surely there."""

    def __init__(self) -> None:
        self.synced = dict.fromkeys(DATABASE, b"")
        self.pending: dict[str, list[Write | Truncate]] = {name: [] for name in DATABASE}
        self.durable_bodies: set[str] = set()

    def apply(self, event: Event, listing: frozenset[str]) -> None:
        """One more event has happened."""
        if isinstance(event, (Write, Truncate)) and event.path in DATABASE:
            self.pending[event.path].append(event)
        elif isinstance(event, Sync) and event.path in DATABASE:
            for change in self.pending[event.path]:
                self.synced[event.path] = change_file(self.synced[event.path], change)
            self.pending[event.path] = []
        elif isinstance(event, FolderSync):
            self.durable_bodies |= listing

    def outcomes(self, dice: random.Random) -> Iterator[dict[str, bytes]]:
        """What may be found: nothing that was not synced; everything; some of it, torn."""
        yield dict(self.synced)
        if not any(self.pending.values()):
            return
        everything, torn = dict(self.synced), dict(self.synced)
        for name in DATABASE:
            for change in self.pending[name]:
                everything[name] = change_file(everything[name], change)
                chance = dice.random()
                if chance < 0.4:
                    torn[name] = change_file(torn[name], change)
                elif chance < 0.7 and isinstance(change, Write):
                    part = change.octets[
                        : dice.randrange(len(change.octets) + 1) // SECTOR * SECTOR
                    ]
                    torn[name] = change_file(torn[name], Write(name, change.offset, part))
        yield everything
        yield torn


def change_file(octets: bytes, change: Write | Truncate) -> bytes:
    """A file after a change."""
    if isinstance(change, Truncate):
        return octets[: change.size].ljust(change.size, b"\0")
    end = change.offset + len(change.octets)
    return octets[: change.offset].ljust(change.offset, b"\0") + change.octets + octets[end:]


async def look(root: Path, quick: str) -> dict[str, bytes]:
    """All messages that a gateway finds there, as it would send them."""
    store = disk(root, vfs=quick, sync_bodies=lambda _: None, reserve=0)
    opened = store.open(now=NOW + 10, uncertain_until=NOW + 20)
    assert opened.quarantine.databases == 0, "the power does not damage a database"
    found: dict[str, bytes] = {}
    try:
        await store.due(now=NOW + 1e7)
        for backlog in (await store.count()).ready:
            for job in await store.claim(want(backlog.route, backlog.sender)):
                found[job.message.queue_id] = octets(job.message)
        messages = (await store.count()).messages
        assert messages == len(found), "no message is there that cannot be sent"
    finally:
        await store.crash()
    return found


@pytest.mark.parametrize("seed", range(2))
async def test_power_may_fail_after_any_event(tmp_path: Path, seed: int) -> None:
    tape = Tape(tmp_path / "spool" / "bodies")
    await run(tape, tmp_path / "spool", seed)
    quick = RecordingVFS()
    quick.sync = False
    dice = random.Random(seed)
    disk_now = Disk()
    promised: set[str] = set()
    ended: set[str] = set()
    looks = 0
    # Between two syncs every prefix is a subset of what is not synced: some of them will do.
    syncs = sum(isinstance(event, (Sync, FolderSync)) for event in tape.events)
    assert syncs > 40
    with tempfile.TemporaryDirectory(
        dir="/dev/shm" if Path("/dev/shm").is_dir() else None
    ) as memory:
        for n, event in enumerate(tape.events):
            at_sync = isinstance(event, (Sync, FolderSync))
            if at_sync or dice.random() < 0.02:
                for files in disk_now.outcomes(dice):  # just before it
                    looks += 1
                    root = Path(memory) / str(looks)
                    (root / "bodies").mkdir(parents=True)
                    for name, octets_of in files.items():
                        (root / name).write_bytes(octets_of)
                    there = disk_now.durable_bodies & tape.listings[n]
                    for name in there:
                        (root / "bodies" / name).write_bytes(tape.files[name])
                    found = await look(root, quick.name)
                    missing = promised - ended - set(found)
                    assert not missing, f"seed {seed}, event {n}: lost {missing}"
                    for queue_id in found:
                        assert found[queue_id] == tape.contents[queue_id]
            disk_now.apply(event, tape.listings[n])
            if isinstance(event, Told):
                (promised if event.stored else ended).add(event.queue_id)
    assert looks > 100
    assert promised
