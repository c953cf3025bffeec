"""One line for each message accepted, one for each refusal, and nothing secret in any."""

from __future__ import annotations

import base64
from pathlib import Path

from structlog.testing import capture_logs

from tests.integration.intake.gate import (
    HOSTNAME,
    PASSWORD,
    SCRYPT_PASSWORD,
    SCRYPT_USERNAME,
    USERNAME,
    Client,
    Gate,
    configuration,
    open_gate,
)
from tests.peers.certificates import certificate, trusting


async def test_a_brought_username_is_nobody_s_name_in_the_log(gate: Gate) -> None:
    token = base64.b64encode(f"\0{SCRYPT_USERNAME}\0{SCRYPT_PASSWORD}".encode()).decode()
    with capture_logs() as lines:
        client = await Client.connect(
            gate.ports["implicit"], trusting(certificate("localhost", HOSTNAME))
        )
        await client.reply()
        for command in ("EHLO c", f"AUTH PLAIN {token}", "MAIL FROM:<other@example.com>", "QUIT"):
            await client.ask(command)
    (refused,) = [line for line in lines if line["event"] == "refused"]
    assert refused["sender"] == "office/printer"
    assert SCRYPT_USERNAME not in str(lines)


async def test_log_lines_and_counts(gate: Gate) -> None:
    token = base64.b64encode(f"\0{USERNAME}\0{PASSWORD}".encode()).decode()
    wrong = base64.b64encode(f"\0{USERNAME}\0wrong secret".encode()).decode()
    with capture_logs() as lines:
        client = await Client.connect(
            gate.ports["implicit"], trusting(certificate("localhost", HOSTNAME))
        )
        said = [await client.reply()]
        commands = (
            "EHLO c",
            f"AUTH PLAIN {wrong}",
            f"AUTH PLAIN {token}",
            "MAIL FROM:<ceo@example.com>",
            "MAIL FROM:<billing@example.com>",
            "RCPT TO:<broken>",
            "RCPT TO:<bob@example.org>",
            "DATA",
        )
        said += [await client.ask(command) for command in commands]
        said.append(
            await client.ask(
                "From: billing@example.com", "Subject: private", "", "secret body", "."
            )
        )
        await client.ask("QUIT")
    (accepted,) = [line for line in lines if line["event"] == "accepted"]
    tls = accepted.pop("tls")
    assert tls.startswith("TLSv1.")
    assert accepted == {
        "event": "accepted",
        "log_level": "info",
        "queue_id": "0" * 25 + "1",
        "sender": "shop/billing",
        "envelope_sender": "billing@example.com",
        "recipients": ["bob@example.org"],
        "recipient_count": 1,
        "client": "127.0.0.1",
        "size": gate.intake.messages[0].size,
        "message_id": f"<{'0' * 25}1@{HOSTNAME}>",
        "listener": "implicit",
    }
    refused = [line for line in lines if line["event"] == "refused"]
    assert [line["reply"] for line in refused] == [each for each in said if each[0] in "45"]
    assert [(line["stage"], line["reason"]) for line in refused] == [
        ("auth", "AuthFailed"),
        ("mail", "SenderNotAllowed"),
        ("rcpt", "Syntax"),
    ]
    for line in refused:
        assert line["reply"].endswith(f"({line['reason']})")
        assert (
            gate.count(
                "rejected_total", listener="implicit", stage=line["stage"], reason=line["reason"]
            )
            == 1
        )
    for secret in (PASSWORD, token, wrong, "wrong secret", "secret body", "private"):
        assert secret not in str(lines)
    labels = {"listener": "implicit", "sender_namespace": "shop"}
    assert gate.count("received_messages_total", **labels) == 1
    assert gate.count("received_bytes_total", **labels) == gate.intake.messages[0].size


async def test_a_failed_login_names_who_tried_if_it_is_one_of_ours(gate: Gate) -> None:
    """Whoever looks for a wrong password in an application needs the name; but people type
    passwords where the name belongs, so an unknown one is told by a keyed hash.
    """
    with capture_logs() as lines:
        client = await Client.connect(
            gate.ports["implicit"], trusting(certificate("localhost", HOSTNAME))
        )
        await client.reply()
        await client.ask("EHLO c")
        for username in (USERNAME, "my secret", "my secret"):
            token = base64.b64encode(f"\0{username}\0wrong".encode()).decode()
            assert (await client.ask(f"AUTH PLAIN {token}")).startswith("535")
        await client.close()
    told = [line["detail"] for line in lines if line.get("reason") == "AuthFailed"]
    assert told[0] == f"username {USERNAME}"
    assert told[1] == told[2]
    assert told[1].startswith("username unknown (")
    assert "my secret" not in str(lines)


async def test_recipients_refused_by_number_are_one_line_a_transaction(tmp_path: Path) -> None:
    """A line each would let one client write as much as it likes."""
    surplus = 500
    async with open_gate(tmp_path, configuration(defers_surplus=True)) as gate:
        with capture_logs() as lines:
            client = await Client.connect(gate.ports["open"])
            await client.send("EHLO c")
            for end in ("DATA", "RSET", "QUIT"):
                await client.send(
                    "MAIL FROM:<a@example.com>",
                    *[f"RCPT TO:<{n}@example.org>" for n in range(surplus + 3)],
                    end,
                    *(["Subject: one", "."] if end == "DATA" else []),
                )
            said = [await client.reply() for _ in range(2 + 3 * (surplus + 5) + 1)]
            assert await client.ended()
        assert said[-1].startswith("221 ")
        assert len(gate.intake.recipients[0]) == 3
        refused = [line for line in lines if line["event"] == "refused"]
        assert [(line["stage"], line["count"]) for line in refused] == [("rcpt", surplus)] * 3
        labels = {"listener": "open", "stage": "rcpt", "reason": "TooManyRecipients"}
        assert gate.count("rejected_total", **labels) == 3 * surplus
