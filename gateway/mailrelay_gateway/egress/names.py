"""What egress needs of a resolver. Nothing but the Protocol and its exception; names are looked up
where the couriers look up theirs.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol


class Unresolved(Exception):
    """A name that has no address now; the message says what was asked and what came back."""


class Resolver(Protocol):
    """Gives the addresses of a host."""

    async def addresses(self, host: str) -> Sequence[str]:
        """IP addresses as text, IPv4 first, never empty, at most MAX_ADDRESSES. Unresolved: there
        is none now. OSError: we have no descriptors for asking.

        The caller sets the deadline.
        """
        ...
