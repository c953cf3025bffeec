"""The world of the scheduler: outcomes, holds, reloads, deaths, steps of the clock, by the dice of
one seed. Deliveries are decided here too; what is promised is judged at the end.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from typing import Any

from mailrelay_gateway.contract.documents import Pace, RateUnit
from mailrelay_gateway.contract.files import GatewayConfig
from mailrelay_gateway.message.body import INLINE_BODY_LIMIT, whole
from mailrelay_gateway.message.effect import Effect, PauseUntil, Slow, Split
from mailrelay_gateway.message.envelope import Attempt, Identity, Message, Outcome, Result
from mailrelay_gateway.message.lane import LaneKey
from mailrelay_gateway.metrics import Metrics
from mailrelay_gateway.queue.scheduler import Scheduler
from mailrelay_gateway.reasons import Reason
from mailrelay_gateway.smtp.refusal import Problem
from tests.models import made
from tests.models.queue_config import REPLIES, config
from tests.simulation.depots import Depot
from tests.simulation.paced import Dots

SENDERS = [
    Identity(namespace="n", name=name, uid=name, username=f"n.{name}") for name in ("a", "b", "c")
]
NAMES = ("one", "two", "three", "four")
#: Virtual seconds in which a healthy queue has to be empty, whatever it went through: retries come
#: at most so late.
HEALTHY = 30 * 3600.0
#: Paces that all upstreams of a world have.
PACES: tuple[tuple[Pace, ...], ...] = (
    (),
    (),
    (made.pace(name="a", count=5),),
    (made.pace(name="a", count=60, per=60.0), made.pace(name="b", count=1000, per=3600.0)),
    (made.pace(name="a", count=3, unit=RateUnit.MESSAGES), made.pace(name="b", count=9)),
)
#: Seconds that an attempt takes at most, so that its pace can be measured: longer ones are stalls.
LONGEST_ATTEMPT = 2.9


class Upstreams:
    """A courier for all upstreams: takes attempts and ends them as the dice say."""

    def __init__(self, world: World, scheduler: Scheduler) -> None:
        self.world = world
        self.scheduler = scheduler
        self.busy: Counter[LaneKey] = Counter()
        self.dead = False
        self._timers: set[LaneKey] = set()

    def wake(self, lane: LaneKey) -> None:
        loop = asyncio.get_running_loop()
        while not self.dead and self.busy[lane] < 3:
            attempt = self.scheduler.take(lane, self.world.dice.choice([None, None, 2]))
            if attempt is None:
                break
            self.busy[lane] += 1
            self.world.begun(attempt)
            seconds = min(self.world.dice.expovariate(5.0), LONGEST_ATTEMPT)
            loop.call_later(seconds, self.end, lane, attempt)
        wait = self.scheduler.not_before(lane)
        if wait is not None and lane not in self._timers and not self.dead:
            self._timers.add(lane)
            loop.call_later(max(0.001, wait - self.world.clock()), self._again, lane)

    def _again(self, lane: LaneKey) -> None:
        self._timers.discard(lane)
        self.wake(lane)

    def end(self, lane: LaneKey, attempt: Attempt) -> None:
        self.busy[lane] -= 1
        if self.dead:
            return
        self.world.end(self.scheduler, attempt)
        self.wake(lane)


class World:
    """One seed's world: the queue, its upstreams, and what was promised to whom."""

    #: How often something happens before everything works.
    disturbances = 60
    pauses = (0.0, 0.01, 0.3, 5.0, 100.0, 4000.0)

    def __init__(self, dice: random.Random, depot: Depot) -> None:
        self.dice = dice
        self.loop = asyncio.get_running_loop()
        self.depot = depot
        #: Every other world is never counted: then a wake that is missed is missed for good.
        self.count_interval = dice.choice([900.0, 1e9])
        self.offset = 1_700_000_000.0
        self.pace = dice.choice(PACES)
        #: The ends of this life's attempts, by upstream; of all lives.
        self.dots: dict[str, Dots] = {}
        self.all_dots: list[Dots] = []
        self.metrics = Metrics()
        self.healthy = False
        self.promised: dict[tuple[str, str], int] = {}  # (queue id, address) answered 250
        self.delivered: Counter[tuple[str, str]] = Counter()
        self.uncertain: set[tuple[str, str]] = set()
        self.under_way: dict[tuple[str, str], str] = {}
        self.problems: list[str] = []
        self.bodies: dict[str, bytes] = {}
        self.config = self.new_config()
        self.lives: list[Scheduler] = []
        self.begin()

    def clock(self) -> float:
        return self.loop.time() + self.offset

    def new_config(self) -> GatewayConfig:
        names = self.dice.sample(NAMES, self.dice.randint(1, 4))
        return config(
            *names,
            suspend=not self.healthy and self.dice.random() < 0.1,
            connections=3,
            pace=self.pace,
            give_up_after=self.dice.choice([600.0, 86400.0]),
            max_interval=self.dice.choice([60.0, 3600.0]),
        )

    def begin(self) -> None:
        """A gateway starts."""
        opened = self.depot.open(self.clock, uncertain_until=self.clock() + 300.0)
        for found in opened.found:
            self.found_leased((found.queue_id, found.address))
        self.under_way.clear()
        self.dots = {}
        self.depot.store.start(self.loop)
        self.scheduler = Scheduler(
            self.depot.store,
            metrics=self.metrics,
            rng=random.Random(self.dice.random()),
            clock=self.clock,
            count_interval=self.count_interval,
        )
        self.lives.append(self.scheduler)
        self.metrics.configure(self.config)
        self.begin_couriers()
        self.scheduler.start(self.loop, self.config, opened)

    def found_leased(self, key: tuple[str, str]) -> None:
        """It was under way when the gateway died."""
        self.uncertain.add(key)

    # --- couriers: a fake one here

    def begin_couriers(self) -> None:
        self.upstreams = Upstreams(self, self.scheduler)
        self.attach()

    def attach(self) -> None:
        self.scheduler.attach({u.name: self.upstreams for u in self.config.relay.upstreams})

    def configure_couriers(self) -> None:
        self.attach()

    def kill_couriers(self) -> None:
        """The process is gone in the midst of what they did."""
        self.upstreams.dead = True

    async def stop_couriers(self) -> None:
        """SIGTERM: what is under way is broken."""
        self.upstreams.dead = True
        self.uncertain.update(self.under_way)

    # --- what happens

    def submit(self) -> None:
        recipients = [f"r{n}@x.example" for n in range(self.dice.choice([1, 1, 1, 2, 9]))]
        queue_id = self.scheduler.new_id()
        body = f"X-Id: {queue_id}\r\n\r\n".encode() + self.lines()
        self.bodies[queue_id] = body
        message = Message(
            queue_id=queue_id,
            envelope_sender="app@example.com",
            recipient_count=len(recipients),
            identity=self.dice.choice(SENDERS),
            bulk=self.dice.random() < 0.4,
            listener="submission",
            received_at=self.clock(),
            size=len(body),
            body=self.depot.lay(body, queue_id) if len(body) > INLINE_BODY_LIMIT else body,
            eight_bit=False,
        )

        def answered(problem: Problem | None) -> None:
            assert problem is None
            for address in recipients:
                self.promised[message.queue_id, address] = len(body)

        self.scheduler.accept(message, recipients, answered)

    def lines(self) -> bytes:
        """What a message says: short mostly, now and then so long that it lies in a file."""
        if self.dice.random() < 0.02:
            return b"a line of a long message\r\n" * self.dice.randint(11_000, 13_000)
        return b"x\r\n.\r\n" * self.dice.randint(0, 50)

    def begun(self, attempt: Attempt) -> None:
        for recipient in attempt.recipients:
            key = (attempt.message.queue_id, recipient.address)
            assert key not in self.under_way, "nobody is tried twice at the same time"
            self.under_way[key] = attempt.upstream
        expected = self.bodies.get(attempt.message.queue_id)
        assert expected is None or whole(attempt.message.body) == expected, "a body is not whole"

    def end(self, scheduler: Scheduler, attempt: Attempt) -> None:
        keys = [(attempt.message.queue_id, r.address) for r in attempt.recipients]
        for key in keys:
            self.under_way.pop(key, None)
        dice = self.dice
        if not self.healthy and dice.random() < 0.05:
            scheduler.give_back(attempt)
            return
        self.dot(attempt)
        together = self.result()
        outcomes = []
        for n, recipient in enumerate(attempt.recipients):
            result = together if dice.random() < 0.7 else self.result()
            effect = None
            if result is Result.DEFERRED and n and dice.random() < 0.3:
                effect = Split()
            if result is Result.DELIVERED:
                self.delivered[keys[n]] += 1
            if result is Result.UNCERTAIN:
                self.uncertain.add(keys[n])
                if dice.random() < 0.5:
                    self.delivered[keys[n]] += 1
            reason, reply = REPLIES[result]
            retry_after = dice.choice([None, 92.0]) if result is Result.DEFERRED else None
            outcomes.append(
                Outcome(recipient.index, result, reason, reply, "h", effect, retry_after)
            )
        if any(outcome.result is Result.HELD for outcome in outcomes):
            scheduler.hold(attempt.upstream, Reason.UPSTREAM_REFUSED, "not now")
        scheduler.finish(attempt, outcomes)

    def dot(self, attempt: Attempt) -> None:
        if attempt.upstream not in self.dots:
            self.dots[attempt.upstream] = Dots()
            self.all_dots.append(self.dots[attempt.upstream])
        self.dots[attempt.upstream].seen.append((self.loop.time(), len(attempt.recipients)))

    def result(self) -> Result:
        if self.healthy:
            return Result.DELIVERED
        return self.dice.choices(
            [
                Result.DELIVERED,
                Result.DEFERRED,
                Result.FAILED,
                Result.UNCERTAIN,
                Result.HELD,
            ],
            [50, 25, 5, 5, 2],
        )[0]

    async def disturb(self) -> None:
        """Something happens."""
        dice = self.dice
        names = [upstream.name for upstream in self.config.relay.upstreams]
        match dice.randrange(9):
            case 0:
                for _ in range(dice.randint(1, 40)):
                    self.submit()
            case 1:
                self.reload()
            case 2:
                self.scheduler.hold(dice.choice(names), Reason.UPSTREAM_UNREACHABLE, "down")
            case 3:
                self.scheduler.release(dice.choice(names))
            case 4:
                await self.die()
            case 5:
                await self.stop()
            case 6:
                self.offset += dice.choice([-86400.0, -60.0, 60.0, 86400.0])
            case 7:
                lane = LaneKey(dice.choice(names))
                effects: list[Effect] = [Slow(), PauseUntil(seconds=dice.choice([5.0, 600.0]))]
                self.scheduler.slow(lane, dice.choice(effects), None)
            case 8:
                for _ in range(3):
                    self.submit()

    def reload(self) -> None:
        """Another configuration comes into force, as `process` does it."""
        self.config = self.new_config()
        self.metrics.configure(self.config)
        self.configure_couriers()
        self.scheduler.configure(self.config)

    async def die(self) -> None:
        """Kill -9, and a new start."""
        self.kill_couriers()
        await self.depot.crash()
        self.scheduler.stop_taking()  # its timers are gone with it
        self.begin()

    async def stop(self) -> None:
        """SIGTERM, and a new start."""
        self.scheduler.stop_taking()
        await self.stop_couriers()
        await self.depot.close()
        self.begin()

    def judge(self) -> None:
        """What was answered 250 was delivered or is a dead letter; twice only if it was
        uncertain.
        """
        dead = Counter(self.depot.dead())
        for key in self.promised:
            ended = self.delivered[key] + dead[key]
            assert ended or key in self.uncertain, f"{key} is lost"
            assert ended <= 1 or key in self.uncertain, f"{key} twice, without a reason"
        for pace in self.pace:
            for dots in self.all_dots:
                most = dots.most_in(pace.per, messages=pace.unit is RateUnit.MESSAGES)
                assert most <= pace.count, f"{most} in {pace.per:g} s"

    def heal(self) -> None:
        """From now on everything works."""
        self.healthy = True
        self.reload()
        for upstream in self.config.relay.upstreams:
            self.scheduler.release(upstream.name)


async def live(world: World) -> None:
    """One life, then health until the queue is empty."""

    def broken(_loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        world.problems.append(str(context.get("exception") or context["message"]))

    world.loop.set_exception_handler(broken)
    for _ in range(world.disturbances):
        await world.disturb()
        await asyncio.sleep(world.dice.choice(world.pauses))
    world.heal()
    deadline = world.loop.time() + HEALTHY
    while world.depot.messages() and world.loop.time() < deadline:
        await asyncio.sleep(60.0)


def judge(world: World) -> None:
    """Nothing went wrong, nothing is left behind, and what the world promised was kept."""
    assert not world.problems, world.problems[:3]
    assert not sum(life.corrected for life in world.lives), (
        "memory counted wrongly, and the audit had to mend it"
    )
    assert not world.depot.messages(), f"left behind: {world.depot.left()[:3]}"
    world.judge()
