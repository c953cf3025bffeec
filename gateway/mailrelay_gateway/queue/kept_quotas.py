"""Keeps what was used of quotas over restarts: one file in the spool's folder. Called in a thread.

Without it a day's quota would be full again after each restart. What a crash loses is what passed
since the last write.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

from mailrelay_gateway.durable import write_durably

FILE = "quotas.json"
#: Octets of the file: 32 upstreams with 8 quotas of a thousand parts each, of 30 octets at most.
MAX_OCTETS = 8 * 1024 * 1024

#: By quota: when units passed (Unix seconds) and how many, oldest first.
Quotas = Mapping[str, Sequence[tuple[float, int]]]
#: The same by upstream.
Used = Mapping[str, Quotas]


class Kept(Protocol):
    """Where they are kept."""

    def read(self) -> Used:
        """What was written last; nothing if that is unusable."""
        ...

    def write(self, used: Used) -> None:
        """Replace it. May raise OSError."""
        ...


class KeptQuotas:
    """Implements `Kept` in a folder."""

    def __init__(self, spool: Path) -> None:
        """Creates nothing until the first write."""
        self._path = spool / FILE

    def read(self) -> Used:
        """See Kept."""
        try:
            with self._path.open("rb") as file:
                found = json.loads(file.read(MAX_OCTETS))
            return {
                str(upstream): {
                    str(name): [(float(at), int(units)) for at, units in passed]
                    for name, passed in quotas.items()
                }
                for upstream, quotas in found.items()
            }
        except (OSError, ValueError, TypeError, AttributeError):
            return {}

    def write(self, used: Used) -> None:
        """See Kept."""
        write_durably(self._path, json.dumps(used), mode=0o600)
