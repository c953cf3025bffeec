"""The key of a lane, shared by queue and couriers. Pure: a value only."""

from __future__ import annotations

from typing import NamedTuple


class LaneKey(NamedTuple):
    """An upstream and a destination. `destination` is "" if the upstream is the destination (a
    smarthost, the sandbox); for direct delivery it is the MX site.
    """

    upstream: str
    destination: str = ""
