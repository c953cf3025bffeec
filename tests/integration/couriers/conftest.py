"""A courier over loopback: real sockets, real TLS, servers written by the test, and a queue in
memory.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import uvloop

from mailrelay_gateway.contract.documents import (
    Certificate,
    HostPort,
    Login,
    TlsMode,
    Upstream,
)
from mailrelay_gateway.contract.files import GatewayConfig
from mailrelay_gateway.contract.oauth2 import OAuth2
from mailrelay_gateway.contract.status import UpstreamState
from mailrelay_gateway.couriers.resolver import Unresolved
from mailrelay_gateway.couriers.smarthost.courier import SmarthostCourier
from mailrelay_gateway.couriers.smtp.deadlines import Deadlines
from mailrelay_gateway.couriers.smtp.health import Probing
from mailrelay_gateway.metrics import Metrics
from tests.integration.couriers.memory_work import UPSTREAM, MemoryWork
from tests.integration.couriers.scripted_server import Script, ScriptedServer
from tests.models import made
from tests.peers.certificates import Authority, make_authority

#: Short where a test waits for a silence to end, long enough for a busy machine everywhere else.
DEADLINES = Deadlines(quit=0.5)
#: Probes come soon, so that a test sees several.
PROBING = Probing(first=0.05, longest=0.2, spread=0.0)


def pytest_configure(config: pytest.Config) -> None:
    """Register what the hook below looks for."""
    config.addinivalue_line("markers", "both_loops: run on asyncio's own loop as well as on uvloop")


def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Run each test on uvloop, as in production; those that ask for it on asyncio's loop too."""
    factories: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {}
    factories["uvloop"] = uvloop.new_event_loop
    if item.get_closest_marker("both_loops") is not None:
        factories["asyncio"] = asyncio.new_event_loop
    return factories


class Names:
    """Implements `resolver.Resolver`: names and addresses as the test says."""

    def __init__(self) -> None:
        self.known: dict[str, Sequence[str]] = {"127.0.0.1": ["127.0.0.1"]}
        self.asked: list[str] = []

    async def addresses(self, host: str) -> Sequence[str]:
        self.asked.append(host)
        if host not in self.known:
            raise Unresolved(f"{host} does not exist in DNS")
        return self.known[host]


@dataclass
class Rig:
    """A courier with its surroundings. `serve` starts a server, `run` a courier that delivers to
    it.
    """

    work: MemoryWork
    metrics: Metrics
    names: Names
    authority: Authority
    servers: list[ScriptedServer] = field(default_factory=list)
    courier: SmarthostCourier | None = None

    async def serve(self, *scripts: Script, tls: tuple[str, ...] = ()) -> ScriptedServer:
        """A server on a loopback port; with `tls` it shakes hands first, with these names."""
        context = self.authority.server_context(*tls) if tls else None
        server = ScriptedServer(scripts, tls=context)
        await server.start()
        self.servers.append(server)
        return server

    def config(
        self,
        *ports: int,
        mode: TlsMode = TlsMode.NONE,
        host: str = "127.0.0.1",
        server_name: str | None = None,
        ca: str | None = None,
        certificate: Certificate | None = None,
        login: Login | OAuth2 | None = None,
        connections: int = 1,
        messages: int = 100,
    ) -> GatewayConfig:
        """A configuration with one smarthost at these ports."""
        smarthost = made.smarthost(
            hosts=tuple(HostPort(host=host, port=port) for port in ports),
            tls=made.upstream_tls(
                mode=mode,
                ca=ca or self.authority.pem,
                server_name=server_name,
                certificate=certificate,
            ),
            auth=login,
        )
        return self.config_of(
            made.upstream(
                name=UPSTREAM,
                settings=smarthost,
                connections=connections,
                messages_per_connection=messages,
            )
        )

    def config_of_hosts(self, *hosts: tuple[str, int], connections: int = 1) -> GatewayConfig:
        """A configuration with one smarthost at these hosts and ports."""
        smarthost = made.smarthost(
            hosts=tuple(HostPort(host=host, port=port) for host, port in hosts),
            tls=made.upstream_tls(mode=TlsMode.NONE),
        )
        return self.config_of(
            made.upstream(name=UPSTREAM, settings=smarthost, connections=connections)
        )

    def with_replies(self, config: GatewayConfig, **rule: Any) -> GatewayConfig:
        """The same with one rule of its owner's for what replies mean."""
        [upstream] = config.relay.upstreams
        own = made.reply_rule(**{"name": "own"} | rule)
        return self.config_of(upstream.model_copy(update={"replies": (own,)}))

    def config_of(self, *upstreams: Upstream) -> GatewayConfig:
        return GatewayConfig(
            relay=made.relay_document(
                relay=made.relay_reference(namespace="mail", name="relay"),
                hostname="mail.example.com",
                upstreams=upstreams,
            ),
            senders=(),
            digest="digest",
        )

    def run(
        self,
        config: GatewayConfig,
        *,
        deadlines: Deadlines = DEADLINES,
        probing: Probing = PROBING,
        **parts: Any,
    ) -> SmarthostCourier:
        """A courier for this configuration, joined with the queue; `parts` are more of what it is
        made of.
        """
        self.courier = SmarthostCourier(
            self.work,
            self.metrics,
            resolver=self.names,
            deadlines=deadlines,
            probing=probing,
            rng=random.Random(0),
            **parts,
        )
        self.courier.configure(config)
        self.work.wake = self.courier.wake
        return self.courier

    def state(self) -> UpstreamState:
        assert self.courier is not None
        [status] = self.courier.status()
        return status.state

    def metric(self, name: str, **labels: str) -> float:
        return self.metrics.registry.get_sample_value(f"mailrelay_{name}", labels) or 0.0


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """One CA for all tests."""
    folder: Path = tmp_path_factory.mktemp("authority")
    return make_authority(folder)


@pytest.fixture
async def rig(authority: Authority) -> AsyncIterator[Rig]:
    """A rig, and its end: nothing may be left running."""
    rig = Rig(MemoryWork(), Metrics(), Names(), authority)
    yield rig
    if rig.courier is not None:
        await rig.courier.stop(0.2)
    for server in rig.servers:
        await server.stop()
    assert not rig.work.running
