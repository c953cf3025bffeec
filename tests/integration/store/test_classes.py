"""Classes of mail lie apart, and a database of schema 2 gets them in one step."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path

import apsw

from mailrelay_gateway.message.envelope import Result
from mailrelay_gateway.queue.disk.schema import DATABASE, VERSION
from mailrelay_gateway.queue.item import State
from mailrelay_gateway.queue.store import StoreError
from tests.integration.store.rig import AB, NOW, A, B, StoreRig, disk, moves, ready, want
from tests.integration.store.schema_two import make_schema_two
from tests.integration.store.vfs import RecordingVFS

Make = Callable[..., StoreRig]
BULK = A.of_class(bulk=True)


def database(folder: Path) -> apsw.Connection:
    return apsw.Connection(str(folder / DATABASE))


async def test_a_claim_is_of_one_class(store: StoreRig) -> None:
    plain = await store.put("a@example.com")
    bulk = await store.put("b@example.com", route=BULK)
    assert ready((await store.count()).ready) == {(A, "uid-1"): 1, (BULK, "uid-1"): 1}
    (first,) = await store.claim(want(BULK))
    assert (first.message, first.route) == (bulk.message, BULK)
    (second,) = await store.claim(want())
    assert second.message == plain.message


async def test_the_class_stays_with_what_waits(make_store: Make) -> None:
    store = make_store()
    store.open()
    await store.put("a@example.com", "b@example.com", route=BULK, leased_at="a")
    await store.put("c@example.com", route=BULK)
    (job,) = await store.claim(want(BULK))
    await store.finish(job, moves(job, Result.UNCERTAIN))
    await store.crash()
    again = make_store()
    opened = again.open()
    assert len(opened.found) == 2
    due = await again.due(now=NOW + 1e6)
    assert ready(due.ready) == {(BULK.pinned_to("a"), "uid-1"): 3}


async def test_another_route_is_of_the_same_class(store: StoreRig) -> None:
    await store.put("a@example.com", route=AB.of_class(bulk=True))
    await store.put("b@example.com", route=AB)
    page = await store.reroute(
        [AB, AB.of_class(bulk=True)], lambda sketch: B.of_class(bulk=sketch.bulk)
    )
    assert {(old, new) for (old, _), (new, _) in page.ready} == {
        (AB, B),
        (AB.of_class(bulk=True), B.of_class(bulk=True)),
    }


async def test_the_plan_of_a_claim_needs_no_sorting(store: StoreRig, tmp_path: Path) -> None:
    await store.put("a@example.com", route=BULK)
    await store.close()
    with database(tmp_path / "spool") as connection:
        plan = [
            row[3]
            for row in connection.execute(
                "EXPLAIN QUERY PLAN SELECT seq, n FROM recipients"
                " WHERE state=0 AND route=? AND sender=? ORDER BY seq, n",
                (1, 1),
            )
        ]
    connection.close()
    assert len(plan) == 1
    assert "USING COVERING INDEX recipients_ready (route=? AND sender=?)" in plan[0]


async def write(folder: Path) -> None:
    """A spool of schema 2 with one message that is ready, one that waits and one in a lease."""
    store = disk(folder)
    store.open()
    await store.put("ready@example.com")
    await store.put("waits@example.com", route=AB)
    (job,) = await store.claim(want(AB))
    await store.finish(job, moves(job, Result.DEFERRED))
    await store.put("leased@example.com", leased_at="a")
    await store.crash()
    with database(folder) as connection:
        make_schema_two(connection)
    connection.close()


async def check(store: StoreRig) -> None:
    """All of it is there, and Transactional."""
    opened = store.open()
    assert opened.messages == 3
    assert ready(opened.ready) == {(A, "uid-1"): 1}
    (job,) = await store.claim(want())
    assert [r.address for r in job.recipients] == ["ready@example.com"]
    assert not job.message.bulk
    due = await store.due(now=NOW + 1e6)
    assert ready(due.ready) == {(AB, "uid-1"): 1, (A.pinned_to("a"), "uid-1"): 1}


async def test_a_database_of_schema_two_comes_along(make_store: Make, tmp_path: Path) -> None:
    await write(tmp_path / "spool")
    store = make_store()
    await check(store)
    await store.put("b@example.com", route=BULK)
    assert [job.route for job in await store.claim(want(BULK))] == [BULK]
    await store.close()
    with database(tmp_path / "spool") as connection:
        assert connection.pragma("user_version") == VERSION
    connection.close()


async def test_the_step_may_be_cut_off_at_any_sync(tmp_path: Path) -> None:
    """The machine goes down at the first sync of the start, at the second, and so on."""
    for cut in range(1, 20):
        folder = tmp_path / str(cut)
        await write(folder)
        vfs = RecordingVFS()
        left = cut

        def die(_: str) -> None:
            nonlocal left
            left -= 1
            if left <= 0:
                raise apsw.IOError("the machine goes down")

        vfs.before_sync = die
        store = disk(folder, vfs=vfs.name)
        with contextlib.suppress(StoreError):
            store.open()
        await store.crash()
        done = left > 0
        again = disk(folder)
        await check(again)
        await again.close()
        if done:
            assert cut > 1, "nothing was cut off"
            return
    raise AssertionError("the step has no end")


def test_what_waits_keeps_its_states() -> None:
    """The numbers on disk do not change with the schema."""
    assert [int(state) for state in State] == [0, 1, 2, 3]
