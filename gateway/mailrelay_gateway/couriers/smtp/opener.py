"""Creates the connections of one upstream: computes once what they share, and remembers which hosts
have failed lately.
"""

from __future__ import annotations

import asyncio
import ipaddress
import ssl
from collections.abc import Callable
from functools import partial

from mailrelay_gateway.contract.documents import (
    HostPort,
    Login,
    Smarthost,
    TlsMode,
    UnknownKind,
    Upstream,
)
from mailrelay_gateway.contract.oauth2 import OAuth2, SaslMechanism
from mailrelay_gateway.contract.stage import Stage
from mailrelay_gateway.couriers.oauth2.answers import NoToken
from mailrelay_gateway.couriers.oauth2.source import TokenSource
from mailrelay_gateway.couriers.replies.overrides import rule_book
from mailrelay_gateway.couriers.replies.verdict import Failure
from mailrelay_gateway.couriers.smtp.connection import Connection
from mailrelay_gateway.couriers.smtp.connection_settings import ConnectionSettings, Naming
from mailrelay_gateway.couriers.smtp.health import order_hosts
from mailrelay_gateway.couriers.smtp.owner import Owner
from mailrelay_gateway.couriers.smtp.report import Reporter
from mailrelay_gateway.couriers.smtp.surroundings import Surroundings
from mailrelay_gateway.couriers.smtp.tls import UnusableBundle, client_context, endpoint_context
from mailrelay_gateway.couriers.smtp.transport import Opened, Opening
from mailrelay_gateway.message.attribution import Attributor
from mailrelay_gateway.message.lane import LaneKey
from mailrelay_gateway.reasons import Reason
from mailrelay_gateway.smtp.client.client import ClientSettings
from mailrelay_gateway.smtp.client.commands import (
    credential_defect,
    oauthbearer_response,
    xoauth2_response,
)
from mailrelay_gateway.smtp.client.login import Bearer


