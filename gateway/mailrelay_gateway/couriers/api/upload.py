"""The body of a request with a message in it, as base64 between a head and a tail; a large message
is read piece by piece.
"""

from __future__ import annotations

import hashlib
from base64 import b64encode
from collections.abc import Iterator
from dataclasses import dataclass

from mailrelay_gateway.message.body import Body

#: Octets read at once: a multiple of three, so that each piece is base64 without padding.
CHUNK = 3 * 32 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Upload:
    """`head`, the base64 of `prelude` and `body`, and `tail`. `size` is that of prelude and body
    together.
    """

    head: bytes
    prelude: bytes
    body: Body
    size: int
    tail: bytes

    @property
    def octets(self) -> int:
        """The size of the request's body."""
        return len(self.head) + (self.size + 2) // 3 * 4 + len(self.tail)

    @property
    def blocking(self) -> bool:
        """Whether reading it blocks."""
        return not isinstance(self.body, bytes)

    def pieces(self) -> Iterator[bytes]:
        """The request's body in pieces. Raises OSError if the message cannot be read, or is not as
        long as it should be: the encoded length was announced.
        """
        rest, took = b"", 0
        if self.head:
            yield self.head
        for chunk in self._chunks():
            took += len(chunk)
            rest += chunk
            whole = len(rest) - len(rest) % 3
            if whole >= CHUNK:
                yield b64encode(rest[:whole])
                rest = rest[whole:]
        if took != self.size:
            raise OSError(f"it has {took} octets, {self.size} were stored")
        yield b64encode(rest) + self.tail

    def _chunks(self) -> Iterator[bytes]:
        yield self.prelude
        if isinstance(self.body, bytes):
            yield self.body
        else:
            yield from self.body.chunks(CHUNK)

    def sha256(self) -> str:
        """The digest of the request's body, in hex. Blocks if reading does; raises OSError."""
        digest = hashlib.sha256()
        for piece in self.pieces():
            digest.update(piece)
        return digest.hexdigest()
