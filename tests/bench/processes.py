"""CPU time and memory of a family of processes, read from /proc."""

from __future__ import annotations

import os
import threading
import time
from dataclasses import dataclass
from pathlib import Path

_TICK = os.sysconf("SC_CLK_TCK")


def _stat(pid: int) -> list[str]:
    """The fields of /proc/PID/stat after the name, the state being the first."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()


def family(root: int) -> list[int]:
    """`root` and all its living descendants."""
    children: dict[int, list[int]] = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                children.setdefault(int(_stat(int(entry))[1]), []).append(int(entry))
            except (OSError, IndexError):
                continue
    found, open_ = [], [root]
    while open_:
        pid = open_.pop()
        found.append(pid)
        open_.extend(children.get(pid, ()))
    return found


def cpu_seconds(root: int) -> float:
    """User and system time of the family, its dead and reaped members included.

    What lives is read from the process's own clock, in nanoseconds; the reaped ones are known in
    ticks of 10 ms.
    """
    seconds = 0.0
    for pid in family(root):
        try:
            stat = _stat(pid)
            seconds += sum(int(field) for field in stat[13:15]) / _TICK
        except OSError:
            continue
        try:
            # clock_getcpuclockid(3): the CPU time of all threads of another process
            seconds += time.clock_gettime((~pid << 3) | 2)
        except OSError:  # ended, not yet reaped
            seconds += sum(int(field) for field in stat[11:13]) / _TICK
    return seconds


def memory_octets(root: int) -> int:
    """Proportional set size of the family: memory that is shared counts once."""
    total = 0
    for pid in family(root):
        try:
            text = Path(f"/proc/{pid}/smaps_rollup").read_text()
        except OSError:
            continue
        for line in text.splitlines():
            if line.startswith("Pss:"):
                total += int(line.split()[1]) * 1024
    return total


@dataclass
class PeakMemory:
    """The largest memory of a family, looked at ten times a second by a thread, from `with` to
    its end.
    """

    root: int
    octets: int = 0

    def __enter__(self) -> PeakMemory:
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        while True:
            self.octets = max(self.octets, memory_octets(self.root))
            if self._stop.wait(0.1):
                return
