"""Logins: who they are for, when they end, what they cost."""

from __future__ import annotations

import asyncio
import base64
from pathlib import Path

import pytest

from mailrelay_gateway.ingress.authentication import SCRYPT_WAITING
from tests.integration.ingress.gate import (
    HOSTNAME,
    PASSWORD,
    QUICK,
    SCRYPT_PASSWORD,
    SCRYPT_USERNAME,
    SUSPENDED_USERNAME,
    USERNAME,
    Client,
    Gate,
    certificate,
    configuration,
    open_gate,
    senders,
    sha256_verifier,
    trusting,
)


def plain(username: str, password: str) -> str:
    token = base64.b64encode(f"\0{username}\0{password}".encode()).decode()
    return f"AUTH PLAIN {token}"


async def connected(gate: Gate) -> Client:
    client = await Client.connect(
        gate.ports["implicit"], trusting(certificate("localhost", HOSTNAME))
    )
    await client.reply()
    await client.ask("EHLO c")
    return client


async def test_a_revoked_login_ends_at_the_next_message(gate: Gate) -> None:
    client = await connected(gate)
    assert (await client.ask(plain(USERNAME, PASSWORD))).startswith("235")
    await gate.configure(
        configuration(of=[each for each in senders() if each.username != USERNAME])
    )
    said = await client.ask("MAIL FROM:<billing@example.com>")
    assert said.startswith("421 4.7.0 The login was revoked")
    assert await client.ended()
    await client.close()


async def test_a_login_ends_with_its_password_and_not_with_another(gate: Gate) -> None:
    client = await connected(gate)
    assert (await client.ask(plain(USERNAME, PASSWORD))).startswith("235")
    billing, *others = senders()
    both = billing.model_copy(
        update={"verifiers": (sha256_verifier("new"), sha256_verifier(PASSWORD))}
    )
    await gate.configure(configuration(of=[both, *others]))
    assert (await client.ask("MAIL FROM:<billing@example.com>")).startswith("250")
    assert (await client.ask("RSET")).startswith("250")
    only = billing.model_copy(update={"verifiers": (sha256_verifier("new"),)})
    await gate.configure(configuration(of=[only, *others]))
    assert (await client.ask("MAIL FROM:<billing@example.com>")).startswith("421")
    await client.close()
    again = await connected(gate)
    assert (await again.ask(plain(USERNAME, PASSWORD))).startswith("535")
    assert (await again.ask(plain(USERNAME, "new"))).startswith("235")
    await again.close()


async def test_a_new_from_acts_on_an_open_session(gate: Gate) -> None:
    client = await connected(gate)
    assert (await client.ask(plain(USERNAME, PASSWORD))).startswith("235")
    billing, *others = senders()
    changed = billing.model_copy(update={"addresses": ("new@example.com",)})
    await gate.configure(configuration(of=[changed, *others]))
    assert (await client.ask("MAIL FROM:<billing@example.com>")).startswith("550 5.7.1")
    assert (await client.ask("MAIL FROM:<new@example.com>")).startswith("250")
    await client.close()


async def test_a_suspended_sender_logs_in_and_has_to_wait(gate: Gate) -> None:
    client = await connected(gate)
    assert (await client.ask(plain(SUSPENDED_USERNAME, PASSWORD))).startswith("235")
    said = await client.ask("MAIL FROM:<a@shop.example.com>")
    assert said == "450 4.7.1 MailSender shop/suspended is suspended (SenderSuspended)"
    await client.close()


async def test_more_slow_logins_than_may_wait_are_asked_to_come_again(gate: Gate) -> None:
    """454 and never 535: a busy gateway must not look like a wrong password."""
    many = 3 * SCRYPT_WAITING
    clients = await asyncio.gather(*(connected(gate) for _ in range(many)))
    await asyncio.gather(
        *(client.send(plain(SCRYPT_USERNAME, f"wrong {n}")) for n, client in enumerate(clients))
    )
    said = [(await client.reply())[:9] for client in clients]
    assert set(said) <= {"454 4.7.0", "535 5.7.8"}
    assert said.count("535 5.7.8") >= SCRYPT_WAITING
    assert (await clients[0].ask(plain(SCRYPT_USERNAME, SCRYPT_PASSWORD)))[:3] == "235"
    busy = gate.count("auth_attempts_total", mechanism="PLAIN", result="busy")
    assert busy == said.count("454 4.7.0")
    for client in clients:
        await client.close()


@pytest.mark.parametrize("username", [USERNAME, "nobody"])
async def test_a_failure_is_answered_late_without_stopping_others(
    tmp_path: Path, username: str
) -> None:
    async with open_gate(tmp_path, timeouts=type(QUICK)(failure=0.2, linger=0.1)) as gate:
        client = await connected(gate)
        other = await connected(gate)
        began = asyncio.get_running_loop().time()
        await client.send(plain(username, "wrong"))
        assert (await other.ask(plain(USERNAME, PASSWORD))).startswith("235")
        assert (await client.reply()).startswith("535")
        assert asyncio.get_running_loop().time() - began >= 0.19
        await client.close()
        await other.close()


async def test_a_client_that_leaves_during_a_login_is_forgotten(gate: Gate) -> None:
    client = await connected(gate)
    await client.send(plain(SCRYPT_USERNAME, "wrong"))
    client.reset()
    again = await connected(gate)
    assert (await again.ask(plain(SCRYPT_USERNAME, SCRYPT_PASSWORD))).startswith("235")
    await again.close()
