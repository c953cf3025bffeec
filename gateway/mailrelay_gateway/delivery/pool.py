"""The connections to one upstream: how many there are, who opens them and when, and whether the
upstream is held.

It opens one connection at a time, and only when all are busy and the queue has more: an idle pool
opens one for the first message, a backlog brings one more with each success, up to `connections`.
Whether there is work is asked of the queue at each decision and never remembered: whatever happens
to a connection, the next decision sees what is ready. What is known of the upstream, and when it is
probed, is decided in `health`.
"""

from __future__ import annotations

import asyncio
import ipaddress
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

import structlog

from mailrelay_gateway.config import (
    HostPort,
    Smarthost,
    TlsMode,
    Upstream,
    UpstreamState,
    UpstreamStatus,
)
from mailrelay_gateway.delivery.breaker import Breaker, judge
from mailrelay_gateway.delivery.classify import Failure, Verdict
from mailrelay_gateway.delivery.connection import Connection, ConnectionSettings
from mailrelay_gateway.delivery.deadlines import Deadlines
from mailrelay_gateway.delivery.health import (
    Action,
    Happening,
    Health,
    Probing,
    order_hosts,
    pause,
    step,
)
from mailrelay_gateway.delivery.report import Reporter
from mailrelay_gateway.delivery.resolver import Resolver
from mailrelay_gateway.delivery.tls import UnusableBundle, client_context
from mailrelay_gateway.delivery.transport import Opening, open_session
from mailrelay_gateway.delivery.work import Work
from mailrelay_gateway.message.envelope import Message
from mailrelay_gateway.message.lane import LaneKey
from mailrelay_gateway.metrics import Metrics
from mailrelay_gateway.reasons import Reason
from mailrelay_gateway.smtp.client import ClientSettings
from mailrelay_gateway.smtp.client_commands import credential_defect
from mailrelay_gateway.smtp.client_states import Phase

log = structlog.get_logger()

#: Characters of a failure that are shown: what several hosts said may be long, and it ends up in a
#: condition.
MAX_DETAIL = 1000

