"""Opens a session with an upstream: its hosts in order, the addresses of each, until one is ready
for MAIL. A slow one is not waited for: after two seconds the next one is tried in parallel, and the
first that is ready wins (like RFC 8305).

Foreign errors (sockets, DNS) become a Failure here and nowhere else. What was learnt about hosts is
returned.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from mailrelay_gateway.contract.documents import HostPort
from mailrelay_gateway.contract.stage import Stage
from mailrelay_gateway.couriers.oauth2.answers import NoToken
from mailrelay_gateway.couriers.replies.verdict import Ending, Failure
from mailrelay_gateway.couriers.resolver import Resolver, Unresolved
from mailrelay_gateway.couriers.smtp.connection import Connection
from mailrelay_gateway.couriers.smtp.deadlines import Deadlines
from mailrelay_gateway.couriers.smtp.stalls import Waiting
from mailrelay_gateway.descriptors import is_shortage
from mailrelay_gateway.reasons import Reason

#: Hosts and addresses tried in parallel, at most: each may become a session that counts there.
RACERS = 4

#: Creates the connection for (host, address, access token or ""); it is not connected yet.
Make = Callable[[HostPort, str, str], Connection]


class Tokens(Protocol):
    """The source of the access token for a login."""

    async def token(self) -> str | NoToken:
        """A valid one, or why there is none; it has its own deadline."""
        ...

    def rejected(self, token: str) -> None:
        """The upstream does not accept it."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """The result: a connection that is ready, or the failure that says most. `failed` names the
    hosts that failed, or were silent while another one answered.
    """

    connection: Connection | None = None
    failure: Failure | None = None
    failed: Sequence[HostPort] = ()


#: The result of one try within an opening: a session, why there is none, or the addresses of a
#: host.
_Found = Connection | Failure | Sequence[str]


class _Leg:
    """One try within an opening: to resolve a host, or to get a session at one address."""

    __slots__ = ("address", "began_at", "connection", "host")

    def __init__(self, host: HostPort, address: str = "") -> None:
        """Without an address it resolves the host."""
        self.host = host
        self.address = address
        self.connection: Connection | None = None
        self.began_at = 0.0

    @property
    def waiting(self) -> Waiting:
        if not self.address:
            return Waiting(Stage.RESOLVE, self.began_at, 0.0)
        if self.connection is None or not self.connection.connected:
            return Waiting(Stage.CONNECT, self.began_at, 0.0)
        return self.connection.waiting


class Opening:
    """One session being opened."""

    def __init__(
        self,
        hosts: Sequence[HostPort],
        *,
        resolver: Resolver,
        deadlines: Deadlines,
        make: Make,
        tokens: Tokens | None = None,
    ) -> None:
        """Try these hosts in order; `run` does it. Created inside the running loop. `tokens`: each
        session logs in with one of these.
        """
        self._loop = asyncio.get_running_loop()
        self._hosts = hosts
        self._resolver = resolver
        self._deadlines = deadlines
        self._make = make
        self._tokens = tokens
        self._token = ""
        self._awaits_token = False
        self._waiting = deque(_Leg(host) for host in hosts)
        self._running: dict[asyncio.Task[_Found], _Leg] = {}
        self._failures: dict[HostPort, Failure] = {}
        self.began_at = self._loop.time()

    @property
    def waiting(self) -> Waiting:
        """How far the furthest try is, and when any of them last made progress."""
        legs = [leg.waiting for leg in self._running.values()]
        if not legs:
            stage = Stage.TOKEN if self._awaits_token else Stage.RESOLVE
            return Waiting(stage, self.began_at, 0.0)
        return Waiting(
            max(leg.stage for leg in legs),
            self.began_at,
            max(leg.heard for leg in legs),
        )

    async def run(self) -> Opened:
        """Open a session. Cancelling it leaves no connection behind. OSError: no descriptors are
        available, which says nothing about any host.
        """
        try:
            if self._tokens is None:
                return await self._open()
            return await self._open_with_token(self._tokens)
        finally:
            self._drop_legs()

    async def _open(self) -> Opened:
        won = await self._race()
        if won is not None:
            return Opened(connection=won.connection, failed=self._failed_hosts(won.host))
        return Opened(failure=self._worst(), failed=list(self._failures))

    async def _open_with_token(self, tokens: Tokens) -> Opened:
        """First a token. One that the upstream does not accept is dropped, and another one tried,
        once: it may have been revoked early.
        """
        refused: Opened | None = None
        while True:
            self._awaits_token = True
            found = await tokens.token()
            self._awaits_token = False
            if isinstance(found, NoToken):
                return Opened(failure=Failure(Stage.TOKEN, found.reason, found.detail))
            if refused is not None and found == self._token:
                return refused  # the endpoint has no other
            self._token = found
            opened = await self._open()
            failure = opened.failure
            if failure is None or failure.reason is not Reason.UPSTREAM_AUTH_FAILED:
                return opened
            tokens.rejected(found)
            if refused is not None:
                return opened
            refused = opened
            self._drop_legs()
            self._running = {}
            self._failures = {}
            self._waiting = deque(_Leg(host) for host in self._hosts)

    def _drop_legs(self) -> None:
        for task in self._running:
            task.cancel()
            task.add_done_callback(_discard)

    async def _race(self) -> _Leg | None:
        """The first try whose connection is ready; None: all failed."""
        started_at = -self._deadlines.stagger
        free = True  # whether a leg has ended since the last one was started
        while self._waiting or self._running:
            now = self._loop.time()
            until = None
            if self._waiting and len(self._running) < RACERS:
                if free or now >= started_at + self._deadlines.stagger:
                    self._start(self._waiting.popleft(), now)
                    started_at, free = now, False
                    continue
                until = started_at + self._deadlines.stagger - now
            done, _ = await asyncio.wait(
                self._running, timeout=until, return_when=asyncio.FIRST_COMPLETED
            )
            for task in [task for task in self._running if task in done]:
                leg = self._running.pop(task)
                found = task.result()
                if isinstance(found, Connection):
                    return leg
                free = True
                if not isinstance(found, Failure):
                    addresses = [_Leg(leg.host, address) for address in found]
                    self._waiting.extendleft(reversed(addresses))
                    continue
                self._note(leg.host, found)
                if found.reason is Reason.UPSTREAM_AUTH_FAILED:
                    # The login is the same for all, and each try brings a lock-out nearer.
                    self._waiting.clear()
                    return None
        return None

    def _start(self, leg: _Leg, now: float) -> None:
        leg.began_at = now
        self._running[self._loop.create_task(self._run(leg))] = leg

    def _note(self, host: HostPort, failure: Failure) -> None:
        """Of several addresses the one that got furthest, and of those the last, represents the
        host.
        """
        known = self._failures.get(host)
        if known is None or failure.stage >= known.stage:
            self._failures[host] = failure

    def _worst(self) -> Failure:
        """The failure that got furthest says most: a refused login rather than the dead host before
        it.
        """
        failures = {host: self._failures[host] for host in self._hosts if host in self._failures}
        worst = max(failures.values(), key=lambda failure: failure.stage)
        detail = "; ".join(
            f"{host.host}:{host.port} {failure.detail}" for host, failure in failures.items()
        )
        return replace(worst, detail=detail)

    def _failed_hosts(self, won: HostPort) -> list[HostPort]:
        """The hosts to try last for a while: all of their addresses have failed, or they have been
        silent for so long that another one was tried.
        """
        late = self._loop.time() - self._deadlines.stagger
        running = list(self._running.values())
        alive = {won, *(leg.host for leg in self._waiting if leg.address)}
        alive.update(leg.host for leg in running if max(leg.began_at, leg.waiting.heard) > late)
        tried = self._failures.keys() | {leg.host for leg in running}
        return [host for host in self._hosts if host in tried and host not in alive]

    # --- one leg

    async def _run(self, leg: _Leg) -> _Found:
        if not leg.address:
            return await self._resolve(leg.host)
        leg.connection = self._make(leg.host, leg.address, self._token)
        return await self._connect(leg.connection, leg.address, leg.host.port)

    async def _resolve(self, host: HostPort) -> Failure | Sequence[str]:
        seconds = self._deadlines.resolve
        try:
            async with asyncio.timeout(seconds):
                return await self._resolver.addresses(host.host)
        except Unresolved as error:
            return Failure(Stage.RESOLVE, Reason.UPSTREAM_UNRESOLVED, f"has no address: {error}")
        except TimeoutError:
            detail = f"has no address: no answer from DNS within {seconds:g} s"
            return Failure(Stage.RESOLVE, Reason.UPSTREAM_UNRESOLVED, detail)

    async def _connect(
        self, connection: Connection, address: str, port: int
    ) -> Connection | Failure:
        """Connect by address, then wait for the connection's verdict; it has its own deadlines."""
        seconds = self._deadlines.connect
        try:
            async with asyncio.timeout(seconds):
                await self._loop.create_connection(lambda: connection, address, port)
        except TimeoutError:
            detail = f"does not answer at {address} within {seconds:g} s"
            return Failure(Stage.CONNECT, Reason.UPSTREAM_UNREACHABLE, detail)
        except OSError as error:
            if is_shortage(error):
                raise
            detail = f"cannot be reached at {address}: {error.strerror or error}"
            return Failure(Stage.CONNECT, Reason.UPSTREAM_UNREACHABLE, detail)
        try:
            failure = await connection.ready
        except asyncio.CancelledError:
            connection.abort(Ending.STOPPED)
            raise
        return connection if failure is None else failure


def _discard(task: asyncio.Task[_Found]) -> None:
    """Tries that lost or are no longer needed are cancelled; a session that became ready sends
    QUIT.
    """
    if not task.cancelled() and task.exception() is None:
        found = task.result()
        if isinstance(found, Connection):
            found.retire()
