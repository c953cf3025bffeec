"""`python -m mailrelay_gateway.queue.disk.salvage FOLDER`: recover what can still be read from the
databases in quarantine; the next start adds it to the queue.

May run beside the gateway. Nothing in quarantine/ is changed or removed, and a message that the
gateway has or had is not stored again, so it can be repeated.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import apsw

from mailrelay_gateway.contract.moments import stamp
from mailrelay_gateway.durable import sync
from mailrelay_gateway.queue.disk.dead_letters import DeadLetters
from mailrelay_gateway.queue.disk.folder import SIDE_FILES, Layout
from mailrelay_gateway.queue.disk.foreign import ForeignMessage, Source
from mailrelay_gateway.queue.disk.names import Names
from mailrelay_gateway.queue.disk.schema import DATABASE, PAGE_SIZE, TABLES
from mailrelay_gateway.queue.disk.sources import SchemaOne, SchemaTwo, open_for_reading
from mailrelay_gateway.queue.disk.tables import Bodies, Tables
from mailrelay_gateway.queue.disk.takeover import store_foreign


class SalvageRunning(RuntimeError):
    """Another salvage is running."""


@dataclass(slots=True, kw_only=True)
class Report:
    """What was recovered from one database."""

    database: str
    messages: int = 0
    recipients: int = 0
    lost: int = 0  # messages of which something was readable, but not enough
    without_body: int = 0  # of which recipients are known, but no complete body
    problem: str = ""

    def __str__(self) -> str:
        """One line for a person."""
        if self.problem:
            return f"{self.database}: {self.problem}"
        return (
            f"{self.database}: {self.messages} messages to {self.recipients} recipients read,"
            f" {self.lost} lost, {self.without_body} without a whole body (not taken)"
        )


def salvage(root: Path, *, now: float) -> list[Report]:
    """Read every quarantined database of the queue in `root`. An interrupted run is started again
    from the beginning.
    """
    layout = Layout(root)
    reports: list[Report] = []
    layout.salvaged.mkdir(mode=0o700, exist_ok=True)
    folder_of_ours = os.open(layout.salvaged, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(folder_of_ours, fcntl.LOCK_EX | fcntl.LOCK_NB)
        for left in layout.salvaged.iterdir():  # of a run that was stopped
            if left.suffix != ".db":
                left.unlink()
        _salvage_all(layout, reports, now=now)
    except BlockingIOError:
        raise SalvageRunning(f"another salvage of {root} is running") from None
    finally:
        os.close(folder_of_ours)
    return reports


def _salvage_all(layout: Layout, reports: list[Report], *, now: float) -> None:
    for folder in sorted(layout.quarantine.glob("*/")):
        found = sorted([*folder.glob(DATABASE), *folder.glob(layout.former.name)])
        reports.extend(_salvage_one(layout, path, now=now) for path in found)


def _salvage_one(layout: Layout, path: Path, *, now: float) -> Report:
    report = Report(database=str(path.relative_to(layout.root)))
    name = f"{path.parent.name}-{stamp(now)}-{os.getpid()}"
    new = layout.salvaged / f"{name}.new"
    copy = layout.salvaged / f"{name}.copy"
    opened = _open(path, copy, now=now)
    try:
        if opened is None:
            report.problem = "nothing can be read"
            return report
        _write(new, _whole(opened[1], layout, report), layout)
        report.lost = opened[1].lost
    except BaseException:
        _discard(new)
        raise
    finally:
        if opened is not None:
            opened[0].close()
        _discard(copy)
    if report.messages:
        new.rename(layout.salvaged / f"{name}.db")
        sync(layout.salvaged)
    else:
        _discard(new)
    return report


def _whole(source: Source, layout: Layout, report: Report) -> Iterator[ForeignMessage]:
    """The messages that have a complete body, counted."""
    for message in source.messages():
        if not _body_is_whole(message, layout):
            report.without_body += 1
            continue
        report.messages += 1
        report.recipients += len(message.recipients)
        yield message


def _body_is_whole(message: ForeignMessage, layout: Layout) -> bool:
    expected = message.size - len(message.prelude)
    if message.file is None:
        return len(message.body or b"") == expected
    for folder in (layout.bodies, layout.quarantined_bodies):
        try:
            return (folder / message.file).stat().st_size == expected
        except OSError:
            continue
    return False


def _write(path: Path, messages: Iterator[ForeignMessage], layout: Layout) -> None:
    """A database of this schema with these messages, and no log."""
    connection = apsw.Connection(str(path))
    bodies = Bodies(layout.bodies)
    try:
        connection.pragma("page_size", PAGE_SIZE)
        connection.pragma("synchronous", "full")
        connection.pragma("temp_store", "memory")
        tables = Tables(connection, Names(connection), bodies, DeadLetters(connection, volume=0))
        with connection:
            connection.execute(TABLES)
            for seq, message in enumerate(messages, start=1):
                store_foreign(tables, seq, [message])
    finally:
        bodies.close()
        connection.close()
    sync(path)


def _open(path: Path, copy: Path, *, now: float) -> tuple[apsw.Connection, Source] | None:
    """The database as a source; if its first page is damaged, through a copy with a new one."""
    found = _try(path, path.name, now=now)
    if found is None and path.name == DATABASE:
        _copy_with_first_page(path, copy)
        found = _try(copy, path.name, now=now)
    return found


def _try(path: Path, name: str, *, now: float) -> tuple[apsw.Connection, Source] | None:
    connection = None
    try:
        connection = open_for_reading(path)
        for table in ("messages", "recipients"):
            connection.execute(f"SELECT seq FROM {table} LIMIT 0").fetchall()
    except apsw.Error:
        if connection is not None:
            connection.close()
        return None
    if name == DATABASE:
        return connection, SchemaTwo(connection, strict=False)
    return connection, SchemaOne(connection, now=now, strict=False)


def _copy_with_first_page(path: Path, copy: Path) -> None:
    """A copy that begins with the first page of an empty database.

    The tables are always created by the same statements, so each begins at the same page; the first
    page contains only where they begin, and sizes that SQLite does not need.
    """
    shutil.copyfile(path, copy)
    log = Path(f"{path}-wal")
    if log.exists():
        shutil.copyfile(log, f"{copy}-wal")
    empty = copy.with_suffix(".empty")
    _discard(empty)
    connection = apsw.Connection(str(empty))
    connection.pragma("page_size", PAGE_SIZE)
    with connection:
        connection.execute(TABLES)
    connection.close()
    page = bytearray(empty.read_bytes()[:PAGE_SIZE])
    _discard(empty)
    page[18:20] = b"\x02\x02"  # with a write-ahead log
    page[92:96] = b"\xff\xff\xff\xff"  # "the size below is not valid": ask the file
    page[32:40] = bytes(8)  # no list of free pages
    with copy.open("r+b") as file:
        file.write(page)


def _discard(path: Path) -> None:
    """Remove a database of ours and the files that SQLite keeps beside it."""
    for suffix in ("", *SIDE_FILES):
        Path(f"{path}{suffix}").unlink(missing_ok=True)


def queue_folder(data: Path) -> Path | None:
    """The queue's folder: `data` itself, or the one in a data folder of `mailrelay up`."""
    for folder in (data, data / "spool"):
        if (folder / "bodies").is_dir():
            return folder
    return None


def main(arguments: list[str]) -> int:
    """Recover, and report. 0: everything was read, or there is nothing; 1: something is lost; 4:
    the folder contains no queue, or its volume cannot be used.
    """
    if len(arguments) != 1:
        sys.stderr.write("Usage: python -m mailrelay_gateway.queue.disk.salvage FOLDER\n")
        return 2
    root = queue_folder(Path(arguments[0]))
    if root is None:
        sys.stderr.write(f"mailrelay: {arguments[0]} contains no queue.\n")
        return 4
    try:
        reports = salvage(root, now=time.time())
    except (OSError, apsw.Error, SalvageRunning) as error:
        sys.stderr.write(f"mailrelay: {root}: {error}\n")
        return 4
    for report in reports:
        sys.stdout.write(f"{report}\n")
    if not reports:
        sys.stdout.write(f"No database is in quarantine in {root}.\n")
    elif any(report.messages for report in reports):
        sys.stdout.write(
            "Restart the gateway: it takes in what was read, each message once. The quarantine is"
            " kept; remove it when you need it no more.\n"
        )
    return int(any(r.lost or r.without_body or r.problem for r in reports))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
