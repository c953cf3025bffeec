"""The world of delivery: the real courier, pools and connections over a simulated network, with
simulated servers. What is delivered is decided by what the servers took and what we heard of it.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Sequence

from mailrelay_gateway.contract.documents import (
    HostPort,
    TlsMode,
)
from mailrelay_gateway.contract.files import GatewayConfig, encode_files, load
from mailrelay_gateway.couriers.resolver import Unresolved
from mailrelay_gateway.couriers.smarthost.courier import SmarthostCourier
from mailrelay_gateway.couriers.smtp.connection import Connection
from mailrelay_gateway.message.effect import Effect
from mailrelay_gateway.message.envelope import Attempt, Outcome, Result
from mailrelay_gateway.message.lane import LaneKey
from mailrelay_gateway.queue.scheduler import Scheduler
from mailrelay_gateway.reasons import Reason
from tests.models import made
from tests.simulation.depots import Depot
from tests.simulation.network import Network
from tests.simulation.queue_world import NAMES, World
from tests.simulation.smtp_servers import Mood, Server
from tests.simulation.virtual import VirtualLoop

CONNECTIONS = 3
#: Real grace periods are longer; final dots take up to ten minutes.
GRACES = (0.0, 1.0, 30.0, 120.0)
#: What `SmarthostCourier.stop` may take beyond its grace: QUIT.
CLOSING = 2.1


class Watched:
    """The queue as the courier sees it: each attempt ends once, and a dead life changes nothing.
    Implements `Work`.
    """

    def __init__(self, world: DeliveryWorld, scheduler: Scheduler) -> None:
        self._world = world
        self._scheduler = scheduler
        self._open: dict[int, Attempt] = {}
        self.dead = False

    def ready(self, lane: LaneKey) -> bool:
        return not self.dead and self._scheduler.ready(lane)

    def not_before(self, lane: LaneKey) -> float | None:
        return None if self.dead else self._scheduler.not_before(lane)

    def take(self, lane: LaneKey, most: int | None = None) -> Attempt | None:
        attempt = None if self.dead else self._scheduler.take(lane, most)
        if attempt is not None:
            self._open[attempt.number] = attempt
            self._world.begun(attempt)
        return attempt

    def finish(self, attempt: Attempt, outcomes: Sequence[Outcome]) -> None:
        if self.dead:
            return
        self._ended(attempt)
        assert [o.index for o in outcomes] == [r.index for r in attempt.recipients]
        self._world.count(attempt, outcomes)
        self._scheduler.finish(attempt, outcomes)

    def give_back(self, attempt: Attempt) -> None:
        if not self.dead:
            self._ended(attempt)
            self._scheduler.give_back(attempt)

    def _ended(self, attempt: Attempt) -> None:
        del self._open[attempt.number]  # KeyError: it has ended before
        for recipient in attempt.recipients:
            self._world.under_way.pop((attempt.message.queue_id, recipient.address))

    def hold(self, upstream: str, reason: Reason, detail: str) -> None:
        if not self.dead:
            self._scheduler.hold(upstream, reason, detail)

    def release(self, upstream: str) -> None:
        if not self.dead:
            self._scheduler.release(upstream)

    def slow(self, lane: LaneKey, effect: Effect, retry_after: float | None) -> None:
        if not self.dead:
            self._scheduler.slow(lane, effect, retry_after)

    @property
    def open(self) -> int:
        """Attempts that have not ended."""
        return len(self._open)


class DiceResolver:
    """Names to addresses, mostly. Implements `Resolver`."""

    def __init__(self, world: DeliveryWorld) -> None:
        self._world = world

    async def addresses(self, host: str) -> Sequence[str]:
        world = self._world
        if not world.healthy and world.dice.random() < 0.05:
            await asyncio.sleep(world.dice.choice((1.0, 5.0, 60.0)))
            raise Unresolved(f"{host} does not exist in DNS")
        return [host]


class DeliveryWorld(World):
    """One seed's world."""

    disturbances = 40
    pauses = (0.0, 0.01, 0.3, 3.0, 30.0, 700.0)

    def __init__(self, dice: random.Random, depot: Depot) -> None:
        self.network = Network(dice)
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualLoop)
        loop.net = self.network
        self.addresses = {name: f"192.0.2.{n}" for n, name in enumerate(NAMES, 1)}
        self.servers = {
            address: Server(dice, self.took, self.told) for address in self.addresses.values()
        }
        self.network.hosts.update(self.servers)
        self.taken: Counter[tuple[str, str]] = Counter()  # 250 was said after the dot, or meant
        self.heard: Counter[tuple[str, str]] = Counter()  # and we have read it
        self.leased: Counter[tuple[str, str]] = Counter()  # found after a death
        self.claimed: Counter[tuple[str, str]] = Counter()  # the courier says: delivered
        self.unsure: Counter[tuple[str, str]] = Counter()
        self.most = 0
        super().__init__(dice, depot)

    # --- servers

    def took(self, sender: str, recipients: Sequence[str], content: bytes) -> None:
        queue_id = _id(content)
        expected = self.bodies.get(queue_id)
        if expected is None:  # a notice
            if sender or not content.endswith(b"\r\n"):
                self.problems.append(f"unknown content: {content[:80]!r}")
        elif content != expected:
            self.problems.append(f"{queue_id}: {len(content)} octets came of {len(expected)}")
        for address in recipients:
            self.taken[queue_id, address] += 1

    def told(self, recipients: Sequence[str], content: bytes) -> None:
        for address in recipients:
            self.heard[_id(content), address] += 1

    # --- couriers

    def new_config(self) -> GatewayConfig:
        dice = self.dice
        names = dice.sample(NAMES, dice.randint(1, 4))
        document = made.relay_document(
            relay=made.relay_reference(namespace="mail", name="relay"),
            hostname=dice.choice(["relay.example.com"] * 5 + ["other.example.com"]),
            suspend=not self.healthy and dice.random() < 0.05,
            upstreams=tuple(
                made.upstream(
                    name=name,
                    settings=made.smarthost(
                        hosts=(HostPort(host=self.addresses[name], port=25),),
                        tls=made.upstream_tls(mode=TlsMode.NONE),
                    ),
                    connections=CONNECTIONS,
                    messages_per_connection=dice.choice([1, 2, 100]),
                    pace=self.pace,
                )
                for name in names
            ),
            retry=made.retry(give_up_after=dice.choice([600.0, 86400.0]), max_interval=600.0),
        )
        return load(encode_files(document, ()))

    def found_leased(self, key: tuple[str, str]) -> None:
        self.leased[key] += 1

    def begin_couriers(self) -> None:
        self.work = Watched(self, self.scheduler)
        self.courier = SmarthostCourier(
            self.work,
            self.metrics,
            resolver=DiceResolver(self),
            rng=random.Random(self.dice.random()),
            clock=self.clock,
        )
        self.configure_couriers()

    def configure_couriers(self) -> None:
        self.courier.configure(self.config)
        self.scheduler.attach({u.name: self.courier for u in self.config.relay.upstreams})

    def kill_couriers(self) -> None:
        self.work.dead = True
        self.network.kill()
        # What is left of it in this loop ends on its own, unheard.
        task = self.loop.create_task(self.courier.stop(0.0))
        self._corpses = [*getattr(self, "_corpses", []), task]

    async def stop_couriers(self) -> None:
        grace = self.dice.choice(GRACES)
        began = self.loop.time()
        await self.courier.stop(grace)
        took = self.loop.time() - began
        if took > grace + CLOSING:
            self.problems.append(f"stopping took {took:g} s of {grace:g}")
        if self.work.open:
            self.problems.append(f"{self.work.open} attempts have not ended when all was stopped")
        self.work.dead = True

    def count(self, attempt: Attempt, outcomes: Sequence[Outcome]) -> None:
        for recipient, outcome in zip(attempt.recipients, outcomes, strict=True):
            key = (attempt.message.queue_id, recipient.address)
            if outcome.result is Result.DELIVERED:
                self.claimed[key] += 1
            if outcome.result is Result.UNCERTAIN:
                self.unsure[key] += 1

    # --- what happens

    async def disturb(self) -> None:
        if self.dice.random() < 0.5:
            server = self.dice.choice([*self.servers.values()])
            server.mood = self.dice.choice([Mood.WELL, *Mood])
            if self.dice.random() < 0.7:
                for _ in range(self.dice.randint(0, 12)):
                    self.submit()
        else:
            await super().disturb()
        self.look()

    def look(self) -> None:
        """How many connections each upstream has."""
        used: Counter[str] = Counter()
        for wire in self.network.wires:
            connection = wire.protocol
            assert isinstance(connection, Connection)
            if not wire.is_closing() and not connection.retired:
                used[connection._settings.host] += 1
        if used and max(used.values()) > CONNECTIONS:
            self.problems.append(f"too many connections: {used}")

    def heal(self) -> None:
        for server in self.servers.values():
            server.mood = Mood.WELL
        super().heal()

    def judge(self) -> None:
        """What we call delivered was taken; what was taken twice was uncertain."""
        dead = Counter(self.depot.dead())
        for key in self.promised:
            taken, given_up = self.taken[key], dead[key]
            assert taken or given_up, f"{key} is lost"
            assert self.claimed[key] <= self.heard[key], f"{key} was never taken"
            excuses = self.leased[key] + self.unsure[key]
            assert taken + given_up <= 1 + excuses, (
                f"{key}: taken {taken}, given up {given_up}, uncertain {excuses}"
            )


def _id(content: bytes) -> str:
    if content.startswith(b"X-Id: "):
        return content[6:32].decode()
    return ""
