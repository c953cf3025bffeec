"""A message's body as whoever sends it sees it: octets in memory, or something to read chunk by
chunk. Pure.

Where a large body lies (a file, a database) is its store's business alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

#: Up to this many octets of a body stay in memory and in the store's record; larger ones are read
#: in chunks.
INLINE_BODY_LIMIT = 256 * 1024


class StoredBody(Protocol):
    """A body too large for memory."""

    @property
    def size(self) -> int:
        """Its octets."""
        ...

    def chunks(self, octets: int) -> Iterator[bytes]:
        """The body in pieces of at most so many octets. Blocks: call it off the loop.

        Raises OSError where the store cannot read it.
        """
        ...


#: CRLF line ends, not dot-stuffed.
Body = bytes | StoredBody


def first_octets(body: Body, octets: int) -> bytes:
    """The beginning of a body. Blocks where it is stored; raises OSError."""
    if isinstance(body, bytes):
        return body[:octets]
    return next(body.chunks(octets), b"")


def whole(body: Body) -> bytes:
    """All octets of a body. Blocks where it is stored; raises OSError."""
    return body if isinstance(body, bytes) else b"".join(body.chunks(INLINE_BODY_LIMIT))
