"""One message of a second sender behind any number of a first one, at an upstream that takes 100
messages a second in all: it does not wait for them.
"""

from __future__ import annotations

import asyncio
import random
import time
from pathlib import Path

import pytest

from mailrelay_gateway.message.envelope import Identity, Message
from mailrelay_gateway.message.route import Route
from mailrelay_gateway.metrics import Metrics
from mailrelay_gateway.queue.disk.store import DiskStore
from mailrelay_gateway.queue.ids import queue_id
from mailrelay_gateway.queue.item import Recipient
from mailrelay_gateway.queue.store import Entry, Part
from mailrelay_gateway.smtp.refusal import Problem
from tests.integration.everyday.scale import LONG, figures
from tests.peers.gateway import GatewayProcess, plain_listener, relay, smarthost
from tests.peers.moody import MoodyServer
from tests.peers.wholemail import WholeMail, submit
from tests.ports import free_port
from tests.waiting import until

BACKLOGS = [2_000, 20_000, 200_000] if LONG else [2_000]
GOAL = 2.0  # seconds, on a machine that has nothing else to do
AT_ONCE = 1_000  # stored in one go

pytestmark = pytest.mark.timeout(600 if LONG else 300)


async def load(spool: Path, first: int) -> None:
    """So many messages of one sender in the store, and after them one of another."""
    store = DiskStore(
        spool, metrics=Metrics(), on_failure=lambda _why: None, low_water=0, reserve=65536
    )
    opened = store.open(now=time.time(), uncertain_until=time.time())
    loop = asyncio.get_running_loop()
    store.start(loop)
    dice = random.Random(1)

    def accept(seq: int, mail: WholeMail, sender: str) -> asyncio.Future[Problem | None]:
        answer: asyncio.Future[Problem | None] = loop.create_future()
        content = mail.content()
        message = Message(
            queue_id=queue_id(time.time(), dice.getrandbits(80)),
            envelope_sender=mail.sender,
            recipient_count=1,
            identity=Identity(namespace="team", name=sender, uid=f"uid-{sender}", username=sender),
            listener="submission",
            received_at=time.time(),
            size=len(content),
            body=content,
            eight_bit=False,
        )
        part = Part(route=Route(("sink",)), recipients=(Recipient(0, mail.recipients[0]),))
        store.accept(Entry(seq, message, [part]), answer.set_result)
        return answer

    try:
        for start in range(0, first, AT_ONCE):
            answers = [
                accept(
                    opened.next_seq + number,
                    WholeMail(name=f"m{number}", recipients=("r@example.net",), octets=500),
                    "first",
                )
                for number in range(start, min(start + AT_ONCE, first))
            ]
            assert set(await asyncio.gather(*answers)) == {None}
        second = WholeMail(name="second", recipients=("s@example.net",), octets=500)
        assert await accept(opened.next_seq + first, second, "second") is None
    finally:
        await store.close(30.0)


@pytest.mark.parametrize("first", BACKLOGS)
async def test_a_second_sender_does_not_wait_for_the_first(
    gateway: GatewayProcess, upstream: MoodyServer, first: int
) -> None:
    began = time.monotonic()
    await load(gateway.spool, first)
    loaded = time.monotonic() - began
    upstream.per_second = 100
    port = free_port()
    gateway.write(relay([plain_listener(port)], [smarthost("sink", upstream.port)]))
    began = time.monotonic()
    await gateway.start()
    ready = time.monotonic()
    await until(lambda: upstream.taken_at("second") is not None)
    stored = (upstream.taken_at("second") or 0.0) - ready
    waits = []
    live = [WholeMail(name=f"live{n}", recipients=("l@example.net",)) for n in range(5)]
    for mail in live:
        asked = time.monotonic()
        await submit(port, [mail], sessions=1)
        await until(lambda mail=mail: upstream.taken_at(mail.name) is not None)  # type: ignore[misc]
        waits.append((upstream.taken_at(mail.name) or 0.0) - asked)
    before = len(upstream.transactions)
    figures.append(
        f"second sender behind {first}: out {stored:.2f} s after ready (ready after"
        f" {ready - began:.2f} s) if it was in the store; submitted live"
        f" {', '.join(f'{wait:.2f}' for wait in waits)} s (loading took {loaded:.0f} s)"
    )
    # In numbers of messages, which the machine's other work does not change: the goal's worth.
    names = [entry.name for entry in upstream.transactions]
    assert names.index("second") < GOAL * upstream.per_second
    assert before < first, "the first sender still had mail"
    assert upstream.damaged == []
