"""The ports: started, reloaded in place and stopped as the configuration says, and the sessions on
each of them.

`configure` binds every new port before it changes anything, so that a configuration takes effect
whole or not at all. Open sessions are never dropped by a reload: they see the new settings at their
next transaction.
"""

from __future__ import annotations

import asyncio
import dataclasses
import errno
import os
import socket
import time
from contextlib import suppress

import structlog

from mailrelay_gateway.config import GatewayConfig, Listener, RelayDocument, TlsMode
from mailrelay_gateway.ingress.budget import InFlightBudget
from mailrelay_gateway.ingress.commons import Caps, Commons, Timeouts
from mailrelay_gateway.ingress.connection import Connection
from mailrelay_gateway.ingress.intake import Intake
from mailrelay_gateway.ingress.session import Session
from mailrelay_gateway.ingress.settings import ListenerSettings, compile_settings
from mailrelay_gateway.ingress.tls import CertificateError, CertificateStore
from mailrelay_gateway.metrics import Metrics
from mailrelay_gateway.policy.chain import client_not_allowed
from mailrelay_gateway.policy.problem import Problem
from mailrelay_gateway.policy.refusals import refuse
from mailrelay_gateway.policy.senders import Directory, compile_directory
from mailrelay_gateway.reasons import Reason

log = structlog.get_logger()

#: Connections that the kernel holds for us while the loop is busy.
BACKLOG = 1024
#: Seconds between two looks at gauges that change by themselves: use of limits, ends of
#: certificates.
HOUSEKEEPING = 1.0


#: Client addresses of which it is remembered whether they are admitted: a few nodes' worth of pods.
ADMITTED_LIMIT = 4096
#: Seconds to wait when a connection cannot be accepted, such as without file descriptors.
ACCEPT_PAUSE = 0.1


class ListenError(Exception):
    """A listener that cannot be started; the message names it and says what to do. Nothing was
    changed.
    """


class OpenListener:
    """A port and its sessions."""

    def __init__(self, settings: ListenerSettings, sock: socket.socket, commons: Commons) -> None:
        """Own a bound socket; `serve` takes connections from it."""
        self.settings = settings
        self.name = settings.name
        self.port: int = sock.getsockname()[1]
        self.sessions: set[Connection] = set()
        self._socket = sock
        self._commons = commons
        self._clients: dict[str, int] = {}  # sessions by client address
        self._admitted: dict[str, bool] = {}  # what `admits` found with the present settings
        self._server: asyncio.Server | None = None
        self._acceptor: asyncio.Task[None] | None = None
        self._handshakes: set[asyncio.Task[None]] = set()
        self._empty: asyncio.Future[None] | None = None  # someone waits for the last session

    async def serve(self, settings: ListenerSettings) -> None:
        """Take connections by these settings from now on; those that are open are not touched."""
        implicit = settings.tls_mode is TlsMode.IMPLICIT
        running = self._acceptor if implicit else self._server
        self.settings = settings
        self._admitted.clear()
        if running is not None:
            return
        self._pause()
        sock = self._socket.dup()
        sock.setblocking(False)
        if implicit:
            self._acceptor = self._commons.loop.create_task(self._accept(sock))
        else:
            self._server = await self._commons.loop.create_server(self._session, sock=sock)

    def _session(self) -> Session:
        return Session(self, self._commons)

    async def _accept(self, sock: socket.socket) -> None:
        """Implicit TLS: each connection takes the certificate of its moment, and has a deadline for
        its handshake.
        """
        loop = self._commons.loop
        with sock:
            while True:
                try:
                    client, address = await loop.sock_accept(sock)
                except OSError as error:  # no file descriptor left, or a client gone again
                    log.warning("accept_failed", listener=self.name, error=str(error))
                    await asyncio.sleep(ACCEPT_PAUSE)
                    continue
                if len(self.sessions) + len(self._handshakes) >= self._commons.caps.connections:
                    self._commons.metrics.connections_total(self.name, "refused").inc()
                    client.close()
                    continue
                handshake = loop.create_task(self._shake_hands(client, address[0]))
                self._handshakes.add(handshake)
                handshake.add_done_callback(self._handshakes.discard)

    async def _shake_hands(self, client: socket.socket, address: str) -> None:
        tls = self.settings.tls
        assert tls is not None  # the mode says so
        try:
            client.setblocking(False)
            await self._commons.loop.connect_accepted_socket(
                self._session,
                client,
                ssl=tls.context,
                ssl_handshake_timeout=self._commons.timeouts.handshake,
            )
        except (Exception, asyncio.CancelledError) as error:  # whatever it was, no TLS came of it
            client.close()
            self.handshake_failed(address, error)
        else:
            self._commons.metrics.tls_handshakes(self.name, "ok").inc()

    def handshake_failed(self, client: str, error: BaseException) -> None:
        """Count and log a handshake that did not succeed."""
        metrics = self._commons.metrics
        metrics.tls_handshakes(self.name, "failed").inc()
        metrics.rejected(self.name, "starttls", Reason.TLS_FAILED).inc()
        log.info(
            "refused",
            reason=Reason.TLS_FAILED,
            stage="starttls",
            listener=self.name,
            client=client,
            detail=str(error) or type(error).__name__,
        )

    def admits(self, client: str) -> bool:
        """Whether a client's address may use this listener."""
        found = self._admitted.get(client)
        if found is None:
            if len(self._admitted) >= ADMITTED_LIMIT:
                self._admitted.clear()
            found = self._admitted[client] = self.settings.admits(client)
        return found

    def enter(self, session: Connection) -> Problem | None:
        """Count a session that connected, or say why it may not stay."""
        caps, metrics = self._commons.caps, self._commons.metrics
        client = session.client
        problem: Problem | None = None
        if len(self.sessions) >= caps.connections:
            problem = _too_many(f"This listener serves {caps.connections} sessions at once")
        elif self._clients.get(client, 0) >= caps.per_client:
            problem = _too_many(f"Your address has {caps.per_client} sessions open")
        elif not self.admits(client):
            problem = client_not_allowed(554)
        if problem is not None:
            metrics.connections_total(self.name, "refused").inc()
            return problem
        self.sessions.add(session)
        self._clients[client] = self._clients.get(client, 0) + 1
        metrics.connections_total(self.name, "accepted").inc()
        metrics.connections(self.name).inc()
        return None

    def leave(self, session: Connection) -> None:
        """A session that entered is gone."""
        if session not in self.sessions:
            return
        self.sessions.discard(session)
        left = self._clients[session.client] - 1
        if left:
            self._clients[session.client] = left
        else:
            del self._clients[session.client]
        if self._empty is not None and not self.sessions and not self._empty.done():
            self._empty.set_result(None)
        self._commons.metrics.connections(self.name).dec()

    async def wait_until_empty(self) -> None:
        """Wait until the last session has left."""
        if self.sessions:
            self._empty = self._commons.loop.create_future()
            await self._empty

    def close(self) -> None:
        """Take no further connections; sessions go on."""
        self._pause()
        self._socket.close()
        for handshake in self._handshakes:
            handshake.cancel()

    def _pause(self) -> None:
        """Stop taking connections; the kernel keeps a few for whoever serves next."""
        if self._server is not None:
            self._server.close()
            self._server = None
        if self._acceptor is not None:
            self._acceptor.cancel()
            self._acceptor = None


