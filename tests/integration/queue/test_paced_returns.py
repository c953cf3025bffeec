"""What was begun within a quota and never sent leaves the quota to others at once."""

from __future__ import annotations

import asyncio
from pathlib import Path

from mailrelay_gateway.message.envelope import Result
from mailrelay_gateway.message.lane import LaneKey
from tests.integration.queue.rig import config, running
from tests.models import made
from tests.waiting import until

LANE = LaneKey("first")


async def test_what_is_given_back_ends_the_rest_for_its_quota(tmp_path: Path) -> None:
    found = config("first", pace=(made.pace(name="day", count=2, per=86400.0),))
    async with running(tmp_path, found, lambda _attempt, _index: Result.DELIVERED) as rig:
        rig.courier.paused = True
        for number in range(3):
            await rig.submit(f"{number}@x.example")
        await until(lambda: rig.scheduler.ready(LANE))
        begun = [rig.scheduler.take(LANE) for _ in range(2)]
        await asyncio.sleep(0.1)  # the third one is known to wait for a day, or for one of them
        rig.courier.paused = False
        for attempt in begun:
            assert attempt is not None
            rig.scheduler.give_back(attempt)
        await until(lambda: len(rig.courier.delivered) == 2, seconds=10)
