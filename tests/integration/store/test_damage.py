"""Damage: mail flows on, nothing is deleted, and what can be read is sent after a salvage."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import apsw
import pytest
import structlog

from mailrelay_gateway.message.envelope import Result
from mailrelay_gateway.metrics import Metrics
from mailrelay_gateway.queue.disk.salvage import SalvageRunning, salvage
from mailrelay_gateway.queue.disk.schema import PAGE_SIZE
from mailrelay_gateway.queue.item import State
from mailrelay_gateway.queue.store import Quarantine
from mailrelay_gateway.reasons import Reason
from tests.integration.store.rig import (
    LEASE,
    NOW,
    A,
    StoreRig,
    disk,
    entry,
    message,
    moves,
    octets,
    ready,
    states,
    want,
)

Make = Callable[..., StoreRig]


def spoil(path: Path, page: int) -> None:
    """Overwrite a page (the first is 1)."""
    with path.open("r+b") as file:
        file.seek((page - 1) * PAGE_SIZE)
        file.write(b"\xa5" * PAGE_SIZE)


def leaves(path: Path, table: str) -> list[int]:
    """The numbers of the pages that hold a table's rows."""
    root_and_pages = apsw.Connection(str(path))
    root = root_and_pages.execute("SELECT rootpage FROM sqlite_schema WHERE name=?", (table,)).get
    root_and_pages.close()
    data = path.read_bytes()
    found: list[int] = []

    def walk(number: int) -> None:
        start = (number - 1) * PAGE_SIZE
        kind = data[start]
        if kind in {13, 10}:
            found.append(number)
            return
        cells = int.from_bytes(data[start + 3 : start + 5], "big")
        for n in range(cells):
            at = start + 12 + 2 * n
            cell = start + int.from_bytes(data[at : at + 2], "big")
            walk(int.from_bytes(data[cell : cell + 4], "big"))
        walk(int.from_bytes(data[start + 8 : start + 12], "big"))

    walk(root)
    return found


async def filled(make_store: Make, count: int = 60) -> dict[str, bytes]:
    """A stopped store with messages: their octets by queue id."""
    store = make_store()
    store.open()
    sent = {}
    for n in range(count):
        body = b"L" * 400_000 if n == 7 else b"%d " % n * 700
        put = await store.put("x@example.com", "y@example.com", body=body)
        sent[put.message.queue_id] = octets(put.message)
    await store.close()
    return sent


@pytest.mark.parametrize("how", ["no database at all", "first page", "cut short", "empty log"])
async def test_mail_flows_and_nothing_is_deleted(
    make_store: Make, tmp_path: Path, how: str
) -> None:
    sent = await filled(make_store)
    database = tmp_path / "spool" / "queue2.db"
    if how == "no database at all":
        database.write_bytes(b"not SQLite " * 5000)
    elif how == "first page":
        spoil(database, 1)
    elif how == "cut short":
        with database.open("r+b") as file:
            file.truncate(PAGE_SIZE * 3)
    else:
        database.rename(tmp_path / "elsewhere.db")  # as a person would
    before = database.read_bytes() if database.exists() else None
    store = make_store()
    with structlog.testing.capture_logs() as lines:
        opened = store.open()
    assert opened.messages == 0
    put = await store.put("x@example.com")
    (job,) = await store.claim(want())
    assert job.message == put.message
    quarantine = tmp_path / "spool" / "quarantine"
    body = next(iter((quarantine / "bodies").iterdir()))
    assert body.name in sent and body.stat().st_size == 400_000
    if before is None:
        assert opened.quarantine == Quarantine(databases=0, bodies=1, octets=400_000)
    else:
        assert (opened.quarantine.databases, opened.quarantine.bodies) == (1, 1)
        (moved,) = quarantine.glob("*/queue2.db")
        assert moved.read_bytes() == before
    assert any(
        f"mailrelay queue salvage {tmp_path / 'spool'}" in line.get("hint", "") for line in lines
    )


