"""Sends a large body from its file, chunk by chunk, as fast as the other side reads. Knows no SMTP
state.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

from mailrelay_gateway.smtp.client_body import BodyEncoder

#: Octets read and handed on at once: at most this much of a large body is in memory.
CHUNK = 128 * 1024


class UnreadableBody(Exception):
    """The file is gone, cannot be read, or is not as long as the message: our own fault."""


async def stream_body(path: Path, size: int, send: Callable[[bytes], Awaitable[None]]) -> bytes:
    """Give the encoded body to `send`; return its last octets, the final dot, which are not sent
    yet.

    Reads off the loop. UnreadableBody: the message must be left without its dot, so that the
    server drops it: better late than cut short. The caller's `send` has the deadlines.
    """
    encoder = BodyEncoder()
    took = 0
    try:
        file = await asyncio.to_thread(path.open, "rb")
    except OSError as error:
        raise UnreadableBody(str(error)) from None
    try:
        while chunk := await _read(file.read):
            took += len(chunk)
            await send(encoder.encode(chunk))
    finally:
        file.close()
    if took != size:
        raise UnreadableBody(f"{path} has {took} octets, and the message has {size}")
    return encoder.finish()


async def _read(read: Callable[[int], bytes]) -> bytes:
    try:
        return await asyncio.to_thread(read, CHUNK)
    except OSError as error:
        raise UnreadableBody(str(error)) from None
