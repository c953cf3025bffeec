"""The floor: the least that a relay in Python can do and still promise that 250 means stored.

A bare asyncio relay, without policy, trace headers, metrics, log or retries. It takes SMTP, appends
each message to a log with a checksum, answers 250 after the fdatasync that covers it (everything
that waits shares one), sends it to the sink over reused connections, and appends that it is done; a
segment of the log whose messages are all done is removed. Not a mail server: any reply but the
expected one ends it, so that no figure comes from lost mail.

    floor.py PORT SINK_PORT FOLDER CONNECTIONS
"""

from __future__ import annotations

import asyncio
import os
import queue
import struct
import sys
import threading
import zlib
from collections import deque
from pathlib import Path
from typing import cast

import uvloop

#: length, CRC-32 of what follows, kind, number
RECORD = struct.Struct("<IIBQ")
MESSAGE, DONE = 1, 2
SEGMENT_OCTETS = 64 * 1024 * 1024
#: Octets of messages taken and not yet sent; beyond it a 250 waits.
IN_FLIGHT_OCTETS = 64 * 1024 * 1024
#: Seconds that the note of a message done waits for others to share its commit.
LINGER = 0.005


class Message:
    """A message: its envelope, and its octets as they came, dot-stuffed and with the final dot."""

    __slots__ = ("body", "envelope", "number", "segment", "session")

    def __init__(self, envelope: bytes, body: bytes, session: Session) -> None:
        self.envelope, self.body, self.session = envelope, body, session
        self.number = self.segment = 0


class Log:
    """Segments that a thread appends to, a group a time: one write, one fdatasync."""

    def __init__(self, folder: Path, relay: Relay) -> None:
        self._folder, self._relay = folder, relay
        self._loop = asyncio.get_running_loop()
        self._groups: queue.SimpleQueue[tuple[list[Message], list[Message]]] = queue.SimpleQueue()
        self._taken: list[Message] = []
        self._done: list[Message] = []
        self._busy = self._handing_over = False
        self._linger: asyncio.TimerHandle | None = None
        self._number = self._segment = self._octets = self._file = 0
        self._alive: dict[int, int] = {}  # messages not yet done, by segment
        threading.Thread(target=self._write, daemon=True).start()

    def take(self, message: Message) -> None:
        """Append a message; relay.stored() follows."""
        self._taken.append(message)
        if not self._busy and not self._handing_over:
            self._handing_over = True
            self._loop.call_soon(self._hand_over)

    def done(self, message: Message) -> None:
        """Append that a message is done."""
        self._done.append(message)
        if not self._busy and self._linger is None:
            self._linger = self._loop.call_later(LINGER, self._hand_over)

    def _hand_over(self) -> None:
        self._handing_over = False
        if self._linger is not None:
            self._linger.cancel()
            self._linger = None
        if not self._busy and (self._taken or self._done):
            self._busy = True
            self._groups.put((self._taken, self._done))
            self._taken, self._done = [], []

    def _committed(self, taken: list[Message]) -> None:
        self._busy = False
        self._relay.stored(taken)
        self._hand_over()

    def _write(self) -> None:
        try:
            while True:
                taken, done = self._groups.get()
                self._commit(taken, done)
                self._loop.call_soon_threadsafe(self._committed, taken)
        except BaseException as error:
            fail(f"the log: {error!r}")

    def _commit(self, taken: list[Message], done: list[Message]) -> None:
        if not self._segment or self._octets >= SEGMENT_OCTETS:
            self._next_segment()
        parts: list[bytes] = []
        for message in taken:
            self._number += 1
            message.number, message.segment = self._number, self._segment
            check = zlib.crc32(message.body, zlib.crc32(message.envelope))
            length = len(message.envelope) + len(message.body)
            parts += (RECORD.pack(length, check, MESSAGE, message.number), message.envelope)
            parts.append(message.body)
        parts += (RECORD.pack(0, 0, DONE, message.number) for message in done)
        group = b"".join(parts)
        if os.write(self._file, group) != len(group):
            raise OSError("short write")
        os.fdatasync(self._file)
        self._octets += len(group)
        self._alive[self._segment] += len(taken)
        for message in done:
            self._alive[message.segment] -= 1
            if not self._alive[message.segment] and message.segment != self._segment:
                del self._alive[message.segment]
                (self._folder / str(message.segment)).unlink()

    def _next_segment(self) -> None:
        if self._segment:
            os.close(self._file)
        self._segment, self._octets = self._segment + 1, 0
        self._alive[self._segment] = 0
        path = self._folder / str(self._segment)
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL, 0o600)
        folder = os.open(self._folder, os.O_RDONLY)
        os.fsync(folder)
        os.close(folder)


