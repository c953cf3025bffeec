"""Dead letters: one copy a message, bounded for each namespace and in all."""

from __future__ import annotations

from pathlib import Path

import apsw

from mailrelay_gateway.message.envelope import Identity, Message, Result
from mailrelay_gateway.queue.disk.dead_letters import DeadLetters
from mailrelay_gateway.queue.disk.schema import connect
from mailrelay_gateway.queue.item import Job, Move, Recipient
from tests.integration.store.rig import NOW, A, StoreRig, message, moves, want


def failed(job_message: Message, *addresses: str) -> list[Move]:
    recipients = tuple(Recipient(n, address) for n, address in enumerate(addresses))
    return moves(Job(1, job_message, A, recipients, "a"), Result.FAILED)


async def test_many_failed_recipients_share_one_copy(store: StoreRig, tmp_path: Path) -> None:
    body = b"b" * 200_000
    job = await store.put(*[f"{n}@example.com" for n in range(50)], body=body, leased_at="a")
    parted = moves(job, Result.DEFERRED, only=range(25, 50))
    for n in range(25):
        parted[n] = moves(job, Result.FAILED)[n]
    assert await store.finish(job, parted) is None
    await store.due(now=NOW + 3600)
    (rest,) = await store.claim(want())
    assert await store.finish(rest, moves(rest, Result.FAILED)) is None
    assert (await store.count()).dead_letters == 1
    await store.close()
    connection = apsw.Connection(str(tmp_path / "spool" / "queue2.db"))
    assert connection.execute("SELECT count(*) FROM dead_letters").get == 50
    copy, kept = connection.execute("SELECT message, octets FROM dead_messages").get
    connection.close()
    assert copy == job.message.prelude + body
    assert len(copy) < kept < len(copy) + 50 * 200


async def test_a_large_message_is_cut(store: StoreRig, tmp_path: Path) -> None:
    job = await store.put("x@example.com", body=b"b" * 2_000_000, leased_at="a")
    assert await store.finish(job, moves(job, Result.FAILED)) is None
    await store.close()
    connection = apsw.Connection(str(tmp_path / "spool" / "queue2.db"))
    copy = connection.execute("SELECT message FROM dead_messages").get
    connection.close()
    assert len(copy) == 256 * 1024
    assert copy.startswith(job.message.prelude + b"bbb")


def test_a_tenant_pushes_out_its_own(tmp_path: Path) -> None:
    connection = connect(str(tmp_path / "queue2.db"))
    dead = DeadLetters(
        connection,
        volume=1 << 40,
        namespace_messages=3,
        namespace_octets=100_000,
        total_messages=5,
        total_octets=1 << 30,
    )

    def bury(namespace: str, size: int = 100) -> str:
        identity = Identity(namespace=namespace, name="x", uid=namespace, username="x")
        one = message("x@example.com", identity=identity, body=b"b" * size)
        with connection:
            dead.bury(one, failed(one, "x@example.com"), upstream="a", now=NOW)
        return one.queue_id

    def kept(namespace: str) -> list[str]:
        return [
            queue_id
            for (queue_id,) in connection.execute(
                "SELECT id FROM dead_messages WHERE namespace=? ORDER BY n", (namespace,)
            )
        ]

    quiet = bury("quiet")
    loud = [bury("loud") for _ in range(10)]
    assert kept("loud") == loud[-3:]
    assert kept("quiet") == [quiet]
    large = [bury("large", 60_000) for _ in range(2)]
    assert kept("large") == large[-1:], "two are more octets than one namespace may have"
    for _ in range(3):
        bury("more")
    assert connection.execute("SELECT count(*) FROM dead_messages").get == 5
    assert kept("quiet") == [quiet], "of all the one with most gives way"
    orphans = connection.execute(
        "SELECT count(*) FROM dead_letters WHERE message NOT IN (SELECT n FROM dead_messages)"
    ).get
    assert orphans == 0
    connection.close()


def test_they_take_at_most_a_tenth_of_the_volume(tmp_path: Path) -> None:
    connection = connect(str(tmp_path / "queue2.db"))
    dead = DeadLetters(connection, volume=1_000_000)
    for _ in range(5):
        one = message("x@example.com", body=b"b" * 40_000)
        with connection:
            dead.bury(one, failed(one, "x@example.com"), upstream="a", now=NOW)
    assert connection.execute("SELECT count(*) FROM dead_messages").get == 2
    connection.close()
