"""Compares what the disk says with what memory believes, and says what memory has to correct.
Pure.

The two are read at different moments, so a difference means something only if it was the same in
two counts in a row and nothing of it was moving. Then memory is wrong, whatever made it so: a
message that nobody looks for is the one defect that must not last.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from mailrelay_gateway.queue.store import Backlog


class Memory(Protocol):
    """What memory believes."""

    def backlogs(self) -> Mapping[Backlog, int]:
        """Recipients that are READY on disk."""

    def is_busy(self, backlog: Backlog) -> bool:
        """Whether a claim on it is under way."""


class Audit:
    """Remembers the differences of the last count."""

    def __init__(self) -> None:
        """Nothing was compared yet."""
        self._before: dict[Backlog, tuple[int, int]] = {}

    def compare(self, disk: Mapping[Backlog, int], memory: Memory) -> dict[Backlog, int]:
        """By how much memory's counts have to change: what differed before and differs still, with
        both sides as they were.
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