async def test_damage_found_while_serving_is_quarantined_at_the_next_start(
    make_store: Make, tmp_path: Path
) -> None:
    sent = await filled(make_store)
    database = tmp_path / "spool" / "queue2.db"
    for page in leaves(database, "messages")[2:4]:
        spoil(database, page)
    failures: list[str] = []
    store = make_store(failures=failures)
    assert store.open().messages == 60, "the damage is not seen at the start"
    answer: list[object] = []
    store.store.claim([want(messages=60)], LEASE, answer.append)
    refused = await store.accept(entry(store.next(), message("x@example.com"), "x@example.com"))
    assert refused is not None and refused.reply.code == 451
    assert store.store.failed and len(failures) == 1
    await store.close()

    again = make_store()
    opened = again.open()
    assert (opened.messages, opened.quarantine.databases, opened.quarantine.bodies) == (0, 1, 1)
    await again.put("x@example.com")
    await again.close()

    (report,) = salvage(tmp_path / "spool", now=time.time())
    assert report.messages + report.lost == 60
    assert 0 < report.lost <= 10, "what lies on two pages"
    assert report.recipients == 2 * report.messages
    third = make_store()
    assert third.open().messages == report.messages + 1
    jobs = await third.claim(want())
    assert len(jobs) == report.messages + 1
    for job in jobs:
        if job.message.queue_id in sent:
            assert octets(job.message) == sent[job.message.queue_id]
    assert len({job.message.queue_id for job in jobs} & set(sent)) == report.messages


