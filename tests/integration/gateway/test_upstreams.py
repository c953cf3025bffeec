"""A real gateway and upstreams that are slow, silent, or not to be begun with any more."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

from tests.peers.client import send_plain
from tests.peers.gateway import (
    GatewayProcess,
    free_port,
    plain_listener,
    relay,
    sandbox,
    smarthost,
)
from tests.peers.halfdead import HalfDeadServer

PATIENCE = 20.0


async def eventually(question: Callable[[], Awaitable[bool]]) -> None:
    """Wait until the awaited answer is true."""
    async with asyncio.timeout(PATIENCE):
        while not await question():
            await asyncio.sleep(0.02)


async def say_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Accept a connection and leave it at that."""
    await reader.read()
    writer.close()


async def test_an_upstream_that_says_nothing_hands_over_to_the_next(
    gateway: GatewayProcess,
) -> None:
    silent = await asyncio.start_server(say_nothing, "127.0.0.1", 0)
    port, silent_port = free_port(), silent.sockets[0].getsockname()[1]
    upstreams = [smarthost("silent", silent_port, connections=2), sandbox()]
    gateway.write(relay([plain_listener(port)], upstreams))
    await gateway.start()
    await send_plain(port)

    async def captured() -> bool:
        return await gateway.metric("mailrelay_delivery_attempts_total", upstream="capture") == 1

    await eventually(captured)
    status, _ = (await gateway.status())["upstreams"]
    assert (status["state"], status["reason"]) == ("Held", "UpstreamTimeout")
    assert status["message"].endswith("when we awaited its greeting, on all 2 connections")
    assert await gateway.stop() == 0
    silent.close()


async def test_after_sigterm_mail_is_taken_and_no_attempt_begins(tmp_path: Path) -> None:
    gateway = GatewayProcess(tmp_path, "--accept-for", "2")
    upstream = HalfDeadServer(seed=1, sick=0.0)
    await upstream.start()
    port = free_port()
    gateway.write(relay([plain_listener(port)], [smarthost("only", upstream.port)]))
    await gateway.start()
    await send_plain(port, b"From: a@example.com\r\nX-Test: before\r\n\r\nhi\r\n")

    async def delivered() -> bool:
        return bool(gateway.log_lines("delivery"))

    await eventually(delivered)
    assert gateway.process is not None
    gateway.process.terminate()

    async def draining() -> bool:
        return bool(gateway.log_lines("draining"))

    await eventually(draining)
    await send_plain(port, b"From: a@example.com\r\nX-Test: after\r\n\r\nhi\r\n")
    assert await gateway.stop() == 0
    assert set(upstream.taken) == {"before"}
    await gateway.start()

    async def all_taken() -> bool:
        return set(upstream.taken) == {"before", "after"}

    await eventually(all_taken)
    assert await gateway.stop() == 0
    await upstream.stop()