class Opener:
    """Opens sessions with one smarthost. Lives in one event loop."""

    def __init__(
        self,
        upstream: Upstream,
        naming: Naming,
        surroundings: Surroundings,
        owner: Owner[Connection],
        *,
        on_no_token: Callable[[Failure], None],
        on_token: Callable[[], None],
    ) -> None:
        """Open nothing yet; `owner` owns the connections. `on_no_token` is called when there is no
        access token for a login that needs one, and `on_token` when there is one again.
        """
        self._loop = asyncio.get_running_loop()
        self._around = surroundings
        self._owner = owner
        self._reporter = Reporter(upstream.name, surroundings.metrics)
        self._lane = LaneKey(upstream.name)
        self._shunned: dict[HostPort, float] = {}  # until when, in the loop's time
        #: Why no connection can ever be opened with this configuration.
        self.defect: Failure | None = None
        self._tls_context: ssl.SSLContext | None = None
        self._on_no_token = on_no_token
        self._on_token = on_token
        self._tokens: TokenSource | None = None
        self._replies = upstream.replies
        self._attribution = upstream.attribution
        self._take(upstream, naming)

    def configure(self, upstream: Upstream, naming: Naming) -> bool:
        """Use new settings; True: they change how to reach the upstream, or what its replies
        mean.
        """
        before = (self._smarthost, self._naming, self._replies, self._attribution)
        given = (upstream.settings, naming, upstream.replies, upstream.attribution)
        if given == before:
            self._messages = upstream.messages_per_connection
            return False
        self._shunned.clear()
        self._take(upstream, naming)
        return True

    def begin(self) -> Opening:
        """A session being opened; the caller awaits `run`, then calls `learn`."""
        return Opening(
            order_hosts(self._smarthost.hosts, self._shunned, self._loop.time()),
            resolver=self._around.resolver,
            deadlines=self._around.deadlines,
            make=self._make,
            tokens=self._tokens,
        )

    def login_refused(self, failure: Failure) -> None:
        """The upstream has refused our login after it had accepted it: the token may have become
        invalid.
        """
        if self._tokens is not None and failure.reason is Reason.UPSTREAM_AUTH_FAILED:
            self._tokens.reject_present()

    def stop(self) -> None:
        """Fetch no more tokens."""
        if self._tokens is not None:
            self._tokens.stop()

    def learn(self, opened: Opened) -> None:
        """Try the hosts that failed last for a while."""
        now = self._loop.time()
        self._shunned = {host: until for host, until in self._shunned.items() if until > now}
        for host in opened.failed:
            self._shunned[host] = now + self._around.probing.shun

    def _take(self, upstream: Upstream, naming: Naming) -> None:
        # The courier creates pools for smarthosts only.
        assert isinstance(upstream.settings, Smarthost)
        self._smarthost: Smarthost = upstream.settings
        self._naming = naming
        self._messages = upstream.messages_per_connection
        self._replies = upstream.replies
        self._attribution = upstream.attribution
        self._attributor = Attributor(upstream.attribution)
        self._rules = rule_book(upstream.replies, per_tenant=self._attributor.per_tenant)
        self._tls_context = None
        self.defect = None
        auth = self._smarthost.auth
        unknown = auth.grant if isinstance(auth, OAuth2) else auth
        if isinstance(unknown, UnknownKind):
            self.defect = Failure(
                Stage.AUTH,
                Reason.UPSTREAM_KIND_UNKNOWN,
                f"its login is of the kind {unknown.kind!r}, which this version of the gateway"
                " does not know: update the gateway",
            )
            auth = None
        elif isinstance(auth, Login | OAuth2):
            # Tokens are looked at where they come in.
            secret = auth.password if isinstance(auth, Login) else "token"
            if sentence := credential_defect(auth.username, secret):
                self.defect = Failure(Stage.AUTH, Reason.UPSTREAM_AUTH_FAILED, sentence)
        self._take_tokens(auth if isinstance(auth, OAuth2) else None)
        if self._smarthost.tls.mode is not TlsMode.NONE:
            try:
                self._tls_context = client_context(self._smarthost.tls)
            except UnusableBundle as error:
                self.defect = Failure(Stage.TLS, Reason.UPSTREAM_TLS_FAILED, str(error))

    def _take_tokens(self, settings: OAuth2 | None) -> None:
        """A login that did not change keeps its token."""
        tokens = self._tokens
        if tokens is not None and tokens.settings == settings:
            return
        if tokens is not None:
            tokens.stop()
        self._tokens = None
        if settings is None:
            return
        try:
            context = endpoint_context(settings.ca)
        except UnusableBundle as error:
            self.defect = Failure(Stage.TOKEN, Reason.UPSTREAM_TOKEN_UNAVAILABLE, str(error))
            return
        self._tokens = TokenSource(
            self._lane.upstream,
            settings,
            self._around.tokens,
            context=context,
            on_failure=self._no_token,
            on_token=self._on_token,
        )

    def _no_token(self, found: NoToken) -> None:
        self._on_no_token(Failure(Stage.TOKEN, found.reason, found.detail))

    def _make(self, host: HostPort, address: str, token: str) -> Connection:
        smarthost = self._smarthost
        auth = smarthost.auth
        login = auth if isinstance(auth, Login) else None
        bearer = _bearer(auth, token, host) if isinstance(auth, OAuth2) else None
        settings = ConnectionSettings(
            lane=self._lane,
            host=f"{host.host}:{host.port}",
            client=ClientSettings(
                hostname=self._naming.hostname,
                tls=smarthost.tls.mode,
                username=auth.username if isinstance(auth, Login | OAuth2) else "",
                password=login.password if login else "",
                bearer=bearer,
                clear_login=ipaddress.ip_address(address).is_loopback,
            ),
            tls_context=self._tls_context,
            server_name=(smarthost.tls.server_name or host.host).rstrip("."),
            deadlines=self._around.deadlines,
            rules=self._rules,
            attributor=self._attributor if self._attribution else None,
            messages=self._messages,
            null_sender=self._naming.null_sender,
            login_over=partial(self._tokens.replaced, token) if bearer and self._tokens else None,
        )
        return Connection(
            settings,
            owner=self._owner,
            work=self._around.work,
            reporter=self._reporter,
            clock=self._around.clock,
        )


def _bearer(auth: OAuth2, token: str, host: HostPort) -> Bearer:
    """The client responses for this token; the dismissals are those of RFC 7628 section 3.2.3 and
    of Google's description of XOAUTH2.
    """
    if auth.mechanism is SaslMechanism.OAUTHBEARER:
        response = oauthbearer_response(auth.username, token, host.host, host.port)
        return Bearer(mechanism="OAUTHBEARER", response=response, dismissal="AQ==")
    response = xoauth2_response(auth.username, token)
    return Bearer(mechanism="XOAUTH2", response=response, dismissal="")