async def test_salvage_of_a_damaged_first_page_and_twice(make_store: Make, tmp_path: Path) -> None:
    sent = await filled(make_store)
    spool = tmp_path / "spool"
    spoil(spool / "queue2.db", 1)
    store = make_store()
    store.open()
    await store.close()
    command = [sys.executable, "-m", "mailrelay_gateway.queue.disk.salvage", str(spool)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "60 messages to 120 recipients read, 0 lost" in done.stdout
    assert "Restart the gateway" in done.stdout

    store = make_store()
    opened = store.open()
    assert opened.messages == 60
    assert ready(opened.ready) == {(A, "uid-1"): 120}
    jobs = await store.claim(want())
    assert {job.message.queue_id: octets(job.message) for job in jobs} == sent
    for job in jobs[:30]:
        assert await store.finish(job, moves(job, Result.DELIVERED), now=NOW) is None
    await store.close()
    assert list((spool / "salvaged").iterdir()) == []

    subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    store = make_store()
    opened = store.open()
    assert opened.messages == 30, "what was sent is not sent again, what is here not stored twice"


async def test_salvage_of_nothing_leaves_nothing(make_store: Make, tmp_path: Path) -> None:
    store = make_store()
    store.open()
    salvaged = tmp_path / "spool" / "salvaged"
    salvaged.mkdir()
    for name in ("one.new", "one.new-journal", "one.copy"):  # of one that was stopped
        (salvaged / name).write_bytes(b"half")
    assert salvage(tmp_path / "spool", now=NOW) == []
    assert list(salvaged.iterdir()) == []


async def test_two_salvages_do_not_meet(make_store: Make, tmp_path: Path) -> None:
    store = make_store()
    store.open()
    spool = tmp_path / "spool"
    (spool / "salvaged").mkdir()
    folder = os.open(spool / "salvaged", os.O_RDONLY)
    fcntl.flock(folder, fcntl.LOCK_EX)
    with pytest.raises(SalvageRunning):
        salvage(spool, now=NOW)
    os.close(folder)


async def test_a_body_that_is_not_whole_is_never_sent(make_store: Make, tmp_path: Path) -> None:
    store = make_store()
    store.open()
    missing = await store.put("x@example.com", "y@example.com", body=b"m" * 300_000)
    short = await store.put("x@example.com", body=b"s" * 300_000)
    in_row = await store.put("x@example.com", body=b"r" * 1000)
    fine = await store.put("x@example.com")
    store.store.body_path(missing.message.queue_id).unlink()
    with store.store.body_path(short.message.queue_id).open("r+b") as file:
        file.truncate(299_999)
    await store.close()
    with apsw.Connection(str(tmp_path / "spool" / "queue2.db")) as connection:
        connection.execute("UPDATE messages SET body='' WHERE seq=?", (in_row.seq,))
    connection.close()

    store = make_store()
    store.open()
    with structlog.testing.capture_logs() as lines:
        jobs = await store.claim(want(messages=1))
    assert [job.message.queue_id for job in jobs] == [fine.message.queue_id]
    logged = {line["queue_id"] for line in lines if line["event"] == "body_damaged"}
    assert logged == {job.message.queue_id for job in (missing, short, in_row)}
    for job in (missing, short, in_row):
        assert set(states(await store.find(job.message.queue_id))) == {State.DEFERRED}
    assert (await store.due(now=NOW)).next_at == NOW + 3600
    due = await store.due(now=NOW + 3601)
    assert sum(due.ready.values()) == 4
    await store.close()
    with apsw.Connection(str(tmp_path / "spool" / "queue2.db")) as connection:
        assert {
            reason for (reason,) in connection.execute("SELECT DISTINCT reason FROM recipients")
        } == {Reason.INTERNAL_ERROR, ""}
    connection.close()


async def test_files_of_an_ordinary_crash_are_removed_and_others_kept(
    make_store: Make, tmp_path: Path
) -> None:
    now = time.time()
    store = make_store()
    store.open(now=now - 1)
    kept = await store.put("x@example.com", body=b"k" * 300_000)
    store.write_body("ABORTED", b"a" * 300_000)
    bodies = tmp_path / "spool" / "bodies"
    old = bodies / "OLD"
    old.write_bytes(b"o" * 300_000)
    os.utime(old, (now - 1000, now - 1000))
    # a crash: the folder is given back without a word
    await store.crash()
    again = make_store()
    opened = again.open(now=now)
    assert [path.name for path in bodies.iterdir()] == [kept.message.queue_id]
    assert opened.quarantine == Quarantine(databases=0, bodies=1, octets=300_000)
    assert (tmp_path / "spool" / "quarantine" / "bodies" / "OLD").exists()


async def test_a_body_whose_message_had_just_left_is_removed_however_old_it_is(
    make_store: Make,
) -> None:
    """A crash between the commit and the removal of the file, in a later run than it came in."""
    now = time.time()
    store = make_store()
    store.open(now=now - 10)
    put = await store.put("x@example.com", body=b"k" * 300_000)
    body = store.store.body_path(put.message.queue_id)
    os.utime(body, (now - 5, now - 5))
    await store.crash()
    store = make_store()
    store.open(now=now - 1)
    os.link(body, body.with_name("aside"))
    (job,) = await store.claim(want())
    assert await store.finish(job, moves(job, Result.DELIVERED)) is None
    await store.crash()
    body.with_name("aside").rename(body)
    opened = make_store().open(now=now)
    assert opened.quarantine == Quarantine()
    assert not body.exists()


async def test_a_database_without_its_log_has_lost_something(
    make_store: Make, tmp_path: Path
) -> None:
    store = make_store()
    store.open(now=1.0)
    put = await store.put("x@example.com", body=b"k" * 300_000)
    await store.crash()
    (tmp_path / "spool" / "queue2.db-wal").unlink()
    again = make_store()
    opened = again.open()
    assert opened.messages == 0
    assert opened.quarantine.bodies == 1
    assert (tmp_path / "spool" / "quarantine" / "bodies" / put.message.queue_id).exists()


async def test_the_log_of_a_database_that_was_moved_is_kept(
    make_store: Make, tmp_path: Path
) -> None:
    """Somebody moves the database alone aside, after a crash; later puts it back beside its log."""
    spool = tmp_path / "spool"
    store = make_store()
    store.open()
    put = await store.put("x@example.com")
    await store.crash()
    (spool / "queue2.db").rename(tmp_path / "aside.db")
    store = make_store()
    opened = store.open()
    assert (opened.messages, opened.quarantine.databases) == (0, 1)
    await store.close()
    (log,) = spool.glob("quarantine/*/queue2.db-wal")
    (tmp_path / "aside.db").rename(log.with_name("queue2.db"))
    (report,) = salvage(spool, now=NOW)
    assert (report.messages, report.lost) == (1, 0)
    store = make_store()
    store.open()
    (job,) = await store.claim(want())
    assert octets(job.message) == octets(put.message)


async def test_metrics_say_what_lies_there(make_store: Make, tmp_path: Path) -> None:
    await filled(make_store, 8)
    (tmp_path / "spool" / "queue2.db").write_bytes(b"x" * 100_000)
    metrics = Metrics()
    store = disk(tmp_path / "spool", metrics=metrics)
    store.open()
    await store.close()
    text = metrics.render().decode()
    assert "mailrelay_spool_quarantined_databases 1.0" in text
    assert "mailrelay_spool_quarantined_bodies 1.0" in text
    assert "mailrelay_spool_quarantined_bytes 500" in text


async def test_the_command_finds_the_queue_of_a_data_folder(
    make_store: Make, tmp_path: Path
) -> None:
    await filled(make_store, 8)
    (tmp_path / "spool" / "queue2.db").write_bytes(b"x" * 100_000)
    store = make_store()
    store.open()
    await store.put("x@example.com")

    def mailrelay(*arguments: str) -> subprocess.CompletedProcess[str]:
        program = "from mailrelay_operator.cli.main import main; main()"
        command = [sys.executable, "-c", program, "queue", "salvage", *arguments]
        return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)

    for data in (tmp_path, tmp_path / "spool"):
        done = mailrelay(str(data))
        assert done.returncode == 1, done.stderr
        assert "quarantine/" in done.stdout and "queue2.db" in done.stdout
    empty = tmp_path / "empty"
    empty.mkdir()
    done = mailrelay(str(empty))
    assert (done.returncode, done.stderr) == (4, f"mailrelay: {empty} contains no queue.\n")
