"""Messages that can be told whole from damaged wherever they turn up, and a client that submits
them.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass

from tests.waiting import PATIENCE

LINE = b"%08d the quick brown fox jumps over the lazy dog, and over it again.\r\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class WholeMail:
    """A message and whom it is for; `octets` is about its size."""

    name: str
    recipients: tuple[str, ...]
    octets: int = 2_000
    sender: str = "app@example.com"

    def content(self) -> bytes:
        """Header and body; lines are all different, some begin with a dot."""
        mark = int.from_bytes(hashlib.sha256(self.name.encode()).digest()[:3], "big")
        lines: list[bytes] = []
        size = 0
        while size < self.octets:
            number = len(lines)
            lines.append(b".\r\n" if number % 100 == 50 else LINE % (mark + number))
            size += len(lines[-1])
        body = b"".join(lines)
        header = (
            f"From: {self.sender}\r\nSubject: {self.name}\r\nX-Test: {self.name}\r\n"
            f"X-Sum: {hashlib.sha256(body).hexdigest()}\r\n\r\n"
        )
        return header.encode() + body


def name_of(content: bytes) -> tuple[str, bool]:
    """The name of a message that arrived, and whether its body is whole."""
    header, _, body = content.partition(b"\r\n\r\n")
    name = re.search(rb"(?m)^X-Test: (\S+)\r?$", header)
    said = re.search(rb"(?m)^X-Sum: (\S+)\r?$", header)
    whole = said is not None and said.group(1).decode() == hashlib.sha256(body).hexdigest()
    return name.group(1).decode() if name else "", whole


async def submit(port: int, messages: Sequence[WholeMail], sessions: int = 4) -> None:
    """Submit them over so many connections; each has been answered 250 at the end."""
    left = list(reversed(messages))
    await asyncio.gather(*(_session(port, left) for _ in range(sessions)))


async def _session(port: int, left: list[WholeMail]) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        await _expect(reader, b"220")
        writer.write(b"EHLO client.example\r\n")
        await _expect(reader, b"250")
        while left:
            mail = left.pop()
            lines = [f"MAIL FROM:<{mail.sender}>", *(f"RCPT TO:<{r}>" for r in mail.recipients)]
            writer.write("".join(f"{line}\r\n" for line in [*lines, "DATA"]).encode())
            for _ in lines:
                await _expect(reader, b"250")
            await _expect(reader, b"354")
            writer.write(mail.content().replace(b"\r\n.", b"\r\n..") + b".\r\n")
            await writer.drain()
            await _expect(reader, b"250")
        writer.write(b"QUIT\r\n")
        await _expect(reader, b"221")
    finally:
        writer.close()


async def _expect(reader: asyncio.StreamReader, code: bytes) -> None:
    while True:
        async with asyncio.timeout(PATIENCE):
            line = await reader.readuntil(b"\r\n")
        assert line[:3] == code, line
        if line[3:4] == b" ":
            return
