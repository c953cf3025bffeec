"""A bound port: accepts connections for the listener that currently has it.

A port outlives its listener: if a listener is renamed, or two swap their ports, the sockets stay
bound, and no client is refused in between.
"""

from __future__ import annotations

import asyncio
import errno
import os
import socket
from functools import partial
from typing import TYPE_CHECKING

import structlog

from mailrelay_gateway.contract.documents import TlsMode
from mailrelay_gateway.intake.places import MAKE_ROOM, Place
from mailrelay_gateway.intake.smtp.connection import unmapped
from mailrelay_gateway.intake.smtp.session import Session

if TYPE_CHECKING:
    from mailrelay_gateway.intake.commons import Commons
    from mailrelay_gateway.intake.smtp.settings import SmtpListener

log = structlog.get_logger()

#: Connections that the kernel queues while the loop is busy.
BACKLOG = 1024
#: Seconds to wait when a connection cannot be accepted, for example without file descriptors.
ACCEPT_PAUSE = 0.1
#: Seconds between two looks whether connections can be accepted at all.
LOOK_INTERVAL = 1.0
#: Descriptors that must be free before connections are taken again: one more than a listening
#: socket needs would do, and would be used up at once.
SPARE = 8


class Port:
    """A bound, listening socket, and the listener that gets its connections."""

    def __init__(self, sock: socket.socket, commons: Commons) -> None:
        """Own a bound socket; `serve` accepts connections."""
        self.number: int = sock.getsockname()[1]
        self._socket = sock
        self._commons = commons
        self._listener: SmtpListener | None = None
        self._server: asyncio.Server | None = None
        self._acceptor: asyncio.Task[None] | None = None
        self._handshakes: set[asyncio.Task[None]] = set()
        self._closed = False
        self._short = False  # of descriptors: connections wait in the kernel
        self._looking: asyncio.TimerHandle | None = None
        self._resuming: asyncio.Task[None] | None = None

    def hand_to(self, listener: SmtpListener) -> None:
        """New connections belong to this listener. If it accepts connections in another way than
        the previous one, they wait in the kernel for `serve`.
        """
        self._listener = listener
        if (self._server if self._implicit else self._acceptor) is not None:
            self._pause()

    async def serve(self) -> None:
        """Accept connections, in the mode of the current listener; OSError."""
        if self._closed or self._server is not None or self._acceptor is not None:
            return
        sock = self._socket.dup()
        sock.setblocking(False)
        if self._implicit:
            self._acceptor = self._commons.loop.create_task(self._accept(sock))
            # Not by a `with` in there: a task that is cancelled at once never starts.
            self._acceptor.add_done_callback(lambda _: sock.close())
            return
        server = await self._commons.loop.create_server(self._session, sock=sock, backlog=BACKLOG)
        self._server = server
        self._check()
        if self._looking is None and not self._closed:
            self._looking = self._commons.loop.call_later(LOOK_INTERVAL, self._look)

    def _check(self) -> None:
        """What was closed, or given to a listener of another mode, while its server was created."""
        if self._closed or self._implicit:
            self._pause()

    @property
    def _implicit(self) -> bool:
        assert self._listener is not None  # given to one before
        return self._listener.settings.tls_mode is TlsMode.IMPLICIT

    def close(self) -> None:
        """Accept no further connections; sessions continue."""
        self._closed = True
        self._pause()
        self._socket.close()
        if self._looking is not None:
            self._looking.cancel()
        for handshake in self._handshakes:
            handshake.cancel()

    def _pause(self) -> None:
        """Stop accepting connections; the kernel queues a few for the next process."""
        if self._server is not None:
            self._server.close()
            self._server = None
        if self._acceptor is not None:
            self._acceptor.cancel()
            self._acceptor = None

    def _look(self) -> None:
        """Take no connections while there is no descriptor for one: uvloop would ask the kernel
        without a pause, and say nothing. They wait in the kernel, and are greeted later.
        """
        self._looking = None
        error = _shortage(SPARE if self._short else 1)
        if error is None and self._short:
            self._short = False
            self._resuming = self._commons.loop.create_task(self._resume())
        elif error is not None and self._server is not None:
            if not self._short:
                log.warning("accept_failed", port=self.number, error=str(error))
            self._short = True
            self._pause()
        self._looking = self._commons.loop.call_later(LOOK_INTERVAL, self._look)

    async def _resume(self) -> None:
        try:
            await self.serve()
        except OSError:  # the descriptors are gone again
            self._short = True

    def _session(self) -> Session:
        assert self._listener is not None
        return Session(self._listener, self._commons)

    async def _accept(self, sock: socket.socket) -> None:
        """Implicit TLS: each connection uses the current certificate, and has a deadline for its
        handshake.
        """
        loop = self._commons.loop
        short = False  # no descriptors: logged once
        while True:
            try:
                client, address = await loop.sock_accept(sock)
            except OSError as error:  # no file descriptors left, or the client has disconnected
                if not short:
                    log.warning("accept_failed", port=self.number, error=str(error))
                short = True
                await asyncio.sleep(ACCEPT_PAUSE)
                continue
            short = False
            listener = self._listener
            assert listener is not None
            self._begin_handshake(listener, client, unmapped(address[0]))

    def _begin_handshake(self, listener: SmtpListener, client: socket.socket, address: str) -> None:
        """Give the connection a place before the handshake, which costs us more than the client."""
        session = Session(listener, self._commons)
        handshake: asyncio.Task[None] | None = None

        def evict() -> None:
            if handshake is not None:
                handshake.cancel()

        place = listener.places.take(address, evict, stranger=listener.settings.auth_required)
        if isinstance(place, str):
            client.close()  # without TLS there is no reply
            listener.no_place(address, place)
            return
        session.place = place
        handshake = self._commons.loop.create_task(
            self._shake_hands(listener, client, address, session)
        )
        self._handshakes.add(handshake)
        handshake.add_done_callback(self._handshakes.discard)
        handshake.add_done_callback(partial(_never_begun, client, place))

    async def _shake_hands(
        self, listener: SmtpListener, client: socket.socket, address: str, session: Session
    ) -> None:
        tls, place = listener.settings.tls, session.place
        assert place is not None  # it was given one
        try:
            client.setblocking(False)
            if tls is None:  # it became a listener of another mode meanwhile
                raise ConnectionAbortedError("the listener no longer has TLS")
            if not await self._hears_from(client):
                client.close()  # a probe, or nobody: no octet, no failure
                place.give_back()
                return
            await self._commons.loop.connect_accepted_socket(
                lambda: session,
                client,
                ssl=tls.context,
                ssl_handshake_timeout=self._commons.timeouts.handshake,
            )
        except (Exception, asyncio.CancelledError) as error:  # whatever it was, there is no TLS
            client.close()
            if place.gone:  # another client needed it
                listener.no_place(address, MAKE_ROOM)
            else:
                place.give_back()
                listener.handshake_failed(address, error)
        else:
            self._commons.metrics.tls_handshakes(listener.name, "ok").inc()

    async def _hears_from(self, client: socket.socket) -> bool:
        """Wait for the first octet: False when the client closes, resets or stays silent."""
        loop = self._commons.loop
        heard = asyncio.Event()
        loop.add_reader(client, heard.set)
        try:
            async with asyncio.timeout(self._commons.timeouts.handshake):
                await heard.wait()
            return client.recv(1, socket.MSG_PEEK) != b""
        except OSError:  # a reset, or (TimeoutError is one) nothing at all
            return False
        finally:
            loop.remove_reader(client)


