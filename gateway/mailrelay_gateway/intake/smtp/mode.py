"""How a connection's input is read: LINES and CONTENT process it, WAITING keeps it (bounded; then
the socket is not read), CLOSING drops it.
"""

from __future__ import annotations

from enum import StrEnum


class Mode(StrEnum):
    """How input is read."""

    LINES = "lines"
    CONTENT = "content"
    WAITING = "waiting"
    CLOSING = "closing"


#: Module-level names: looking up a member in its class costs ten times as much (Python 3.11), and
#: these are hot.
LINES, CONTENT, WAITING, CLOSING = Mode
