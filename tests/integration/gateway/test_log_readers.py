"""Whoever reads the gateway's log: slow, gone, or a runtime that cuts long lines. Mail goes on."""

from __future__ import annotations

import asyncio
import fcntl
import os
from pathlib import Path

from tests.models import made
from tests.peers.client import send_plain
from tests.peers.gateway import GatewayProcess, plain_listener, relay, sandbox
from tests.ports import free_port
from tests.waiting import PATIENCE, until

#: fcntl.h: the size of a pipe.
F_SETPIPE_SZ = 1031


async def test_a_reader_of_the_log_that_stands_still_freezes_nothing(
    gateway: GatewayProcess,
) -> None:
    port = free_port()
    gateway.write(relay([plain_listener(port)], [sandbox()]))
    reader, writer = os.pipe()
    try:
        fcntl.fcntl(writer, F_SETPIPE_SZ, 4096)
        await gateway.start(stdout=writer)
        recipients = [f"someone-with-a-long-address-{n:02}@example.net" for n in range(50)]
        for _ in range(5):  # two lines of 2.5 KB each: the pipe is full after the first message
            await send_plain(port, recipients=recipients)
        assert (await gateway.get("/livez"))[0] == 200
        assert await gateway.stop() == 0
    finally:
        os.close(reader)
        os.close(writer)


async def test_the_last_words_of_a_gateway_that_cannot_start_need_no_reader(
    tmp_path: Path,
) -> None:
    gateway = GatewayProcess(tmp_path, "--require-config")
    reader, writer = os.pipe()
    try:
        os.set_blocking(writer, False)
        while True:  # nothing more fits in
            try:
                os.write(writer, b"x" * 4096)
            except BlockingIOError:
                break
        os.set_blocking(writer, True)
        await gateway.start(wait=False, stdout=writer)
        assert gateway.process is not None
        async with asyncio.timeout(PATIENCE):
            assert await gateway.process.wait() == 2
        assert "relay/v1.json.gz" in await gateway.stderr()
    finally:
        os.close(reader)
        os.close(writer)


async def test_a_reader_of_the_log_that_is_gone_stops_nothing(gateway: GatewayProcess) -> None:
    port = free_port()
    gateway.write(relay([plain_listener(port)], [sandbox()]))
    reader, writer = os.pipe()
    await gateway.start(stdout=writer)
    os.close(writer)
    os.close(reader)
    for _ in range(3):
        await send_plain(port)
    await until(lambda: gateway.metric("mailrelay_log_lines_dropped_total"))
    assert await gateway.stop() == 0


async def test_no_line_about_a_message_is_longer_than_8_kib(gateway: GatewayProcess) -> None:
    port = free_port()
    gateway.write(
        relay([plain_listener(port)], [sandbox()], limits=made.limits(max_recipients=1000))
    )
    await gateway.start()
    recipients = [f"someone-with-a-long-address-{n:03}@example.net" for n in range(300)]
    await send_plain(port, recipients=recipients)
    await until(lambda: gateway.log_lines("captured"))
    assert max(map(len, (gateway.folder / "gateway.log").read_bytes().split(b"\n"))) < 8192
    (accepted,) = gateway.log_lines("accepted")
    assert accepted["recipient_count"] == 300
    assert accepted["recipients"][0] == recipients[0]


async def test_counters_have_no_series_for_their_age(gateway: GatewayProcess) -> None:
    gateway.write(relay([plain_listener(free_port())], [sandbox()]))
    await gateway.start()
    _, text = await gateway.get("/metrics")
    assert b"mailrelay_received_messages_total" in text
    assert b"_created" not in text
