"""Upstreams of a kind that only a newer gateway knows: their mail is held until this gateway is
upgraded or the upstream is changed.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from mailrelay_gateway.contract.documents import UnknownKind
from mailrelay_gateway.contract.files import GatewayConfig
from mailrelay_gateway.contract.moments import rfc3339
from mailrelay_gateway.contract.status import UpstreamState, UpstreamStatus
from mailrelay_gateway.couriers.work import Work
from mailrelay_gateway.message.lane import LaneKey
from mailrelay_gateway.metrics import Metrics
from mailrelay_gateway.reasons import Reason


class UnknownCourier:
    """Holds upstreams of unknown kinds. Messages use the next upstream of their route, if any."""

    def __init__(
        self, work: Work, metrics: Metrics, *, clock: Callable[[], float] = time.time
    ) -> None:
        """Hold nothing yet; `clock` returns Unix seconds."""
        self._work = work
        self._metrics = metrics
        self._clock = clock
        self._status: dict[str, UpstreamStatus] = {}

    def prepare(self, config: GatewayConfig) -> None:
        """Nothing to prepare."""

    def configure(self, config: GatewayConfig) -> None:
        """Hold the upstreams of unknown kinds; called in the event loop."""
        before, self._status = self._status, {}
        for upstream in config.relay.upstreams:
            if isinstance(upstream.settings, UnknownKind):
                known = before.get(upstream.name)
                status = self._describe(upstream.name, upstream.kind)
                if known is not None and known.message == status.message:
                    status = known
                self._status[upstream.name] = status
        if self._status:
            # The queue gets this configuration in the same iteration of the loop, after the
            # couriers.
            asyncio.get_running_loop().call_soon(self._hold)

    def wake(self, lane: LaneKey) -> None:
        """Ignored."""

    def status(self) -> tuple[UpstreamStatus, ...]:
        """All held."""
        return tuple(self._status.values())

    async def stop(self, grace: float) -> None:
        """Nothing to stop."""

    def _describe(self, name: str, kind: str) -> UpstreamStatus:
        return UpstreamStatus(
            name=name,
            state=UpstreamState.HELD,
            reason=Reason.UPSTREAM_KIND_UNKNOWN,
            message=f"this version of the gateway does not support upstreams of kind {kind!r}:"
            " upgrade the gateway",
            since=rfc3339(self._clock()),
            senders=(),
        )

    def _hold(self) -> None:
        for name, status in self._status.items():
            self._metrics.upstream_up(name).set(0)
            self._work.hold(name, Reason.UPSTREAM_KIND_UNKNOWN, status.message)
