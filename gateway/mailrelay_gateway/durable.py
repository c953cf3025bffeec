"""Writes small files so that they survive a crash."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

Sync = Callable[[int], None]


def sync(path: Path, fsync: Sync = os.fsync) -> None:
    """Make the names in a folder, or the octets of a file, durable."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        fsync(descriptor)
    finally:
        os.close(descriptor)


def write_durably(path: Path, text: str, *, mode: int = 0o666, fsync: Sync = os.fsync) -> None:
    """Write a small file so that it is there whole or not at all; `mode` is subject to the
    umask. `fsync` is for tests of power loss.
    """
    new = path.with_name(f"{path.name}.new")
    new.unlink(missing_ok=True)  # left by a crash, perhaps with another mode
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, mode)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
        file.flush()
        fsync(descriptor)
    new.replace(path)
    sync(path.parent, fsync)
