"""Mail programs that others wrote log in over TLS and hand over a message that arrives as they sent
it.
"""

from __future__ import annotations

import asyncio
import smtplib
from email.message import EmailMessage
from pathlib import Path

import aiosmtplib
import pytest

from tests.integration.intake.gate import (
    HOSTNAME,
    PASSWORD,
    SCRYPT_PASSWORD,
    SCRYPT_USERNAME,
    USERNAME,
    Gate,
)
from tests.peers.certificates import certificate, trusting


def message() -> EmailMessage:
    made = EmailMessage()
    made["From"] = "Billing <billing@example.com>"
    made["To"] = "bob@example.org"
    made["Subject"] = "Grüße"
    made.set_content("one\n.\n..two\n\nümlaut\n")
    return made


def check_stored(gate: Gate, *, protocol: str = "ESMTPSA") -> None:
    (stored,) = gate.intake.messages
    assert stored.envelope_sender == "billing@example.com"
    assert gate.intake.recipients == [("bob@example.org",)]
    assert stored.identity.username == USERNAME
    body = gate.intake.body()
    assert stored.size == len(body)
    assert f"with {protocol} id {stored.queue_id}".encode() in body
    assert body.startswith(b"Received: from ")
    assert stored.message_id.encode() in body


@pytest.mark.parametrize("kind", ["starttls", "implicit"])
async def test_smtplib(gate: Gate, kind: str) -> None:
    context = trusting(certificate("localhost", HOSTNAME))

    def send() -> None:
        if kind == "starttls":
            client = smtplib.SMTP("localhost", gate.ports["submission"], timeout=10)
            client.starttls(context=context)
        else:
            client = smtplib.SMTP_SSL(
                "localhost", gate.ports["implicit"], timeout=10, context=context
            )
        with client:
            client.login(USERNAME, PASSWORD)
            client.send_message(message())

    await asyncio.to_thread(send)
    check_stored(gate)
    assert b"\r\n.\r\n..two\r\n" in gate.intake.body()


async def test_smtplib_with_a_password_that_a_person_chose(gate: Gate) -> None:
    context = trusting(certificate("localhost", HOSTNAME))

    def send() -> None:
        for _ in range(2):  # the second time it is remembered
            with smtplib.SMTP_SSL(
                "localhost", gate.ports["implicit"], timeout=10, context=context
            ) as client:
                client.login(SCRYPT_USERNAME, SCRYPT_PASSWORD)
                client.sendmail(
                    "printer@example.com", ["a@example.org"], "From: printer@example.com\r\n\r\n"
                )

    await asyncio.to_thread(send)
    assert [each.identity.namespace for each in gate.intake.messages] == ["office", "office"]
    assert gate.count("auth_attempts_total", mechanism="PLAIN", result="ok") == 2


@pytest.mark.parametrize("kind", ["starttls", "implicit"])
async def test_aiosmtplib(gate: Gate, kind: str) -> None:
    await aiosmtplib.send(
        message(),
        hostname="localhost",
        port=gate.ports["submission" if kind == "starttls" else "implicit"],
        start_tls=kind == "starttls",
        use_tls=kind == "implicit",
        tls_context=trusting(certificate("localhost", HOSTNAME)),
        username=USERNAME,
        password=PASSWORD,
        timeout=10,
    )
    check_stored(gate)


async def run(*command: str, stdin: bytes = b"") -> str:
    process = await asyncio.create_subprocess_exec(
        *command,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await asyncio.wait_for(process.communicate(stdin), 30)
    assert process.returncode == 0, output.decode()
    return output.decode()


@pytest.mark.parametrize("mechanism", ["PLAIN", "LOGIN"])
async def test_swaks(gate: Gate, mechanism: str) -> None:
    said = await run(
        *("swaks", "--server", "127.0.0.1", "--port", str(gate.ports["submission"]), "--tls"),
        *("--auth", mechanism, "--auth-user", USERNAME, "--auth-password", PASSWORD),
        *("--from", "billing@example.com", "--to", "bob@example.org"),
    )
    assert " stored" in said
    check_stored(gate)


async def test_swaks_pipelining(gate: Gate) -> None:
    said = await run(
        *("swaks", "--server", "127.0.0.1", "--port", str(gate.ports["submission"]), "--tls"),
        *("--auth", "PLAIN", "--auth-user", USERNAME, "--auth-password", PASSWORD, "--pipeline"),
        *("--from", "billing@example.com", "--to", "bob@example.org,carol@example.org"),
    )
    assert " stored" in said
    assert gate.intake.recipients[0] == ("bob@example.org", "carol@example.org")


@pytest.mark.parametrize("kind", ["starttls", "implicit"])
async def test_curl(gate: Gate, kind: str, tmp_path: Path) -> None:
    authority = tmp_path / "ca.crt"
    authority.write_text(certificate("localhost", HOSTNAME).chain)
    scheme, listener = ("smtp", "submission") if kind == "starttls" else ("smtps", "implicit")
    await run(
        *("curl", "--silent", "--show-error", "--ssl-reqd", "--cacert", str(authority)),
        *("--url", f"{scheme}://localhost:{gate.ports[listener]}/client.example.org", "--ipv4"),
        *("--user", f"{USERNAME}:{PASSWORD}", "--upload-file", "-"),
        *("--mail-from", "billing@example.com", "--mail-rcpt", "bob@example.org"),
        stdin=message().as_bytes().replace(b"\n", b"\r\n"),
    )
    check_stored(gate)
