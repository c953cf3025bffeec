"""The sandbox takes what is its own, and no more."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path

from mailrelay_gateway.contract.documents import Sandbox
from mailrelay_gateway.couriers.sandbox.courier import SandboxCourier
from mailrelay_gateway.couriers.sandbox.store import SandboxStore
from mailrelay_gateway.message.envelope import Result
from mailrelay_gateway.message.lane import LaneKey
from tests.integration.queue.rig import changed, config, rows, running
from tests.waiting import until


async def test_what_waits_when_a_sandbox_becomes_a_smarthost_is_sent(tmp_path: Path) -> None:
    real = config("u")
    captured = changed(real, "u", settings=Sandbox(keep=1000))
    opening, go_on = threading.Event(), threading.Event()

    def open_store() -> SandboxStore:
        opening.set()
        assert go_on.wait(10.0)
        return SandboxStore(tmp_path / "sandbox.db")

    async with running(tmp_path, captured, lambda _attempt, _index: Result.DELIVERED) as rig:
        sandbox = SandboxCourier(rig.scheduler, open_store, rig.metrics)
        sandbox.configure(captured)
        rig.scheduler.attach({"u": sandbox})
        await rig.submit("captured@x.example")
        await until(opening.is_set)
        for n in range(100):
            await rig.submit(f"{n}@x.example")
        rig.courier.paused = True
        sandbox.configure(real)
        rig.scheduler.attach({"u": rig.courier})
        rig.scheduler.configure(real)
        go_on.set()
        await until(
            lambda: not rows(tmp_path, "SELECT 1 FROM recipients WHERE address LIKE 'captured@%'")
        )
        rig.courier.paused = False
        rig.courier.wake(LaneKey("u"))
        await until(lambda: len(rig.courier.delivered) == 100)
        await asyncio.wait_for(sandbox.stop(1.0), 10.0)
