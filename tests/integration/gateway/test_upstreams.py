"""A real gateway and upstreams that are slow, silent, or not to be begun with any more."""

from __future__ import annotations

import asyncio
import smtplib
from pathlib import Path

import pytest

from mailrelay_gateway.policy.sizes import ROOM
from tests.peers.client import send_plain
from tests.peers.gateway import (
    GatewayProcess,
    plain_listener,
    relay,
    sandbox,
    smarthost,
)
from tests.peers.halfdead import HalfDeadServer
from tests.peers.listening import SilentServer
from tests.ports import free_port
from tests.waiting import until


async def test_an_upstream_that_says_nothing_hands_over_to_the_next(
    gateway: GatewayProcess,
) -> None:
    port = free_port()

    async def captured() -> bool:
        return await gateway.metric("mailrelay_delivery_attempts_total", upstream="capture") == 1

    async with SilentServer() as silent:
        upstreams = [smarthost("silent", silent.port, connections=2), sandbox()]
        gateway.write(relay([plain_listener(port)], upstreams))
        await gateway.start()
        await send_plain(port)
        await until(captured)
        status, _ = (await gateway.status())["upstreams"]
        assert (status["state"], status["reason"]) == ("Held", "UpstreamTimeout")
        assert status["message"].endswith("when we awaited its greeting, on all 2 connections")
        assert await gateway.stop() == 0


async def test_a_message_goes_to_an_upstream_that_is_large_enough_or_is_refused(
    gateway: GatewayProcess,
) -> None:
    port = free_port()
    small = smarthost("small", free_port()).model_copy(update={"max_size": 20_000})
    large = sandbox().model_copy(update={"max_size": 200_000})
    gateway.write(relay([plain_listener(port)], [small, large]))
    await gateway.start()

    async def captured() -> bool:
        return await gateway.metric("mailrelay_delivery_attempts_total", upstream="capture") == 1

    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    await reader.readuntil(b"\r\n")
    writer.write(b"EHLO client.example\r\n")
    answer = await reader.readuntil(b"250 ")
    assert f"SIZE {200_000 - ROOM}\r\n".encode() in answer
    writer.close()
    header = b"From: a@example.com\r\n\r\n"
    # The small one does not answer at all: it is not even tried.
    await send_plain(port, header + b"hello world!\r\n" * 2000)
    await until(captured)
    with pytest.raises(smtplib.SMTPDataError, match="552"):
        await send_plain(port, header + b"hello world!\r\n" * 20_000)
    assert await gateway.stop() == 0


async def test_after_sigterm_mail_is_taken_and_no_attempt_begins(tmp_path: Path) -> None:
    gateway = GatewayProcess(tmp_path, "--accept-for", "60", "--grace", "60")
    port = free_port()

    async with HalfDeadServer(seed=1, sick=0.0) as upstream:
        gateway.write(relay([plain_listener(port)], [smarthost("only", upstream.port)]))
        await gateway.start()
        await send_plain(port, b"From: a@example.com\r\nX-Test: before\r\n\r\nhi\r\n")
        await until(lambda: gateway.log_lines("delivery"))
        assert gateway.process is not None
        gateway.process.terminate()
        await until(lambda: gateway.log_lines("draining"))
        await send_plain(port, b"From: a@example.com\r\nX-Test: after\r\n\r\nhi\r\n")
        assert set(upstream.taken) == {"before"}
        await gateway.kill()  # it would accept for a minute
        await gateway.start()
        await until(lambda: set(upstream.taken) == {"before", "after"})
        await gateway.kill()
