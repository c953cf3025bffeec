"""Without a descriptor for a connection to an upstream, mail waits, and no upstream is blamed."""

from __future__ import annotations

import asyncio
from pathlib import Path

from tests.integration.couriers.scripted_server import ScriptedServer, polite
from tests.peers.descriptors import none_left
from tests.peers.gateway import GatewayProcess, plain_listener, relay, sandbox, smarthost
from tests.ports import free_port
from tests.waiting import PATIENCE, until

MESSAGE = b"From: app@example.com\r\nSubject: x\r\n\r\nA line.\r\n.\r\n"


async def test_a_shortage_of_ours_holds_no_upstream(tmp_path: Path) -> None:
    first, second = ScriptedServer([polite]), ScriptedServer([polite])
    await first.start()
    await second.start()
    port = free_port()
    gateway = GatewayProcess(tmp_path)
    gateway.write(
        relay(
            [plain_listener(port)],
            [smarthost("first", first.port), smarthost("second", second.port)],
        )
    )
    await gateway.start()
    assert gateway.process is not None

    async def says(event: str) -> bool:
        return bool(gateway.log_lines(event))

    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        async with asyncio.timeout(PATIENCE):
            await reader.readline()
        with none_left(gateway.process.pid):
            writer.write(
                b"EHLO c\r\nMAIL FROM:<a@example.com>\r\nRCPT TO:<b@example.net>\r\nDATA\r\n"
            )
            writer.write(MESSAGE)
            await until(lambda: says("connect_failed"))
        writer.close()
        assert gateway.log_lines("upstream_failed") == []
        await until(lambda: says("delivery"))
        [delivery] = gateway.log_lines("delivery")
        assert (delivery["upstream"], delivery["result"]) == ("first", "delivered")
        assert second.peers == []
        assert await gateway.stop() == 0
    finally:
        await gateway.kill()
        await first.stop()
        await second.stop()


async def test_a_configuration_that_could_not_be_read_comes_into_force_later(
    tmp_path: Path,
) -> None:
    """No file changes then, and a login that was revoked would stay good."""
    port = free_port()
    gateway = GatewayProcess(tmp_path)
    gateway.write(relay([plain_listener(port)], [sandbox("before")]))
    await gateway.start()
    assert gateway.process is not None

    async def refused() -> bool:
        return bool(gateway.log_lines("config_refused"))

    async def loaded() -> bool:
        return len(gateway.log_lines("config_loaded")) == 2

    try:
        with none_left(gateway.process.pid):
            gateway.write(relay([plain_listener(port)], [sandbox("after")]))
            await until(refused)
        await until(loaded)
        [line] = gateway.log_lines("config_refused")
        assert "Too many open files" in line["error"]
        assert await gateway.stop() == 0
    finally:
        await gateway.kill()


async def test_connections_that_cannot_be_accepted_wait_for_descriptors(tmp_path: Path) -> None:
    """The event loop's own server would ask the kernel for them without a pause."""
    port = free_port()
    gateway = GatewayProcess(tmp_path)
    gateway.write(relay([plain_listener(port)], [sandbox("capture")]))
    await gateway.start()
    assert gateway.process is not None

    async def paused() -> bool:
        return bool(gateway.log_lines("accept_failed"))

    try:
        with none_left(gateway.process.pid):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            await until(paused)
        async with asyncio.timeout(PATIENCE):
            assert (await reader.readline()).startswith(b"220 ")
            writer.close()
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            assert (await reader.readline()).startswith(b"220 ")
            writer.close()
        [line] = gateway.log_lines("accept_failed")
        assert (line["port"], "Too many open files" in line["error"]) == (port, True)
        assert await gateway.stop() == 0
    finally:
        await gateway.kill()
