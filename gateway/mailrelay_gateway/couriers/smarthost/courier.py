"""The courier of smarthosts: the interface between SMTP delivery and the rest of the gateway. Owns
a pool per smarthost upstream.

It follows the configuration and passes calls on; it makes no decisions about messages or replies.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import structlog

from mailrelay_gateway.contract.documents import Smarthost, TlsMode, Upstream
from mailrelay_gateway.contract.files import RELAY_FILE, ConfigError, GatewayConfig
from mailrelay_gateway.contract.oauth2 import TOKENS_FOLDER, OAuth2, RefreshToken
from mailrelay_gateway.contract.status import UpstreamStatus
from mailrelay_gateway.couriers.oauth2.fetcher import TokenSurroundings
from mailrelay_gateway.couriers.oauth2.kept import KeptTokens
from mailrelay_gateway.couriers.resolver import Resolver, SystemResolver
from mailrelay_gateway.couriers.smtp.connection_settings import Naming
from mailrelay_gateway.couriers.smtp.deadlines import Deadlines
from mailrelay_gateway.couriers.smtp.health import Probing
from mailrelay_gateway.couriers.smtp.pool import Pool
from mailrelay_gateway.couriers.smtp.sender_faults import MAX_TOLD
from mailrelay_gateway.couriers.smtp.surroundings import Surroundings
from mailrelay_gateway.couriers.smtp.tls import UnusableBundle, client_context, endpoint_context
from mailrelay_gateway.couriers.work import Work
from mailrelay_gateway.egress.client import Egress
from mailrelay_gateway.message.lane import LaneKey
from mailrelay_gateway.metrics import Metrics

log = structlog.get_logger()


class SmarthostCourier:
    """Delivers attempts of the queue to smarthosts. Upstreams of other kinds are ignored."""

    def __init__(
        self,
        work: Work,
        metrics: Metrics,
        *,
        resolver: Resolver | None = None,
        deadlines: Deadlines | None = None,
        probing: Probing | None = None,
        rng: random.Random | None = None,
        clock: Callable[[], float] = time.time,
        egress: Egress | None = None,
        kept: KeptTokens | None = None,
        tokens: Path = Path(TOKENS_FOLDER),
    ) -> None:
        """Open no connection yet; without a resolver the system's is used. `egress` connects to
        token endpoints, `kept` stores refresh tokens, `tokens` is the folder with the pod's
        ServiceAccount tokens.
        """
        resolver = resolver or SystemResolver()
        rng = rng or random.Random()  # noqa: S311 - jitter, not a secret
        self._kept = kept
        self._surroundings = Surroundings(
            work=work,
            metrics=metrics,
            resolver=resolver,
            deadlines=deadlines or Deadlines(),
            probing=probing or Probing(),
            rng=rng,
            clock=clock,
            tokens=TokenSurroundings(
                egress=egress or Egress(resolver),
                metrics=metrics,
                kept=kept,
                tokens=tokens,
                rng=rng,
                clock=clock,
            ),
        )
        self._pools: dict[str, Pool] = {}
        self._leaving: dict[asyncio.Task[None], Pool] = {}  # of upstreams no longer configured
        self._stopped = False

    @staticmethod
    def prepare(config: GatewayConfig) -> None:
        """Build the TLS contexts that `configure` needs and that may be unusable. May be called in
        any thread; raises ConfigError that names the upstream.
        """
        for upstream in config.relay.upstreams:
            settings = upstream.settings
            if not isinstance(settings, Smarthost):
                continue
            try:
                if settings.tls.mode is not TlsMode.NONE:
                    client_context(settings.tls)
                if isinstance(settings.auth, OAuth2):
                    endpoint_context(settings.auth.ca)
            except UnusableBundle as error:
                raise ConfigError(RELAY_FILE, f"upstream {upstream.name}: {error}") from None

    def configure(self, config: GatewayConfig) -> None:
        """Create, update and remove pools for the configuration; called in the event loop at
        startup and at every reload.

        A removed upstream finishes the messages that it is sending.
        """
        if self._stopped:
            return
        smarthosts = {
            upstream.name: upstream
            for upstream in config.relay.upstreams
            if isinstance(upstream.settings, Smarthost)
        }
        for name in [name for name in self._pools if name not in smarthosts]:
            pool = self._pools.pop(name)
            task = asyncio.get_running_loop().create_task(
                pool.stop(self._surroundings.deadlines.final)
            )
            self._leaving[task] = pool
            task.add_done_callback(lambda done: self._leaving.pop(done, None))
        self._forget_tokens(smarthosts)
        relay = config.relay
        naming = Naming(hostname=relay.hostname, null_sender=relay.null_sender)
        for name, upstream in smarthosts.items():
            known = self._pools.get(name)
            if known is None:
                self._pools[name] = Pool(upstream, naming, self._surroundings)
            else:
                known.configure(upstream, naming)

    def _forget_tokens(self, smarthosts: Mapping[str, Upstream]) -> None:
        """Remove refresh tokens of logins that are no longer configured."""
        kept = self._kept
        if kept is None:
            return
        wanted = [name for name, one in smarthosts.items() if _refreshes(one)]

        def forget() -> None:
            try:
                kept.forget_all_but(wanted)
            except OSError as error:
                log.error("oauth_refresh_token_not_kept", error=str(error.strerror))

        asyncio.get_running_loop().run_in_executor(None, forget)

    def wake(self, lane: LaneKey) -> None:
        """An attempt is ready in that lane. Upstreams of other couriers are ignored."""
        pool = self._pools.get(lane.upstream)
        if pool is not None:
            pool.wake()

    def status(self) -> tuple[UpstreamStatus, ...]:
        """One entry per smarthost upstream, in the order configured first."""
        return bounded([pool.status() for pool in self._pools.values()])

    async def stop(self, grace: float) -> None:
        """Start no new attempt; wait up to `grace` seconds for outstanding final replies, then
        abort the rest.

        An attempt aborted before its final dot is given back; after it, it is uncertain. Takes at
        most `grace` plus two seconds.
        """
        self._stopped = True
        leaving = dict(self._leaving)
        for task in leaving:
            task.cancel()
        pools = [*self._pools.values(), *leaving.values()]
        await asyncio.gather(*(pool.stop(grace) for pool in pools))


def bounded(statuses: Sequence[UpstreamStatus]) -> tuple[UpstreamStatus, ...]:
    """The statuses with at most MAX_TOLD faults of senders, the newest of each."""
    found: list[UpstreamStatus] = []
    left = MAX_TOLD
    for status in statuses:
        told = status.senders[max(0, len(status.senders) - left) :]
        left -= len(told)
        found.append(
            status
            if len(told) == len(status.senders)
            else status.model_copy(update={"senders": told})
        )
    return tuple(found)


def _refreshes(upstream: Upstream) -> bool:
    settings = upstream.settings
    auth = settings.auth if isinstance(settings, Smarthost) else None
    return isinstance(auth, OAuth2) and isinstance(auth.grant, RefreshToken)
