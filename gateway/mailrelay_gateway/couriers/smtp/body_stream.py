"""Sends a stored body in chunks, as fast as the other side reads. Knows no SMTP state."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from threading import Lock

from mailrelay_gateway.message.envelope import Message
from mailrelay_gateway.smtp.client.body import BodyEncoder

#: Octets read and passed on at once: at most this much of a large body is in memory.
CHUNK = 128 * 1024


class UnreadableBody(Exception):
    """The body is missing, cannot be read, or does not have the message's size: our own fault."""


async def stream_body(message: Message, send: Callable[[bytes], Awaitable[None]]) -> bytes:
    """Pass the message, encoded, to `send`; return its last octets, the final dot, which are not
    sent yet.

    Reads off the loop. UnreadableBody: the message must be left without its dot, so that the server
    drops it: better late than truncated. The caller's `send` has the deadlines.
    """
    assert not isinstance(message.body, bytes)
    encoder = BodyEncoder()
    took = len(message.prelude)
    if message.prelude:
        await send(encoder.encode(message.prelude))
    chunks = _Chunks(message.body.chunks(CHUNK))
    try:
        while chunk := await _next(chunks):
            took += len(chunk)
            await send(encoder.encode(chunk))
    finally:
        await asyncio.shield(asyncio.to_thread(chunks.close))
    if took != message.size:
        raise UnreadableBody(
            f"{message.body!r}: {took} octets with ours, and the message has {message.size}"
        )
    return encoder.finish()


async def _next(chunks: _Chunks) -> bytes:
    try:
        return await asyncio.to_thread(chunks.read)
    except OSError as error:
        raise UnreadableBody(str(error)) from None


class _Chunks:
    """Pieces of a body, read in one thread and closed in another: a stream may be aborted during a
    read, which continues in its thread.
    """

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks = chunks
        self._lock = Lock()

    def read(self) -> bytes:
        """The next piece; empty at the end."""
        with self._lock:
            return next(self._chunks, b"")

    def close(self) -> None:
        """Let the store close the file once no thread reads from it."""
        close = getattr(self._chunks, "close", None)
        with self._lock:
            if close is not None:
                close()
