"""DSN parameters lie in a table of their own, which holds nothing that nobody needs any more."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import apsw

from mailrelay_gateway.message.envelope import Result
from mailrelay_gateway.queue.disk.schema import DATABASE
from mailrelay_gateway.smtp.dsn import DsnParameters, RecipientDsn
from tests.integration.store.rig import StoreRig, entry, message, moves, want
from tests.integration.store.schema_two import make_schema_two

Make = Callable[..., StoreRig]
DSN = DsnParameters("FULL", "", (RecipientDsn("NEVER"), RecipientDsn()))
TWO = ("x@example.com", "y@example.com")


def database(folder: Path) -> apsw.Connection:
    return apsw.Connection(str(folder / "spool" / DATABASE))


def rows(folder: Path) -> list[str]:
    with database(folder) as connection:
        found = [ident for (ident,) in connection.execute("SELECT id FROM dsn")]
    connection.close()
    return found


async def test_a_row_goes_with_its_message(make_store: Make, tmp_path: Path) -> None:
    store = make_store()
    store.open()
    whole, split = message(*TWO, dsn=DSN), message(*TWO, dsn=DSN)
    for one in (whole, split):
        assert await store.accept(entry(store.next(), one, *TWO)) is None
    first, second = await store.claim(want())
    assert await store.finish(first, moves(first, Result.DELIVERED)) is None
    assert rows(tmp_path) == [split.queue_id]
    assert await store.finish(second, moves(second, Result.HELD, only=[1])) is None
    assert rows(tmp_path) == [split.queue_id]
    [rest] = await store.claim(want())
    assert await store.finish(rest, moves(rest, Result.DELIVERED)) is None
    assert rows(tmp_path) == []


async def test_a_database_of_before_gets_the_table_and_keeps_its_mail(
    make_store: Make, tmp_path: Path
) -> None:
    store = make_store()
    store.open()
    old = await store.put("x@example.com")
    await store.close()
    with database(tmp_path) as connection:
        connection.execute("DROP TABLE dsn")
        make_schema_two(connection)
    connection.close()
    again = make_store()
    again.open()
    new = message(*TWO, dsn=DSN)
    assert await again.accept(entry(again.next(), new, *TWO)) is None
    assert [job.message for job in await again.claim(want())] == [old.message, new]


async def test_what_an_older_gateway_left_is_forgotten_at_the_start(
    make_store: Make, tmp_path: Path
) -> None:
    store = make_store()
    store.open()
    gone, kept = message(*TWO, dsn=DSN), message(*TWO, dsn=DSN)
    for one in (gone, kept):
        assert await store.accept(entry(store.next(), one, *TWO)) is None
    await store.close()
    with database(tmp_path) as connection:
        connection.execute("DELETE FROM recipients WHERE seq=1")
        connection.execute("DELETE FROM messages WHERE seq=1")
    connection.close()
    make_store().open()
    assert rows(tmp_path) == [kept.queue_id]
