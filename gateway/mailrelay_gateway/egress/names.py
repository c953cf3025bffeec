"""The resolver that egress needs: the Protocol and its exception. It is the couriers' resolver."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol


class Unresolved(Exception):
    """A name without an address at the moment; the message has query and answer."""


class Resolver(Protocol):
    """Resolves host names."""

    async def addresses(self, host: str) -> Sequence[str]:
        """IP addresses as text, IPv4 first, never empty, at most MAX_ADDRESSES. Raises Unresolved
        if there is none at the moment, OSError without a file descriptor.

        The caller sets the deadline.
        """
        ...
