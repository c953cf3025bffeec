"""Damage: databases that cannot be read and bodies that belong to nothing are put apart, never
deleted.

    quarantine/20260131T101500Z/queue2.db, queue2.db-wal, why
    quarantine/bodies/QUEUE-ID

Each step can be cut off and is carried on by the next start.
"""

from __future__ import annotations

import contextlib
import json
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import structlog

from mailrelay_gateway.contract.moments import stamp
from mailrelay_gateway.durable import sync, write_durably
from mailrelay_gateway.queue.disk.folder import SIDE_FILES, Layout
from mailrelay_gateway.queue.store import Quarantine

log = structlog.get_logger()

#: Seconds: more than is lost when a time is stored as a file's.
_TICK = 0.001


@dataclass(frozen=True, slots=True)
class Run:
    """Which database ran last in a folder: written at each start and at the end."""

    database: str
    epoch: int
    started_at: float
    clean: bool

    def write(self, layout: Layout) -> None:
        """Remember it durably."""
        write_durably(
            layout.run,
            json.dumps(
                {
                    "database": self.database,
                    "epoch": self.epoch,
                    "startedAt": self.started_at,
                    "clean": self.clean,
                }
            ),
        )

    @classmethod
    def read(cls, layout: Layout) -> Run | None:
        """What the last run recorded; None if it cannot be read."""
        found = _read_json(layout.run)
        try:
            return cls(
                database=str(found["database"]),
                epoch=int(found["epoch"]),
                started_at=float(found["startedAt"]),
                clean=bool(found["clean"]),
            )
        except (KeyError, TypeError, ValueError):
            return None


def mark_damaged(layout: Layout, path: Path, why: str, *, now: float) -> None:
    """Have the next start quarantine a database. An earlier mark stays."""
    if layout.damaged.exists():
        return
    marked = {"database": path.name, "folder": stamp(now), "why": why}
    write_durably(layout.damaged, json.dumps(marked))


def quarantine_marked(layout: Layout) -> None:
    """Move the marked database, if there is one, with its log, to quarantine/."""
    if not layout.damaged.exists():
        return
    found = _read_json(layout.damaged)
    name = Path(str(found.get("database") or layout.database.name)).name
    why = str(found.get("why") or "unknown")
    target = layout.quarantine / Path(str(found.get("folder") or "unknown")).name
    target.mkdir(mode=0o700, parents=True, exist_ok=True)
    (target / "why").write_text(why + "\n")
    for suffix in ("", *SIDE_FILES):
        path = layout.root / (name + suffix)
        if suffix == "-shm":
            path.unlink(missing_ok=True)
        elif path.exists():
            path.rename(_free_name(target / path.name))
    sync(target)
    sync(layout.quarantine)
    sync(layout.root)
    layout.damaged.unlink()
    sync(layout.root)
    log.error(
        "spool_quarantined",
        database=str(target / name),
        error=why,
        hint=f"New mail is accepted. To recover readable messages: {command(layout)}",
    )


def put_away_strays(
    layout: Layout, known: set[str], last: Run | None, *, now: float, ordinary: bool
) -> None:
    """Body files that no message names.

    An ordinary crash leaves some: uploads that were never answered 250, and bodies of messages that
    had just left. `ordinary` says that the database is provably the one that ran last; then such a
    file is removed if it was written in that last run, so that no more than one run's are ever
    there, or was named when that run began: the time of those that are named is set to `now`, as
    the run begins. All others may be the mail of a database that is gone: they go to
    quarantine/bodies.
    """
    moved = removed = 0
    for path in layout.bodies.iterdir():
        if path.name in known:
            with contextlib.suppress(OSError):
                os.utime(path, (now + _TICK, now + _TICK))
            continue
        found = path.lstat()
        if (
            ordinary
            and last is not None
            and stat.S_ISREG(found.st_mode)
            and found.st_mtime >= last.started_at
        ):
            path.unlink()
            removed += 1
            continue
        layout.quarantined_bodies.mkdir(mode=0o700, parents=True, exist_ok=True)
        path.rename(_free_name(layout.quarantined_bodies / path.name))
        moved += 1
    if moved:
        sync(layout.quarantined_bodies)
        sync(layout.quarantine)
        sync(layout.bodies)
        log.error(
            "spool_bodies_quarantined",
            body_count=moved,
            folder=str(layout.quarantined_bodies),
            hint="No message in the database refers to these bodies. To inspect them:"
            f" {command(layout)}",
        )
    if removed:
        log.info("spool_strays_removed", body_count=removed)


def survey(layout: Layout) -> Quarantine:
    """The contents of quarantine/."""
    databases = bodies = octets = 0
    for folder in _entries(layout.quarantine):
        if folder.is_dir() and folder != layout.quarantined_bodies:
            databases += 1
        for path in _entries(folder):
            bodies += folder == layout.quarantined_bodies
            with contextlib.suppress(OSError):
                octets += path.stat().st_size
    return Quarantine(databases=databases, bodies=bodies, octets=octets)


def command(layout: Layout) -> str:
    """The command that reads what was quarantined."""
    return f"mailrelay queue salvage {layout.root}"


def _entries(folder: Path) -> Iterator[Path]:
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        yield from sorted(folder.iterdir())


def _free_name(path: Path) -> Path:
    """`path`, with a number if it already exists."""
    free, n = path, 1
    while free.exists():
        n += 1
        free = path.with_name(f"{path.name}.{n}")
    return free


def _read_json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
