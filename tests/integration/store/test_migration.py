"""A spool of schema 1 is taken over whole, wherever the step is cut off."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from pathlib import Path

import apsw

from mailrelay_gateway.message.envelope import Result
from mailrelay_gateway.queue.disk import takeover
from mailrelay_gateway.queue.disk.salvage import salvage
from mailrelay_gateway.queue.item import Job, State
from mailrelay_gateway.queue.store import FoundLease, Opened, StoreError
from tests.integration.store.rig import NOW, A, B, StoreRig, disk, moves, octets, ready, want
from tests.integration.store.schema_one import DEFERRED, LEASED, READY, UNCERTAIN, FormerSpool
from tests.integration.store.vfs import RecordingVFS

Make = Callable[..., StoreRig]

AT_B = B.pinned_to("b")


def write(folder: Path, *, more: int = 0) -> FormerSpool:
    """A spool with rows in every state, a body in a file, and dead letters."""
    former = FormerSpool(folder, NOW)
    former.put("FRESH", b"fresh", (READY, 0, None, None, False, "a"))
    former.put(
        "EVERY",
        b"every state",
        (READY, 0, None, None, False, "a"),
        (LEASED, 2, NOW - 100, None, False, "b"),
        (DEFERRED, 3, NOW - 4000, NOW + 50, False, "a"),
        (UNCERTAIN, 1, NOW - 100000, NOW + 60, True, "b"),
        (READY, 1, NOW - 100000, None, True, "b"),
    )
    former.put("LARGE", b"L" * 400_000, (READY, 0, None, None, False, "a"), uid="uid-2")
    for n in range(more):
        former.put(f"MORE{n:05d}", b"m%d" % n, (READY, 0, None, None, False, "a"))
    former.bury("DEAD", 0, b"dead")
    former.bury("DEAD", 1, b"dead")
    former.close()
    return former


async def check(store: StoreRig, opened: Opened, former: FormerSpool) -> None:
    """All of it is there, whole."""
    assert opened.messages == len(former.bodies)
    assert opened.next_at == NOW + 50
    known = await store.find("EVERY")
    assert known is not None and known.message is not None
    assert octets(known.message) == b"every state"
    assert known.message.recipient_count == 5
    assert known.message.eight_bit and known.message.smtputf8
    assert known.message.received_at == NOW - 5000
    assert [(s, route) for _, s, route in known.recipients] == [
        (State.READY, A),
        (State.UNCERTAIN, AT_B),
        (State.DEFERRED, A),
        (State.UNCERTAIN, AT_B),
        (State.READY, AT_B),
    ]
    waited = [(r.attempts, r.first_tried_at, r.waited, r.pinned) for r, _, _ in known.recipients]
    assert waited == [
        (0, None, 0.0, False),
        (3, NOW - 100, 100.0 + 300.0, True),
        (3, NOW - 4000, 4000.0, False),
        (1, NOW - 100000, 3600.0, True),
        (1, NOW - 100000, 3600.0, True),
    ]
    jobs = await store.claim(want(messages=10_000), want(sender="uid-2"), want(AT_B))
    assert {job.message.queue_id: octets(job.message) for job in jobs} == former.bodies
    assert (await store.count()).dead_letters == 1
    left = {path.name for path in former.folder.iterdir()}
    assert not {"queue.db", "queue.db-wal", "queue.db-shm"} & left
    await finish_all(store, jobs)


async def finish_all(store: StoreRig, jobs: Sequence[Job]) -> None:
    """All of them are delivered."""
    answers = await asyncio.gather(
        *[store.finish(job, moves(job, Result.DELIVERED)) for job in jobs]
    )
    assert answers == [None] * len(jobs)


async def test_everything_comes_along(make_store: Make, tmp_path: Path) -> None:
    former = write(tmp_path / "spool", more=1200)
    store = make_store()
    opened = store.open()
    assert ready(opened.ready)[A, "uid-2"] == 1
    assert opened.found == [FoundLease("EVERY", "1@example.com", "b")]
    await check(store, opened, former)
    await store.close()
    again = make_store().open()
    assert again.messages == 1, "what waits for a time is left"


async def test_it_may_be_cut_off_at_any_sync(tmp_path: Path) -> None:
    """The machine goes down at the first sync of the step, at the second, and so on."""
    for cut in range(1, 100):
        former = write(tmp_path / str(cut), more=takeover.BATCH + 50)
        vfs = RecordingVFS()
        left = cut

        def die(_: str) -> None:
            nonlocal left
            left -= 1
            if left <= 0:
                raise apsw.IOError("the machine goes down")

        vfs.before_sync = die
        store = disk(tmp_path / str(cut), vfs=vfs.name)
        with contextlib.suppress(StoreError):
            store.open()
        await store.crash()
        done = left > 0
        store = disk(tmp_path / str(cut))
        await check(store, store.open(), former)
        await store.close()
        if done:
            break
    assert done and cut > 5


async def test_a_gateway_that_went_back_in_between_loses_nothing(
    make_store: Make, tmp_path: Path
) -> None:
    """The former version ran again beside the new database: its mail is taken over too."""
    write(tmp_path / "spool")
    store = make_store()
    store.open()
    await store.close()
    former = FormerSpool(tmp_path / "spool", NOW)
    former.put("LATER", b"later", (READY, 0, None, None, False, "a"))
    former.close()
    store = make_store()
    assert store.open().messages == 4
    jobs = await store.claim(want())
    assert "LATER" in {job.message.queue_id for job in jobs}


async def test_a_damaged_former_spool_is_put_apart_and_can_be_salvaged(
    make_store: Make, tmp_path: Path
) -> None:
    spool = tmp_path / "spool"
    former = write(spool, more=3000)
    connection = apsw.Connection(str(spool / "queue.db"))
    connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)
    page_size = connection.pragma("page_size")
    connection.close()
    size = (spool / "queue.db").stat().st_size // page_size
    with (spool / "queue.db").open("r+b") as file:
        file.seek((size - 3) * page_size)
        file.write(b"\xa5" * page_size)
    store = make_store()
    opened = store.open()
    assert opened.quarantine.databases == 1
    taken = opened.messages
    jobs = await store.claim(want(messages=10_000))
    await finish_all(store, jobs)
    await store.close()
    (report,) = salvage(spool, now=NOW)
    assert report.messages >= taken
    again = make_store()
    left = again.open().messages
    fresh = await again.claim(want(messages=10_000))
    assert not {job.message.queue_id for job in jobs} & {job.message.queue_id for job in fresh}
    assert left <= len(former.bodies)
