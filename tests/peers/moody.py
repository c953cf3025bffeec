"""An SMTP server that behaves as its mood says, keeps an account of every recipient of every
message, and looks whether each body is whole.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from dataclasses import dataclass, field
from enum import Enum, auto

from tests.peers.listening import ListeningPeer
from tests.peers.wholemail import name_of

LARGEST = 16 * 1024 * 1024  # octets of a body


class Mood(Enum):
    """How it behaves; changed at any time, in force from the next command on."""

    HEALTHY = auto()
    LEAVES = auto()  # 250 and 421 in one segment after each message
    AWAY = auto()  # 421 for a greeting
    BUSY = auto()  # 421 to whatever is said, and hangs up
    REFUSES_CONTENT = auto()  # 454 after the dot
    SILENT_FROM_START = auto()  # takes the connection and says nothing
    SILENT_AT_DOT = auto()  # says nothing after the dot


@dataclass(frozen=True, slots=True)
class Taken:
    """A transaction that was answered 250, and when (monotonic)."""

    name: str
    recipients: tuple[str, ...]
    at: float


@dataclass(eq=False)
class MoodyServer(ListeningPeer):
    """`per_second` bounds the messages that it takes, over all connections."""

    mood: Mood = Mood.HEALTHY
    per_second: float = 0.0
    limit: int = field(default=LARGEST, init=False)
    connections: list[float] = field(default_factory=list)  # when each of them came
    transactions: list[Taken] = field(default_factory=list)
    taken: Counter[tuple[str, str]] = field(default_factory=Counter)  # (name, recipient)
    damaged: list[str] = field(default_factory=list)
    met: Counter[Mood] = field(default_factory=Counter)  # how often a mood was shown
    _next: float = field(default=0.0, init=False)

    def taken_at(self, name: str) -> float | None:
        """When a message was taken first."""
        return next((entry.at for entry in self.transactions if entry.name == name), None)

    async def converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """As its mood says."""
        self.connections.append(time.monotonic())
        if self.mood is Mood.SILENT_FROM_START:
            await self._say_nothing(reader)
            return
        if self.mood is Mood.AWAY:
            self.met[self.mood] += 1
            writer.write(b"421 4.3.2 moody.example is away\r\n")
            return
        writer.write(b"220 moody.example ESMTP\r\n")
        recipients: list[str] = []
        while line := await reader.readline():
            verb = line[:4].upper()
            if self.mood is Mood.BUSY and verb != b"QUIT":
                self.met[self.mood] += 1
                writer.write(b"421 4.3.2 moody.example is busy\r\n")
                return
            if verb == b"EHLO":
                writer.write(b"250-moody.example\r\n250-PIPELINING\r\n250 8BITMIME\r\n")
            elif verb == b"DATA":
                writer.write(b"354 go on\r\n")
                content = (await reader.readuntil(b"\r\n.\r\n"))[:-3]
                if not await self._take(content, recipients, reader, writer):
                    return
            elif verb == b"QUIT":
                writer.write(b"221 2.0.0 bye\r\n")
                return
            elif verb == b"RCPT":
                recipients.append(line.partition(b"<")[2].partition(b">")[0].decode())
                writer.write(b"250 2.1.5 ok\r\n")
            else:
                recipients = []
                writer.write(b"250 2.1.0 ok\r\n")
            await writer.drain()

    async def _take(
        self,
        content: bytes,
        recipients: list[str],
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> bool:
        """Answer the dot; False to hang up."""
        if self.mood is Mood.SILENT_AT_DOT:
            await self._say_nothing(reader)
            return False
        if self.mood is Mood.REFUSES_CONTENT:
            self.met[self.mood] += 1
            writer.write(b"454 4.7.0 not just now\r\n")
            return True
        if self.per_second:
            self._next = max(self._next, time.monotonic()) + 1 / self.per_second
            await asyncio.sleep(self._next - time.monotonic())
        name, whole = name_of(content.replace(b"\r\n..", b"\r\n."))
        if not whole:
            self.damaged.append(name)
        self.transactions.append(Taken(name, tuple(recipients), time.monotonic()))
        self.taken.update((name, recipient) for recipient in recipients)
        if self.mood is Mood.LEAVES:
            writer.write(b"250 2.0.0 stored\r\n421 4.3.2 moody.example leaves\r\n")
            return False
        writer.write(b"250 2.0.0 stored\r\n")
        return True

    async def _say_nothing(self, reader: asyncio.StreamReader) -> None:
        self.met[self.mood] += 1
        while await reader.read(65536):
            pass
