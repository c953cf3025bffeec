"""Whoever only holds connections: file descriptors last, and the admin port answers."""

from __future__ import annotations

import asyncio
import socket
from contextlib import ExitStack
from pathlib import Path

from mailrelay_gateway.contract.documents import TlsMode
from tests.peers.client import MESSAGE, send_plain
from tests.peers.gateway import (
    GatewayProcess,
    plain_listener,
    relay,
    sandbox,
    tls_listener,
    trusting,
)
from tests.ports import free_port
from tests.waiting import until


async def test_more_clients_than_descriptors_cost_neither_spool_nor_listener(
    tmp_path: Path,
) -> None:
    gateway = GatewayProcess(tmp_path, under=("prlimit", "--nofile=128:384"))
    port = free_port()
    gateway.write(relay([plain_listener(port)], [sandbox()]))
    await gateway.start()
    try:
        await until(lambda: _logged(gateway, "descriptors"))
        (line,) = gateway.log_lines("descriptors")
        assert (line["descriptor_count"], line["session_count"]) == (384, 64)
        first = await asyncio.open_connection("127.0.0.1", port)
        with ExitStack() as stack:
            for _ in range(600):
                client = socket.create_connection(("127.0.0.1", port))
                stack.enter_context(client)
            await until(lambda: _sessions(gateway, 64))
            assert (await gateway.get("/livez"))[0] == 200
            # who came first sends a message that needs a file
            reader, writer = first
            await reader.readline()
            for command in (
                b"EHLO c\r\n",
                b"MAIL FROM:<app@example.com>\r\n",
                b"RCPT TO:<someone@example.net>\r\n",
                b"DATA\r\n",
                MESSAGE + (b"x" * 70 + b"\r\n") * 5000 + b".\r\n",
            ):
                reply = await _say(reader, writer, command)
            assert reply.startswith(b"250 2.0.0"), reply
            writer.close()
        await until(lambda: _sessions(gateway, 0))
        await send_plain(port)
        assert await gateway.stop() == 0
    finally:
        await gateway.kill()


async def test_without_a_descriptor_left_mail_waits_and_everything_recovers(
    tmp_path: Path,
) -> None:
    """Admin connections take them here; whoever does, nothing of it may be for good."""
    gateway = GatewayProcess(tmp_path, under=("prlimit", "--nofile=64:64"))
    plain, implicit = free_port(), free_port()
    gateway.write(
        relay([plain_listener(plain), tls_listener(implicit, TlsMode.IMPLICIT)], [sandbox()])
    )
    await gateway.start()
    assert gateway.process is not None
    files = Path(f"/proc/{gateway.process.pid}/fd")
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", plain)
        await _say(reader, writer, b"EHLO c\r\n", greeted=False)
        with ExitStack() as stack:
            for _ in range(60):
                client = socket.create_connection(("127.0.0.1", gateway.admin_port))
                stack.enter_context(client)
            await until(lambda: _as_many(files, 64))
            for port in (plain, implicit):  # they wait in the kernel, or are hung up on
                stack.enter_context(socket.create_connection(("127.0.0.1", port)))
            replies = [
                await _say(reader, writer, command)
                for command in (
                    b"MAIL FROM:<app@example.com>\r\n",
                    b"RCPT TO:<someone@example.net>\r\n",
                    b"DATA\r\n",
                    MESSAGE + (b"x" * 70 + b"\r\n") * 5000 + b".\r\n",
                )
            ]
            assert replies[-1].startswith(b"451 4.3.0"), replies
        writer.close()
        await until(lambda: _fewer(files, 50))
        await send_plain(plain)
        with socket.create_connection(("127.0.0.1", implicit)) as sock:
            context = trusting()
            secure = await asyncio.to_thread(context.wrap_socket, sock, server_hostname="localhost")
            assert (await asyncio.to_thread(secure.recv, 100)).startswith(b"220 ")
            secure.close()
        await until(lambda: _has_captured(gateway, 1))
        assert await gateway.stop() == 0
    finally:
        await gateway.kill()


async def _as_many(files: Path, count: int) -> bool:
    return len(list(files.iterdir())) >= count


async def _fewer(files: Path, count: int) -> bool:
    return len(list(files.iterdir())) < count


async def _say(
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    octets: bytes,
    *,
    greeted: bool = True,
) -> bytes:
    """Send, and return the last line of the reply."""
    if not greeted:
        await reader.readline()
    writer.write(octets)
    while (line := await reader.readline())[3:4] == b"-":
        pass
    return line


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
    await until(lambda: _is_held(gateway))
    assert (await gateway.get("/sandbox/messages"))[0] == 500
    (gateway.spool / "sandbox.db").rmdir()
    await until(lambda: _has_captured(gateway, 1))
    (upstream,) = (await gateway.status())["upstreams"]
    assert upstream["state"] == "Up"


async def _is_held(gateway: GatewayProcess) -> bool:
    (upstream,) = (await gateway.status())["upstreams"]
    return bool(
        upstream["state"] == "Held" and "captured mail cannot be stored" in upstream["message"]
    )


async def _has_captured(gateway: GatewayProcess, count: int) -> bool:
    return len(gateway.log_lines("captured")) == count


async def _logged(gateway: GatewayProcess, event: str) -> bool:
    """Whether the line has come: they are written in a thread, some of them together."""
    return bool(gateway.log_lines(event))
