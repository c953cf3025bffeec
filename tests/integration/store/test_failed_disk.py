"""After a failed fsync the disk store touches no file, and keeps nothing that it answered 451."""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import Callable
from pathlib import Path

import apsw
import pytest

from mailrelay_gateway.message.envelope import Result
from mailrelay_gateway.queue.item import State
from tests.integration.store.rig import (
    A,
    StoreRig,
    entry,
    message,
    moves,
    octets,
    ready,
    states,
    want,
)
from tests.integration.store.vfs import RecordingVFS, Sync, Truncate, Write

Make = Callable[..., StoreRig]


def refuse_sync(suffix: str) -> Callable[[str], None]:
    """A disk that fails to sync files of this name."""

    def before(name: str) -> None:
        if name.endswith(suffix):
            raise apsw.IOError("the disk does not answer")

    return before


async def test_what_was_refused_is_gone_and_the_rest_is_there(
    make_store: Make, tmp_path: Path
) -> None:
    vfs = RecordingVFS()
    failures: list[str] = []
    store = make_store(vfs=vfs.name, failures=failures)
    store.open()
    kept = await store.put("x@example.com")
    leased = await store.put("x@example.com", leased_at="a")
    small = message("x@example.com")
    large = message("x@example.com")
    body = store.write_body(large.queue_id, b"z" * 500_000)
    large = message("x@example.com", queue_id=large.queue_id, body=body)
    ids = (small.queue_id, large.queue_id)

    touched: list[Write | Truncate | Sync] = []
    vfs.before_sync = refuse_sync("-wal")
    answers = await asyncio.gather(
        store.accept(entry(store.next(), small, "x@example.com")),
        store.accept(entry(store.next(), large, "x@example.com")),
        store.finish(leased, moves(leased, Result.DELIVERED)),
    )
    vfs.record = touched.append
    assert [problem.reply.code for problem in answers if problem] == [451, 451, 451]
    assert store.store.failed
    later = await store.accept(entry(store.next(), message("x@example.com"), "x@example.com"))
    assert later is not None and later.reply.code == 451
    problem = store.store.problem()
    assert problem is not None and problem.reply.code == 451
    await store.close()
    assert touched == [], "no file is touched after the failure"
    assert store.store.body_path(large.queue_id).exists()
    assert len(failures) == 1 and str(tmp_path) in failures[0]

    seen: list[Write | Truncate | Sync] = []
    recording = RecordingVFS(seen.append)
    again = make_store(vfs=recording.name)
    opened = again.open()
    emptied = seen.index(Truncate("queue2.db-wal", 0))
    assert Sync("queue2.db") in seen[:emptied], "what the log held is durable before it is cut"
    assert not any(
        isinstance(event, Write) and event.path.endswith("-wal") for event in seen[:emptied]
    ), "nothing is added to a log that may have a hole"
    assert opened.messages in {1, 2}, "the finish may have come to be, or not"
    assert ready(opened.ready) == {(A, "uid-1"): 1}
    for queue_id in ids:
        assert await again.find(queue_id) is None
    assert not again.store.body_path(large.queue_id).exists()
    (job,) = await again.claim(want())
    assert octets(job.message) == octets(kept.message)


async def test_a_failed_sync_of_the_database_at_a_checkpoint_is_not_tried_again(
    make_store: Make,
) -> None:
    vfs = RecordingVFS()
    failures: list[str] = []
    store = make_store(vfs=vfs.name, failures=failures, checkpoint_after=1)
    store.open()
    vfs.before_sync = refuse_sync(".db")
    kept = await store.put("x@example.com")
    later = await store.accept(entry(store.next(), message("x@example.com"), "x@example.com"))
    assert later is not None and later.reply.code == 451
    assert store.store.failed and len(failures) == 1
    await store.close()
    again = make_store()
    assert again.open().messages == 1
    assert states(await again.find(kept.message.queue_id)) == [State.READY]


async def test_a_failed_sync_of_the_bodies_folder_is_a_failed_disk(make_store: Make) -> None:
    def fail(_: int) -> None:
        raise OSError(errno.EIO, "the disk does not answer")

    store = make_store(sync_bodies=fail)
    store.open()
    large = message("x@example.com")
    body = store.write_body(large.queue_id, b"z" * 500_000)
    large = message("x@example.com", queue_id=large.queue_id, body=body)
    problem = await store.accept(entry(store.next(), large, "x@example.com"))
    assert problem is not None and problem.reply.code == 451
    assert store.store.failed