class Session(asyncio.Protocol):
    """A client's connection. Commands are read a line at a time, data until its final dot."""

    def __init__(self, relay: Relay) -> None:
        self._relay = relay
        self._buffer = bytearray()
        self._envelope = b""
        self._data = False
        self.transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self.transport.write(b"220 floor ESMTP\r\n")

    def data_received(self, data: bytes) -> None:
        looked_at = max(0, len(self._buffer) - 4)
        self._buffer += data
        while self._buffer:
            if self._data:
                end = self._buffer.find(b"\r\n.\r\n", looked_at)
                if end < 0:
                    return
                body = bytes(self._buffer[: end + 5])
                del self._buffer[: end + 5]
                self._data = False
                self._relay.take(Message(self._envelope, body, self))
            else:
                end = self._buffer.find(b"\r\n")
                if end < 0:
                    return
                line = bytes(self._buffer[: end + 2])
                del self._buffer[: end + 2]
                self._command(line[:4].upper(), line)
            looked_at = 0

    def _command(self, verb: bytes, line: bytes) -> None:
        reply = b"250 ok\r\n"
        if verb == b"MAIL":
            self._envelope = line
        elif verb == b"RCPT":
            self._envelope += line
        elif verb == b"DATA":
            self._data, reply = True, b"354 end with a dot\r\n"
        elif verb == b"QUIT":
            self.transport.write(b"221 bye\r\n")
            self.transport.close()
            return
        elif verb not in {b"EHLO", b"HELO", b"RSET"}:
            reply = b"502 not here\r\n"
        self.transport.write(reply)


class Upstream(asyncio.Protocol):
    """A connection to the sink: the envelope with DATA in one write, the message in another."""

    def __init__(self, relay: Relay) -> None:
        self._relay = relay
        self._message: Message | None = None
        self._replies = 0  # lines still to come before the next step
        self._sent = False
        self._buffer = b""
        self.transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self._replies = 2
        self.transport.write(b"HELO floor\r\n")

    def send(self, message: Message) -> None:
        """Send a message; relay.sent() follows."""
        self._message, self._sent = message, False
        self._replies = message.envelope.count(b"\n") + 1
        self.transport.write(message.envelope + b"DATA\r\n")

    def data_received(self, data: bytes) -> None:
        *lines, self._buffer = (self._buffer + data).split(b"\r\n")
        for line in lines:
            self._replies -= 1
            wanted = b"3" if self._message and not self._sent and not self._replies else b"2"
            if line[:1] != wanted:
                fail(f"the sink said {line!r}")
            if self._replies:
                continue
            message = self._message
            if message is None:
                self._relay.free(self)
            elif not self._sent:
                self._sent, self._replies = True, 1
                self.transport.write(message.body)
            else:
                self._message = None
                self._relay.sent(message)
                self._relay.free(self)


class Relay:
    """Joins them."""

    def __init__(self, folder: Path) -> None:
        self._log = Log(folder, self)
        self._free: list[Upstream] = []
        self._waiting: deque[Message] = deque()
        self._unanswered: deque[Session] = deque()
        self._octets = 0

    def take(self, message: Message) -> None:
        """Called with each message as its final dot comes."""
        self._octets += len(message.body)
        self._log.take(message)

    def stored(self, messages: list[Message]) -> None:
        """Called after the fdatasync that covers these."""
        for message in messages:
            self._unanswered.append(message.session)
            self._waiting.append(message)
            if self._free:
                self._free.pop().send(self._waiting.popleft())
        self._answer()

    def sent(self, message: Message) -> None:
        """Called when the sink has taken it."""
        self._octets -= len(message.body)
        self._log.done(message)
        self._answer()

    def free(self, upstream: Upstream) -> None:
        """Called when a connection can take the next message."""
        if self._waiting:
            upstream.send(self._waiting.popleft())
        else:
            self._free.append(upstream)

    def _answer(self) -> None:
        while self._unanswered and self._octets <= IN_FLIGHT_OCTETS:
            self._unanswered.popleft().transport.write(b"250 stored\r\n")


def fail(why: str) -> None:
    """End at once, from any thread."""
    sys.stderr.write(f"floor: {why}\n")
    sys.stderr.flush()
    os._exit(1)


async def main(port: int, sink_port: int, folder: Path, connections: int) -> None:
    """Serve until killed."""
    loop = asyncio.get_running_loop()
    relay = Relay(folder)
    for _ in range(connections):
        await loop.create_connection(lambda: Upstream(relay), "127.0.0.1", sink_port)
    await loop.create_server(lambda: Session(relay), "127.0.0.1", port, backlog=1024)
    await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]), int(sys.argv[4])))
