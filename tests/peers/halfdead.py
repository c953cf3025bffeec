"""An SMTP server that is half dead: it takes mail, refuses it, goes silent and hangs up, as its
dice say.

It keeps the truth: which messages it has taken (with or without managing to say so). Speaks enough
SMTP for a client that pipelines; it is a peer for tests, no mail server.
"""

from __future__ import annotations

import asyncio
import random
import re
from collections import Counter

from tests.peers.listening import ListeningPeer


class HalfDeadServer(ListeningPeer):
    """`sick` is the share of transactions that go wrong, 0 to 1; it may be changed at any time."""

    def __init__(self, seed: int, sick: float) -> None:
        super().__init__()
        self.sick = sick
        self.taken: Counter[str] = Counter()  # by the header X-Test
        self.said_so: Counter[str] = Counter()
        self._dice = random.Random(seed)

    async def converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Take mail, or not."""
        writer.write(b"220 half.dead.example ESMTP\r\n")
        recipients = 0
        while line := await reader.readline():
            verb = line[:4].upper()
            if verb == b"EHLO":
                writer.write(b"250-half.dead.example\r\n250-PIPELINING\r\n250 8BITMIME\r\n")
            elif verb == b"DATA" and not recipients:
                writer.write(b"503 5.5.1 no valid recipients\r\n")
            elif verb == b"DATA":
                recipients = 0
                writer.write(b"354 go on\r\n")
                await writer.drain()
                if not await self._take(reader, writer):
                    return
            elif verb == b"RCPT" and self._dice.random() < self.sick / 4:
                writer.write(b"451 4.3.0 not now\r\n")
            elif verb == b"QUIT":
                writer.write(b"221 bye\r\n")
                return
            else:
                recipients += verb == b"RCPT"
                writer.write(b"250 2.0.0 ok\r\n")
            await writer.drain()

    async def _take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Take the content, or not; False to hang up."""
        body = b""
        while (line := await reader.readline()) != b".\r\n":
            if not line:
                return False
            body += line
        found = re.search(rb"(?m)^X-Test: (\S+)", body)
        name = found.group(1).decode() if found else "?"
        fate = self._dice.random() / self.sick if self.sick else 9.0
        if fate < 0.4:
            writer.write(b"451 4.3.0 try again\r\n")
            return True
        if fate < 0.7:
            return False  # gone without a word, nothing taken
        self.taken[name] += 1
        if fate < 1.0:
            return False  # taken, and gone before saying so
        self.said_so[name] += 1
        writer.write(b"250 2.0.0 taken\r\n")
        return True