class Ingress:
    """All listeners of the gateway."""

    def __init__(
        self,
        intake: Intake,
        metrics: Metrics,
        *,
        bind: str = "",
        timeouts: Timeouts | None = None,
        caps: Caps | None = None,
        budget: InFlightBudget | None = None,
    ) -> None:
        """Listen on the address `bind` ("": all, IPv6 and IPv4). Made within a running
        event loop.
        """
        self._bind = bind
        self._loop = asyncio.get_running_loop()
        self._commons = Commons(
            intake=intake,
            metrics=metrics,
            loop=self._loop,
            timeouts=timeouts or Timeouts(),
            caps=caps or Caps(),
            budget=budget or InFlightBudget(),
        )
        self._certificates = CertificateStore()
        self._open: dict[str, OpenListener] = {}
        self._closing: set[OpenListener] = set()  # gone from the configuration, with sessions left
        self._namespaces: dict[str, str] = {}
        self._gauges: set[tuple[str, str]] = set()
        self._housekeeping = self._loop.call_later(HOUSEKEEPING, self._keep_house)

    async def configure(self, config: GatewayConfig) -> None:
        """Start, change and stop listeners as `config` says; ListenError, and nothing changed, if
        one cannot start.
        """
        relay = config.relay
        directory = compile_directory(config.senders)
        settings = {
            listener.name: self._compile(listener, relay, directory) for listener in relay.listeners
        }
        opened: dict[str, OpenListener] = {}
        bound: list[tuple[Listener, socket.socket]] = []
        try:
            for listener in relay.listeners:
                present = self._open.get(listener.name)
                if present is not None and listener.port in (0, present.port):
                    opened[listener.name] = present
                else:
                    bound.append((listener, self._bind_port(listener)))
        except ListenError:
            for _, sock in bound:
                sock.close()
            raise
        # From here on nothing fails.
        for listener, sock in bound:
            started = OpenListener(settings[listener.name], sock, self._commons)
            opened[listener.name] = started
            log.info("listening", listener=listener.name, port=started.port)
        for name, present in self._open.items():
            if opened.get(name) is not present:
                present.close()
                self._closing.add(present)
                log.info("listener_closed", listener=name, port=present.port)
        for name, each in opened.items():
            await each.serve(settings[name])
        for each in self._closing:  # their sessions go on, revoked logins do not
            each.settings = dataclasses.replace(each.settings, directory=directory)
        self._open = opened
        self._commons.limits.configure(relay.limits.rates, replicas=relay.replicas)
        self._commons.authenticator.configure(directory)
        self._certificates.keep(
            tuple(each for listener in relay.listeners for each in listener.tls.certificates)
        )
        self._namespaces = {sender.uid: sender.namespace for sender in config.senders}
        self._show_gauges()

    def ports(self) -> dict[str, int]:
        """The bound port of each listener, by name."""
        return {name: each.port for name, each in self._open.items()}

    @property
    def sessions(self) -> int:
        """Open sessions of all listeners."""
        return sum(len(each.sessions) for each in (*self._open.values(), *self._closing))

    async def stop(self, accept_for: float, wait: float) -> None:
        """Accept for `accept_for` seconds more (clients still hold our address), then send 421 to
        whoever is idle, and close what is still under way after `wait` seconds.
        """
        await asyncio.sleep(accept_for)
        listeners = [*self._open.values(), *self._closing]
        for each in listeners:
            each.close()
        for session in _sessions(listeners):
            session.say_goodbye()
        await self._wait_until_quiet(listeners, wait)
        for session in _sessions(listeners):
            session.abort()
        await self._wait_until_quiet(listeners, 1.0)
        self._housekeeping.cancel()
        self._commons.close()

    async def _wait_until_quiet(self, listeners: list[OpenListener], seconds: float) -> None:
        """Wait until no session is left; those that were told goodbye close themselves."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                for each in listeners:
                    await each.wait_until_empty()

    def _compile(
        self, listener: Listener, relay: RelayDocument, directory: Directory
    ) -> ListenerSettings:
        try:
            tls = None
            if listener.tls.mode is not TlsMode.NONE:
                tls = self._certificates.load(listener.tls.certificates)
            return compile_settings(listener, relay=relay, directory=directory, tls=tls)
        except CertificateError as error:
            raise ListenError(f"Listener {listener.name} {error}.") from None
        except ValueError as error:  # of ipaddress, which names what it saw
            raise ListenError(
                f"Listener {listener.name} has an entry in clientCIDRs that is no network: {error}."
            ) from None

    def _bind_port(self, listener: Listener) -> socket.socket:
        host = self._bind or ("::" if socket.has_dualstack_ipv6() else "0.0.0.0")
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        sock = socket.socket(family, socket.SOCK_STREAM)
        try:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0 if host == "::" else 1)
            sock.setblocking(False)
            sock.bind((host, listener.port))
            sock.listen(BACKLOG)
        except OSError as error:
            sock.close()
            where = (
                f"{host}:{listener.port}"
                if family == socket.AF_INET
                else f"[{host}]:{listener.port}"
            )
            raise ListenError(
                f"Listener {listener.name} cannot listen on {where}: {_explain(error)}"
            ) from None
        return sock

    def _keep_house(self) -> None:
        self._housekeeping = self._loop.call_later(HOUSEKEEPING, self._keep_house)
        self._closing = {each for each in self._closing if each.sessions}
        self._show_gauges()

    def _show_gauges(self) -> None:
        """Gauges that change by themselves, and what the log was not told of."""
        metrics, now = self._commons.metrics, time.time()
        self._commons.publish()
        for client, account in self._commons.ledger.muted():
            if account.may_log(self._loop.time()):
                log.warning("refusals_not_logged", client=client, count=account.unlogged)
                account.unlogged = 0
        for each in self._open.values():
            if each.settings.tls is not None:
                ends = each.settings.tls.expires_at
                metrics.certificate_expiry_seconds(each.name).set(ends - now)
        fullest: dict[tuple[str, str], float] = dict.fromkeys(self._gauges, 0.0)
        for scope, namespace, ratio in self._commons.limits.usage(
            self._loop.time(), self._namespaces
        ):
            fullest[scope, namespace] = max(ratio, fullest.get((scope, namespace), 0.0))
        for labels, ratio in fullest.items():
            metrics.limit_usage_ratio(*labels).set(ratio)
        self._gauges = {labels for labels, ratio in fullest.items() if ratio > 0.0}


def _sessions(listeners: list[OpenListener]) -> list[Connection]:
    return [session for each in listeners for session in each.sessions]


def _too_many(sentence: str) -> Problem:
    return refuse(Reason.TOO_MANY_CONNECTIONS, 421, "4.7.0", f"{sentence}: try again later")


def _explain(error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return "another program has the port. Stop it, or give the listener another port."
    if error.errno == errno.EACCES:
        return "ports below 1024 need privileges. Give the listener a port from 1024 up."
    if error.errno == errno.EADDRNOTAVAIL:
        return "this machine has no such address. Bind to another."
    return f"{os.strerror(error.errno or 0)}."
