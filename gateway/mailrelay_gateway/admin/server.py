"""The admin port: metrics and probes for everybody, status and captured mail behind the relay's
bearer token.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import socket
import ssl
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, Protocol, TypeVar

import orjson
import structlog
from aiohttp import web

from mailrelay_gateway.contract.status import GatewayStatus
from mailrelay_gateway.metrics import Metrics

log = structlog.get_logger()

T = TypeVar("T")

#: Requests' bodies are never read; this is the bound on what aiohttp may collect of one.
MAX_REQUEST = 16 * 1024
#: Prometheus' text format; OpenMetrics is not offered.
TEXT_FORMAT = "text/plain; version=0.0.4; charset=utf-8"
#: Connections at once: some Prometheus servers, probes, the operator, people; and seconds that a
#: request may take.
MAX_CONNECTIONS = 64
REQUEST_DEADLINE = 10.0
HANDSHAKE_DEADLINE = 5.0
#: Connections that the kernel holds for us meanwhile.
BACKLOG = 128
#: Seconds to wait when a connection cannot be accepted, such as without file descriptors.
ACCEPT_PAUSE = 0.1
#: Captured messages in one list.
MAX_LISTED = 1000

#: What a person sees who opens the address in a browser.
INDEX = """\
mailrelay gateway, admin port

/metrics                   metrics for Prometheus
/livez, /readyz            probes

With the relay's token (Authorization: Bearer TOKEN):

/status                    queue, listeners and upstreams; also: mailrelay status
/sandbox/messages          captured mail; also: mailrelay inbox list
/sandbox/messages/ID       one message; also: mailrelay inbox show ID
/sandbox/messages/ID/raw   the same, octet for octet
"""

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Health(Protocol):
    """What the probes ask."""

    def alive(self) -> str:
        """ "" if the process can still do its work, otherwise why not."""

    def ready(self) -> str:
        """ "" if mail may be sent here, otherwise why not."""

    def status(self) -> GatewayStatus:
        """The whole picture."""

    def token_sha256(self) -> str:
        """The hash of the bearer token, hex; "" if nobody has one."""


class CapturedMail(Protocol):
    """What the sandbox lets people see."""

    def newest(self, limit: int) -> Awaitable[list[dict[str, Any]]]:
        """The newest messages, without bodies."""

    def one(self, number: int) -> Awaitable[dict[str, Any] | None]:
        """One message."""

    def raw(self, number: int) -> Awaitable[bytes | None]:
        """One message's octets."""

    def clear(self) -> Awaitable[int]:
        """Forget all."""


