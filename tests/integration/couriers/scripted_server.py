"""An SMTP server whose every line is written by the test: a script is a coroutine that talks to
one connection.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

from tests.waiting import PATIENCE

PIPELINING = ("PIPELINING", "SIZE 1000000", "8BITMIME")
LONGEST_BODY = 16 * 1024 * 1024  # octets that a script can hear at once


@dataclass(eq=False)
class Peer:
    """The server's end of one connection."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    heard: list[str] = field(default_factory=list)  # command lines
    bodies: list[bytes] = field(default_factory=list)  # as they stood on the wire, without the dot
    changed: asyncio.Event = field(default_factory=asyncio.Event)  # something was heard

    async def say(self, *lines: str) -> None:
        """Send lines in one write."""
        await self.send("".join(f"{line}\r\n" for line in lines).encode())

    async def send(self, octets: bytes) -> None:
        self.writer.write(octets)
        await self.writer.drain()

    def note(self, line: bytes) -> str:
        """Write down a command line."""
        self.heard.append(line.decode("utf-8", "replace").rstrip("\r\n"))
        self.changed.set()
        return self.heard[-1]

    async def hear(self, *verbs: str) -> None:
        """Take one line for each verb given, which it must begin with."""
        for verb in verbs:
            async with asyncio.timeout(PATIENCE):
                line = await self.reader.readuntil(b"\r\n")
            self.note(line)
            assert self.heard[-1].upper().startswith(verb.upper()), (
                f"{self.heard[-1]!r} is no {verb}"
            )

    async def hear_body(self) -> None:
        """Take a body up to its dot."""
        async with asyncio.timeout(PATIENCE):
            octets = await self.reader.readuntil(b"\r\n.\r\n")
        self.bodies.append(octets[:-3])
        self.changed.set()

    async def start_tls(self, context: ssl.SSLContext) -> None:
        await self.writer.start_tls(context)

    async def greet(self, *extensions: str) -> None:
        """Greeting and EHLO."""
        await self.say("220 script ESMTP")
        await self.ehlo(*(extensions or PIPELINING))

    async def ehlo(self, *extensions: str) -> None:
        await self.hear("EHLO")
        lines = ["script", *extensions]
        await self.say(*(f"250{'-' if line is not lines[-1] else ' '}{line}" for line in lines))

    async def take_envelope(self, recipients: int = 1) -> None:
        """A pipelined envelope, all of it accepted."""
        await self.hear("MAIL", *["RCPT"] * recipients, "DATA")
        await self.say(*["250 ok"] * (1 + recipients), "354 go")

    async def take_message(self, recipients: int = 1, final: str = "250 2.0.0 stored") -> None:
        """A whole pipelined transaction."""
        await self.take_envelope(recipients)
        await self.hear_body()
        await self.say(final)

    async def until_quit(self) -> None:
        """Take whatever comes until QUIT, and answer that; or until the client is gone."""
        while True:
            line = await self.reader.readline()
            if not line:
                return
            self.note(line)
            if self.heard[-1] == "QUIT":
                await self.say("221 bye")
                return

    async def silence(self) -> None:
        """Say nothing until the client is gone."""
        while await self.reader.read(65536):
            pass


Script = Callable[[Peer], Awaitable[None]]


async def polite(peer: Peer) -> None:
    """Take all mail."""
    await peer.greet()
    await take_all(peer)


async def take_all(peer: Peer) -> None:
    """Take messages until QUIT, whatever their number of recipients."""
    while True:
        line = await peer.reader.readline()
        if not line:
            return
        verb = peer.note(line)[:4].upper()
        if verb == "DATA":
            await peer.say("354 go")
            await peer.hear_body()
            await peer.say("250 2.0.0 stored")
        elif verb == "QUIT":
            await peer.say("221 bye")
            return
        else:
            await peer.say("250 ok")


class ScriptedServer:
    """Plays the n-th script to the n-th connection, the last one to all further ones."""

    def __init__(self, scripts: Sequence[Script], *, tls: ssl.SSLContext | None = None) -> None:
        self._scripts = scripts
        self.tls = tls
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._changed = asyncio.Event()
        self.peers: list[Peer] = []
        self.problems: list[BaseException] = []

    async def start(self, host: str = "127.0.0.1") -> None:
        self._server = await asyncio.start_server(
            self._play, host, 0, ssl=self.tls, limit=LONGEST_BODY
        )

    @property
    def port(self) -> int:
        assert self._server is not None
        port = self._server.sockets[0].getsockname()[1]
        assert isinstance(port, int)
        return port

    async def _play(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        peer = Peer(reader, writer, changed=self._changed)
        self.peers.append(peer)
        self._changed.set()
        script = self._scripts[min(len(self.peers), len(self._scripts)) - 1]
        try:
            await script(peer)
        except (ConnectionError, asyncio.IncompleteReadError, ssl.SSLError, asyncio.CancelledError):
            pass  # the client is gone, or the test is over
        except Exception as problem:  # the test looks at it
            self.problems.append(problem)
        finally:
            self._tasks.discard(task)
            writer.close()

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait for a condition over what was heard."""
        async with asyncio.timeout(PATIENCE):
            while not condition():
                self._changed.clear()
                await self._changed.wait()

    async def until_body(self) -> None:
        """Wait until the first connection has sent a whole body."""
        await self.until(lambda: bool(self.peers and self.peers[0].bodies))

    async def stop(self) -> None:
        """Stop listening, end the scripts, and show what went wrong in them."""
        assert self._server is not None
        self._server.close()
        for task in list(self._tasks):
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(1):
                await self._server.wait_closed()
        if self.problems:
            raise self.problems[0]


def gated(gate: asyncio.Event, then: Script = take_all) -> Script:
    """Takes a message whose final reply waits for the gate, and goes on as `then`."""

    async def script(peer: Peer) -> None:
        await peer.greet()
        await peer.take_envelope()
        await peer.hear_body()
        await gate.wait()
        await peer.say("250 2.0.0 stored")
        await then(peer)

    return script