def _shortage(count: int) -> OSError | None:
    """Why so many sockets cannot be had; None: they can."""
    found: list[socket.socket] = []
    try:
        found.extend(socket.socket() for _ in range(count))
    except OSError as error:
        return error
    finally:
        for each in found:
            each.close()
    return None


def _never_begun(client: socket.socket, place: Place, handshake: asyncio.Task[None]) -> None:
    """A task that is cancelled before its first step closes nothing by itself."""
    if handshake.cancelled():
        client.close()
        if not place.gone:
            place.give_back()


def bind(host: str, port: int) -> socket.socket:
    """A socket that listens on host ("": all, IPv6 and IPv4) and port; OSError, whose `strerror`
    says what to do.
    """
    host = host or ("::" if socket.has_dualstack_ipv6() else "0.0.0.0")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0 if host == "::" else 1)
        sock.setblocking(False)
        sock.bind((host, port))
        sock.listen(BACKLOG)
    except BaseException:
        sock.close()
        raise
    return sock


def shown(host: str, port: int) -> str:
    """An address as people write it."""
    host = host or ("::" if socket.has_dualstack_ipv6() else "0.0.0.0")
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def explain(error: Exception) -> str:
    """Why a port cannot be bound, and what to do."""
    if not isinstance(error, OSError):
        return f"{type(error).__name__}: {error}."
    if error.errno == errno.EADDRINUSE:
        return "another program uses the port. Stop it, or give the listener another port."
    if error.errno == errno.EACCES:
        return "ports below 1024 need privileges. Give the listener a port of 1024 or above."
    if error.errno == errno.EADDRNOTAVAIL:
        return "this machine has no such address. Bind to another."
    if error.errno:
        return f"{os.strerror(error.errno)}."
    return f"{error}."
