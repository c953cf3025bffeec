"""The folder of the disk store: the names of its files, and its lock."""

from __future__ import annotations

import fcntl
import os
from dataclasses import dataclass
from pathlib import Path

from mailrelay_gateway.queue.disk.schema import DATABASE
from mailrelay_gateway.queue.store import StoreError

#: File systems on which two gateways could write the same queue, or on which locks and fsync
#: promise little.
REFUSED_FILE_SYSTEMS = frozenset({"nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "fuse.sshfs"})

#: The files that SQLite keeps beside a database.
SIDE_FILES = ("-wal", "-shm", "-journal")


@dataclass(frozen=True, slots=True)
class Layout:
    """Where everything is, under `root`."""

    root: Path

    @property
    def database(self) -> Path:
        """The queue."""
        return self.root / DATABASE

    @property
    def former(self) -> Path:
        """The queue of schema 1."""
        return self.root / "queue.db"

    @property
    def bodies(self) -> Path:
        """Large bodies, each by its queue id."""
        return self.root / "bodies"

    @property
    def quarantine(self) -> Path:
        """Damaged databases, each in a folder by the time it was found, and bodies/."""
        return self.root / "quarantine"

    @property
    def quarantined_bodies(self) -> Path:
        """Bodies that no message refers to."""
        return self.quarantine / "bodies"

    @property
    def salvaged(self) -> Path:
        """What `mailrelay queue salvage` recovered: the next start adds it to the queue."""
        return self.root / "salvaged"

    @property
    def lock(self) -> Path:
        """Locked by the gateway that owns the folder."""
        return self.root / "lock"

    @property
    def reserve(self) -> Path:
        """Reserved space."""
        return self.root / "reserve"

    @property
    def run(self) -> Path:
        """Which database ran last here, and whether it ended cleanly."""
        return self.root / "run"

    @property
    def damaged(self) -> Path:
        """Exists if damage was found while serving: the next start quarantines the database."""
        return self.root / "damaged"

    @property
    def refused(self) -> Path:
        """Queue ids that were answered 451 although the log may contain them."""
        return self.root / "refused"


def take(layout: Layout) -> int:
    """Create the folder and lock it; returns the lock's descriptor. Raises StoreError."""
    root = layout.root
    try:
        root.mkdir(mode=0o700, parents=True, exist_ok=True)
        layout.bodies.mkdir(mode=0o700, exist_ok=True)
        kind = file_system_of(root, Path("/proc/self/mounts").read_text())
        if kind in REFUSED_FILE_SYSTEMS:
            raise StoreError(
                f"{root} is on {kind}, where two gateways could write it: use a block volume"
            )
        lock = os.open(layout.lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise StoreError(
            f"{root} cannot be written ({error.strerror}): choose a folder that this user can write"
        ) from None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(lock)
        raise StoreError(
            f"{root} is in use by another gateway: stop that one, or choose another folder"
        ) from None
    return lock


def file_system_of(folder: Path, mounts: str) -> str:
    """The type of the file system that holds `folder`, given the text of /proc/self/mounts."""
    best, kind = "", ""
    path = str(folder.resolve())
    for line in mounts.splitlines():
        fields = line.split(" ")
        if len(fields) < 3:
            continue
        point = fields[1].replace("\\040", " ")
        inside = path == point or path.startswith(point.rstrip("/") + "/")
        if inside and len(point) >= len(best):
            best, kind = point, fields[2]
    return kind
