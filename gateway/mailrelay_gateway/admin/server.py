"""The admin port's server: limits connections and requests, and checks the relay's bearer token.
The answers are in the endpoints' own modules.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import socket
import ssl
from collections.abc import Awaitable, Callable
from functools import partial

import structlog
from aiohttp import web

from mailrelay_gateway.admin.endpoint import Sources, as_json
from mailrelay_gateway.admin.endpoints import ENDPOINTS, get_index

log = structlog.get_logger()

#: Bound on a request's body, which is never read.
MAX_REQUEST = 16 * 1024
#: Concurrent connections (Prometheus servers, probes, the operator, users), and seconds per
#: request.
MAX_CONNECTIONS = 64
REQUEST_DEADLINE = 10.0
HANDSHAKE_DEADLINE = 5.0
#: The listen backlog.
BACKLOG = 128
#: Seconds to wait when a connection cannot be accepted, such as without file descriptors.
ACCEPT_PAUSE = 0.1

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
Answer = Callable[[Sources, web.Request], Awaitable[web.Response]]


class AdminServer:
    """Serves the admin port. `start` binds it; raises OSError if it is in use."""

    def __init__(self, sources: Sources) -> None:
        """Answer from these sources."""
        self._sources = sources
        self._runner: web.AppRunner | None = None
        self._acceptor: asyncio.Task[None] | None = None
        self._connecting: dict[asyncio.Task[None], None] = {}  # the oldest first
        self._busy: set[asyncio.BaseProtocol] = set()  # connections with a request under way
        self._doomed: set[asyncio.BaseProtocol] = set()  # aborted, and not gone yet

    async def start(self, host: str, port: int, *, tls: ssl.SSLContext | None = None) -> int:
        """Listen, with HTTPS if `tls` is given; returns the port, which matters for port 0."""
        app = web.Application(client_max_size=MAX_REQUEST, middlewares=[self._bound])
        add = {"GET": app.router.add_get, "DELETE": app.router.add_delete}
        add["GET"]("/", self._open(get_index))
        for endpoint in ENDPOINTS:
            answer = self._open if endpoint.is_open else self._guarded
            add[endpoint.method](endpoint.path, answer(endpoint.answer))
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=2.0)
        await self._runner.setup()
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        sock = socket.create_server((host, port), family=family, backlog=BACKLOG)
        sock.setblocking(False)
        self._acceptor = asyncio.get_running_loop().create_task(self._accept(sock, tls))
        self._acceptor.add_done_callback(lambda _: sock.close())
        number: int = sock.getsockname()[1]
        return number

    async def stop(self) -> None:
        """Stop listening."""
        if self._acceptor is not None:
            self._acceptor.cancel()
        for connecting in self._connecting:
            connecting.cancel()
        if self._runner is not None:
            await self._runner.cleanup()

    # --- bounds

    async def _accept(self, sock: socket.socket, tls: ssl.SSLContext | None) -> None:
        """Accept connections, at most MAX_CONNECTIONS, counted before the handshake."""
        loop = asyncio.get_running_loop()
        while True:
            try:
                client, _ = await loop.sock_accept(sock)
            except OSError:  # no file descriptor left, or the client has disconnected
                await asyncio.sleep(ACCEPT_PAUSE)
                continue
            if not self._make_room():
                client.close()
                continue
            connecting = loop.create_task(self._connect(client, tls))
            self._connecting[connecting] = None
            connecting.add_done_callback(partial(self._connected, client))

    def _connected(self, client: socket.socket, connecting: asyncio.Task[None]) -> None:
        self._connecting.pop(connecting, None)
        if connecting.cancelled():  # before its first step: it closed nothing itself
            client.close()

    def _make_room(self) -> bool:
        """Whether one more may connect. At the limit, the oldest connection without a request is
        closed, so that idle connections cannot keep probes out.
        """
        assert self._runner is not None
        assert self._runner.server is not None  # set up before anyone connects
        connections = self._runner.server.connections
        self._doomed.intersection_update(connections)
        present = [one for one in connections if one not in self._doomed]
        if len(present) + len(self._connecting) < MAX_CONNECTIONS:
            return True
        for victim in present:
            if victim not in self._busy and victim.transport is not None:
                self._doomed.add(victim)
                victim.transport.abort()
                return True
        oldest = next(iter(self._connecting), None)
        if oldest is not None:  # during its handshake
            del self._connecting[oldest]
            oldest.cancel()
        return oldest is not None

    async def _connect(self, client: socket.socket, tls: ssl.SSLContext | None) -> None:
        assert self._runner is not None
        assert self._runner.server is not None  # set up before anyone connects
        try:
            client.setblocking(False)
            await asyncio.get_running_loop().connect_accepted_socket(
                self._runner.server,
                client,
                ssl=tls,
                ssl_handshake_timeout=HANDSHAKE_DEADLINE if tls is not None else None,
            )
        except (Exception, asyncio.CancelledError):  # whatever it was, no connection came of it
            client.close()

    @web.middleware
    async def _bound(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Apply a deadline to each request, and answer internal errors with 500."""
        protocol = request.protocol
        self._busy.add(protocol)
        try:
            async with asyncio.timeout(REQUEST_DEADLINE):
                return await handler(request)
        except web.HTTPException:
            raise
        except TimeoutError:
            return as_json({"error": f"no answer within {REQUEST_DEADLINE:g} s"}, 503)
        except Exception as error:
            log.exception("internal_error", path=request.path)
            return as_json({"error": f"{type(error).__name__}: {error}"}, 500)
        finally:
            self._busy.discard(protocol)

    # --- endpoints

    def _open(self, answer: Answer) -> Handler:
        return partial(answer, self._sources)

    def _guarded(self, answer: Answer) -> Handler:
        """Require the relay's token."""

        async def check(request: web.Request) -> web.Response:
            scheme, _, token = request.headers.get("Authorization", "").partition(" ")
            expected = self._sources.health.token_sha256()
            given = hashlib.sha256(token.strip().encode("utf-8", "surrogateescape")).hexdigest()
            if not expected or scheme != "Bearer" or not hmac.compare_digest(given, expected):
                return web.json_response(
                    {"error": "the relay's bearer token is required: Authorization: Bearer TOKEN"},
                    status=401,
                    headers={"WWW-Authenticate": "Bearer"},
                )
            return await answer(self._sources, request)

        return check
