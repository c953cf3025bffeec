"""What we ask the kernel about a connection: to detect a host that has vanished, and how much of
what we sent it has not taken yet. Linux; elsewhere as far as possible.
"""

from __future__ import annotations

import array
import asyncio
import contextlib
import fcntl
import socket
import termios
from typing import Protocol

#: Seconds without an answer after which the kernel closes a connection: a host that vanished (a
#: crash, a cut cable, a forgotten NAT entry) costs a minute, not the ten of a final dot. A host
#: that is slow answers keepalives, and may take its time.
VANISHED_AFTER = 60
#: An idle connection is probed after so long, then at this interval.
KEEPALIVE_IDLE = 30
KEEPALIVE_INTERVAL = 10

_OPTIONS = (
    (socket.SOL_SOCKET, "SO_KEEPALIVE", 1),
    (socket.IPPROTO_TCP, "TCP_KEEPIDLE", KEEPALIVE_IDLE),
    (socket.IPPROTO_TCP, "TCP_KEEPINTVL", KEEPALIVE_INTERVAL),
    (socket.IPPROTO_TCP, "TCP_KEEPCNT", (VANISHED_AFTER - KEEPALIVE_IDLE) // KEEPALIVE_INTERVAL),
    (socket.IPPROTO_TCP, "TCP_USER_TIMEOUT", VANISHED_AFTER * 1000),
)


class Socket(Protocol):
    """The part of a socket that event loops expose."""

    def fileno(self) -> int:
        """Its descriptor."""
        ...

    def setsockopt(self, level: int, option: int, value: int, /) -> None:
        """As in `socket`."""
        ...


def watch_over(sock: Socket) -> None:
    """Let the kernel close the connection when the other side has vanished."""
    for level, name, value in _OPTIONS:
        option = getattr(socket, name, None)
        if option is not None:
            with contextlib.suppress(OSError):  # the other side may be gone already
                sock.setsockopt(level, option, value)


def unsent(sock: Socket) -> int:
    """Octets in the kernel that the other side has not taken; 0 if it cannot be asked."""
    found = array.array("i", [0])
    try:
        fcntl.ioctl(sock.fileno(), termios.TIOCOUTQ, found)
    except (OSError, ValueError):
        return 0
    return found[0]


class Progress:
    """Whether a connection makes progress: octets arrive or leave. Arrivals are reported to it; the
    kernel is asked about the others, and only on demand. Times are the caller's.
    """

    __slots__ = ("_socket", "_transport", "_unsent", "heard_at")

    def __init__(self, transport: asyncio.Transport) -> None:
        """Monitor a connected TCP transport, and have the kernel do so."""
        self._transport = transport
        self._socket: Socket | None = transport.get_extra_info("socket")
        self._unsent = 0  # when that was last looked at
        self.heard_at = 0.0
        if self._socket is not None:
            watch_over(self._socket)

    @property
    def kept(self) -> int:
        """Octets that the TCP transport has not given to the kernel."""
        return self._transport.get_write_buffer_size()

    def look(self, writer: asyncio.WriteTransport, now: float) -> float:
        """When octets last arrived or left, as far as can be seen; `writer` is what is written
        to.
        """
        before, self._unsent = self._unsent, writer.get_write_buffer_size() + self._queued()
        if self._unsent != before:  # they left, or an answer came after which there are more
            self.heard_at = now
        return self.heard_at

    def _queued(self) -> int:
        if self._socket is None or self._transport.is_closing():
            return 0  # the descriptor may be another socket's by now
        return unsent(self._socket)
