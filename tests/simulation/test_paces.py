"""Paces hold where the upstream counts, at the final dot, from the first second on; and no more is
lost by that than has to be. Real scheduler, virtual time.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Coroutine
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from mailrelay_gateway.contract.documents import RateUnit
from mailrelay_gateway.contract.files import GatewayConfig
from mailrelay_gateway.message.effect import Slow
from mailrelay_gateway.queue.kept_quotas import KeptQuotas
from tests.models import made
from tests.models.memory_store import MemoryStore
from tests.models.queue_config import changed, config
from tests.simulation.paced import LANE, Dots, Gateway
from tests.simulation.virtual import VirtualLoop

SECOND = (made.pace(name="second", count=14),)


def run(life: Callable[[], Coroutine[Any, Any, None]]) -> None:
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(life())


def after_a_crash(
    before: Gateway, found: GatewayConfig, dice: random.Random, **parts: Any
) -> Gateway:
    """A gateway that finds what another one has left on disk, and sends to the same upstream."""
    assert isinstance(before.store, MemoryStore)
    return Gateway(found, before.dots, dice, store=before.store.crash(), **parts)


def test_ten_thousand_recipients_at_fourteen_a_second() -> None:
    async def life() -> None:
        loop = asyncio.get_running_loop()
        gateway = Gateway(config("u", pace=SECOND), Dots(), random.Random(1))
        began = loop.time()
        await gateway.send(10_000)
        seconds = loop.time() - began
        gateway.scheduler.stop_taking()
        assert gateway.dots.recipients == 10_000
        assert gateway.dots.most_in(1.0) == 14
        first = [at for at, _ in gateway.dots.seen if at < began + 1.0]
        assert len(first) <= 14
        # a little is lost since what is under way counts; no more than that
        assert seconds < 10_000 / 14 * 1.05

    run(life)


@pytest.mark.parametrize("number", range(8))
def test_no_window_has_more_than_its_pace(number: int) -> None:
    """However long single messages take, and however many recipients they have."""
    dice = random.Random(number)

    def latency(dice: random.Random) -> float:
        return dice.choice([0.001, 0.02, 0.1, 0.4, 1.4])

    async def life() -> None:
        paces = (
            made.pace(name="a", count=dice.randint(1, 40)),
            made.pace(name="b", count=dice.randint(20, 100), per=10.0),
            made.pace(name="c", count=dice.randint(3, 20), per=1.0, unit=RateUnit.MESSAGES),
            made.pace(name="d", count=dice.randint(1000, 2000), per=300.0),
        )
        gateway = Gateway(config("u", pace=paces), Dots(), dice, latency=latency)
        await gateway.send(2000, most=dice.choice([1, 5, 60]))
        gateway.scheduler.stop_taking()
        assert gateway.dots.recipients == 2000
        for pace in paces:
            messages = pace.unit is RateUnit.MESSAGES
            assert gateway.dots.most_in(pace.per, messages=messages) <= pace.count

    run(life)


def test_two_replicas_keep_to_it_together() -> None:
    async def life() -> None:
        dots = Dots()
        found = config("u", pace=SECOND, replicas=2)
        loop = asyncio.get_running_loop()
        began = loop.time()
        gateways = [Gateway(found, dots, random.Random(n)) for n in range(2)]
        await asyncio.gather(*(gateway.send(2000, most=3) for gateway in gateways))
        for gateway in gateways:
            gateway.scheduler.stop_taking()
        assert dots.recipients == 4000
        assert dots.most_in(1.0) <= 14
        assert loop.time() - began < 4000 / 14 * 1.2

    run(life)


def test_it_is_smooth() -> None:
    """No two messages come at once, neither at the start nor after a rest."""

    async def life() -> None:
        gateway = Gateway(
            config("u", pace=SECOND), Dots(), random.Random(1), latency=lambda _dice: 0.005
        )
        began = asyncio.get_running_loop().time()
        await gateway.send(100)
        await asyncio.sleep(100.0)
        await gateway.send(100)
        gateway.scheduler.stop_taking()
        moments = sorted(at for at, _ in gateway.dots.seen)
        assert moments[0] - began >= 1 / 14
        assert min(b - a for a, b in pairwise(moments)) > 0.7 / 14

    run(life)


def test_a_restart_does_not_burst() -> None:
    async def life() -> None:
        dots = Dots()
        found = config("u", pace=SECOND)
        gateway = Gateway(found, dots, random.Random(1))
        for _ in range(300):
            gateway.submit()
        for life in range(8):
            await asyncio.sleep(1.5)
            gateway.scheduler.stop_taking()
            await asyncio.sleep(0.05)  # what is under way ends
            gateway = after_a_crash(gateway, found, random.Random(life))
        await asyncio.sleep(600.0)
        gateway.scheduler.stop_taking()
        assert dots.recipients >= 300
        assert dots.most_in(1.0) <= 14

    run(life)


@pytest.mark.parametrize("ended_well", [True, False])
def test_a_quota_outlives_a_restart(tmp_path: Path, ended_well: bool) -> None:
    async def life() -> None:
        dots = Dots()
        found = config("u", pace=(made.pace(name="day", count=100, per=86400.0),))
        gateway = Gateway(found, dots, random.Random(1), quotas=KeptQuotas(tmp_path))
        for _ in range(60):
            gateway.submit()
        await asyncio.sleep(30.0)
        assert dots.recipients == 60
        if ended_well:
            gateway.scheduler.stop_taking()
        gateway = after_a_crash(gateway, found, random.Random(2), quotas=KeptQuotas(tmp_path))
        for _ in range(60):
            gateway.submit()
        await asyncio.sleep(3600.0)
        assert dots.recipients == 100
        await asyncio.sleep(86400.0)
        gateway.scheduler.stop_taking()
        assert dots.recipients == 120

    run(life)


def test_what_is_under_way_at_the_stop_counts_after_it(tmp_path: Path) -> None:
    async def life() -> None:
        dots = Dots()
        found = config("u", pace=(made.pace(name="day", count=10, per=86400.0),))
        gateway = Gateway(
            found, dots, random.Random(1), quotas=KeptQuotas(tmp_path), latency=lambda _: 2.0
        )
        for _ in range(10):
            gateway.submit()
        await asyncio.sleep(1.0)
        gateway.scheduler.stop_taking()
        assert not dots.seen
        await asyncio.sleep(20.0)
        assert dots.recipients == 10
        gateway = after_a_crash(gateway, found, random.Random(2), quotas=KeptQuotas(tmp_path))
        for _ in range(10):
            gateway.submit()
        await asyncio.sleep(3600.0)
        gateway.scheduler.stop_taking()
        assert dots.recipients == 10

    run(life)


@pytest.mark.parametrize("restarted", [True, False])
def test_a_quota_outlives_an_upstream_that_is_gone_for_a_moment(
    tmp_path: Path, restarted: bool
) -> None:
    """As one whose Secret is missing: without it the upstream is left out."""

    async def life() -> None:
        dots = Dots()
        found = config("u", pace=(made.pace(name="day", count=100, per=86400.0),))
        gateway = Gateway(found, dots, random.Random(1), quotas=KeptQuotas(tmp_path))
        for _ in range(60):
            gateway.submit()
        await asyncio.sleep(30.0)
        assert dots.recipients == 60
        other = config("other")
        if restarted:
            gateway.scheduler.stop_taking()
            gateway = after_a_crash(gateway, other, random.Random(2), quotas=KeptQuotas(tmp_path))
        else:
            gateway.scheduler.configure(other)
        await asyncio.sleep(30.0)
        gateway.attach(found)
        gateway.scheduler.configure(found)
        for _ in range(60):
            gateway.submit()
        await asyncio.sleep(3600.0)
        gateway.scheduler.stop_taking()
        assert dots.recipients == 100

    run(life)


@pytest.mark.parametrize("text", [b"", b"[]", b'{"u": 3}', b'{"u": {"day": [[1]]}}', b"\xff"])
def test_an_unusable_file_of_quotas_is_none(tmp_path: Path, text: bytes) -> None:
    (tmp_path / "quotas.json").write_bytes(text)
    assert KeptQuotas(tmp_path).read() == {}


def test_it_is_kept_over_a_reload() -> None:
    async def life() -> None:
        found = config("u", pace=SECOND)
        gateway = Gateway(found, Dots(), random.Random(1))
        for _ in range(300):
            gateway.submit()
        for count in (14, 3, 14, 2, 14):
            await asyncio.sleep(1.7)
            gateway.configure(changed(found, "u", pace=(made.pace(name="second", count=count),)))
        await asyncio.sleep(600.0)
        gateway.scheduler.stop_taking()
        assert gateway.dots.recipients == 300
        assert gateway.dots.most_in(1.0) <= 14

    run(life)


def test_without_a_pace_any_more_it_goes_at_once() -> None:
    async def life() -> None:
        found = config("u", pace=(made.pace(name="day", count=20, per=86400.0),))
        gateway = Gateway(found, Dots(), random.Random(1))
        for _ in range(50):
            gateway.submit()
        await asyncio.sleep(600.0)
        assert gateway.dots.recipients == 20
        gateway.configure(changed(found, "u", pace=()))
        await asyncio.sleep(10.0)
        gateway.scheduler.stop_taking()
        assert gateway.dots.recipients == 50

    run(life)


def test_a_used_up_quota_leaves_mail_to_the_next_upstream() -> None:
    async def life() -> None:
        quota = (made.pace(name="day", count=20, per=86400.0),)
        found = changed(config("u", "v", pace=quota), "v", pace=())
        gateway = Gateway(found, Dots(), random.Random(1))
        for _ in range(50):
            gateway.submit()
        await asyncio.sleep(60.0)
        assert [attempt.upstream for attempt in gateway.taken].count("u") == 20
        assert [attempt.upstream for attempt in gateway.taken].count("v") == 30
        await asyncio.sleep(86400.0)
        gateway.submit()
        await asyncio.sleep(60.0)
        gateway.scheduler.stop_taking()
        assert gateway.taken[-1].upstream == "u"

    run(life)


def test_a_stalled_message_does_not_stop_the_others() -> None:
    """Invariant: a message that hangs at its final dot for minutes costs the others seconds."""

    async def life() -> None:
        slow = iter([600.0])
        gateway = Gateway(
            config("u", pace=(made.pace(name="one", count=1),)),
            Dots(),
            random.Random(1),
            latency=lambda _dice: next(slow, 0.01),
        )
        began = asyncio.get_running_loop().time()
        gateway.submit()
        await asyncio.sleep(1.5)
        gateway.submit()
        await asyncio.sleep(100.0)
        gateway.scheduler.stop_taking()
        assert [at - began < 6.5 for at, _ in gateway.dots.seen] == [True]

    run(life)


def test_throttling_lowers_the_pace_and_it_comes_back() -> None:
    async def life() -> None:
        gateway = Gateway(config("u", pace=SECOND), Dots(), random.Random(1))
        sent = asyncio.create_task(gateway.send(20_000))

        async def rate() -> float:
            before = gateway.dots.recipients
            await asyncio.sleep(20.0)
            return (gateway.dots.recipients - before) / 20

        await asyncio.sleep(10.0)
        assert await rate() > 13
        for _ in range(3):
            gateway.scheduler.slow(LANE, Slow())
            await asyncio.sleep(5.0)
        assert 3 < await rate() < 8
        await asyncio.sleep(900.0)
        assert await rate() > 13
        sent.cancel()
        gateway.scheduler.stop_taking()

    run(life)


def test_a_transaction_has_at_most_what_the_pace_allows() -> None:
    async def life() -> None:
        gateway = Gateway(config("u", pace=SECOND), Dots(), random.Random(1))
        gateway.submit(50)
        await asyncio.sleep(30.0)
        gateway.scheduler.stop_taking()
        assert [recipients for _, recipients in gateway.dots.seen] == [14, 14, 14, 8]
        assert gateway.dots.most_in(1.0) <= 14

    run(life)


class CountingLoop(VirtualLoop):
    """Counts its timers."""

    timers = 0

    def call_at(  # type: ignore[override]
        self, when: float, callback: Callable[..., object], *args: Any, **more: Any
    ) -> asyncio.TimerHandle:
        self.timers += 1
        return super().call_at(when, callback, *args, **more)


def test_nothing_is_polled() -> None:
    """A queue that waits for its pace sets a few timers a message, however long it waits."""

    async def life() -> None:
        found = config("u", pace=(made.pace(name="slow", count=1, per=60.0),))
        gateway = Gateway(found, Dots(), random.Random(1))
        for _ in range(50):
            gateway.submit()
        await asyncio.sleep(10.0)
        loop = asyncio.get_running_loop()
        assert isinstance(loop, CountingLoop)
        before = loop.timers
        await asyncio.sleep(3600.0)
        gateway.scheduler.stop_taking()
        assert gateway.dots.recipients == 50
        assert loop.timers - before < 50 * 20

    with asyncio.Runner(loop_factory=CountingLoop) as runner:
        runner.run(life())
