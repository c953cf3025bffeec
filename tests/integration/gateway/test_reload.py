"""A configuration comes into force whole or not at all, going back always works, and a port that is
taken holds up nothing else.
"""

from __future__ import annotations

import asyncio
import smtplib
import socket
from collections.abc import Sequence

import pytest

from mailrelay_gateway.contract.documents import (
    Certificate,
    HostPort,
    Listener,
    RelayDocument,
    TlsMode,
    Upstream,
)
from tests.integration.gateway.test_process import _has, run_to_end
from tests.models import made
from tests.peers.certificates import make
from tests.peers.client import send_logged_in, send_plain
from tests.peers.gateway import (
    GatewayProcess,
    certificate,
    plain_listener,
    relay,
    sandbox,
    sender,
    tls_listener,
)
from tests.peers.odd_certificates import RSA_1024, joined
from tests.ports import free_port
from tests.waiting import until


def trusting(ca: str) -> Upstream:
    """A smarthost over TLS that trusts `ca` and is not there."""
    return made.upstream(
        name="smart",
        settings=made.smarthost(
            hosts=(HostPort(host="127.0.0.1", port=free_port()),),
            tls=made.upstream_tls(mode=TlsMode.IMPLICIT, ca=ca),
        ),
    )


def showing(port: int, chain: str, key: str) -> Listener:
    """A listener with this certificate."""
    tls = made.listener_tls(certificates=(Certificate(chain=chain, key=key),))
    return made.listener(name="submission", port=port, tls=tls)


def unusable(port: int, other: int) -> Sequence[tuple[RelayDocument, str]]:
    """Documents that can be read and not be used, and what is said of them."""
    plain, (chain, _) = plain_listener(port), make()
    return [
        (relay([plain], [trusting("not PEM")]), "upstream smart: tls.caRef has no PEM"),
        (
            relay([plain], [sandbox(), trusting(chain[:-40])]),
            "upstream smart: tls.caRef is truncated in ca.crt",
        ),
        (
            relay([plain, showing(other, chain, make(RSA_1024)[1])], [trusting(chain)]),
            "listener submission has a key in tls.key that does not match the first",
        ),
        (
            relay([plain, showing(other, *make(RSA_1024))], [trusting(chain)]),
            "listener submission has a certificate in tls.crt that clients refuse: its RSA key has",
        ),
        (
            relay([plain, plain_listener(port, "twin")], [trusting(chain)]),
            f"listeners plain and twin have the same port {port}",
        ),
        (relay([plain], []), "a relay needs at least one"),
    ]


NUMBER_OF_UNUSABLE = 6


@pytest.mark.parametrize("number", range(NUMBER_OF_UNUSABLE))
async def test_what_cannot_be_used_changes_nothing_and_going_back_heals(
    gateway: GatewayProcess, number: int
) -> None:
    port = free_port()
    good = relay([plain_listener(port)], [sandbox()])
    documents = unusable(port, free_port())
    assert len(documents) == NUMBER_OF_UNUSABLE
    bad, sentence = documents[number]
    gateway.write(good)
    await gateway.start()
    before = await gateway.status()
    gateway.write(bad)
    await until(lambda: _has_problem(gateway, sentence))
    assert await gateway.status() == before | {"problem": (await gateway.status())["problem"]}
    assert (await gateway.get("/readyz"))[0] == 200
    await send_plain(port)
    await until(lambda: _has(gateway, 1))
    gateway.write(good)
    await until(lambda: _has_no_problem(gateway))
    assert (await gateway.status())["digest"] == before["digest"]
    await send_plain(port)
    await until(lambda: _has(gateway, 2))


@pytest.mark.parametrize("number", range(NUMBER_OF_UNUSABLE))
async def test_what_cannot_be_used_at_start_is_a_sentence(
    gateway: GatewayProcess, number: int
) -> None:
    port = free_port()
    bad, sentence = unusable(port, free_port())[number]
    gateway.write(bad)
    await gateway.start(wait=False)
    await until(lambda: _is_not_ready_because(gateway, sentence))
    assert (await gateway.get("/livez"))[0] == 200
    gateway.write(relay([plain_listener(port)], [sandbox()]))
    await gateway.until_ready()
    await send_plain(port)
    assert await gateway.stop() == 0
    strict = GatewayProcess(gateway.folder, "--require-config")
    strict.write(bad)
    code, said = await run_to_end(strict)
    assert code == 2
    assert sentence in said
    assert "Traceback" not in said


async def _is_not_ready_because(gateway: GatewayProcess, sentence: str) -> bool:
    code, body = await gateway.get("/readyz")
    return code == 503 and sentence in body.decode()


async def _has_problem(gateway: GatewayProcess, sentence: str) -> bool:
    return sentence in (await gateway.status())["problem"]


async def _has_no_problem(gateway: GatewayProcess) -> bool:
    return bool((await gateway.status())["problem"] == "")


async def _does_not_serve(gateway: GatewayProcess, sentence: str) -> bool:
    return sentence in " ".join((await gateway.status())["notServing"])


async def _serves_all(gateway: GatewayProcess) -> bool:
    return bool((await gateway.status())["notServing"] == [])


async def test_a_ca_with_text_around_it_is_taken(gateway: GatewayProcess) -> None:
    chain, _ = make()
    port, other = free_port(), free_port()
    text = f"\ufeff# Főtanúsítvány\n{joined(certificate().chain, chain)}"
    gateway.write(
        relay([plain_listener(port), showing(other, text, certificate().key)], [trusting(text)])
    )
    await gateway.start()
    assert (await gateway.status())["listeners"] == ["plain", "submission"]


async def test_a_port_that_is_taken_holds_up_nothing_else(gateway: GatewayProcess) -> None:
    port, second = free_port(), free_port()
    gateway.write(relay([tls_listener(port)], [sandbox()]), [sender(), sender("gone")])
    await gateway.start()
    await send_logged_in(port, username="team-a.gone")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        busy = taken.getsockname()[1]
        gateway.write(
            relay(
                [tls_listener(port), plain_listener(busy, "busy"), plain_listener(second)],
                [sandbox()],
            ),
            [sender()],
        )
        await until(lambda: _does_not_serve(gateway, "another program uses the port. Stop"))
        status = await gateway.status()
        assert status["problem"] == ""
        assert status["listeners"] == ["submission", "plain"]
        assert status["ports"] == {"submission": port, "plain": second}
        assert await gateway.metric("mailrelay_listener_up", listener="busy") == 0
        assert await gateway.metric("mailrelay_listener_up", listener="plain") == 1
        assert (await gateway.get("/readyz"))[0] == 200
        with pytest.raises(smtplib.SMTPAuthenticationError):
            await send_logged_in(port, username="team-a.gone")
        await send_plain(second)
    await until(lambda: _serves_all(gateway))
    await send_plain(busy)


async def test_a_listener_whose_port_is_taken_says_where_it_stays(gateway: GatewayProcess) -> None:
    port = free_port()
    gateway.write(relay([plain_listener(port)], [sandbox()]))
    await gateway.start()
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        busy = taken.getsockname()[1]
        gateway.write(relay([plain_listener(busy)], [sandbox()]))
        await until(lambda: _does_not_serve(gateway, f"Until then it stays on port {port}."))
        await send_plain(port)
    await until(lambda: _serves_all(gateway))
    await send_plain(busy)
    await asyncio.to_thread(_refuses, port)


def _refuses(port: int) -> None:
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port))
