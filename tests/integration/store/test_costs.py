"""What a request costs does not grow with what others have in the queue."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import apsw

from mailrelay_gateway.message.envelope import Identity, Result
from mailrelay_gateway.queue.disk.accepting import accept
from mailrelay_gateway.queue.disk.claiming import claim
from mailrelay_gateway.queue.disk.dead_letters import DeadLetters
from mailrelay_gateway.queue.disk.finishing import finish
from mailrelay_gateway.queue.disk.names import Names
from mailrelay_gateway.queue.disk.schema import connect
from mailrelay_gateway.queue.disk.tables import Bodies, Effects, Tables
from mailrelay_gateway.queue.disk.waiting import due
from mailrelay_gateway.queue.item import Job
from mailrelay_gateway.queue.store import Ended
from tests.integration.store.rig import NOW, OTHER, A, StoreRig, entry, message, moves, want
from tests.integration.store.vfs import RecordingVFS


class Steps:
    """Counts the steps of SQLite's machine, and the statements."""

    def __init__(self, connection: apsw.Connection) -> None:
        self.steps = 0
        self.statements: list[str] = []
        connection.trace_v2(apsw.SQLITE_TRACE_PROFILE, self._note)

    def _note(self, event: dict[str, Any]) -> None:
        self.steps += event["stmt_status"]["SQLITE_STMTSTATUS_VM_STEP"]
        self.statements.append(event["sql"])

    def of(self, work: Callable[[], object]) -> int:
        """What some work takes."""
        self.steps = 0
        self.statements = []
        work()
        return self.steps


def tables(folder: Path) -> Tables:
    """An empty queue."""
    (folder / "bodies").mkdir(parents=True)
    connection = connect(str(folder / "queue2.db"))
    bodies = Bodies(folder / "bodies")
    return Tables(connection, Names(connection), bodies, DeadLetters(connection, volume=1 << 40))


def fill(tables: Tables, count: int, identity: Identity, first: int) -> None:
    """So many READY messages of a sender."""
    with tables.connection:
        accept(
            tables,
            [
                entry(first + n, message("x@example.com", identity=identity), "x@example.com")
                for n in range(count)
            ],
            Effects(),
        )


def test_a_claim_does_not_see_the_backlog_of_others(tmp_path: Path) -> None:
    taken = []
    for backlog in (100, 20_000):
        there = tables(tmp_path / str(backlog))
        fill(there, backlog, OTHER, 1)
        fill(there, 3, message().identity, backlog + 1)
        steps = Steps(there.connection)
        jobs: list[Job] = []

        def work(there: Tables = there, jobs: list[Job] = jobs) -> None:
            jobs += claim(there, [want()], put_off_until=NOW, effects=Effects())

        taken.append(steps.of(work))
        assert len(jobs) == 3
        there.connection.close()
        there.bodies.close()
    assert taken[1] < taken[0] * 1.2


def test_a_claim_of_few_does_not_see_the_senders_own_backlog(tmp_path: Path) -> None:
    taken = []
    for backlog in (100, 20_000):
        there = tables(tmp_path / str(backlog))
        fill(there, backlog, OTHER, 1)
        steps = Steps(there.connection)

        def work(there: Tables = there) -> None:
            claim(there, [want(sender="uid-2", messages=10)], put_off_until=NOW, effects=Effects())

        taken.append(steps.of(work))
        there.connection.close()
        there.bodies.close()
    assert taken[1] < taken[0] * 1.2


def test_a_first_attempt_reads_nothing_and_takes_few_statements(tmp_path: Path) -> None:
    there = tables(tmp_path)
    fill(there, 20, message().identity, 1)  # names are known
    steps = Steps(there.connection)
    entries = [
        entry(100 + n, message("x@example.com"), "x@example.com", leased_at="a") for n in range(32)
    ]
    accept(there, entries, Effects())
    assert len(steps.statements) == 2
    endings = []
    for one in entries:
        job = Job(one.seq, one.message, A, one.parts[0].recipients, "a")
        endings.append(Ended(job, moves(job, Result.DELIVERED), "a", NOW))
    steps.statements = []
    finish(there, endings, Effects())
    assert len(steps.statements) == 2
    assert not any(sql.startswith("SELECT") for sql in steps.statements)
    there.connection.close()
    there.bodies.close()


def test_recipients_that_are_deferred_together_are_one_statement(tmp_path: Path) -> None:
    there = tables(tmp_path)
    addresses = [f"{n}@example.com" for n in range(500)]
    one = entry(1, message(*addresses), *addresses, leased_at="a")
    accept(there, [one], Effects())
    job = Job(1, one.message, A, one.parts[0].recipients, "a")
    steps = Steps(there.connection)
    finish(there, [Ended(job, moves(job, Result.DEFERRED), "a", NOW)], Effects())
    assert len(steps.statements) == 1
    assert due(there, now=NOW + 100, latest=1e12, most=1000).ready
    there.connection.close()
    there.bodies.close()


async def test_counting_reads_no_body(make_store: Callable[..., StoreRig], tmp_path: Path) -> None:
    vfs = RecordingVFS()
    store = make_store(vfs=vfs.name)
    store.open()
    await asyncio.gather(*[store.put("x@example.com", body=b"b" * 200_000) for _ in range(60)])
    reads = 0

    def count(name: str) -> None:
        nonlocal reads
        reads += 1

    vfs.before_read = count
    counts = await store.count()
    assert counts.messages == 60
    assert counts.by_route, "counted"
    assert reads < 150, "60 bodies are 1,500 pages"
