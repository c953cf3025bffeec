"""Makes the connections of one upstream: what they all share is computed once, and which hosts have
failed lately is remembered here.
"""

from __future__ import annotations

import asyncio
import ipaddress
import ssl

from mailrelay_gateway.contract.documents import (
    HostPort,
    Login,
    Smarthost,
    TlsMode,
    UnknownKind,
    Upstream,
)
from mailrelay_gateway.couriers.replies.classify import Failure
from mailrelay_gateway.couriers.smtp.connection import Connection
from mailrelay_gateway.couriers.smtp.connection_settings import ConnectionSettings
from mailrelay_gateway.couriers.smtp.health import order_hosts
from mailrelay_gateway.couriers.smtp.owner import Owner
from mailrelay_gateway.couriers.smtp.report import Reporter
from mailrelay_gateway.couriers.smtp.surroundings import Surroundings
from mailrelay_gateway.couriers.smtp.tls import UnusableBundle, client_context
from mailrelay_gateway.couriers.smtp.transport import Opened, Opening
from mailrelay_gateway.message.lane import LaneKey
from mailrelay_gateway.reasons import Reason
from mailrelay_gateway.smtp.client.client import ClientSettings
from mailrelay_gateway.smtp.client.commands import credential_defect
from mailrelay_gateway.smtp.client.states import Phase


class Opener:
    """Opens sessions with one smarthost. Lives in one event loop."""

    def __init__(
        self,
        upstream: Upstream,
        hostname: str,
        surroundings: Surroundings,
        owner: Owner[Connection],
    ) -> None:
        """Open nothing yet; `hostname` is what EHLO says, `owner` whose connections they are."""
        self._loop = asyncio.get_running_loop()
        self._around = surroundings
        self._owner = owner
        self._reporter = Reporter(upstream.name, surroundings.metrics)
        self._lane = LaneKey(upstream.name)
        self._shunned: dict[HostPort, float] = {}  # until when, in the loop's time
        #: Why no connection can ever be opened as it is configured.
        self.defect: Failure | None = None
        self._tls_context: ssl.SSLContext | None = None
        self._take(upstream, hostname)

    def configure(self, upstream: Upstream, hostname: str) -> bool:
        """Go by new settings; True: they say something new about how to reach the upstream."""
        before = (self._smarthost, self._hostname)
        if (upstream.settings, hostname) == before:
            self._messages = upstream.messages_per_connection
            return False
        self._shunned.clear()
        self._take(upstream, hostname)
        return True

    def begin(self) -> Opening:
        """A session in the making; `run` is the caller's to await, and `learn` to be called."""
        return Opening(
            order_hosts(self._smarthost.hosts, self._shunned, self._loop.time()),
            resolver=self._around.resolver,
            deadlines=self._around.deadlines,
            make=self._make,
        )

    def learn(self, opened: Opened) -> None:
        """Try the hosts that failed last for a while."""
        now = self._loop.time()
        self._shunned = {host: until for host, until in self._shunned.items() if until > now}
        for host in opened.failed:
            self._shunned[host] = now + self._around.probing.shun

    def _take(self, upstream: Upstream, hostname: str) -> None:
        # The courier makes pools for smarthosts only.
        assert isinstance(upstream.settings, Smarthost)
        self._smarthost: Smarthost = upstream.settings
        self._hostname = hostname
        self._messages = upstream.messages_per_connection
        self._tls_context = None
        self.defect = None
        auth = self._smarthost.auth
        if isinstance(auth, UnknownKind):
            self.defect = Failure(
                Phase.AUTH,
                Reason.UPSTREAM_KIND_UNKNOWN,
                f"its login is of the kind {auth.kind!r}, which this version of the gateway does"
                " not know: update the gateway",
            )
        elif auth is not None and (sentence := credential_defect(auth.username, auth.password)):
            self.defect = Failure(Phase.AUTH, Reason.UPSTREAM_AUTH_FAILED, sentence)
        if self._smarthost.tls.mode is not TlsMode.NONE:
            try:
                self._tls_context = client_context(self._smarthost.tls)
            except UnusableBundle as error:
                self.defect = Failure(Phase.TLS, Reason.UPSTREAM_TLS_FAILED, str(error))

    def _make(self, host: HostPort, address: str) -> Connection:
        smarthost = self._smarthost
        login = smarthost.auth if isinstance(smarthost.auth, Login) else None
        settings = ConnectionSettings(
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
            messages=self._messages,
        )
        return Connection(
            settings,
            owner=self._owner,
            work=self._around.work,
            reporter=self._reporter,
            clock=self._around.clock,
        )
