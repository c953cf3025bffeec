"""kill -9 at any moment, while the upstream is half dead: every message answered 250 arrives."""

from __future__ import annotations

import asyncio
import contextlib
import random

from tests.peers.gateway import GatewayProcess, plain_listener, relay, smarthost
from tests.peers.halfdead import HalfDeadServer
from tests.ports import free_port
from tests.waiting import until

MESSAGES = 2000
SESSIONS = 10
KILLS = 6


async def submit(port: int, names: list[str], answered: set[str]) -> None:
    """One client: sends each name until it is answered 250, over as many connections as that
    takes.
    """
    while names:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            try:
                await _expect(reader, b"220")
                writer.write(b"EHLO client.example\r\n")
                await _expect(reader, b"250")
                while names:
                    writer.write(
                        b"MAIL FROM:<app@example.com>\r\nRCPT TO:<someone@example.net>\r\nDATA\r\n"
                    )
                    for code in (b"250", b"250", b"354"):
                        await _expect(reader, code)
                    writer.write(
                        b"From: app@example.com\r\nX-Test: %s\r\n\r\n%s\r\n.\r\n"
                        % (names[-1].encode(), b"x" * 70)
                    )
                    await _expect(reader, b"250")
                    answered.add(names.pop())
            finally:
                writer.close()
        await asyncio.sleep(0.02)  # it is down just now


async def _expect(reader: asyncio.StreamReader, code: bytes) -> None:
    while True:
        line = await reader.readuntil(b"\r\n")
        assert line[:3] == code, line
        if line[3:4] == b" ":
            return


async def test_every_message_answered_250_arrives_though_the_gateway_is_killed(
    gateway: GatewayProcess,
) -> None:
    dice = random.Random(7)
    async with HalfDeadServer(seed=7, sick=0.5) as upstream:
        port = free_port()
        gateway.write(relay([plain_listener(port)], [smarthost("half", upstream.port)]))
        await gateway.start()
        answered: set[str] = set()
        shares = [[f"m{n}" for n in range(start, MESSAGES, SESSIONS)] for start in range(SESSIONS)]
        clients = asyncio.gather(*(submit(port, share, answered) for share in shares))
        # Spread over the submission, each at a moment of its own.
        for nth in range(1, KILLS + 1):
            while len(answered) < MESSAGES * nth // (KILLS + 1):
                await asyncio.sleep(0.005)
            await asyncio.sleep(dice.random() * 0.05)
            await gateway.kill()
            await gateway.start()
        await clients
        upstream.sick = 0.0
        await until(lambda: len(upstream.taken) >= len(answered))

        async def is_empty() -> bool:
            return not (await gateway.status())["queue"]["messages"]

        await until(is_empty)
        assert await gateway.stop() == 0
    assert len(answered) == MESSAGES
    assert set(upstream.taken) == answered
    # Duplicates are of two kinds only: the upstream's 250 was lost on its way, or we died around
    # it. Each death leaves at most what was leased: four attempts ahead for each of the 20
    # connections; a client that got no answer sends again, one message for each session and death.
    duplicates = sum(upstream.taken.values()) - len(upstream.taken)
    unsaid = sum((upstream.taken - upstream.said_so).values())
    assert duplicates <= unsaid + KILLS * (SESSIONS + 4 * 20 + 20)
