"""Whoever only holds connections: file descriptors last, and the admin port answers."""

from __future__ import annotations

import asyncio
import socket
from contextlib import ExitStack
from pathlib import Path

from tests.integration.gateway.test_process import eventually
from tests.peers.client import MESSAGE, send_plain
from tests.peers.gateway import GatewayProcess, free_port, plain_listener, relay, sandbox


async def test_more_clients_than_descriptors_cost_neither_spool_nor_listener(
    tmp_path: Path,
) -> None:
    gateway = GatewayProcess(tmp_path, under=("prlimit", "--nofile=128:384"))
    port = free_port()
    gateway.write(relay([plain_listener(port)], [sandbox()]))
    await gateway.start()
    try:
        (line,) = gateway.log_lines("descriptors")
        assert (line["limit"], line["sessions"]) == (384, 64)
        first = await asyncio.open_connection("127.0.0.1", port)
        with ExitStack() as stack:
            for _ in range(600):
                client = socket.create_connection(("127.0.0.1", port))
                stack.enter_context(client)
            await eventually(lambda: _sessions(gateway, 64))
            assert (await gateway.get("/livez"))[0] == 200
            # one of those who came first sends a message that needs a file
            body = MESSAGE + (b"x" * 70 + b"\r\n") * 5000
            reader, writer = first
            await reader.readuntil(b"\r\n")
            for command in (
                b"EHLO c\r\n",
                b"MAIL FROM:<app@example.com>\r\n",
                b"RCPT TO:<someone@example.net>\r\n",
                b"DATA\r\n",
                body + b".\r\n",
            ):
                writer.write(command)
                reply = b"-"
                while reply[3:4] == b"-" or reply == b"-":
                    reply = await reader.readline()
            assert reply.startswith(b"250 2.0.0"), reply
            writer.close()
        await eventually(lambda: _sessions(gateway, 0))
        await send_plain(port)
        assert await gateway.stop() == 0
    finally:
        await gateway.kill()


async def _sessions(gateway: GatewayProcess, count: int) -> bool:
    return await gateway.metric("mailrelay_connections", listener="plain") == count


async def test_connections_that_ask_nothing_keep_no_probe_out(gateway: GatewayProcess) -> None:
    gateway.write(relay([plain_listener(free_port())], [sandbox()]))
    await gateway.start()
    assert gateway.process is not None
    files = Path(f"/proc/{gateway.process.pid}/fd")
    with ExitStack() as stack:
        for _ in range(300):
            client = socket.create_connection(("127.0.0.1", gateway.admin_port))
            client.send(b"GET /status HTTP/1.1\r\nHost: a\r\n")
            stack.enter_context(client)
        assert (await gateway.get("/livez"))[0] == 200
        assert len(list(files.iterdir())) < 150
    assert (await gateway.get("/readyz"))[0] == 200


async def test_a_sandbox_file_that_cannot_be_opened_ends_no_gateway(
    gateway: GatewayProcess,
) -> None:
    port = free_port()
    gateway.spool.mkdir()
    (gateway.spool / "sandbox.db").mkdir()
    gateway.write(relay([plain_listener(port)], [sandbox()]))
    await gateway.start()
    await send_plain(port)
    await eventually(lambda: _is_held(gateway))
    assert (await gateway.get("/sandbox/messages"))[0] == 500
    (gateway.spool / "sandbox.db").rmdir()
    await eventually(lambda: _has_captured(gateway, 1))
    (upstream,) = (await gateway.status())["upstreams"]
    assert upstream["state"] == "Up"


async def _is_held(gateway: GatewayProcess) -> bool:
    (upstream,) = (await gateway.status())["upstreams"]
    return bool(
        upstream["state"] == "Held" and "captured mail cannot be stored" in upstream["message"]
    )


async def _has_captured(gateway: GatewayProcess, count: int) -> bool:
    return len(gateway.log_lines("captured")) == count
