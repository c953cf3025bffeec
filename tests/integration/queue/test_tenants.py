"""One tenant's mail is held at one upstream: the others' goes on, and the tenant's takes the next
upstream of its route, or waits without being charged for it.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

from mailrelay_gateway.contract.files import GatewayConfig
from mailrelay_gateway.message.envelope import Attempt, Identity, Result
from mailrelay_gateway.message.lane import LaneKey
from tests.integration.queue.rig import Choose, Rig, config, running
from tests.models import made
from tests.waiting import until

#: Longer than any test.
LONG = 3600.0


def of(namespace: str, name: str = "app") -> Identity:
    return Identity(namespace=namespace, name=name, uid=f"{namespace}-{name}", username="")


def with_senders(found: GatewayConfig, *identities: Identity) -> GatewayConfig:
    return replace(
        found,
        senders=tuple(
            made.sender(uid=one.uid, namespace=one.namespace, name=one.name, username=one.uid)
            for one in identities
        ),
    )


def pausing(namespace: str, upstream: str = "first") -> Choose:
    """Refuses the mail of that namespace at that upstream."""

    def choose(attempt: Attempt, _index: int) -> Result:
        paused = attempt.message.identity.namespace == namespace and attempt.upstream == upstream
        return Result.HELD if paused else Result.DELIVERED

    return choose


def delivered(rig: Rig) -> list[str]:
    return sorted(address for _, address in rig.courier.delivered)


async def test_a_paused_tenant_takes_the_next_upstream(tmp_path: Path) -> None:
    async with running(tmp_path, config("first", "second"), pausing("paused")) as rig:
        rig.courier.tenant_pause = LONG
        for number in range(5):
            await rig.submit(f"p{number}@x.example", identity=of("paused"))
            await rig.submit(f"o{number}@x.example", identity=of("other"))
        await until(lambda: len(rig.courier.delivered) == 10)
        upstreams = {
            (address[0], upstream)
            for upstream, queue_id, address in rig.courier.tried
            if (queue_id, address) in rig.courier.delivered
        }
        assert upstreams >= {("p", "second"), ("o", "first")}
        refused = [a for u, _, a in rig.courier.tried if (u, a[0]) == ("first", "p")]
        assert len(refused) <= 2, "one message told us, and perhaps one more was under way"


async def test_without_another_upstream_it_waits_and_nobody_else_does(tmp_path: Path) -> None:
    paused = [of("paused"), of("paused", "second")]
    found = with_senders(config("first"), *paused, of("other"))
    async with running(tmp_path, found, pausing("paused")) as rig:
        rig.courier.tenant_pause = LONG
        await rig.submit("p0@x.example", identity=paused[0])
        await until(lambda: bool(rig.courier.tried))
        for number in range(1, 5):
            await rig.submit(f"p{number}@x.example", identity=paused[number % 2])
        await rig.submit("o@x.example", identity=of("other"))
        await until(lambda: delivered(rig) == ["o@x.example"])
        assert [a for _, _, a in rig.courier.tried] == ["p0@x.example", "o@x.example"]
        assert not rig.scheduler.ready(LaneKey("first"))
        # It is asked again for everybody.
        rig.courier.choose = lambda _attempt, _index: Result.DELIVERED
        rig.scheduler.release("first")
        await until(lambda: len(rig.courier.delivered) == 6)


async def test_it_is_tried_again_when_its_time_is_over(tmp_path: Path) -> None:
    tries = 0

    def twice(_attempt: Attempt, _index: int) -> Result:
        nonlocal tries
        tries += 1
        return Result.HELD if tries <= 2 else Result.DELIVERED

    async with running(tmp_path, config("first"), twice) as rig:
        rig.courier.tenant_pause = 0.05
        await rig.submit("p@x.example", identity=of("paused"))
        await until(lambda: delivered(rig) == ["p@x.example"])
        assert tries == 3


async def test_a_hold_at_an_upstream_that_was_away_is_made_anew(tmp_path: Path) -> None:
    """Else each refusal would be tried again at once: the turns forget an upstream that is gone."""
    both = config("first", "other")
    async with running(tmp_path, both, lambda _attempt, _index: Result.HELD) as rig:
        courier = rig.courier
        courier.tenant_pause = LONG
        await rig.submit("p@x.example", identity=of("paused"))
        await until(lambda: len(courier.tried) == 2)  # at either
        for found in (config("other"), both):
            rig.scheduler.attach({one.name: courier for one in found.relay.upstreams})
            rig.scheduler.configure(found)
        await until(lambda: len(courier.tried) == 3)
        await asyncio.sleep(0.5)
        assert len(courier.tried) == 3
