"""Whatever parts the recipients of a message, each of them gets the whole body."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from mailrelay_gateway.message.envelope import Attempt, Result
from tests.integration.queue.rig import config, running
from tests.waiting import until


def body_of(mark: int, octets: int = 3000) -> bytes:
    """A body that tells which message it belongs to."""
    line = b"%08d a line of this very message\r\n" % mark
    return b"Subject: %d\r\n\r\n" % mark + line * (octets // len(line))


async def test_recipients_deferred_together_all_get_the_body(tmp_path: Path) -> None:
    """Greylisting: each recipient is deferred once, then taken."""
    seen: set[tuple[str, int]] = set()

    def greylist(attempt: Attempt, index: int) -> Result:
        key = (attempt.message.queue_id, index)
        if key in seen:
            return Result.DELIVERED
        seen.add(key)
        return Result.DEFERRED

    async with running(tmp_path, config("u", max_interval=0.5), greylist) as rig:
        rig.courier.delay = 0.01
        for mark in range(9):
            await rig.submit(*(f"{n}@{mark}.example" for n in range(100)), body=body_of(mark))
        await until(lambda: len(rig.courier.delivered) == 900)
    assert rig.courier.damaged == []


@pytest.mark.parametrize("recipients", [7, 70])
async def test_a_restart_with_many_recipients_queued(tmp_path: Path, recipients: int) -> None:
    """Pages of the queue end within messages."""
    dice = random.Random(recipients)
    async with running(tmp_path, config("u"), lambda _a, _i: Result.DELIVERED) as rig:
        rig.courier.paused = True
        for mark in range(60):
            await rig.submit(
                *(f"{n}@{mark}.example" for n in range(recipients)), body=body_of(mark)
            )

    def choose(_attempt: Attempt, _index: int) -> Result:
        return Result.DEFERRED if dice.random() < 0.2 else Result.DELIVERED

    async with running(tmp_path, config("u"), choose) as rig:
        rig.courier.delay = 0.01
        await until(lambda: len(rig.courier.delivered) == 60 * recipients)
    assert rig.courier.damaged == []
    assert len(set(rig.courier.delivered)) == 60 * recipients


async def test_a_held_upstream_and_its_release(tmp_path: Path) -> None:
    dice = random.Random(5)

    def choose(attempt: Attempt, _index: int) -> Result:
        if attempt.upstream == "first":
            return dice.choice([Result.HELD, Result.DEFERRED, Result.DELIVERED])
        return Result.DELIVERED

    async with running(tmp_path, config("first", "second", max_interval=0.5), choose) as rig:
        rig.courier.delay = 0.005
        for mark in range(100):
            await rig.submit(*(f"{n}@{mark}.example" for n in range(9)), body=body_of(mark))
        await until(lambda: len(rig.courier.delivered) == 900)
    assert rig.courier.damaged == []
