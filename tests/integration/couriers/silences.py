"""Upstreams that say nothing at one stage of the dialog, until a gate opens."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager

from mailrelay_gateway.contract.documents import Login
from mailrelay_gateway.couriers.smtp.deadlines import Deadlines
from mailrelay_gateway.couriers.smtp.health import Probing
from mailrelay_gateway.message.envelope import Result
from mailrelay_gateway.reasons import Reason
from tests.integration.couriers.scripted_server import Peer, polite, take_all

DELIVERED = (Result.DELIVERED, Reason.DELIVERED)
NEVER = Probing(first=3600, longest=3600, spread=0.0)
#: Quick to ask the next one, and in no hurry otherwise.
STAGGERED = Deadlines(stagger=0.05, stall=3600, quit=0.5)
STALLING = Deadlines(stagger=0.05, stall=0.2, quit=0.5)
LOGIN = Login(username="user", password="word")

#: Says its lines up to a stage, awaits the gate there, and takes all mail from there on.
Gated = Callable[[Peer, asyncio.Event], Awaitable[None]]


async def at_greeting(peer: Peer, gate: asyncio.Event) -> None:
    await gate.wait()
    await polite(peer)


async def at_ehlo(peer: Peer, gate: asyncio.Event) -> None:
    await peer.say("220 script ESMTP")
    await peer.hear("EHLO")
    await gate.wait()
    await peer.say("250-script", "250 PIPELINING")
    await take_all(peer)


async def at_auth(peer: Peer, gate: asyncio.Event) -> None:
    await peer.greet("PIPELINING", "AUTH PLAIN")
    await peer.hear("AUTH")
    await gate.wait()
    await peer.say("235 in")
    await take_all(peer)


async def logged_in(peer: Peer) -> None:
    gate = asyncio.Event()
    gate.set()
    await at_auth(peer, gate)


async def at_mail(peer: Peer, gate: asyncio.Event) -> None:
    await peer.greet()
    await peer.hear("MAIL", "RCPT", "DATA")
    await gate.wait()
    await peer.say("250 ok", "250 ok", "354 go")
    await peer.hear_body()
    await peer.say("250 2.0.0 stored")
    await take_all(peer)


async def at_rcpt(peer: Peer, gate: asyncio.Event) -> None:
    await peer.greet()
    await peer.hear("MAIL", "RCPT", "DATA")
    await peer.say("250 ok")
    await gate.wait()
    await peer.say("250 ok", "354 go")
    await peer.hear_body()
    await peer.say("250 2.0.0 stored")
    await take_all(peer)


async def at_data(peer: Peer, gate: asyncio.Event) -> None:
    await peer.greet()
    await peer.hear("MAIL", "RCPT", "DATA")
    await peer.say("250 ok", "250 ok")
    await gate.wait()
    await peer.say("354 go")
    await peer.hear_body()
    await peer.say("250 2.0.0 stored")
    await take_all(peer)


async def at_dot(peer: Peer, gate: asyncio.Event) -> None:
    await peer.greet()
    await peer.take_envelope()
    await peer.hear_body()
    await gate.wait()
    await peer.say("250 2.0.0 stored")
    await take_all(peer)


BEFORE_MAIL = [
    (at_greeting, "its greeting"),
    (at_ehlo, "its answer to EHLO"),
    (at_auth, "its answer to AUTH"),
]
FROM_MAIL_ON = [
    (at_mail, "its answer to MAIL"),
    (at_rcpt, "its answer to RCPT"),
    (at_data, "its answer to DATA"),
    (at_dot, "its answer to the final dot"),
]


@contextmanager
def black_hole(host: str, port: int = 0) -> Iterator[int]:
    """A port at which connections are never established: its queue is full."""
    with socket.socket() as listening:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((host, port))
        listening.listen(0)
        port = listening.getsockname()[1]
        fillers = [socket.socket() for _ in range(4)]
        for filler in fillers:
            filler.setblocking(False)
            filler.connect_ex((host, port))
        yield port
        for filler in fillers:
            filler.close()
