"""The engine's loops on real time: workers, resync, re-reading, the doorbell. Every wait is for
a condition."""

from __future__ import annotations

import asyncio
import copy
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from mailrelay_operator.cluster.port import Unavailable
from mailrelay_operator.engine.backlog import Key, Urgency
from mailrelay_operator.engine.contents import Contents
from mailrelay_operator.engine.memory import Memory
from mailrelay_operator.engine.metrics import OperatorMetrics
from mailrelay_operator.engine.pulse import STALE_AFTER, Pulse
from mailrelay_operator.engine.reconcile import Unfinished
from mailrelay_operator.engine.resync import Reread, Resync
from mailrelay_operator.engine.ringing import relay_key, sender_key
from mailrelay_operator.engine.scope import Scope
from mailrelay_operator.engine.store import Store
from mailrelay_operator.engine.workers import RELAY_WORKERS, SENDER_WORKERS, Doorbell, Workers
from mailrelay_operator.plan.facts import ObjectKey
from tests.integration.operator.fake_cluster import FakeCluster
from tests.integration.operator.world import brought, relay, sender
from tests.waiting import until


@asynccontextmanager
async def working(
    reconcile: Callable[[Key], Awaitable[float | None]],
    ready: Callable[[], Awaitable[object]] | None = None,
) -> AsyncIterator[tuple[Doorbell, OperatorMetrics]]:
    """Workers over backlogs of their own."""
    doorbell = Doorbell(time.monotonic)
    metrics = OperatorMetrics()
    workers = Workers(
        doorbell=doorbell,
        reconcile=reconcile,
        metrics=metrics,
        rng=random.Random(1),
        ready=ready,
    )
    task = asyncio.create_task(workers.run())
    try:
        yield doorbell, metrics
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def app(number: int) -> Key:
    return Key(kind="MailSender", namespace="mail", name=str(number))


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
        await until(lambda: len(inside) == RELAY_WORKERS)
        doorbell.add(inside[0])
        gate.set()
        await until(lambda: len(done) == 11)
    assert set(done) == set(keys)
    assert most == RELAY_WORKERS


async def test_a_relay_never_waits_behind_senders() -> None:
    inside: list[Key] = []
    gate = asyncio.Event()

    async def reconcile(key: Key) -> float | None:
        inside.append(key)
        if key.kind == "MailSender":
            await gate.wait()
        return None

    async with working(reconcile) as (doorbell, _):
        for number in range(50):
            doorbell.add(app(number), urgency=Urgency.AWAITED)
        await until(lambda: len(inside) == SENDER_WORKERS)
        doorbell.add(relay_key("mail", "out"))
        await until(lambda: relay_key("mail", "out") in inside)
        gate.set()


async def test_a_revocation_never_waits_behind_first_rounds() -> None:
    """However many relays and senders are new, and however long their rounds take."""
    inside: list[Key] = []
    gate = asyncio.Event()

    async def reconcile(key: Key) -> float | None:
        inside.append(key)
        if key.name != "revoked":
            await gate.wait()
        return None

    async with working(reconcile) as (doorbell, metrics):
        for number in range(200):
            doorbell.add(relay_key("mail", str(number)), urgency=Urgency.AWAITED)
            doorbell.add(app(number), urgency=Urgency.AWAITED)
        await until(lambda: len(inside) == RELAY_WORKERS + SENDER_WORKERS)
        revoked = {relay_key("mail", "revoked"), sender_key(sender("revoked"))}
        for key in revoked:
            doorbell.add(key, urgency=Urgency.REVOKING)
        await until(lambda: revoked <= set(inside))
        assert len(inside) == RELAY_WORKERS + SENDER_WORKERS + 2
        assert b"\nmailrelay_backlog 400.0" in metrics.render()
        gate.set()


async def test_nothing_is_done_before_every_list_was_seen() -> None:
    seen = asyncio.Event()
    rounds: list[Key] = []

    async def reconcile(key: Key) -> float | None:
        assert seen.is_set()
        rounds.append(key)
        return None

    async with working(reconcile, ready=seen.wait) as (doorbell, _):
        doorbell.add(relay_key("mail", "out"))
        await asyncio.sleep(0)
        seen.set()
        await until(lambda: len(rounds) == 1)


async def test_a_key_comes_back_after_the_pause_that_it_asked_for() -> None:
    rounds: list[Key] = []

    async def reconcile(key: Key) -> float | None:
        rounds.append(key)
        return 0.01 if len(rounds) < 3 else None

    async with working(reconcile) as (doorbell, _):
        doorbell.add(relay_key("mail", "out"))
        await until(lambda: len(rounds) == 3 and len(doorbell.relays) == 0)


