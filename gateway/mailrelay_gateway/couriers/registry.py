"""Maps kinds of upstreams to couriers. A new kind is a subpackage and a line in COURIERS.

The kinds are those of the contract's `Settings`. One courier delivers for all upstreams of its
kind; UnknownCourier holds the mail of unknown kinds.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeVar

from mailrelay_gateway.contract.files import GatewayConfig
from mailrelay_gateway.contract.status import UpstreamStatus
from mailrelay_gateway.couriers.api.courier import ApiCourier
from mailrelay_gateway.couriers.oauth2.kept import KeptTokens
from mailrelay_gateway.couriers.sandbox.courier import SandboxCourier
from mailrelay_gateway.couriers.sandbox.store import SandboxStore
from mailrelay_gateway.couriers.smarthost.courier import SmarthostCourier
from mailrelay_gateway.couriers.unknown import UnknownCourier
from mailrelay_gateway.couriers.work import Work
from mailrelay_gateway.egress.client import Egress
from mailrelay_gateway.message.lane import LaneKey
from mailrelay_gateway.metrics import Metrics

C = TypeVar("C")


class Courier(Protocol):
    """Delivers the attempts of all upstreams of one kind. Bound to one event loop."""

    def prepare(self, config: GatewayConfig) -> None:
        """Build what `configure` needs and what may be unusable. Called in a thread; raises
        ConfigError that names the upstream.
        """

    def configure(self, config: GatewayConfig) -> None:
        """Deliver to the upstreams of this kind in the configuration, and to no others. Called at
        startup and at each reload, before the queue gets the same configuration. Must not fail.
        """

    def wake(self, lane: LaneKey) -> None:
        """An attempt may be ready in that lane. Lanes of other couriers' upstreams are ignored."""

    def status(self) -> Sequence[UpstreamStatus]:
        """The status of each upstream of this kind."""

    async def stop(self, grace: float) -> None:
        """Start no new attempt; give those in progress `grace` seconds, then abort them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """The dependencies of couriers. `folder` is the spool's folder, for a courier's files; `tokens`
    is the folder with the pod's ServiceAccount tokens.
    """

    work: Work
    metrics: Metrics
    folder: Path
    egress: Egress
    tokens: Path


#: Creates the courier of a kind.
COURIERS: Mapping[str, Callable[[Parts], Courier]] = {
    "smarthost": lambda parts: SmarthostCourier(
        parts.work,
        parts.metrics,
        egress=parts.egress,
        kept=KeptTokens(parts.folder),
        tokens=parts.tokens,
    ),
    "api": lambda parts: ApiCourier(
        parts.work, parts.metrics, egress=parts.egress, tokens=parts.tokens
    ),
    "sandbox": lambda parts: SandboxCourier(
        parts.work, lambda: SandboxStore(parts.folder / "sandbox.db"), parts.metrics
    ),
}


class Couriers:
    """One courier per kind. `all` has them by kind; "" is the one for unknown kinds."""

    def __init__(self, parts: Parts) -> None:
        """Create them; none starts anything before `configure`."""
        self.all: Mapping[str, Courier] = {kind: make(parts) for kind, make in COURIERS.items()} | {
            "": UnknownCourier(parts.work, parts.metrics)
        }
        self._metrics = parts.metrics
        self._by_upstream: Mapping[str, Courier] = {}

    def assign(self, config: GatewayConfig) -> Mapping[str, Courier]:
        """The courier of each upstream. Forgets what another courier knew about an upstream of the
        same name.
        """
        before = self._by_upstream
        self._by_upstream = {
            upstream.name: self.all.get(upstream.kind, self.all[""])
            for upstream in config.relay.upstreams
        }
        for name in self._by_upstream.keys() & before.keys():
            if self._by_upstream[name] is not before[name]:
                self._metrics.upstream_up(name).set(1)
        return self._by_upstream

    def status(self) -> dict[str, UpstreamStatus]:
        """The status of each upstream, by name."""
        return {status.name: status for courier in self.all.values() for status in courier.status()}

    def find(self, kind: type[C]) -> C:
        """The courier of this class, for its additional methods."""
        return next(courier for courier in self.all.values() if isinstance(courier, kind))
