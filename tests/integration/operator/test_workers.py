"""The engine's loops on real time: workers, resync, re-reading, the doorbell. Every wait is for
a condition."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from mailrelay_operator.cluster.port import Unavailable
from mailrelay_operator.engine.backlog import Backlog, Key
from mailrelay_operator.engine.memory import Memory
from mailrelay_operator.engine.metrics import OperatorMetrics
from mailrelay_operator.engine.reading import Scope
from mailrelay_operator.engine.reconcile import Overtaken
from mailrelay_operator.engine.resync import Reread, Resync, relay_key
from mailrelay_operator.engine.startup import wait_for_kinds
from mailrelay_operator.engine.workers import Doorbell, Workers
from mailrelay_operator.plan.facts import ObjectKey
from tests.integration.operator.fake_cluster import FakeCluster
from tests.integration.operator.world import brought, relay, sender

DEADLINE = 10.0


async def until(holds: Callable[[], bool]) -> None:
    """Return once it holds."""
    async with asyncio.timeout(DEADLINE):
        while not holds():
            await asyncio.sleep(0.005)


@asynccontextmanager
async def working(
    reconcile: Callable[[Key], Awaitable[float | None]],
) -> AsyncIterator[tuple[Doorbell, OperatorMetrics]]:
    """Workers over a backlog of their own."""
    doorbell = Doorbell(Backlog(), time.monotonic)
    metrics = OperatorMetrics()
    workers = Workers(doorbell=doorbell, reconcile=reconcile, metrics=metrics, rng=random.Random(1))
    task = asyncio.create_task(workers.run())
    try:
        yield doorbell, metrics
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_keys_are_worked_on_side_by_side_but_each_by_one_worker() -> None:
    inside: list[Key] = []
    most = 0
    gate = asyncio.Event()
    done: list[Key] = []

    async def reconcile(key: Key) -> float | None:
        nonlocal most
        assert key not in inside
        inside.append(key)
        most = max(most, len(inside))
        await gate.wait()
        inside.remove(key)
        done.append(key)
        return None

    async with working(reconcile) as (doorbell, _):
        keys = [relay_key("mail", str(n)) for n in range(10)]
        for key in keys * 3:
            doorbell.add(key)
        await until(lambda: len(inside) == 4)
        doorbell.add(inside[0])
        gate.set()
        await until(lambda: len(done) == 11)
    assert set(done) == set(keys)
    assert most == 4


async def test_a_key_comes_back_after_the_pause_that_it_asked_for() -> None:
    rounds: list[Key] = []

    async def reconcile(key: Key) -> float | None:
        rounds.append(key)
        return 0.01 if len(rounds) < 3 else None

    async with working(reconcile) as (doorbell, _):
        doorbell.add(relay_key("mail", "out"))
        await until(lambda: len(rounds) == 3 and len(doorbell.backlog) == 0)


@pytest.mark.parametrize(
    ("error", "result"),
    [
        (Unavailable("reading", "timeout"), "failed"),
        (ZeroDivisionError("a mistake"), "failed"),
        (Overtaken("somebody wrote"), "conflict"),
    ],
)
async def test_a_round_that_fails_is_repeated_and_counted(error: Exception, result: str) -> None:
    rounds: list[Key] = []

    async def reconcile(key: Key) -> float | None:
        rounds.append(key)
        if len(rounds) == 1:
            raise error
        return None

    async with working(reconcile) as (doorbell, metrics):
        doorbell.add(relay_key("mail", "out"))
        await until(lambda: len(rounds) == 1)
        doorbell.add(relay_key("mail", "out"))  # news need not wait for the pause to pass
        await until(lambda: len(rounds) == 2 and len(doorbell.backlog) == 0)
    text = metrics.render().decode()
    assert f'mailrelay_reconcile_total{{kind="MailRelay",result="{result}"}} 1.0' in text
    assert 'mailrelay_reconcile_total{kind="MailRelay",result="ok"} 1.0' in text


async def test_nothing_starts_before_the_crds_are_there() -> None:
    cluster = FakeCluster()
    group = "mailrelay.dev/v1alpha1"
    cluster.refuse("served", group, Unavailable("discovering", "no route to host"))
    with pytest.raises(Unavailable, match=r"apply the CRDs.*no route to host"):
        await wait_for_kinds(cluster, pause=0.0, looks=3)
    waiting = asyncio.create_task(wait_for_kinds(cluster, pause=0.0, looks=1_000_000))
    await asyncio.sleep(0)
    assert not waiting.done()
    cluster.refuse("served", group, None)
    async with asyncio.timeout(DEADLINE):
        await waiting


def resync(cluster: FakeCluster, doorbell: Doorbell, memory: Memory) -> Resync:
    return Resync(
        cluster=cluster,
        scope=Scope(),
        doorbell=doorbell,
        memory=memory,
        metrics=OperatorMetrics(),
        interval=240.0,
        rng=random.Random(1),
        unix_time=time.time,
    )


async def test_a_resync_adds_every_relay_and_every_relay_that_is_named_or_remembered() -> None:
    cluster = FakeCluster()
    lost = sender("lost")
    lost["spec"]["relayRef"] = {"name": "nowhere"}
    domain = {
        "apiVersion": "mailrelay.dev/v1alpha1",
        "kind": "MailDomain",
        "metadata": {"name": "example", "namespace": "mail"},
        "spec": {},
    }
    cluster.put(relay(), sender(), lost, domain)
    moment = 0.0
    doorbell = Doorbell(Backlog(), lambda: moment)
    memory = Memory()
    memory.of(relay_key("mail", "gone"))
    await resync(cluster, doorbell, memory).resync()
    moment = 60.0
    taken = set()
    while (key := doorbell.backlog.take(now=moment)) is not None:
        taken.add(str(key))
    assert taken == {
        "MailDomain mail/example",
        "MailRelay mail/gone",
        "MailRelay mail/nowhere",
        "MailRelay mail/out",
    }


async def test_a_resync_that_fails_for_long_makes_the_probe_fail() -> None:
    cluster = FakeCluster()
    moment = 0.0
    doorbell = Doorbell(Backlog(), lambda: moment)
    found = resync(cluster, doorbell, Memory())
    cluster.refuse("list", "MailSender", Unavailable("listing", "timeout"))
    with pytest.raises(Unavailable):
        await found.resync()
    assert len(doorbell.backlog) == 0
    moment = 719.0
    assert not found.is_stale()
    moment = 721.0
    assert found.is_stale()
    cluster.refuse("list", "MailSender", None)
    await found.resync()
    assert not found.is_stale()


async def test_a_changed_or_deleted_reference_rings_once() -> None:
    cluster = FakeCluster()
    cluster.put(brought("login", username="u", password="p"))
    doorbell = Doorbell(Backlog(), time.monotonic)
    memory = Memory()
    key = relay_key("mail", "out")
    login = ObjectKey(kind="Secret", namespace="mail", name="login")
    found = cluster.find("Secret", "mail", "login")
    assert found is not None
    memory.of(key).watched = {login: found["metadata"]["resourceVersion"]}
    reread = Reread(cluster=cluster, doorbell=doorbell, memory=memory, metrics=OperatorMetrics())

    async def rings() -> bool:
        await reread.look(key, login)
        rang = doorbell.backlog.take(now=time.monotonic())
        if rang is not None:
            doorbell.backlog.done(rang)
        return rang is not None

    assert not await rings()
    cluster.put(found)
    assert await rings()
    assert not await rings()
    cluster.refuse("get", "Secret", Unavailable("reading", "timeout"))
    assert not await rings()
    cluster.refuse("get", "Secret", None)
    cluster.drop("Secret", "mail", "login")
    assert await rings()
    assert not await rings()