class AdminServer:
    """Serves the admin port. `start` binds it; OSError when it is taken."""

    def __init__(self, health: Health, mail: CapturedMail, metrics: Metrics) -> None:
        """Answer from these."""
        self._health = health
        self._mail = mail
        self._metrics = metrics
        self._runner: web.AppRunner | None = None
        self._acceptor: asyncio.Task[None] | None = None
        self._connecting: dict[asyncio.Task[None], None] = {}  # the oldest first
        self._busy: set[asyncio.BaseProtocol] = set()  # connections with a request under way
        self._doomed: set[asyncio.BaseProtocol] = set()  # aborted, and not gone yet

    async def start(self, host: str, port: int, *, tls: ssl.SSLContext | None = None) -> int:
        """Listen, with HTTPS where there is `tls`; returns the port (of use when 0 was asked
        for)."""
        app = web.Application(client_max_size=MAX_REQUEST, middlewares=[self._bound])
        app.router.add_get("/", self._get_index)
        app.router.add_get("/metrics", self._get_metrics)
        app.router.add_get("/livez", self._get_livez)
        app.router.add_get("/readyz", self._get_readyz)
        app.router.add_get("/status", self._guarded(self._get_status))
        app.router.add_get("/sandbox/messages", self._guarded(self._get_messages))
        app.router.add_delete("/sandbox/messages", self._guarded(self._delete_messages))
        app.router.add_get(r"/sandbox/messages/{id:\d+}", self._guarded(self._get_message))
        app.router.add_get(r"/sandbox/messages/{id:\d+}/raw", self._guarded(self._get_raw))
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
        """Take connections, not more than MAX_CONNECTIONS, counted before a handshake."""
        loop = asyncio.get_running_loop()
        while True:
            try:
                client, _ = await loop.sock_accept(sock)
            except OSError:  # no file descriptor left, or a client gone again
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
        """Whether one more may connect. Where there are too many, the oldest goes that asks nothing
        just now: whoever only holds connections keeps no probe out.
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
        if oldest is not None:  # amid its handshake
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
        """Give each request a deadline, and answer a failure of ours as one."""
        protocol = request.protocol
        self._busy.add(protocol)
        try:
            async with asyncio.timeout(REQUEST_DEADLINE):
                return await handler(request)
        except web.HTTPException:
            raise
        except TimeoutError:
            return _json({"error": f"no answer within {REQUEST_DEADLINE:g} s"}, 503)
        except Exception as error:
            log.exception("internal_error", path=request.path)
            return _json({"error": f"{type(error).__name__}: {error}"}, 500)
        finally:
            self._busy.discard(protocol)

    # --- open

    async def _get_index(self, _request: web.Request) -> web.Response:
        return web.Response(text=INDEX)

    async def _get_metrics(self, _request: web.Request) -> web.Response:
        loop = asyncio.get_running_loop()
        text = await loop.run_in_executor(None, self._metrics.render)
        return web.Response(body=text, headers={"Content-Type": TEXT_FORMAT})

    async def _get_livez(self, _request: web.Request) -> web.Response:
        return _probe(self._health.alive())

    async def _get_readyz(self, _request: web.Request) -> web.Response:
        return _probe(self._health.ready())

    # --- behind the token

    def _guarded(
        self, handler: Callable[[web.Request], Awaitable[web.Response]]
    ) -> Callable[[web.Request], Awaitable[web.Response]]:
        async def check(request: web.Request) -> web.Response:
            scheme, _, token = request.headers.get("Authorization", "").partition(" ")
            expected = self._health.token_sha256()
            given = hashlib.sha256(token.strip().encode("utf-8", "surrogateescape")).hexdigest()
            if not expected or scheme != "Bearer" or not hmac.compare_digest(given, expected):
                return web.json_response(
                    {"error": "needs the relay's bearer token: Authorization: Bearer TOKEN"},
                    status=401,
                    headers={"WWW-Authenticate": "Bearer"},
                )
            return await handler(request)

        return check

    async def _get_status(self, _request: web.Request) -> web.Response:
        return web.json_response(text=self._health.status().model_dump_json(by_alias=True))

    async def _get_messages(self, request: web.Request) -> web.Response:
        limit = request.query.get("limit", "100")
        if not limit.isdecimal() or not 1 <= int(limit) <= MAX_LISTED:
            return _json({"error": f"limit: {limit!r} is not a number from 1 to {MAX_LISTED}"}, 400)
        return _json({"messages": await self._mail.newest(int(limit))})

    async def _get_message(self, request: web.Request) -> web.Response:
        message = await self._mail.one(int(request.match_info["id"][:18]))
        return _json(message) if message is not None else _not_captured(request)

    async def _get_raw(self, request: web.Request) -> web.Response:
        raw = await self._mail.raw(int(request.match_info["id"][:18]))
        if raw is None:
            return _not_captured(request)
        headers = {"Content-Type": "message/rfc822", "X-Content-Type-Options": "nosniff"}
        return web.Response(body=raw, headers=headers)

    async def _delete_messages(self, _request: web.Request) -> web.Response:
        return _json({"deleted": await self._mail.clear()})


def _probe(problem: str) -> web.Response:
    return web.Response(text=f"{problem or 'ok'}\n", status=503 if problem else 200)


def _json(value: object, status: int = 200) -> web.Response:
    return web.Response(body=orjson.dumps(value), status=status, content_type="application/json")


def _not_captured(request: web.Request) -> web.Response:
    return _json({"error": f"no captured message has the id {request.match_info['id']}"}, 404)
