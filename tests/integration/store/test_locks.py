"""Somebody else's lock is waited out, and a folder that cannot be used says so in a sentence."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path

import apsw
import pytest
import structlog

from mailrelay_gateway.message.envelope import Result
from mailrelay_gateway.queue.disk.schema import VERSION
from mailrelay_gateway.queue.store import StoreError
from tests.integration.store.rig import StoreRig, disk, entry, message, moves

Make = Callable[..., StoreRig]


async def test_a_shell_that_holds_a_lock_is_waited_out(make_store: Make, tmp_path: Path) -> None:
    failures: list[str] = []
    store = make_store(failures=failures)
    store.open()
    job = await store.put("x@example.com", leased_at="a")
    large = message("x@example.com")
    body = store.write_body(large.queue_id, b"z" * 500_000)
    large = message("x@example.com", queue_id=large.queue_id, body=body)
    shell = apsw.Connection(str(tmp_path / "spool" / "queue2.db"))
    shell.execute("BEGIN IMMEDIATE")
    with structlog.testing.capture_logs() as lines:
        new = asyncio.create_task(store.accept(entry(store.next(), large, "x@example.com")))
        end = asyncio.create_task(store.finish(job, moves(job, Result.DELIVERED)))
        problem = await asyncio.wait_for(new, 20)
        assert problem is not None and problem.reply.code == 451
        assert not store.store.body_path(large.queue_id).exists()
        refused = store.store.problem()
        assert refused is not None and refused.reply.code == 451
        at_once = await store.accept(entry(store.next(), message("x@example.com"), "x@example.com"))
        assert at_once is not None and at_once.reply.code == 451
        assert store.store.waiting_seconds() == 0.0, "no reason to kill the gateway"
        assert not end.done()
        shell.execute("ROLLBACK")
        shell.close()
        assert await asyncio.wait_for(end, 20) is None
    assert not store.store.failed and failures == []
    assert store.store.problem() is None
    assert [line["event"] for line in lines] == ["spool_locked", "spool_unlocked"]
    assert "Another program" in lines[0]["hint"]
    await store.put("x@example.com")
    assert (await store.count()).messages == 1


async def test_a_reader_does_not_hold_up_mail(make_store: Make, tmp_path: Path) -> None:
    store = make_store(checkpoint_after=1)
    store.open()
    shell = apsw.Connection(str(tmp_path / "spool" / "queue2.db"))
    shell.execute("BEGIN")
    shell.execute("SELECT count(*) FROM messages").fetchall()
    for _ in range(5):
        await store.put("x@example.com")
    shell.close()
    assert (await store.count()).messages == 5


async def test_close_gives_up_on_a_lock_at_its_deadline(make_store: Make, tmp_path: Path) -> None:
    store = make_store()
    store.open()
    job = await store.put("x@example.com", leased_at="a")
    shell = apsw.Connection(str(tmp_path / "spool" / "queue2.db"))
    shell.execute("BEGIN IMMEDIATE")
    end = asyncio.create_task(store.finish(job, moves(job, Result.DELIVERED)))
    await asyncio.sleep(0)
    started = time.monotonic()
    await store.store.close(1.0)
    assert time.monotonic() - started < 30
    shell.close()
    problem = await asyncio.wait_for(end, 20)
    assert problem is not None
    assert make_store().open().messages == 1


async def test_a_second_gateway_is_kept_out(make_store: Make) -> None:
    make_store().open()
    with pytest.raises(StoreError, match="in use by another gateway: stop that one"):
        make_store().open()


async def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="cannot be written"):
        disk(tmp_path / "file").open()


async def test_a_newer_schema_is_left_alone(make_store: Make, tmp_path: Path) -> None:
    store = make_store()
    store.open()
    await store.close()
    path = tmp_path / "spool" / "queue2.db"
    with apsw.Connection(str(path)) as connection:
        connection.pragma("user_version", VERSION + 1)
    connection.close()
    before = path.read_bytes()
    said = f"schema {VERSION + 1}, this mailrelay knows {VERSION}: start the newer"
    with pytest.raises(StoreError, match=said):
        make_store().open()
    assert path.read_bytes() == before and not (tmp_path / "spool" / "quarantine").exists()


async def test_a_database_of_somebody_else_is_left_alone(make_store: Make, tmp_path: Path) -> None:
    path = tmp_path / "spool" / "queue2.db"
    path.parent.mkdir()
    with apsw.Connection(str(path)) as connection:
        connection.execute("CREATE TABLE theirs (x)")
    connection.close()
    with pytest.raises(StoreError, match="not a mailrelay queue"):
        make_store().open()
    assert path.exists()


async def test_a_lock_at_the_start_is_named(make_store: Make, tmp_path: Path) -> None:
    store = make_store()
    store.open()
    await store.close()
    shell = apsw.Connection(str(tmp_path / "spool" / "queue2.db"))
    shell.pragma("locking_mode", "exclusive")
    shell.execute("BEGIN EXCLUSIVE")
    with pytest.raises(StoreError, match="locked by another program"):
        make_store().open()
    shell.close()
