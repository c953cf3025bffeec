"""Free space on the volume: when to refuse mail, and a reserve that keeps removals possible."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from mailrelay_gateway.message.body import INLINE_BODY_LIMIT
from mailrelay_gateway.reasons import Reason
from mailrelay_gateway.smtp.refusal import Problem, refuse

#: Reserved octets: a full log of 16 MiB fits.
RESERVE = 16 * 1024 * 1024
#: Below this free space nothing is accepted: a second of large messages at 1 Gbit/s, which may
#: already be on their way.
LOW_WATER = 128 * 1024 * 1024
#: Seconds for which nothing is accepted after the volume was found full.
FULL_FOR = 3.0
#: Seconds between two looks at the free space; longer if looking is slow, so that it costs at most
#: one hundredth of the time.
LOOK_INTERVAL = 1.0
LONGEST_LOOK_INTERVAL = 5.0

FULL = refuse(Reason.INSUFFICIENT_STORAGE)


@dataclass(slots=True)
class Space:
    """The volume of one folder. Times are monotonic seconds.

    `size` is how much the folder may contain if the volume is larger: above it the kubelet, for
    example, would evict the pod.
    """

    folder: Path
    reserve_path: Path
    low_water: int = LOW_WATER
    reserve: int = RESERVE
    size: int | None = None
    on_look: Callable[[int], None] = field(default=lambda _: None)
    #: Octets of free pages in the database, as of some moment.
    reusable: int = 0
    _full_until: float = 0.0
    _look_at: float = 0.0
    _free: int = 0

    def problem(self, octets: int, now: float) -> Problem | None:
        """Why a message of so many octets (0: not known yet) cannot be accepted, if so.

        Free pages of the database count for what is stored in it, not for a body in a file. Raises
        OSError if the volume cannot be queried.
        """
        if now < self._full_until:
            return FULL
        if now >= self._look_at:
            began = time.monotonic()
            self._free = self.free_octets()
            took = time.monotonic() - began
            self._look_at = now + min(max(LOOK_INTERVAL, took * 100), LONGEST_LOOK_INTERVAL)
            self.on_look(self._free)
        free = self._free - octets
        if octets <= INLINE_BODY_LIMIT:
            free += self.reusable
        return FULL if free < self.low_water else None

    def free_octets(self) -> int:
        """Free space for what is written to the folder. Raises OSError."""
        free = shutil.disk_usage(self.folder).free
        if self.size is not None:
            free = min(free, self.size - _octets_under(self.folder))
        return free

    def too_small(self) -> str:
        """Why no message can ever be accepted, even with an empty queue; "" if that is not so.
        Raises OSError.
        """
        total = shutil.disk_usage(self.folder).total
        total = total if self.size is None else min(total, self.size)
        if total > self.low_water:
            return ""
        return (
            f"the queue's volume has {total >> 20} MiB, but below {self.low_water >> 20} MiB of"
            " free space no mail is accepted: enlarge it"
        )

    def note_full(self, now: float) -> None:
        """A write found the volume full."""
        self._full_until = now + FULL_FOR

    @property
    def may_reserve(self) -> bool:
        """Whether the reserve is missing and there is room for it."""
        return self._free > self.low_water + 2 * self.reserve and not self.reserve_path.exists()

    def give_up_reserve(self) -> bool:
        """Free the reserve; returns whether there was one."""
        try:
            self.reserve_path.unlink()
        except FileNotFoundError:
            return False
        return True

    def make_reserve(self) -> None:
        """Create the reserve, if there is room for it."""
        path = self.reserve_path
        try:
            if not path.exists() or path.stat().st_size < self.reserve:
                with path.open("wb") as file:
                    os.posix_fallocate(file.fileno(), 0, self.reserve)
        except OSError:
            path.unlink(missing_ok=True)  # retried when there is room


def _octets_under(folder: Path, depth: int = 3) -> int:
    """Octets of a folder's files, three levels deep, which is all that a spool has."""
    octets = 0
    with os.scandir(folder) as entries:
        for entry in entries:
            try:
                if not entry.is_dir(follow_symlinks=False):
                    octets += entry.stat(follow_symlinks=False).st_blocks * 512
                elif depth > 1:
                    octets += _octets_under(Path(entry.path), depth - 1)
            except FileNotFoundError:  # it was removed meanwhile
                continue
    return octets
