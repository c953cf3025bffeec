"""The courier: the one face of delivery towards the rest of the gateway. Owns a pool per smarthost
upstream.

It follows the configuration and passes calls on; it decides nothing about messages or replies.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable

from mailrelay_gateway.contract.documents import Smarthost, TlsMode
from mailrelay_gateway.contract.files import RELAY_FILE, ConfigError, GatewayConfig
from mailrelay_gateway.contract.status import UpstreamStatus
from mailrelay_gateway.couriers.resolver import Resolver, SystemResolver
from mailrelay_gateway.couriers.smtp.deadlines import Deadlines
from mailrelay_gateway.couriers.smtp.health import Probing
from mailrelay_gateway.couriers.smtp.pool import Pool
from mailrelay_gateway.couriers.smtp.surroundings import Surroundings
from mailrelay_gateway.couriers.smtp.tls import UnusableBundle, client_context
from mailrelay_gateway.couriers.work import Work
from mailrelay_gateway.message.lane import LaneKey
from mailrelay_gateway.metrics import Metrics


class SmarthostCourier:
    """Delivers attempts of the queue to smarthosts. Upstreams of other kinds are other parts' and
    ignored here.
    """

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
    ) -> None:
        """Connect nothing yet; without a resolver the system's is asked."""
        self._surroundings = Surroundings(
            work=work,
            metrics=metrics,
            resolver=resolver or SystemResolver(),
            deadlines=deadlines or Deadlines(),
            probing=probing or Probing(),
            rng=rng or random.Random(),  # noqa: S311 - jitter, not a secret
            clock=clock,
        )
        self._pools: dict[str, Pool] = {}
        self._leaving: dict[asyncio.Task[None], Pool] = {}  # of upstreams no longer configured
        self._stopped = False

    @staticmethod
    def prepare(config: GatewayConfig) -> None:
        """Make what `configure` will need and what may turn out to be unusable: TLS contexts. May
        be called in any thread; ConfigError names the upstream and says what is wrong.
        """
        for upstream in config.relay.upstreams:
            settings = upstream.settings
            if not isinstance(settings, Smarthost) or settings.tls.mode is TlsMode.NONE:
                continue
            try:
                client_context(settings.tls)
            except UnusableBundle as error:
                raise ConfigError(RELAY_FILE, f"upstream {upstream.name}: {error}") from None

    def configure(self, config: GatewayConfig) -> None:
        """Make the pools what the configuration says; call it in the event loop, at start and at
        every reload.

        An upstream that is gone finishes the messages it is sending.
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
        for name, upstream in smarthosts.items():
            known = self._pools.get(name)
            if known is None:
                self._pools[name] = Pool(upstream, config.relay.hostname, self._surroundings)
            else:
                known.configure(upstream, config.relay.hostname)

    def wake(self, lane: LaneKey) -> None:
        """An attempt is ready in that lane. Unknown upstreams are ignored: they are another
        part's.
        """
        pool = self._pools.get(lane.upstream)
        if pool is not None:
            pool.wake()

    def status(self) -> tuple[UpstreamStatus, ...]:
        """One entry per smarthost upstream, in the order configured first."""
        return tuple(pool.status() for pool in self._pools.values())

    async def stop(self, grace: float) -> None:
        """Begin no new attempt; wait up to `grace` seconds for the final dots under way, then break
        the rest.

        What was broken before its final dot is given back, after it it is uncertain. Takes at most
        `grace` plus two seconds.
        """
        self._stopped = True
        leaving = dict(self._leaving)
        for task in leaving:
            task.cancel()
        pools = [*self._pools.values(), *leaving.values()]
        await asyncio.gather(*(pool.stop(grace) for pool in pools))
