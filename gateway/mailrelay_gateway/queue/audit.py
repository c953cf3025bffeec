"""Compares the counts on disk with those in memory, and decides how to correct memory.

Pure.

The two are read at different moments, so a difference counts only if it was the same in two counts
in a row and nothing of that backlog was changing. Then memory is wrong, for whatever reason: a
message that is never looked for is the one defect that must not last.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from mailrelay_gateway.queue.store import Backlog


class Memory(Protocol):
    """The counts in memory."""

    def backlogs(self) -> Mapping[Backlog, int]:
        """Recipients that are READY on disk."""

    def is_busy(self, backlog: Backlog) -> bool:
        """Whether a claim on it is in progress."""


class Audit:
    """Remembers the differences of the last count."""

    def __init__(self) -> None:
        """Begin without an earlier count."""
        self._before: dict[Backlog, tuple[int, int]] = {}

    def compare(self, disk: Mapping[Backlog, int], memory: Memory) -> dict[Backlog, int]:
        """The corrections of memory's counts: differences that were there before and still are,
        with both sides unchanged.
        """
        believed = memory.backlogs()
        now = {
            backlog: (disk.get(backlog, 0), believed.get(backlog, 0))
            for backlog in disk.keys() | believed.keys()
            if disk.get(backlog, 0) != believed.get(backlog, 0) and not memory.is_busy(backlog)
        }
        corrections = {
            backlog: counts[0] - counts[1]
            for backlog, counts in now.items()
            if self._before.get(backlog) == counts
        }
        self._before = {b: counts for b, counts in now.items() if b not in corrections}
        return corrections
