"""Large messages go to a file as they come; memory, disk and patience all have bounds."""

from __future__ import annotations

import asyncio
import random
import smtplib
from pathlib import Path

import pytest

from mailrelay_gateway.intake.budget import InFlightBudget
from mailrelay_gateway.intake.places import Caps
from mailrelay_gateway.message.body import INLINE_BODY_LIMIT
from mailrelay_gateway.reasons import Reason
from mailrelay_gateway.smtp.refusal import refuse
from tests.integration.intake.gate import (
    HOSTNAME,
    PASSWORD,
    USERNAME,
    Client,
    Gate,
    configuration,
    open_gate,
)
from tests.integration.intake.test_commits import to_data
from tests.peers.certificates import certificate, trusting
from tests.waiting import until


def text(size: int) -> bytes:
    """A message of about `size` octets, with dots at the beginning of lines."""
    rng = random.Random(size)
    lines = [b"Subject: large", b""]
    while size > 0:
        line = rng.choice([b".", b"..", b"", b"x" * rng.randrange(200)])
        lines.append(line)
        size -= len(line) + 2
    return b"\r\n".join(lines) + b"\r\n"


async def flood(client: Client, octets: bytes) -> None:
    """Send until the server has enough."""
    while True:
        client.writer.write(octets)
        await client.writer.drain()


def stuffed(content: bytes) -> bytes:
    return content.replace(b"\r\n.", b"\r\n..") + b".\r\n"


async def test_sizes_around_the_limit_arrive_as_sent(tmp_path: Path) -> None:
    async with open_gate(tmp_path, configuration(max_size=4 << 20)) as gate:
        client = await Client.connect(gate.ports["open"])
        sizes = [INLINE_BODY_LIMIT - 5000, INLINE_BODY_LIMIT - 300, INLINE_BODY_LIMIT, 3_000_000]
        for number, size in enumerate(sizes):
            await to_data(client, greeted=number == 0)
            assert (await client.ask(stuffed(text(size)))).startswith("250")
            message = gate.intake.messages[-1]
            assert isinstance(message.body, bytes) == (number == 0)
            assert message.size == len(gate.intake.body())
            assert gate.intake.body().endswith(b">\r\n" + text(size))
            if isinstance(message.body, Path):
                assert message.body.stat().st_mode & 0o777 == 0o600
        assert gate.listeners._commons.budget.used == 0
        await client.close()


async def test_a_large_message_in_chunks(gate: Gate) -> None:
    content = text(600_000)
    client = await Client.connect(gate.ports["open"])
    await client.reply()
    await client.send("EHLO c", "MAIL FROM:<a@example.com>", "RCPT TO:<b@example.org>")
    for start in range(0, len(content), 70_000):
        part = content[start : start + 70_000]
        await client.send(f"BDAT {len(part)}", part)
    await client.send("BDAT 0 LAST")
    said = [(await client.reply())[:3] for _ in range(3 + 9 + 1)]
    assert said == ["250"] * 13
    assert gate.intake.body().endswith(content)
    await client.close()


async def test_a_large_message_that_is_not_accepted_leaves_no_file(tmp_path: Path) -> None:
    spool = tmp_path / "spool"
    spool.mkdir()
    async with open_gate(spool) as gate:
        client = await Client.connect(gate.ports["open"])
        await to_data(client)
        gate.intake.refusal = refuse(Reason.INSUFFICIENT_STORAGE)
        assert (await client.ask(stuffed(text(400_000)))).startswith("452")
        await until(lambda: list(spool.iterdir()) == [])

        await to_data(client, greeted=False)
        await client.send(stuffed(text(400_000))[:-3])
        await until(lambda: list(spool.iterdir()) != [])
        client.reset()
        await until(lambda: list(spool.iterdir()) == [])
        await until(lambda: gate.listeners._commons.budget.used == 0)


async def test_after_a_failed_commit_the_file_is_left_for_the_next_start(tmp_path: Path) -> None:
    """The log may hold the message all the same: a row without its file would end as a bounce."""
    spool = tmp_path / "spool"
    spool.mkdir()
    async with open_gate(spool) as gate:
        client = await Client.connect(gate.ports["open"])
        await to_data(client)
        gate.intake.refusal = refuse(Reason.SPOOL_FAILED)
        assert (await client.ask(stuffed(text(400_000)))).startswith("451")
        await until(lambda: gate.listeners._commons.budget.used == 0)
        assert len(list(spool.iterdir())) == 1


async def test_a_disk_that_fails_is_a_451(tmp_path: Path) -> None:
    async with open_gate(tmp_path / "missing") as gate:
        client = await Client.connect(gate.ports["open"])
        await to_data(client)
        said = await client.ask(stuffed(text(400_000)))
        assert said == "451 4.3.0 The message could not be stored: try again later (SpoolFailed)"
        assert (await client.ask("NOOP")).startswith("250")
        assert gate.listeners._commons.budget.used == 0
        await client.close()


