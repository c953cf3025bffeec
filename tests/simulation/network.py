"""A network inside the loop: connections between the gateway and simulated servers, with
delays, buffers that fill, and ends of every kind.
"""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import Callable
from typing import Any, Protocol

#: Octets that a simulated kernel holds for the other side to take.
KERNEL = (2_000, 64_000, 1_000_000)


class Peer(Protocol):
    """The server's side of one connection."""

    def received(self, octets: bytes) -> None:
        """They came, in order."""
        ...

    def lost(self) -> None:
        """The client is gone."""
        ...


class Host(Protocol):
    """What listens at an address."""

    def fate(self) -> str:
        """What a new connection comes to: open, refused or silent."""
        ...

    def accept(self, wire: Wire) -> Peer:
        """The session of a new connection."""
        ...


class Wire(asyncio.Transport):
    """The client's transport, and the way to it."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, dice: random.Random, protocol: asyncio.Protocol
    ) -> None:
        super().__init__()
        self.protocol = protocol
        self.dead = False  # neither side hears of the other any more
        self.reading = True  # whether the server takes what comes
        self._loop = loop
        self._dice = dice
        self._peer: Peer | None = None
        self._kernel = dice.choice(KERNEL)
        self._latency = dice.choice((0.001, 0.02, 0.3))
        self._buffer = bytearray()
        self._paused = False
        self._closing = False
        self._lost = False
        self._held = 0  # octets in the kernel
        self._out: deque[Callable[[], None]] = deque()  # to the server, in order
        self._in: deque[Callable[[], None]] = deque()  # to the client
        self._out_at = self._in_at = 0.0

    def begin(self, host: Host) -> None:
        """TCP is up."""
        self.protocol.connection_made(self)
        self._peer = host.accept(self)

    # --- asyncio.Transport

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return default

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Any octet that waits pauses."""

    def get_write_buffer_size(self) -> int:
        return len(self._buffer)

    def is_closing(self) -> bool:
        return self._closing

    def pause_reading(self) -> None:
        raise NotImplementedError("no TLS here")

    def write(self, data: Any) -> None:
        if self._lost or self._closing:
            return
        self._buffer += data
        self._push()
        if self._buffer and not self._paused:
            self._paused = True
            self.protocol.pause_writing()

    def close(self) -> None:
        if not self._closing:
            self._closing = True
            if not self._buffer:
                self._loop.call_soon(self._end, None)

    def abort(self) -> None:
        self._closing = True
        self._buffer.clear()
        if self._dice.random() < 0.5:
            self._out.clear()  # a reset overtakes what is on its way
        self._loop.call_soon(self._end, None)

    def _push(self) -> None:
        """To the kernel, as much as it takes."""
        while self._buffer and self._held < self._kernel:
            octets = bytes(self._buffer[: min(self._kernel - self._held, 20_000)])
            del self._buffer[: len(octets)]
            self._held += len(octets)
            self._send(lambda octets=octets: self._arrive(octets))  # type: ignore[misc]

    def _send(self, arrive: Callable[[], None]) -> None:
        self._out.append(arrive)
        self._out_at = max(self._out_at, self._loop.time() + self._latency)
        self._loop.call_at(self._out_at, self._next_out)

    def _next_out(self) -> None:
        if self._out and not self.dead and self.reading:
            self._out.popleft()()

    def _arrive(self, octets: bytes) -> None:
        assert self._peer is not None
        self._held -= len(octets)
        self._peer.received(octets)
        if self._lost:
            return
        self._push()
        if not self._buffer:
            if self._paused:
                self._paused = False
                self.protocol.resume_writing()
            if self._closing:
                self._loop.call_soon(self._end, None)

    def _end(self, error: Exception | None) -> None:
        """The client's side is over."""
        if self._lost:
            return
        self._lost = self._closing = True
        self._buffer.clear()
        if not self.dead:
            self._send(self._tell_lost)
        self.protocol.connection_lost(error)

    def _tell_lost(self) -> None:
        if self._peer is not None:
            self._peer.lost()

    # --- the server's side

    def reply(self, octets: bytes, told: Callable[[], None] | None = None) -> None:
        """Send to the client; `told` is called once it has read them."""

        def arrive() -> None:
            if self._closing:
                return
            if told is not None:
                told()
            self.protocol.data_received(octets)

        self._come(arrive)

    def end(self) -> None:
        """Close: the client reads all, and then the end."""

        def arrive() -> None:
            if not self._closing:
                self.protocol.eof_received()
                self.close()

        self._come(arrive)

    def reset(self) -> None:
        """Break: what is on its way may be lost."""
        if self._dice.random() < 0.5:
            self._in.clear()

        def arrive() -> None:
            self._buffer.clear()
            self._end(ConnectionResetError(104, "Connection reset by peer"))

        self._come(arrive)

    def _come(self, arrive: Callable[[], None]) -> None:
        self._in.append(arrive)
        self._in_at = max(self._in_at, self._loop.time() + self._latency)
        self._loop.call_at(self._in_at, self._next_in)

    def _next_in(self) -> None:
        if self._in and not self.dead and not self._lost:
            self._in.popleft()()


class Network:
    """Who listens where. Implements `virtual.Net`."""

    def __init__(self, dice: random.Random) -> None:
        self.hosts: dict[str, Host] = {}
        self._dice = dice
        self.wires: list[Wire] = []  # of the present life

    async def connect(
        self, make: Callable[[], asyncio.BaseProtocol], address: str, port: int
    ) -> tuple[asyncio.BaseTransport, asyncio.BaseProtocol]:
        """As `create_connection`."""
        del port
        loop = asyncio.get_running_loop()
        host = self.hosts.get(address)
        fate = "silent" if host is None else host.fate()
        await asyncio.sleep(self._dice.choice((0.001, 0.05)))
        if fate == "refused":
            raise ConnectionRefusedError(111, "Connection refused")
        if host is None or fate == "silent":
            await loop.create_future()
        assert host is not None
        protocol = make()
        assert isinstance(protocol, asyncio.Protocol)
        wire = Wire(loop, self._dice, protocol)
        self.wires = [other for other in self.wires if not other.is_closing()]
        self.wires.append(wire)
        wire.begin(host)
        return wire, protocol

    def kill(self) -> None:
        """The gateway's process is gone: its kernel closes all, and nobody hears of it here."""
        for wire in self.wires:
            wire.dead = True
        self.wires = []
