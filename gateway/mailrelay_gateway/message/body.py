"""A message's body, as seen by its sender: octets in memory, or an object to read in chunks. Pure.

The store decides where a large body is (a file, a database).
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
        """Its size in octets."""
        ...

    def chunks(self, octets: int) -> Iterator[bytes]:
        """The body in pieces of at most `octets`. Blocks: call it in a thread.

        Raises OSError if it cannot be read.
        """
        ...


#: CRLF line ends, not dot-stuffed.
Body = bytes | StoredBody


def first_octets(body: Body, octets: int) -> bytes:
    """The beginning of a body. Blocks for a stored body; raises OSError."""
    if isinstance(body, bytes):
        return body[:octets]
    return next(body.chunks(octets), b"")


def whole(body: Body) -> bytes:
    """All octets of a body. Blocks for a stored body; raises OSError."""
    return body if isinstance(body, bytes) else b"".join(body.chunks(INLINE_BODY_LIMIT))
