"""Logins: who they are for, when they end, what they cost."""

from __future__ import annotations

import asyncio
import base64
from pathlib import Path

import pytest

from mailrelay_gateway.contract.files import GatewayConfig
from mailrelay_gateway.intake.login_queue import MAX_WAITING
from mailrelay_gateway.intake.places import Caps
from tests.integration.intake.gate import (
    HOSTNAME,
    PASSWORD,
    QUICK,
    SCRYPT_PASSWORD,
    SCRYPT_USERNAME,
    SUSPENDED_USERNAME,
    USERNAME,
    Client,
    Gate,
    configuration,
    listeners,
    open_gate,
    senders,
    sha256_verifier,
)
from tests.integration.intake.test_commits import to_data
from tests.models import made
from tests.peers.certificates import certificate, trusting
from tests.waiting import until


def plain(username: str, password: str) -> str:
    token = base64.b64encode(f"\0{username}\0{password}".encode()).decode()
    return f"AUTH PLAIN {token}"


async def connected(gate: Gate, address: str = "127.0.0.1") -> Client:
    client = await Client.connect(
        gate.ports["implicit"], trusting(certificate("localhost", HOSTNAME)), address=address
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


async def test_the_owner_of_a_login_is_let_in_amid_guesses(tmp_path: Path) -> None:
    """Whoever guesses waits for their own guesses; the owner, elsewhere, is not told 454."""
    many = MAX_WAITING + 40  # more than may wait
    async with open_gate(tmp_path, caps=Caps(connections=4 * many, per_client=2 * many)) as gate:
        guessers = [await connected(gate) for _ in range(many)]
        owner = await connected(gate, "127.0.0.2")
        for n, client in enumerate(guessers):
            client.writer.write(f"{plain(SCRYPT_USERNAME, f'wrong {n}')}\r\n".encode())
        await until(lambda: len(gate.listeners._commons.authenticator._waiting) >= MAX_WAITING // 2)
        assert (await owner.ask(plain(SCRYPT_USERNAME, SCRYPT_PASSWORD)))[:3] == "235"
        waiting = len(gate.listeners._commons.authenticator._waiting)
        assert waiting > MAX_WAITING // 4  # the owner did not wait for all of them
        said = [(await client.reply())[:9] for client in guessers]
        assert set(said) <= {"454 4.7.0", "535 5.7.8"}
        assert said.count("535 5.7.8") >= MAX_WAITING
        busy = gate.count("auth_attempts_total", mechanism="PLAIN", result="busy")
        assert busy == said.count("454 4.7.0")
        for client in (*guessers, owner):
            await client.close()


async def test_sixty_guessers_do_not_shut_out_whoever_is_behind_the_same_address(
    gate: Gate,
) -> None:
    guessers = [await connected(gate) for _ in range(60)]
    for n, client in enumerate(guessers):
        client.writer.write(f"{plain(SCRYPT_USERNAME, f'wrong {n}')}\r\n".encode())
    owner = await connected(gate)
    assert (await owner.ask(plain(SCRYPT_USERNAME, SCRYPT_PASSWORD)))[:3] == "235"
    said = [(await client.reply())[:3] for client in guessers]
    assert said == ["535"] * 60
    for client in (*guessers, owner):
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


def without_billing() -> GatewayConfig:
    return configuration(of=[each for each in senders() if each.username != USERNAME])


def billing_with(**changes: object) -> GatewayConfig:
    billing, *others = senders()
    return configuration(of=[billing.model_copy(update=changes), *others])


CHANGES = {
    "removed": (without_billing(), "421 4.7.0 The login was revoked"),
    "password": (billing_with(verifiers=(sha256_verifier("new"),)), "421 4.7.0 The login was"),
    "suspended": (billing_with(suspend=True), "450 4.7.1 MailSender shop/billing is suspended"),
    "envelope": (billing_with(addresses=("*@shop.example.com",)), "550 5.7.1 MailSender shop/bill"),
    "header": (billing_with(addresses=("billing@example.com",)), "550 5.7.1 MailSender shop/bill"),
    "nothing": (billing_with(name="billing"), "250 2.0.0 "),
}
#: What was narrowed by `header` concerns the header's From only: known at the end of the message.
LATE = {"header"}
TEXT = ("From: robot@shop.example.com", "Subject: one", "", "text")


@pytest.mark.parametrize("when", ["before", "within", "within a large one", "chunks"])
@pytest.mark.parametrize("change", CHANGES)
async def test_what_a_reload_takes_away_acts_on_an_open_transaction(
    gate: Gate, change: str, when: str
) -> None:
    """A login that is revoked amid a transaction must not deliver once more."""
    config, expected = CHANGES[change]
    client = await connected(gate)
    assert (await client.ask(plain(USERNAME, PASSWORD))).startswith("235")
    assert (await client.ask("MAIL FROM:<billing@example.com>")).startswith("250")
    assert (await client.ask("RCPT TO:<bob@example.org>")).startswith("250")
    text = "".join(f"{line}\r\n" for line in TEXT).encode()
    if when == "before":
        await gate.configure(config)
        said = await client.ask("DATA")
        if change in LATE or change == "nothing":
            assert said.startswith("354")
            said = await client.ask(text, ".")
    elif when == "chunks":
        assert (await client.ask(f"BDAT {len(text)}", text)).startswith("250")
        await gate.configure(config)
        said = await client.ask("BDAT 0 LAST")
    else:
        assert (await client.ask("DATA")).startswith("354")
        await client.send(text)
        if when == "within a large one":
            await client.send(*["x" * 98] * 4000)
            await until(lambda: list(gate.intake.folder.iterdir()) != [])
        else:
            (session,) = gate.sessions("implicit")
            await until(lambda: session.content_octets() >= len(text) - 2)
        await gate.configure(config)
        said = await client.ask(".")
    assert said.startswith(expected)
    assert len(gate.intake.messages) == (change == "nothing")
    if change != "nothing":
        await until(lambda: list(gate.intake.folder.iterdir()) == [])
        assert gate.listeners._commons.budget.used == 0
    if expected.startswith("421"):
        assert await client.ended()
    else:
        assert (await client.ask("NOOP")).startswith("250")
    await client.close()


async def test_networks_that_are_taken_away_act_on_an_open_transaction(gate: Gate) -> None:
    client = await Client.connect(gate.ports["open"])
    await to_data(client)
    narrowed = made.listener_authentication(mode="None", client_cidrs=("192.0.2.0/24",))
    await gate.configure(
        configuration(
            on=[
                each.model_copy(update={"authentication": narrowed})
                if each.name == "open"
                else each
                for each in listeners()
            ]
        )
    )
    assert (await client.ask("Subject: one", ".")).startswith("550 5.7.1 Your address is outside")
    assert gate.intake.messages == []
    await client.close()


async def test_a_revoked_login_ends_on_a_listener_that_is_gone(gate: Gate) -> None:
    client = await connected(gate)
    assert (await client.ask(plain(USERNAME, PASSWORD))).startswith("235")
    gone = [each for each in listeners() if each.name != "implicit"]
    await gate.configure(configuration(on=gone))
    assert (await client.ask("MAIL FROM:<billing@example.com>")).startswith("250")
    assert (await client.ask("RSET")).startswith("250")
    rest = [each for each in senders() if each.username != USERNAME]
    await gate.configure(configuration(on=gone, of=rest))
    assert (await client.ask("MAIL FROM:<billing@example.com>")).startswith("421 4.7.0 ")
    assert await client.ended()
    await client.close()