@pytest.mark.parametrize(
    ("error", "result"),
    [
        (Unfinished("timeout", silent=True), "failed"),
        (ZeroDivisionError("a mistake"), "failed"),
        (Unfinished("somebody wrote", conflict=True), "conflict"),
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
        await until(lambda: len(rounds) == 2 and len(doorbell.relays) == 0)
    text = metrics.render().decode()
    assert f'mailrelay_reconcile_total{{kind="MailRelay",result="{result}"}} 1.0' in text
    assert 'mailrelay_reconcile_total{kind="MailRelay",result="ok"} 1.0' in text


def test_a_resync_adds_everything_that_is_there_named_or_remembered() -> None:
    store, memory = Store(), Memory()
    lost = sender("lost")
    lost["spec"]["relayRef"] = {"name": "nowhere"}
    domain = {"kind": "MailDomain", "metadata": {"name": "example", "namespace": "mail"}}
    store.replace("MailRelay", None, [relay()])
    store.replace("MailSender", None, [sender(), lost])
    store.replace("MailDomain", None, [domain])
    memory.relay(relay_key("mail", "gone"))
    moment = 0.0
    doorbell = Doorbell(lambda: moment)
    Resync(
        store=store,
        doorbell=doorbell,
        memory=memory,
        metrics=OperatorMetrics(),
        interval=240.0,
        rng=random.Random(1),
        unix_time=time.time,
    ).resync()
    moment = 240.0
    taken = set()
    for backlog in (doorbell.relays, doorbell.senders):
        while (key := backlog.take(now=moment)) is not None:
            taken.add(str(key))
    assert taken == {
        "MailDomain mail/example",
        "MailRelay mail/gone",
        "MailRelay mail/nowhere",
        "MailRelay mail/out",
        "MailSender mail/app",
        "MailSender mail/lost",
    }


def test_only_a_loop_that_stands_still_ends_the_process() -> None:
    moment = 0.0
    pulse = Pulse(lambda: moment)
    for _ in range(30):
        pulse.beat("watch a")
        pulse.beat("watch b")
        moment += 60.0
        assert pulse.stuck() is None
    moment += STALE_AFTER - 61.0
    pulse.beat("watch a")
    moment += 2.0
    assert pulse.stuck() == "watch b"


async def test_a_look_into_a_cache_that_is_behind_is_no_news() -> None:
    cluster = FakeCluster()
    cluster.put(brought("login", username="u", password="p"))
    doorbell = Doorbell(time.monotonic)
    login = ObjectKey(kind="Secret", namespace="mail", name="login")
    contents = Contents(cluster, Scope())
    contents.reads(relay_key("mail", "out"), soon=(login,))
    await contents.get(login)
    newer = copy.deepcopy(cluster.objects["Secret", "mail", "login"])
    newer["metadata"]["resourceVersion"] = "1000000"
    contents.note(newer)  # as after a write of ours
    await Reread(
        cluster=cluster, doorbell=doorbell, contents=contents, metrics=OperatorMetrics()
    ).look(login)
    assert doorbell.relays.take(now=time.monotonic()) is None
    assert contents.known(login) is newer


async def test_a_changed_or_deleted_reference_rings_once() -> None:
    cluster = FakeCluster()
    cluster.put(brought("login", username="u", password="p"))
    doorbell = Doorbell(time.monotonic)
    key = relay_key("mail", "out")
    login = ObjectKey(kind="Secret", namespace="mail", name="login")
    contents = Contents(cluster, Scope())
    contents.reads(key, soon=(login,))
    reread = Reread(
        cluster=cluster, doorbell=doorbell, contents=contents, metrics=OperatorMetrics()
    )

    async def rings() -> bool:
        await contents.get(login)
        await reread.look(login)
        rang = doorbell.relays.take(now=time.monotonic())
        if rang is not None:
            doorbell.relays.done(rang)
        return rang is not None

    assert not await rings()
    found = cluster.find("Secret", "mail", "login")
    assert found is not None
    cluster.put(found)
    assert await rings()
    assert not await rings()
    cluster.refuse("get", "Secret", Unavailable("reading", "timeout"))
    assert not await rings()
    cluster.refuse("get", "Secret", None)
    cluster.drop("Secret", "mail", "login")
    assert await rings()
    assert not await rings()
    contents.reads(key, soon=())
    assert len(contents) == 0
