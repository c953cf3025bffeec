"""The outcome of an accepted message, read from the gateway's log in the data folder.

The log has one line per attempt, with the upstream's verbatim reply. The gateway is not involved.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mailrelay_operator.cli.loglines import printable

#: Seconds between two reads of the log.
POLL = 0.05
#: The log events with an attempt's outcome, or of a captured message.
OUTCOMES = frozenset({"captured", "delivery"})


@dataclass(slots=True)
class LogTail:
    """Reads what is appended to a log file, and follows its rotation."""

    path: Path
    _offset: int = field(init=False)
    _rest: bytes = field(init=False, default=b"")

    def __post_init__(self) -> None:
        """Start at the end."""
        self._offset = self._size()

    def records(self) -> Iterator[dict[str, Any]]:
        """The JSON lines appended since the last call."""
        size = self._size()
        if size < self._offset:  # rotated
            self._offset, self._rest = 0, b""
        if size == self._offset:
            return
        with self.path.open("rb") as stream:
            stream.seek(self._offset)
            data = stream.read(size - self._offset)
        self._offset += len(data)
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            try:
                record = json.loads(line)
            except ValueError:
                continue
            if isinstance(record, dict):
                yield record

    def _size(self) -> int:
        try:
            return self.path.stat().st_size
        except FileNotFoundError:
            return 0


def follow(
    tail: LogTail,
    queue_id: str,
    *,
    wait: float,
    clock: Callable[[], float] = time.monotonic,
) -> dict[str, Any] | None:
    """The record of this message's first outcome; None if there is none within `wait` seconds."""
    deadline = clock() + wait
    while True:
        for record in tail.records():
            if record.get("queue_id") == queue_id and record.get("event") in OUTCOMES:
                return record
        if clock() >= deadline:
            return None
        time.sleep(POLL)


def describe(record: Mapping[str, Any]) -> str:
    """An outcome as a sentence, with the upstream's verbatim reply."""
    upstream = printable(str(record.get("upstream", "?")))
    if record.get("event") == "captured":
        return f"Captured by upstream {upstream}: nothing left this machine."
    result = printable(str(record.get("result", "?"))).capitalize()
    host = printable(str(record.get("host") or upstream))
    words = printable(str(record.get("reply") or record.get("reason", "")))
    return f"{result} at {host}: {words}"
