"""What a lane is called: the words in which queue and couriers speak of it. Pure: a value only."""

from __future__ import annotations

from typing import NamedTuple


class LaneKey(NamedTuple):
    """A way out and where it leads. `destination` is "" where the upstream is the destination (a
    smarthost, the sandbox); for direct delivery it is the MX site.
    """

    upstream: str
    destination: str = ""
