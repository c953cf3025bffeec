"""What one client may do to all others with commands alone: little."""

from __future__ import annotations

from pathlib import Path

from structlog.testing import capture_logs

from mailrelay_gateway.intake.ledger import LINES_AT_ONCE
from mailrelay_gateway.intake.smtp.answers import MAX_JUNK
from mailrelay_gateway.intake.smtp.connection import TURN
from mailrelay_gateway.reasons import Reason
from mailrelay_gateway.smtp.refusal import refuse
from tests.integration.intake.gate import Client, Gate, configuration, open_gate
from tests.waiting import until


async def test_others_have_their_turn_amid_thousands_of_commands(tmp_path: Path) -> None:
    many = 5000
    async with open_gate(tmp_path, configuration(max_recipients=10_000)) as gate:
        client = await Client.connect(gate.ports["open"])
        await client.reply()
        await client.ask("EHLO c")
        await client.ask("MAIL FROM:<a@example.com>")
        (session,) = gate.sessions("open")
        other = await Client.connect(gate.ports["open"])
        await other.reply()
        # As the loop hands over one read.
        session.data_received(b"".join(b"RCPT TO:<%d@example.org>\r\n" % n for n in range(many)))
        assert session.transaction is not None
        done = session.transaction.recipients
        assert len(done) == TURN
        assert (await other.ask("NOOP")).startswith("250")
        assert TURN < len(done) < many
        assert not session._reading  # what is kept is bounded
        await client.send("DATA", "Subject: one", ".")
        said = [(await client.reply())[:3] for _ in range(many + 2)]
        assert said == ["250"] * many + ["354", "250"]
        assert list(gate.intake.recipients[0]) == [f"{n}@example.org" for n in range(many)]
        await client.close()
        await other.close()


async def test_a_client_that_leaves_amid_its_commands_still_gets_its_answers(gate: Gate) -> None:
    client = await Client.connect(gate.ports["open"])
    await client.send("EHLO c", *["NOOP"] * (TURN + 10))
    client.writer.write_eof()
    assert (await client.reply()).startswith("220")
    said = [(await client.reply())[:3] for _ in range(TURN + 11)]
    assert said == ["250"] * (TURN + 11)
    assert await client.ended()
    await client.close()


async def test_a_client_that_vanishes_amid_its_commands_is_forgotten(gate: Gate) -> None:
    client = await Client.connect(gate.ports["open"])
    await client.send("EHLO c", *["NOOP"] * 90)
    client.reset()
    await until(lambda: gate.listeners.sessions == 0)


async def test_refusals_for_now_do_not_end_an_honest_session_and_not_for_ever(gate: Gate) -> None:
    client = await Client.connect(gate.ports["open"])
    await client.reply()
    await client.ask("EHLO c")
    gate.intake.full = refuse(Reason.INSUFFICIENT_STORAGE)
    for _ in range(MAX_JUNK - 1):
        assert (await client.ask("MAIL FROM:<a@example.com>")).startswith("452")
    gate.intake.full = None
    for command in ("MAIL FROM:<a@example.com>", "RCPT TO:<b@example.org>"):
        assert (await client.ask(command)).startswith("250")
    assert (await client.ask("DATA")).startswith("354")
    assert (await client.ask("Subject: one", ".")).startswith("250")
    gate.intake.full = refuse(Reason.INSUFFICIENT_STORAGE)
    for _ in range(MAX_JUNK + 1):
        assert (await client.ask("MAIL FROM:<a@example.com>")).startswith("452")
    assert (await client.reply()).endswith("(TooManyErrors)")
    assert await client.ended()
    await client.close()


async def test_recipients_named_over_and_over_do_not_go_on_for_ever(gate: Gate) -> None:
    client = await Client.connect(gate.ports["open"])
    await client.reply()
    await client.ask("EHLO c")
    await client.ask("MAIL FROM:<a@example.com>")
    await client.send(*["RCPT TO:<b@example.org>"] * 1200)
    said = []
    while True:
        said.append(await client.reply())
        if not said[-1].startswith("250"):
            break
    assert said[-1].endswith("(TooManyErrors)")
    assert len(said) == 1 + 1000 + MAX_JUNK  # EHLO is one of those that lead to nothing
    assert await client.ended()
    await client.close()


async def test_refusals_beyond_a_clients_share_of_the_log_are_counted(gate: Gate) -> None:
    each, sessions = 20, 15
    with capture_logs() as lines:
        for _ in range(sessions):
            client = await Client.connect(gate.ports["open"])
            await client.send(*["WHAT"] * each, "QUIT")
            while (await client.reply())[:3] != "221":
                pass
            await client.close()

        def told() -> int:
            counts = [line["count"] for line in lines if line["event"] == "refusals_not_logged"]
            return sum(counts)

        written = [line for line in lines if line["event"] == "refused"]
        assert LINES_AT_ONCE <= len(written) < each * sessions
        await until(lambda: told() + len(written) == each * sessions)
    labels = {"listener": "open", "stage": "session", "reason": "CommandUnknown"}
    assert gate.count("rejected_total", **labels) == each * sessions
