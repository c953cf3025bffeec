"""The courier of API upstreams: follows the configuration, owns a pool per upstream, and makes no
decisions about messages or answers.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable
from pathlib import Path

from mailrelay_gateway.contract.api_upstreams import Api, Graph, Ses
from mailrelay_gateway.contract.files import RELAY_FILE, ConfigError, GatewayConfig
from mailrelay_gateway.contract.oauth2 import TOKENS_FOLDER
from mailrelay_gateway.contract.status import UpstreamStatus
from mailrelay_gateway.couriers.api.pool import ApiPool
from mailrelay_gateway.couriers.oauth2.fetcher import TokenSurroundings
from mailrelay_gateway.couriers.resolver import SystemResolver
from mailrelay_gateway.couriers.smtp.deadlines import Deadlines
from mailrelay_gateway.couriers.smtp.health import Probing
from mailrelay_gateway.couriers.smtp.surroundings import Surroundings
from mailrelay_gateway.couriers.smtp.tls import UnusableBundle, endpoint_context
from mailrelay_gateway.couriers.work import Work
from mailrelay_gateway.egress.client import Egress
from mailrelay_gateway.message.lane import LaneKey
from mailrelay_gateway.metrics import Metrics


class ApiCourier:
    """Delivers attempts of the queue over providers' APIs. Upstreams of other kinds are ignored."""

    def __init__(
        self,
        work: Work,
        metrics: Metrics,
        *,
        egress: Egress,
        tokens: Path = Path(TOKENS_FOLDER),
        deadlines: Deadlines | None = None,
        probing: Probing | None = None,
        rng: random.Random | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Connect to nothing yet. `tokens` is the folder with the pod's ServiceAccount tokens."""
        rng = rng or random.Random()  # noqa: S311 - jitter, not a secret
        self._egress = egress
        self._around = Surroundings(
            work=work,
            metrics=metrics,
            resolver=SystemResolver(),
            deadlines=deadlines or Deadlines(),
            probing=probing or Probing(),
            rng=rng,
            clock=clock,
            tokens=TokenSurroundings(
                egress=egress, metrics=metrics, tokens=tokens, rng=rng, clock=clock
            ),
        )
        self._pools: dict[str, ApiPool] = {}
        self._leaving: dict[asyncio.Task[None], ApiPool] = {}
        self._stopped = False

    def prepare(self, config: GatewayConfig) -> None:
        """Build the TLS contexts that may be unusable; raises ConfigError that names the
        upstream.
        """
        for upstream in config.relay.upstreams:
            settings = upstream.settings
            if not isinstance(settings, Api) or not isinstance(settings.service, Ses | Graph):
                continue
            service = settings.service
            try:
                endpoint_context(service.ca)
                if isinstance(service, Graph):
                    endpoint_context(service.login.ca)
            except UnusableBundle as error:
                raise ConfigError(RELAY_FILE, f"upstream {upstream.name}: {error}") from None

    def configure(self, config: GatewayConfig) -> None:
        """Create, update and remove pools for the configuration."""
        if self._stopped:
            return
        wanted = {one.name: one for one in config.relay.upstreams if isinstance(one.settings, Api)}
        for name in [name for name in self._pools if name not in wanted]:
            pool = self._pools.pop(name)
            grace = self._around.deadlines.final
            task = asyncio.get_running_loop().create_task(pool.stop(grace))
            self._leaving[task] = pool
            task.add_done_callback(lambda done: self._leaving.pop(done, None))
        for name, upstream in wanted.items():
            known = self._pools.get(name)
            if known is None:
                self._pools[name] = ApiPool(
                    upstream, config.relay.null_sender, self._around, self._egress
                )
            else:
                known.configure(upstream, config.relay.null_sender)

    def wake(self, lane: LaneKey) -> None:
        """An attempt may be ready in that lane."""
        pool = self._pools.get(lane.upstream)
        if pool is not None:
            pool.wake()

    def status(self) -> tuple[UpstreamStatus, ...]:
        """One entry per API upstream."""
        return tuple(pool.status() for pool in self._pools.values())

    async def stop(self, grace: float) -> None:
        """Start no new request; wait up to `grace` seconds for answers, then break the rest off:
        what was sent whole is uncertain, the rest is given back.
        """
        self._stopped = True
        leaving = dict(self._leaving)
        for task in leaving:
            task.cancel()
        pools = [*self._pools.values(), *leaving.values()]
        await asyncio.gather(*(pool.stop(grace) for pool in pools))
