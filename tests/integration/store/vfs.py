"""A file system for SQLite that records what is done to it, and fails when it is told to."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import apsw

_names = itertools.count(1)


@dataclass(frozen=True, slots=True)
class Write:
    """Octets were written."""

    path: str
    offset: int
    octets: bytes


@dataclass(frozen=True, slots=True)
class Truncate:
    """A file was cut."""

    path: str
    size: int


@dataclass(frozen=True, slots=True)
class Sync:
    """A file was synced: what was done to it before is durable."""

    path: str


class RecordingVFS(apsw.VFS):
    """Passes everything on to the real file system and tells `record`.

    The knobs may be turned while it is in use.
    """

    def __init__(self, record: Callable[[Write | Truncate | Sync], None] | None = None) -> None:
        self.name = f"recording{next(_names)}"
        self.record = record or (lambda _: None)
        #: Raises what the sync of a file is to raise.
        self.before_sync: Callable[[str], None] = lambda _: None
        self.before_write: Callable[[str, int, int], None] = lambda *_: None
        self.before_read: Callable[[str], None] = lambda _: None
        #: Whether a sync really syncs.
        self.sync = True
        super().__init__(self.name, "")

    def xOpen(self, name: Any, flags: list[int]) -> RecordingFile:  # noqa: N802
        return RecordingFile(self, name, flags)


class RecordingFile(apsw.VFSFile):
    """One open file."""

    def __init__(self, vfs: RecordingVFS, name: Any, flags: list[int]) -> None:
        path = name.filename() if isinstance(name, apsw.URIFilename) else name
        self._name = Path(path).name if path else ""
        self._vfs = vfs
        super().__init__("", name, flags)

    def xRead(self, amount: int, offset: int) -> bytes:  # noqa: N802
        self._vfs.before_read(self._name)
        return super().xRead(amount, offset)

    def xWrite(self, data: bytes, offset: int) -> None:  # noqa: N802
        self._vfs.before_write(self._name, offset, len(data))
        super().xWrite(data, offset)
        self._vfs.record(Write(self._name, offset, bytes(data)))

    def xTruncate(self, newsize: int) -> None:  # noqa: N802
        super().xTruncate(newsize)
        self._vfs.record(Truncate(self._name, newsize))

    def xSync(self, flags: int) -> None:  # noqa: N802
        self._vfs.before_sync(self._name)
        if self._vfs.sync:
            super().xSync(flags)
        self._vfs.record(Sync(self._name))
