"""Ports for servers that a test starts as processes, and for those where nobody shall listen."""

from __future__ import annotations

import itertools
import os
import socket

#: Below the range from which the kernel takes ports for outgoing connections and for port 0
#: (32768 to 60999 on Linux): otherwise some client may have the port before it is used.
_FIRST, _COUNT = 10_000, 22_000

#: Each process begins elsewhere, and comes back to a port only after all others.
_numbers = itertools.count(os.getpid() * 7919)


def free_port() -> int:
    """A TCP port of 127.0.0.1 at which nobody listens, given out once."""
    for number in itertools.islice(_numbers, _COUNT):
        port = _FIRST + number % _COUNT
        with socket.socket() as sock:
            try:
                sock.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise AssertionError("no port is free")
