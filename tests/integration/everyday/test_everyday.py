"""Everyday trouble behind a real gateway process: every body is whole at every recipient, and
nothing is left behind.
"""

from __future__ import annotations

import time

import pytest

from tests.integration.everyday.account import (
    duplicates,
    expected,
    mails,
    nothing_left,
    until_empty,
    whole,
)
from tests.integration.everyday.scale import figures, scale
from tests.peers.gateway import GatewayProcess, plain_listener, relay, smarthost
from tests.peers.moody import Mood, MoodyServer
from tests.peers.wholemail import submit
from tests.ports import free_port
from tests.waiting import until

pytestmark = pytest.mark.timeout(scale(300, 600))

MOODS = [Mood.AWAY, Mood.BUSY, Mood.REFUSES_CONTENT]
SILENCES = [Mood.SILENT_AT_DOT, Mood.SILENT_FROM_START]


async def test_many_recipients_through_restarts(
    gateway: GatewayProcess, upstream: MoodyServer
) -> None:
    """A clean stop doubles nothing; what a kill doubles was under way when it came."""
    count, recipients = scale(80, 200), scale(10, 70)
    messages = mails(count, recipients)
    upstream.per_second = 20
    port = free_port()
    gateway.write(relay([plain_listener(port)], [smarthost("sink", upstream.port)]))
    await gateway.start()
    await submit(port, messages)
    await until(lambda: len(upstream.transactions) >= 5)
    assert await gateway.stop() == 0
    stopped = len(upstream.transactions)
    assert stopped < count - 20, "it was stopped in the midst of its mail"
    await gateway.start()
    await until(lambda: len(upstream.transactions) >= stopped + 5)
    doubled_by_stop = duplicates(upstream.taken)
    # What is on the way is taken, and its 250 finds nobody.
    await gateway.kill()
    killed, said = time.monotonic(), len(upstream.transactions)
    await gateway.start()
    upstream.per_second = 0
    await until(lambda: len(upstream.taken) >= count * recipients, seconds=120)
    await until_empty(gateway)
    whole(messages, upstream.taken, upstream.damaged)
    assert doubled_by_stop == 0
    first = {entry.name: entry.at for entry in reversed(upstream.transactions)}
    again = {name for (name, _), times in upstream.taken.items() if times > 1}
    unheard = {name for name in again if first[name] > killed}
    figures.append(
        f"{count} messages x {recipients}: {len(upstream.taken)} whole. Stopped after {stopped},"
        f" killed after {said} messages. SIGTERM doubled {doubled_by_stop} recipients, kill -9"
        f" {duplicates(upstream.taken)} in {len(again)} messages: {len(unheard)} were answered 250"
        f" when nobody listened any more, {len(again - unheard)} before, unheeded"
        f" {max((killed - first[name] for name in again - unheard), default=0.0):.3f} s at most;"
        f" {len(upstream.transactions)} transactions"
    )
    # Each of the 20 connections had one message under way, and at most one more whose 250 was not
    # on disk yet.
    assert len(unheard) <= 20
    assert len(again) <= 40
    await nothing_left(gateway)


async def test_an_upstream_that_leaves_after_each_message(
    gateway: GatewayProcess, upstream: MoodyServer
) -> None:
    messages = mails(scale(100, 2000))
    upstream.mood = Mood.LEAVES
    port = free_port()
    gateway.write(relay([plain_listener(port)], [smarthost("sink", upstream.port)]))
    await gateway.start()
    began = time.monotonic()
    await submit(port, messages)
    await until(lambda: len(upstream.taken) >= len(messages), seconds=300)
    took = time.monotonic() - began
    await until_empty(gateway)
    whole(messages, upstream.taken, upstream.damaged)
    assert duplicates(upstream.taken) == 0
    figures.append(
        f"leaves after each message: {len(messages)} delivered over"
        f" {len(upstream.connections)} connections in {took:.1f} s, none twice"
    )
    await nothing_left(gateway)


async def test_an_upstream_that_answers_421_then_454_for_a_while(
    gateway: GatewayProcess, upstream: MoodyServer
) -> None:
    """Each bad mood lasts until the gateway has met it, and for a while longer."""
    count, seconds = scale(100, 3000), scale(0.5, 20.0)
    messages = mails(count)
    upstream.mood = Mood.BUSY
    port = free_port()
    gateway.write(relay([plain_listener(port)], [smarthost("sink", upstream.port)]))
    await gateway.start()
    await submit(port, messages)
    await until(lambda: upstream.met[Mood.BUSY] > 0)
    said = []
    for mood in scale(MOODS[2:], MOODS):
        upstream.mood = mood
        before = upstream.met[mood]
        began, connections = time.monotonic(), len(upstream.connections)
        await until(lambda m=mood, b=before: upstream.met[m] > b, seconds=120)  # type: ignore[misc]
        met = time.monotonic()
        await until(lambda m=met: time.monotonic() - m > seconds)  # type: ignore[misc]
        took = time.monotonic() - began
        said.append(
            f"{mood.name} for {took:.0f} s: {(len(upstream.connections) - connections) / took:.2f}"
            f" connections/s, said {upstream.met[mood] - before} times"
        )
    assert not upstream.taken
    upstream.mood = Mood.HEALTHY
    began = time.monotonic()
    await until(lambda: len(upstream.taken) >= count, seconds=300)
    took = time.monotonic() - began
    await until_empty(gateway)
    whole(messages, upstream.taken, upstream.damaged)
    assert duplicates(upstream.taken) == 0
    figures.append(
        f"{count} queued; {'; '.join(said)}; all out {took:.1f} s after it was healthy, none"
        " bounced, none twice"
    )
    await nothing_left(gateway)


@pytest.mark.parametrize("mood", scale(SILENCES[:1], SILENCES))
async def test_a_silent_upstream_is_replaced_by_the_next(
    gateway: GatewayProcess, upstream: MoodyServer, mood: Mood
) -> None:
    # In the end it hangs up: what it had at its dot is uncertain.
    async with MoodyServer(mood=mood) as silent:
        port = free_port()
        upstreams = [
            smarthost("silent", silent.port, connections=2),
            smarthost("next", upstream.port),
        ]
        gateway.write(relay([plain_listener(port)], upstreams))
        await gateway.start()
        stuck, following = mails(scale(2, 20)), mails(scale(23, 40))[scale(2, 20) :]
        await submit(port, stuck)
        if mood is Mood.SILENT_AT_DOT:
            await until(lambda: silent.met[mood] >= 2)
        began = time.monotonic()
        await submit(port, following)
        waited = {mail.name for mail in following}
        await until(lambda: waited <= {name for name, _ in upstream.taken})
        times = sorted(entry.at - began for entry in upstream.transactions if entry.name in waited)
        status = (await gateway.status())["upstreams"]
        figures.append(
            f"all connections silent, {mood.name}: the next of the route has the first following"
            f" message after {times[0]:.2f} s, all {len(times)} after {times[-1]:.2f} s; {status}"
        )
        assert (await gateway.metric("mailrelay_upstream_up", upstream="silent")) == 0
    assert expected(following) <= set(upstream.taken)
    assert upstream.damaged == []