async def test_what_is_in_flight_is_bounded_and_nobody_has_it_all(tmp_path: Path) -> None:
    async with open_gate(tmp_path, budget=InFlightBudget(100_000)) as gate:
        budget = gate.listeners._commons.budget
        lines = ["x" * 98] * 450
        first = await Client.connect(gate.ports["open"])
        await to_data(first)
        await first.send("Subject: one", "", *lines)
        await until(lambda: budget.used > 44_000)
        second = await Client.connect(gate.ports["open"])  # of the same client
        await to_data(second)
        said = await second.ask("Subject: two", "", *lines, ".")
        assert said.startswith("452 4.3.1 ") and said.endswith("(TooMuchInFlight)")
        other = await Client.connect(gate.ports["open"], address="127.0.0.2")
        await to_data(other)
        assert (await other.ask("Subject: three", "", *lines[:200], ".")).startswith("250")
        assert (await first.ask(".")).startswith("250")
        await to_data(second, greeted=False)
        assert (await second.ask("Subject: two", "", *lines, ".")).startswith("250")
        assert budget.used == 0
        for client in (first, second, other):
            await client.close()


async def test_uploads_that_stall_leave_room_for_other_clients(tmp_path: Path) -> None:
    """All of them together, from one address, once made everybody else wait for minutes."""
    async with open_gate(tmp_path, budget=InFlightBudget(1 << 20)) as gate:
        budget = gate.listeners._commons.budget
        stalled = []
        for _ in range(20):
            client = await Client.connect(gate.ports["open"])
            await to_data(client)
            await client.send("Subject: stalled", "", *["x" * 98] * 900)
            stalled.append(client)
        sessions = gate.sessions("open")
        await until(lambda: all(each.content_octets() > 90_000 for each in sessions))
        assert budget.used <= budget.limit // 2
        other = await Client.connect(gate.ports["open"], address="127.0.0.2")
        await to_data(other)
        assert (await other.ask("Subject: one", "", *["x" * 98] * 2000, ".")).startswith("250")
        for client in (*stalled, other):
            client.reset()


@pytest.mark.parametrize(
    ("octets", "rejects", "reason"),
    [
        (b"x" * 65536, True, "MalformedMessage"),
        (b"x" * 65536, False, "MessageTooBig"),
        ((b"x" * 62 + b"\r\n") * 1024, False, "MessageTooBig"),
    ],
)
async def test_a_message_without_end_is_cut_off(
    tmp_path: Path, octets: bytes, rejects: bool, reason: str
) -> None:
    """Stock aiosmtpd keeps 200 MB in memory of one without line ends, and answers nothing."""
    config = configuration(max_size=1 << 20, rejects_long_lines=rejects)
    async with open_gate(tmp_path, config, caps=Caps(drain=1 << 20)) as gate:
        client = await Client.connect(gate.ports["open"])
        await to_data(client)
        (session,) = gate.sessions("open")
        await client.send("Subject: endless", "")
        with pytest.raises(ConnectionError):
            await flood(client, octets)
        await until(lambda: gate.listeners.sessions == 0)
        assert len(session._kept) == 0
        assert gate.listeners._commons.budget.used == 0
        assert gate.count("rejected_total", listener="open", stage="data", reason=reason) == 1
        await client.close()


@pytest.mark.parametrize("listener", ["open", "submission"])
@pytest.mark.parametrize("times", [3, 12])
async def test_a_client_that_reads_only_at_the_end_learns_that_its_message_is_too_big(
    tmp_path: Path, listener: str, times: int
) -> None:
    """Most clients write the whole message before they read the reply: closing on them amid it
    looks like a broken connection, and they send it again for days.
    """
    content = (
        b"From: billing@example.com\r\n\r\n" + (b"x" * 68 + b"\r\n") * (times << 14) + b".\r\n"
    )
    async with open_gate(tmp_path, configuration(max_size=1 << 20)) as gate:

        def send() -> str:
            with smtplib.SMTP("localhost", gate.ports[listener], timeout=30) as client:
                if listener == "submission":
                    client.starttls(context=trusting(certificate("localhost", HOSTNAME)))
                    client.login(USERNAME, PASSWORD)
                client.ehlo_or_helo_if_needed()
                client.mail("billing@example.com")
                client.rcpt("bob@example.org")
                client.putcmd("data")
                client.getreply()
                client.sock.sendall(content)  # type: ignore[union-attr]
                code, text = client.getreply()
                assert client.noop()[0] == 250
                return f"{code} {text.decode()}"

        said = await asyncio.to_thread(send)
        assert said == "552 5.3.4 A message has at most 1048576 octets (MessageTooBig)"
        assert gate.listeners._commons.budget.used == 0
