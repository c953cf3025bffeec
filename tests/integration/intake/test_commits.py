"""A message is stored whole or not at all, whatever the client or the queue does at the wrong
moment.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from mailrelay_gateway.intake.commons import Timeouts
from mailrelay_gateway.reasons import Reason
from mailrelay_gateway.smtp.refusal import refuse
from tests.integration.intake.gate import Client, Gate, open_gate
from tests.waiting import until

ENVELOPE = ("EHLO c", "MAIL FROM:<a@example.com>", "RCPT TO:<b@example.org>", "DATA")


async def to_data(client: Client, *, greeted: bool = True) -> None:
    """Go as far as 354."""
    if greeted:
        await client.reply()
    await client.send(*(ENVELOPE if greeted else ENVELOPE[1:]))
    for code in ("250", "250", "250", "354")[not greeted :]:
        assert (await client.reply()).startswith(code)


async def test_a_client_that_vanishes_during_the_commit_leaves_the_message_stored(
    gate: Gate,
) -> None:
    gate.intake.hold = True
    client = await Client.connect(gate.ports["open"])
    await to_data(client)
    await client.send("Subject: one", "", ".")
    await until(lambda: len(gate.intake.pending) == 1)
    client.reset()
    await until(lambda: gate.listeners.sessions == 0)
    gate.intake.commit_all()
    assert len(gate.intake.messages) == 1
    assert gate.count("received_messages_total", listener="open", sender_namespace="") == 1


async def test_a_client_that_half_closes_during_the_commit_gets_its_answer(gate: Gate) -> None:
    gate.intake.hold = True
    client = await Client.connect(gate.ports["open"])
    await to_data(client)
    await client.send("Subject: one", "", ".")
    client.writer.write_eof()
    await until(lambda: len(gate.intake.pending) == 1)
    gate.intake.commit_all()
    assert (await client.reply()).startswith("250 2.0.0 ")
    assert await client.ended()
    await client.close()


async def test_a_client_that_half_closes_right_after_quit_gets_every_answer(gate: Gate) -> None:
    client = await Client.connect(gate.ports["open"])
    await client.send(*ENVELOPE[:3], "DATA")
    for code in ("220", "250", "250", "250", "354"):
        assert (await client.reply()).startswith(code)
    await client.send("Subject: one", ".", "QUIT")
    client.writer.write_eof()
    assert (await client.reply()).startswith("250 2.0.0 ")
    assert (await client.reply()).startswith("221 ")
    assert await client.ended()
    await client.close()


async def test_a_client_that_vanishes_within_a_message_leaves_nothing(gate: Gate) -> None:
    client = await Client.connect(gate.ports["open"])
    await to_data(client)
    await client.send("Subject: one", "", "half of it")
    client.reset()
    await until(lambda: gate.listeners.sessions == 0)
    assert gate.intake.messages == []
    assert gate.listeners._commons.budget.used == 0


async def test_a_refused_commit_is_a_4xx_and_the_session_goes_on(gate: Gate) -> None:
    client = await Client.connect(gate.ports["open"])
    await to_data(client)
    gate.intake.refusal = refuse(Reason.SPOOL_FAILED)
    assert await client.ask("Subject: one", ".") == (
        "451 4.3.0 The message could not be stored: try again later (SpoolFailed)"
    )
    gate.intake.refusal = None
    await to_data(client, greeted=False)
    assert (await client.ask("Subject: two", ".")).startswith("250")
    assert (
        gate.count("rejected_total", listener="open", stage="end-of-message", reason="SpoolFailed")
        == 1
    )
    await client.close()


async def test_a_full_spool_is_a_4xx_at_mail(gate: Gate) -> None:
    client = await Client.connect(gate.ports["open"])
    await client.reply()
    gate.intake.full = refuse(Reason.INSUFFICIENT_STORAGE)
    await client.ask("EHLO c")
    assert await client.ask("MAIL FROM:<a@example.com>") == (
        "452 4.3.1 Insufficient storage; try again later (InsufficientStorage)"
    )
    gate.intake.full = None
    assert (await client.ask("MAIL FROM:<a@example.com>")).startswith("250")
    await client.close()


async def test_an_error_of_ours_is_a_451_without_internals_and_ends_the_session(
    gate: Gate,
) -> None:
    """Stock aiosmtpd answers 500 with the exception, and keeps the envelope for the next sender."""
    client = await Client.connect(gate.ports["open"])
    await client.reply()
    await client.send(*ENVELOPE[:3])
    gate.intake.broken = True
    await client.send("DATA", "MAIL FROM:<bob@example.com>", "RCPT TO:<other@example.org>")
    said = [await client.reply() for _ in range(4)]
    assert said[3] == "451 4.3.0 Internal error: try again later (InternalError)"
    assert await client.ended()
    assert gate.intake.messages == []
    await client.close()


async def test_input_during_a_commit_is_kept_in_order_and_bounded(tmp_path: Path) -> None:
    async with open_gate(tmp_path) as gate:
        gate.intake.hold = True
        client = await Client.connect(gate.ports["open"])
        await to_data(client)
        more = 400_000  # far above what is kept: the socket is not read meanwhile
        await client.send("Subject: one", ".")
        await until(lambda: len(gate.intake.pending) == 1)
        client.writer.write(b"MAIL FROM:<a@example.com>\r\nRCPT TO:<b@example.org>\r\nDATA\r\n")
        line = b"x" * 98 + b"\r\n"
        client.writer.write(b"Subject: two\r\n\r\n" + line * (more // 100) + b".\r\nQUIT\r\n")
        (session,) = gate.sessions("open")
        await until(lambda: len(session._kept) > 0)
        assert len(session._kept) < 64 * 1024 + 256 * 1024
        assert gate.intake.messages == []
        gate.intake.hold = False
        gate.intake.commit_all()
        said = [(await client.reply())[:3] for _ in range(6)]
        assert said == ["250", "250", "250", "354", "250", "221"]
        assert len(gate.intake.messages) == 2
        assert gate.intake.messages[1].size > more
        await client.close()


@pytest.mark.parametrize("size", [10, 4000])
async def test_an_error_of_ours_at_the_end_of_a_message_is_answered(gate: Gate, size: int) -> None:
    """A store that raises must not leave the session waiting for ever, nor its file behind."""
    client = await Client.connect(gate.ports["open"])
    await to_data(client)
    gate.intake.raises = True
    said = await client.ask("Subject: one", "", *["x" * 98] * size, ".")
    assert said == "451 4.3.0 Internal error: try again later (InternalError)"
    await until(lambda: list(gate.intake.folder.iterdir()) == [])
    gate.intake.raises = False
    await to_data(client, greeted=False)
    assert (await client.ask("Subject: two", ".")).startswith("250")
    assert gate.listeners._commons.budget.used == 0
    await client.close()


async def test_a_commit_that_never_comes_does_not_keep_a_session(tmp_path: Path) -> None:
    async with open_gate(tmp_path, timeouts=Timeouts(idle=0.1, waiting=0.3)) as gate:
        client = await Client.connect(gate.ports["open"])
        await to_data(client)
        gate.intake.hold = True
        await client.send("Subject: one", ".")
        await until(lambda: len(gate.intake.pending) == 1)
        assert await client.ended()
        await until(lambda: gate.listeners.sessions == 0)
        await client.close()
