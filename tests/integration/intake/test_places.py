"""Places at a listener: nobody keeps others out by connecting, handshaking or saying nothing."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from mailrelay_gateway.intake.commons import Timeouts
from mailrelay_gateway.intake.places import Caps
from tests.integration.intake.gate import (
    HOSTNAME,
    PASSWORD,
    SCRYPT_PASSWORD,
    SCRYPT_USERNAME,
    USERNAME,
    Client,
    Gate,
    open_gate,
)
from tests.integration.intake.test_logins import connected, plain
from tests.peers.certificates import certificate, trusting
from tests.waiting import until


async def served(gate: Gate, listener: str, address: str) -> Client:
    """A client that is greeted."""
    trust = trusting(certificate("localhost", HOSTNAME)) if listener == "implicit" else None
    client = await Client.connect(gate.ports[listener], trust, address=address)
    assert (await client.reply()).startswith("220")
    return client


def taken(gate: Gate, listener: str) -> int:
    return gate.listeners._open[listener].places._taken


MAKE_ROOM_SAID = (
    b"421 4.7.0 Too many sessions without a login: try again later (TooManyConnections)\r\n"
)


async def last_words(client: Client) -> bytes:
    """What the server says before it closes; over TLS it may be lost."""
    try:
        return await asyncio.wait_for(client.reader.read(), 10)
    except ConnectionError:
        return b""


async def test_silent_connections_of_one_address_have_its_share_before_any_handshake(
    tmp_path: Path,
) -> None:
    caps = Caps(connections=40, per_client=5)
    async with open_gate(tmp_path, caps=caps) as gate:
        silent = [await Client.connect(gate.ports["implicit"]) for _ in range(30)]
        await until(lambda: taken(gate, "implicit") == caps.per_client)
        for client in silent[caps.per_client :]:
            assert await client.ended()
        other = await served(gate, "implicit", "127.0.0.2")
        assert taken(gate, "implicit") == caps.per_client + 1
        labels = {"listener": "implicit", "stage": "connect", "reason": "TooManyConnections"}
        assert gate.count("rejected_total", **labels) == 30 - caps.per_client
        for client in (*silent, other):
            await client.close()
        await until(lambda: taken(gate, "implicit") == 0)


@pytest.mark.parametrize("listener", ["implicit", "submission"])
async def test_clients_that_never_log_in_make_room(tmp_path: Path, listener: str) -> None:
    """From as many addresses as it takes: the listener is never full of strangers."""
    caps = Caps(connections=10, per_client=3)
    async with open_gate(tmp_path, caps=caps) as gate:
        strangers = [
            await served(gate, listener, f"127.0.0.{2 + n // 3}") for n in range(caps.connections)
        ]
        await until(lambda: taken(gate, listener) == caps.strangers)
        for first in strangers[: caps.strangers]:
            assert await last_words(first) in (b"", MAKE_ROOM_SAID)
        other = await served(gate, listener, "127.0.1.1")
        assert (await other.ask("NOOP")).startswith("250")
        for client in (*strangers, other):
            await client.close()


async def test_handshakes_that_do_not_go_on_make_room(tmp_path: Path) -> None:
    caps = Caps(connections=6, per_client=3)
    async with open_gate(tmp_path, caps=caps) as gate:
        stuck = []
        for n in range(9):
            client = await Client.connect(gate.ports["implicit"], address=f"127.0.0.{2 + n // 3}")
            if n % 2:
                await client.send(b"\x16\x03\x01")
            stuck.append(client)
        other = await served(gate, "implicit", "127.0.1.1")
        assert (await other.ask("NOOP")).startswith("250")
        assert taken(gate, "implicit") == caps.strangers
        for client in (*stuck, other):
            client.reset()
        await until(lambda: taken(gate, "implicit") == 0)


async def test_whoever_logged_in_keeps_the_place(tmp_path: Path) -> None:
    caps = Caps(connections=6, per_client=4)
    async with open_gate(tmp_path, caps=caps) as gate:
        owners = [await connected(gate) for _ in range(2)]
        for owner in owners:
            assert (await owner.ask(plain(USERNAME, PASSWORD))).startswith("235")
        strangers = [await connected(gate, "127.0.0.2") for _ in range(4)]
        strangers += [await connected(gate, "127.0.0.3") for _ in range(4)]
        for owner in owners:
            assert (await owner.ask("NOOP")).startswith("250")
        assert taken(gate, "implicit") == len(owners) + caps.strangers
        for client in (*owners, *strangers):
            await client.close()


async def test_a_login_has_a_deadline(tmp_path: Path) -> None:
    timeouts = Timeouts(login=0.3, linger=0.1)
    async with open_gate(tmp_path, timeouts=timeouts) as gate:
        owner = await connected(gate)
        assert (await owner.ask(plain(USERNAME, PASSWORD))).startswith("235")
        anonymous = await served(gate, "open", "127.0.0.1")
        stranger = await served(gate, "submission", "127.0.0.1")

        async def chat() -> str:
            while (said := await stranger.ask("NOOP")).startswith("250"):
                await asyncio.sleep(0.02)
            return said

        assert (await chat()).startswith("421 4.4.2 No login within 0.3 s")
        assert await stranger.ended()
        for client in (owner, anonymous):
            assert (await client.ask("NOOP")).startswith("250")
        for client in (owner, anonymous, stranger):
            await client.close()


async def test_what_is_sent_before_a_login_is_answered_is_bounded(tmp_path: Path) -> None:
    async with open_gate(tmp_path, timeouts=Timeouts(failure=5.0, linger=0.2)) as gate:
        client = await connected(gate)
        await client.send(plain(USERNAME, "wrong"))
        client.writer.write(b"NOOP\r\n" * 20_000)
        said = await client.reply()
        assert said.startswith("421 4.3.1 Too much pipelined input before the reply to AUTH")
        await until(lambda: gate.listeners.sessions == 0)
        assert gate.listeners._commons.budget.used == 0
        await client.close()


async def test_input_that_is_kept_is_part_of_the_budget(gate: Gate) -> None:
    budget = gate.listeners._commons.budget
    client = await connected(gate)
    client.writer.write(b"AUTH PLAIN " + b"x" * 10_000)
    await until(lambda: budget.used > 10_000)
    client.writer.write(b"\r\n")
    assert (await client.reply()).startswith("501")
    assert budget.used == 0
    client.writer.write(b"AUTH PLAIN " + b"x" * 10_000)
    await until(lambda: budget.used > 10_000)
    client.reset()
    await until(lambda: budget.used == 0)


async def test_one_login_leaves_places_for_others(tmp_path: Path) -> None:
    """However many addresses its pods have."""
    async with open_gate(tmp_path, caps=Caps(connections=12, per_client=3)) as gate:
        mine, said = [], ""
        for n in range(12):
            client = await connected(gate, f"127.0.0.{2 + n // 3}")
            mine.append(client)
            said = await client.ask(plain(USERNAME, PASSWORD))
            if not said.startswith("235"):
                break
        assert said.startswith("421 4.7.0 Your login has 9 sessions open")
        assert len(mine) == 10
        other = await connected(gate, "127.0.1.1")
        assert (await other.ask(plain(SCRYPT_USERNAME, SCRYPT_PASSWORD))).startswith("235")
        await mine[0].close()
        await until(lambda: gate.listeners._open["implicit"].places._by_login["uid-billing"] == 8)
        for client in (*mine, other):
            await client.close()
        await until(lambda: gate.listeners._open["implicit"].places._by_login == {})