_LOST_AT_ONCE = Failure(
    Phase.EHLO, Reason.UPSTREAM_REFUSED, "closed the connection as soon as it was ready"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What all pools share. `clock` gives Unix seconds, `rng` the jitter of probes."""

    work: Work
    metrics: Metrics
    resolver: Resolver
    deadlines: Deadlines
    probing: Probing
    rng: random.Random
    clock: Callable[[], float] = time.time


class Pool:
    """The connections to one smarthost upstream. Implements `connection.Owner`. Lives in one event
    loop.
    """

    def __init__(self, upstream: Upstream, hostname: str, surroundings: Surroundings) -> None:
        """Open nothing yet; `hostname` is what EHLO says."""
        self.name = upstream.name
        self._lane = LaneKey(upstream.name)
        self._upstream = upstream
        self._hostname = hostname
        self._around = surroundings
        self._loop = asyncio.get_running_loop()
        self._reporter = Reporter(upstream.name, surroundings.metrics)
        self._health = Health(since=surroundings.clock())
        self._breaker = Breaker()
        #: Opened and not yet closed, at most `connections`.
        self._connections: set[Connection] = set()
        self._idle: list[Connection] = []
        self._empty = asyncio.Event()  # no connection and no opening is left
        self._empty.set()
        self._opening: asyncio.Task[None] | None = None
        self._probe: asyncio.TimerHandle | None = None
        self._barren = 0  # connections in a row that were closed on us before any transaction ended
        self._barren_at = 0.0  # when the last of them was, in the loop's time
        self._open_again: asyncio.TimerHandle | None = None
        self._decision_due = False
        self._stopping = False
        self._shunned: dict[HostPort, float] = {}  # until when, in the loop's time
        self._cap: tuple[int, float] | None = None  # at most so many, until then
        self._prepare()

    def __repr__(self) -> str:
        """Name, state, and how many connections do what."""
        return (
            f"<Pool {self.name} {self._health.state} connections={len(self._connections)}"
            f" idle={len(self._idle)} opening={self._opening is not None}>"
        )

    # --- what the courier does

    def wake(self) -> None:
        """An attempt may be ready. May be called within `Work.take`: nothing is begun here."""
        self._decide_soon()

    def configure(self, upstream: Upstream, hostname: str) -> None:
        """Go by new settings. If they say something new about how to reach the upstream, begin
        afresh at once: connections finish the message that they are sending and close, and an
        upstream that is held is probed.
        """
        changed = (upstream.smarthost, hostname) != (self._upstream.smarthost, self._hostname)
        self._upstream, self._hostname = upstream, hostname
        if changed:
            self._shunned.clear()
            self._cap = None
            self._breaker = Breaker()
            self._barren = 0
            self._prepare()
            if self._opening is not None:
                self._opening.cancel()
                self._opening = None
            for connection in list(self._connections):
                connection.retire()
            self._happened(Happening.CHANGED)
        self._decide_soon()

    def status(self) -> UpstreamStatus:
        """What `/status` says."""
        health = self._health
        return UpstreamStatus(
            name=self.name,
            state=health.state,
            reason=health.reason or "",
            message=health.detail[:MAX_DETAIL],
            since=datetime.fromtimestamp(health.since, UTC).isoformat(timespec="seconds")[:19]
            + "Z",
        )

    async def stop(self, grace: float) -> None:
        """Begin nothing new, give running transactions `grace` seconds, then break what is left."""
        self._stopping = True
        if self._probe is not None:
            self._probe.cancel()
            self._probe = None
        if self._open_again is not None:
            self._open_again.cancel()
            self._open_again = None
        if self._opening is not None:
            self._opening.cancel()
        for connection in list(self._connections):
            connection.retire()
        try:
            async with asyncio.timeout(grace):
                await self._empty.wait()
        except TimeoutError:
            for connection in list(self._connections):
                connection.abort()
            try:
                async with asyncio.timeout(self._around.deadlines.quit):
                    await self._empty.wait()
            except TimeoutError:
                log.warning("upstream_connections_left", upstream=self.name)

    # --- what connections say (connection.Owner)

    def connection_idle(self, connection: Connection) -> None:
        """See Owner."""
        self._idle.append(connection)

    def connection_leaving(self, connection: Connection) -> None:
        """See Owner."""
        if connection in self._idle:
            self._idle.remove(connection)

    def connection_closed(self, connection: Connection) -> None:
        """See Owner."""
        self.connection_leaving(connection)
        if connection in self._connections:
            self._connections.remove(connection)
            self._note_fruit(connection)
            self._count()
            self._decide_soon()

    def backlog(self) -> None:
        """See Owner. Said for every message of a busy connection: a few comparisons at most."""
        if self._idle or (self._opening is None and len(self._connections) < self._limit()):
            self._decide_soon()

    def judge(self, verdict: Verdict, message: Message) -> Verdict:
        """See Owner."""
        self._breaker, judged = judge(
            self._breaker, verdict, sender=message.identity.uid, message=message.queue_id
        )
        return judged

    def mail_accepted(self, passed: Phase) -> None:
        """See Owner. Said for every message, and nearly always no news."""
        if self._health.state is not UpstreamState.UP or self._health.failures:
            self._happened(Happening.ACCEPTED, passed=passed)

    def login_refused(self, failure: Failure) -> None:
        """See Owner."""
        self._happened(Happening.LOGIN_REFUSED, failure)
        for connection in list(self._connections):
            connection.retire()

    # --- opening

    def _decide_soon(self) -> None:
        """Decide once the callbacks of this turn are done: a connection that just ended may take
        the work itself.
        """
        if not self._decision_due and not self._stopping:
            self._decision_due = True
            self._loop.call_soon(self._decide)

    def _decide(self) -> None:
        """Give the work to idle connections; open another one if there are too few."""
        self._decision_due = False
        if self._stopping:
            return
        work = self._around.work
        while self._idle and work.ready(self._lane):
            self._idle.pop().next()
        if self._opening is not None or not work.ready(self._lane):
            return
        if self._health.state is UpstreamState.HELD:
            return  # the probe's turn
        wait = self._not_before() - self._loop.time()
        if wait > 0:
            if self._open_again is None:
                self._open_again = self._loop.call_later(wait, self._try_again)
        elif len(self._connections) < self._limit():
            self._open()

    def _try_again(self) -> None:
        self._open_again = None
        self._decide_soon()

    def _note_fruit(self, connection: Connection) -> None:
        """Count connections that were opened and closed again before any transaction ended. Those
        that were opened before the last of them tell nothing new: a restart breaks all at once.
        """
        if connection.completed:
            self._barren = 0
        elif connection.opened_at >= self._barren_at and not connection.retired:
            self._barren += 1
            self._barren_at = self._loop.time()

    def _not_before(self) -> float:
        """When the next connection may be opened, in the loop's time: after a second barren one
        ever more slowly, like probes.
        """
        if self._barren < 2:
            return 0.0
        return self._barren_at + pause(self._barren - 1, self._around.probing, 0.5)

    def _limit(self) -> int:
        """How many connections there may be now."""
        if self._cap is not None:
            connections, until = self._cap
            if self._loop.time() < until:
                return min(connections, self._upstream.connections)
            self._cap = None
        return self._upstream.connections

    def _open(self) -> None:
        self._opening = self._loop.create_task(self._open_one())
        self._opening.add_done_callback(self._opening_ended)
        self._empty.clear()

    def _opening_ended(self, task: asyncio.Task[None]) -> None:
        """Whatever came of it; a cancelled one may be no longer ours, or never have begun."""
        if self._opening is task:
            self._opening = None
        self._count()
        self._decide_soon()

    async def _open_one(self) -> None:
        began_at = self._loop.time()
        try:
            opening = await self._try_hosts()
        except Exception as error:
            # A defect of ours must not end the pool: hold, log, try again.
            log.exception("opening_failed", upstream=self.name)
            failure = Failure(
                Phase.CONNECT, Reason.INTERNAL_ERROR, f"{type(error).__name__}: {error}"
            )
            opening = Opening(connection=None, failure=failure, failed=())
        self._opening = None  # nothing is awaited from here on: it was not cancelled
        now = self._loop.time()
        self._shunned = {host: until for host, until in self._shunned.items() if until > now}
        for host in opening.failed:
            self._shunned[host] = now + self._around.probing.shun
        if opening.connection is not None and opening.connection.usable:
            self._opened(opening.connection, now - began_at)
        else:
            self._failed(opening.failure or _LOST_AT_ONCE)

    async def _try_hosts(self) -> Opening:
        smarthost = self._smarthost
        if self._defect is not None:
            return Opening(connection=None, failure=self._defect, failed=())
        hosts = order_hosts(smarthost.hosts, self._shunned, self._loop.time())
        return await open_session(
            hosts,
            resolver=self._around.resolver,
            deadlines=self._around.deadlines,
            make=self._make_connection,
        )

    def _make_connection(self, host: HostPort, address: str) -> Connection:
        smarthost = self._smarthost
        login = smarthost.login
        settings = ConnectionSettings(
            upstream=self.name,
            lane=self._lane,
            host=f"{host.host}:{host.port}",
            client=ClientSettings(
                hostname=self._hostname,
                tls=smarthost.tls.mode,
                username=login.username if login else "",
                password=login.password if login else "",
                clear_login=ipaddress.ip_address(address).is_loopback,
            ),
            tls_context=self._tls_context,
            server_name=(smarthost.tls.server_name or host.host).rstrip("."),
            deadlines=self._around.deadlines,
            messages=self._upstream.messages_per_connection,
        )
        return Connection(
            settings,
            owner=self,
            work=self._around.work,
            reporter=self._reporter,
            clock=self._around.clock,
        )

    def _prepare(self) -> None:
        """Compute once what all connections share; `_defect` says why none can ever be opened."""
        assert self._upstream.smarthost is not None  # the courier makes pools for smarthosts only
        self._smarthost: Smarthost = self._upstream.smarthost
        self._tls_context = None
        self._defect: Failure | None = None
        login = self._smarthost.login
        if login is not None and (sentence := credential_defect(login.username, login.password)):
            self._defect = Failure(Phase.AUTH, Reason.UPSTREAM_AUTH_FAILED, sentence)
        if self._smarthost.tls.mode is not TlsMode.NONE:
            try:
                self._tls_context = client_context(self._smarthost.tls)
            except UnusableBundle as error:
                self._defect = Failure(Phase.TLS, Reason.UPSTREAM_TLS_FAILED, str(error))

    def _opened(self, connection: Connection, seconds: float) -> None:
        self._connections.add(connection)
        connection.opened(seconds)
        self._idle.append(connection)
        self._happened(Happening.OPENED)
        self._decide()

    def _failed(self, failure: Failure) -> None:
        if self._connections:
            self._cap = (len(self._connections), self._loop.time() + self._around.probing.cap)
            self._happened(Happening.FAILED_EXTRA, failure)
        else:
            self._happened(Happening.FAILED, failure)

    # --- health

    def _happened(
        self,
        happening: Happening,
        failure: Failure | None = None,
        *,
        passed: Phase = Phase.MAIL,
    ) -> None:
        before = self._health
        self._health, action = step(
            before, happening, now=self._around.clock(), failure=failure, passed=passed
        )
        match action:
            case Action.HOLD:
                assert failure is not None
                self._hold(failure)
            case Action.RELEASE:
                self._release(before)
            case Action.CAP:
                assert failure is not None
                log.warning(
                    "upstream_connections_capped",
                    upstream=self.name,
                    connections=len(self._connections),
                    reason=failure.reason.value,
                    detail=failure.detail,
                )
            case Action.PROBE:
                self._probe_now()
            case Action.NOTHING:
                pass

    def _hold(self, failure: Failure) -> None:
        if self._stopping:
            return  # the name may be another pool's by now: only that one may hold and release it
        around = self._around
        seconds = pause(self._health.failures, around.probing, around.rng.random())
        log.warning(
            "upstream_failed",
            upstream=self.name,
            reason=failure.reason.value,
            detail=failure.detail[:MAX_DETAIL],
            next_probe_seconds=round(seconds, 1),
        )
        around.metrics.upstream_up(self.name).set(0)
        around.work.hold(self.name, failure.reason, failure.detail[:MAX_DETAIL])
        if self._probe is not None:
            self._probe.cancel()
        if not self._stopping:
            self._probe = self._loop.call_later(seconds, self._probe_now)

    def _release(self, before: Health) -> None:
        if self._probe is not None:
            self._probe.cancel()
            self._probe = None
        log.info("upstream_up", upstream=self.name, was=before.state.value)
        self._around.metrics.upstream_up(self.name).set(1)
        self._around.work.release(self.name)

    def _probe_now(self) -> None:
        if self._probe is not None:
            self._probe.cancel()
            self._probe = None
        if self._stopping or self._opening is not None:
            return
        if len(self._connections) < self._upstream.connections:
            self._open()
        else:  # the last ones are still busy with their messages
            self._probe = self._loop.call_later(self._around.probing.first, self._probe_now)

    def _count(self) -> None:
        if not self._stopping:  # then the upstream may be gone from the configuration
            self._around.metrics.upstream_connections(self.name).set(len(self._connections))
        if not self._connections and self._opening is None:
            self._empty.set()
        else:
            self._empty.clear()