async def test_want_of_descriptors_is_no_failed_disk(make_store: Make) -> None:
    short = True

    def fail(descriptor: int) -> None:
        if short:
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        os.fsync(descriptor)

    store = make_store(sync_bodies=fail)
    store.open()
    job = await store.put("x@example.com", leased_at="a")
    large = message("x@example.com")
    body = store.write_body(large.queue_id, b"z" * 500_000)
    large = message("x@example.com", queue_id=large.queue_id, body=body)
    to_store = entry(store.next(), large, "x@example.com")
    answers = await asyncio.gather(
        store.accept(to_store), store.finish(job, moves(job, Result.DELIVERED))
    )
    assert answers[0] is not None and answers[0].reply.code == 451
    assert answers[1] is None, "an end is stored though a message beside it cannot be"
    assert not store.store.failed
    assert not store.store.body_path(large.queue_id).exists(), "nobody will send it again"
    short = False
    store.write_body(large.queue_id, b"z" * 500_000)
    assert await store.accept(to_store) is None


async def test_descriptors_are_not_needed_to_store(make_store: Make) -> None:
    """With every descriptor of the process in use."""
    store = make_store()
    store.open()
    bodies = []
    for _ in range(3):
        plain = message("x@example.com")
        body = store.write_body(plain.queue_id, b"z" * 500_000)
        bodies.append(message("x@example.com", queue_id=plain.queue_id, body=body))
    taken = []
    try:
        while True:
            taken.append(os.dup(0))
    except OSError:
        pass
    try:
        answers = [
            await store.accept(entry(store.next(), large, "x@example.com", leased_at="a"))
            for large in bodies
        ]
        assert answers == [None, None, None]
        await store.put("x@example.com")
        assert len(await store.claim(want())) == 1
        assert (await store.count()).messages == 4
    finally:
        for descriptor in taken:
            os.close(descriptor)


@pytest.mark.parametrize("large", [False, True])
async def test_a_full_volume_refuses_mail_and_takes_removals(
    make_store: Make, tmp_path: Path, large: bool
) -> None:
    vfs = RecordingVFS()
    store = make_store(vfs=vfs.name)
    store.open()
    jobs = [await store.put("x@example.com", body=b"y" * 9000, leased_at="a") for _ in range(20)]
    reserve = tmp_path / "spool" / "reserve"
    assert reserve.exists()

    def full(name: str, offset: int, amount: int) -> None:
        path = tmp_path / "spool" / name
        if reserve.exists() and offset + amount > path.stat().st_size:
            raise apsw.FullError("no space")

    vfs.before_write = full
    new = message("x@example.com", body=b"n" * (200_000 if large else 10))
    answers = await asyncio.gather(
        store.accept(entry(store.next(), new, "x@example.com")),
        *[store.finish(job, moves(job, Result.DELIVERED)) for job in jobs],
    )
    problem, *ends = answers
    assert problem is not None and problem.reply.code == 452
    assert ends == [None] * 20
    assert not store.store.failed
    problem = store.store.problem()
    assert problem is not None and problem.reply.code == 452


async def test_a_volume_found_full_is_opened_with_the_reserve(
    make_store: Make, tmp_path: Path
) -> None:
    store = make_store()
    store.open()
    job = await store.put("x@example.com", leased_at="a")
    await store.close()
    reserve = tmp_path / "spool" / "reserve"
    vfs = RecordingVFS()

    def full(name: str, offset: int, amount: int) -> None:
        path = tmp_path / "spool" / name
        if reserve.exists() and offset + amount > path.stat().st_size:
            raise apsw.FullError("no space")

    vfs.before_write = full
    again = make_store(vfs=vfs.name, low_water=1 << 62)
    opened = again.open()
    assert opened.messages == 1
    problem = again.store.problem()
    assert problem is not None and problem.reply.code == 452
    assert states(await again.find(job.message.queue_id)) == [State.UNCERTAIN]


async def test_free_pages_are_no_room_for_bodies_in_files(make_store: Make, tmp_path: Path) -> None:
    """A database with room inside, on a volume without: small mail goes in, large mail does not."""
    store = make_store()
    store.open()
    jobs = [await store.put("x@example.com", body=b"y" * 200_000, leased_at="a") for _ in range(40)]
    for job in jobs:
        assert await store.finish(job, moves(job, Result.DELIVERED)) is None
    await store.close()
    free = os.statvfs(tmp_path)
    room = free.f_bavail * free.f_frsize
    again = make_store(low_water=room + 4_000_000, reserve=0)
    again.open()
    again.store.problem()
    counts = await again.count()
    assert counts.free_octets > room
    # the look that found the free pages is answered before the count
    await asyncio.sleep(0)
    assert again.store.problem(1000) is None
    problem = again.store.problem(500_000)
    assert problem is not None and problem.reply.code == 452
