"""A volume that is too small for the low-water mark: not ready, with a sentence."""

from __future__ import annotations

import asyncio
from pathlib import Path

from tests.peers.gateway import GatewayProcess, plain_listener, relay, sandbox
from tests.ports import free_port
from tests.waiting import PATIENCE


async def test_a_volume_that_can_never_take_a_message_is_not_ready(tmp_path: Path) -> None:
    gateway = GatewayProcess(tmp_path, "--queue-size", str(64 << 20))
    gateway.write(relay([plain_listener(free_port())], [sandbox()]))
    try:
        await gateway.start(wait=False)
        async with asyncio.timeout(PATIENCE):
            while b"MiB" not in (answer := await gateway.get("/readyz"))[1]:
                await asyncio.sleep(0.02)
        code, text = answer
        assert code == 503
        assert b"the queue's volume has 64 MiB, but below 128 MiB of free space" in text
    finally:
        await gateway.kill()
