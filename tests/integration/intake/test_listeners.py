"""Listeners start, change and stop as the configuration says, and open sessions live through a
reload.
"""

from __future__ import annotations

import asyncio
import base64
import socket
import ssl
import struct
from functools import partial
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from mailrelay_gateway.contract.documents import (
    Certificate,
    Listener,
    Scope,
    TlsMode,
)
from mailrelay_gateway.contract.files import ConfigError
from mailrelay_gateway.intake.commons import Timeouts
from mailrelay_gateway.intake.places import Caps
from tests.integration.intake.gate import (
    HOSTNAME,
    PASSWORD,
    USERNAME,
    Client,
    Gate,
    configuration,
    listeners,
    open_gate,
)
from tests.integration.intake.test_commits import to_data
from tests.models import made
from tests.peers.certificates import certificate, trusting
from tests.waiting import until


def moved(*pairs: tuple[str, int]) -> list[Listener]:
    """The listeners of the gate, those named on other ports."""
    ports = dict(pairs)
    return [
        each.model_copy(update={"port": ports[each.name]}) if each.name in ports else each
        for each in listeners()
    ]


async def greets(port: int) -> bool:
    """Whether a client is greeted on this port of 127.0.0.1."""
    try:
        client = await Client.connect(port)
    except OSError:
        return False
    greeted = (await client.reply()).startswith("220")
    await client.close()
    return greeted


async def test_a_listener_whose_new_port_is_taken_stays_on_the_old_one_until_it_is_free(
    gate: Gate,
) -> None:
    before = gate.ports
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with capture_logs() as lines:
            await gate.configure(configuration(on=moved(("open", port))))
        (problem,) = gate.listeners.problems()
        assert problem == (
            f"Listener open cannot listen on 127.0.0.1:{port}: another program uses the port."
            " Stop it, or give the listener another port."
            f" Until then it stays on port {before['open']}."
        )
        assert [line["error"] for line in lines if line["log_level"] == "error"] == [problem]
        assert gate.ports == before
        assert gate.count("listener_up", listener="open") == 0
        assert await greets(before["open"])
    await until(lambda: gate.listeners.ports()["open"] == port)
    assert gate.listeners.problems() == ()
    assert gate.count("listener_up", listener="open") == 1
    assert await greets(port)
    assert not await greets(before["open"])


async def test_a_new_listener_whose_port_is_taken_is_opened_when_it_is_free(gate: Gate) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        (plain,) = (each for each in listeners() if each.name == "open")
        more = plain.model_copy(update={"name": "more", "port": port})
        await gate.configure(configuration(on=[*listeners(), more]))
        assert "more" not in gate.ports
        assert set(gate.ports) == {each.name for each in listeners()}
    await until(lambda: "more" in gate.listeners.ports())
    assert await greets(port)


async def test_a_port_that_nobody_wants_any_more_is_tried_no_more(gate: Gate) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        await gate.configure(configuration(on=moved(("open", port))))
        await gate.configure(configuration())
        assert gate.listeners.problems() == ()
    assert await greets(gate.listeners.ports()["open"])
    assert gate.listeners._retry is None


async def test_a_revocation_acts_though_a_listener_cannot_be_opened(gate: Gate) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        client = await Client.connect(gate.ports["implicit"], trusting(gate_certificate()))
        await client.reply()
        await client.ask("EHLO c")
        await gate.configure(configuration(on=moved(("open", port)), of=[]))
        token = base64.b64encode(f"\0{USERNAME}\0{PASSWORD}".encode()).decode()
        assert (await client.ask(f"AUTH PLAIN {token}")).startswith("535")
        await client.close()


async def test_a_revocation_acts_in_the_sessions_of_a_listener_that_is_gone(gate: Gate) -> None:
    client = await Client.connect(gate.ports["implicit"], trusting(gate_certificate()))
    await client.reply()
    await client.ask("EHLO c")
    others = [each for each in listeners() if each.name != "implicit"]
    await gate.configure(configuration(on=others))
    await gate.configure(configuration(on=others, of=[]))
    token = base64.b64encode(f"\0{USERNAME}\0{PASSWORD}".encode()).decode()
    assert (await client.ask(f"AUTH PLAIN {token}")).startswith("535")
    await client.close()


async def test_a_renamed_listener_and_two_that_swap_find_their_sockets_open(gate: Gate) -> None:
    with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("", 0)) as other:
        first, second = one.getsockname()[1], other.getsockname()[1]
    await gate.configure(configuration(on=moved(("open", first), ("implicit", second))))
    assert gate.listeners.problems() == ()
    sockets = {key: port._socket for key, port in gate.listeners._ports.items()}
    renamed = [
        each.model_copy(update={"name": "renamed"}) if each.name == "open" else each
        for each in moved(("open", second), ("implicit", first))
    ]
    await gate.configure(configuration(on=renamed))
    assert gate.listeners.problems() == ()
    assert gate.ports["renamed"] == second
    assert gate.ports["implicit"] == first
    assert gate.listeners._ports[first]._socket is sockets[first]
    assert gate.listeners._ports[second]._socket is sockets[second]
    assert await greets(second)
    client = await Client.connect(first, trusting(gate_certificate()))
    assert (await client.reply()).startswith("220")
    await client.close()


async def test_a_configuration_is_prepared_in_any_thread_and_changes_nothing(gate: Gate) -> None:
    before = gate.ports
    config = configuration(on=listeners()[:1], of=[])
    prepared = await asyncio.to_thread(gate.listeners.prepare, config)
    assert gate.listeners.ports() == before
    client = await Client.connect(gate.ports["implicit"], trusting(gate_certificate()))
    await client.reply()
    await client.ask("EHLO c")
    token = base64.b64encode(f"\0{USERNAME}\0{PASSWORD}".encode()).decode()
    assert (await client.ask(f"AUTH PLAIN {token}")).startswith("235")
    await client.close()
    gate.listeners.apply(prepared)
    assert set(gate.listeners.ports()) == {listeners()[0].name}


async def test_a_connection_cut_off_before_its_handshake_leaves_nothing(gate: Gate) -> None:
    ours, theirs = socket.socketpair()
    listener = gate.listeners._open["implicit"]
    port = gate.listeners._ports["implicit"]
    port._begin_handshake(listener, ours, "192.0.2.1")
    assert len(listener.places.strangers) == 1
    port.close()
    await until(lambda: ours.fileno() == -1)
    assert not listener.places.strangers
    theirs.close()


async def test_two_listeners_of_one_port_are_refused(gate: Gate) -> None:
    with pytest.raises(ConfigError, match="listeners submission and open have the same port 2525"):
        gate.listeners.prepare(configuration(on=moved(("open", 2525), ("submission", 2525))))


def gate_certificate() -> Certificate:
    return certificate("localhost", HOSTNAME)


async def test_a_listener_without_a_usable_certificate_is_named(gate: Gate) -> None:
    bad = certificate("localhost").model_copy(update={"key": certificate("other").key})
    for certificates, sentence in (
        ((), "listener submission has TLS but no certificate"),
        (
            (bad,),
            "listener submission has a key in tls.key that does not match the first certificate",
        ),
        (
            (certificate("localhost").model_copy(update={"chain": "x"}),),
            "listener submission has no PEM certificate in tls.crt",
        ),
    ):
        first, *others = listeners()
        broken = first.model_copy(update={"tls": made.listener_tls(certificates=certificates)})
        with pytest.raises(ConfigError, match=sentence):
            gate.listeners.prepare(configuration(on=[broken, *others]))


async def test_listeners_come_go_and_move_while_sessions_go_on(gate: Gate) -> None:
    client = await Client.connect(gate.ports["open"])
    await to_data(client)
    old = gate.ports["open"]
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    kept = [each for each in listeners() if each.name == "open"]
    await gate.configure(
        configuration(on=[each.model_copy(update={"port": port}) for each in kept])
    )
    assert gate.ports == {"open": port}
    with pytest.raises(ConnectionRefusedError):
        await Client.connect(old)
    other = await Client.connect(port)
    assert (await other.reply()).startswith("220")
    assert (await client.ask("Subject: one", ".")).startswith("250")
    await client.close()
    await other.close()


async def test_the_tls_mode_changes_on_the_same_port(gate: Gate) -> None:
    trust = trusting(certificate("localhost", HOSTNAME))
    port = gate.ports["submission"]
    swapped = [
        each.model_copy(update={"tls": each.tls.model_copy(update={"mode": TlsMode.IMPLICIT})})
        if each.name == "submission"
        else each
        for each in listeners()
    ]
    await gate.configure(configuration(on=swapped))
    client = await Client.connect(port, trust)
    assert (await client.reply()).startswith("220")
    await gate.configure(configuration())
    plain = await Client.connect(port)
    assert (await plain.reply()).startswith("220")
    assert (await client.ask("NOOP")).startswith("250")
    await client.close()
    await plain.close()


@pytest.mark.parametrize("name", ["submission", "implicit"])
async def test_a_new_certificate_is_for_new_handshakes(gate: Gate, name: str) -> None:
    first, second = certificate("localhost", HOSTNAME), certificate("localhost", "second.example")

    async def connect(trust: ssl.SSLContext) -> Client:
        client = await Client.connect(gate.ports[name], trust if name == "implicit" else None)
        await client.reply()
        if name == "submission":
            await client.ask("EHLO c")
            assert (await client.ask("STARTTLS")).startswith("220")
            await client.start_tls(trust)
        return client

    before = await connect(trusting(first))
    await gate.configure(configuration(on=listeners(second)))
    after = await connect(trusting(second))
    for client in (before, after):
        assert (await client.ask("NOOP")).startswith("250")
        await client.close()
    with pytest.raises(ssl.SSLCertVerificationError):
        await connect(trusting(first))
    await until(lambda: gate.count("tls_handshakes_total", listener=name, result="failed") == 1)
    assert gate.count("tls_handshakes_total", listener=name, result="ok") == 2
    assert gate.count("certificate_expiry_seconds", listener=name) > 86400


async def test_the_certificate_follows_the_name_that_is_asked_for(tmp_path: Path) -> None:
    one, two = certificate("localhost", "one.example"), certificate("two.example", "*.wild.example")
    async with open_gate(tmp_path, configuration(on=listeners(one, two))) as gate:
        for name, shown in (
            ("one.example", one),
            ("two.example", two),
            ("a.wild.example", two),
            ("localhost", one),
        ):
            reader, writer = await asyncio.open_connection(
                "127.0.0.1", gate.ports["implicit"], ssl=trusting(shown), server_hostname=name
            )
            assert (await reader.readline()).startswith(b"220")
            writer.close()


async def test_caps_for_a_listener_and_for_one_address(tmp_path: Path) -> None:
    for caps in (Caps(connections=2), Caps(per_client=2)):
        async with open_gate(tmp_path, caps=caps) as gate:
            clients = [await Client.connect(gate.ports["open"]) for _ in range(2)]
            for client in clients:
                assert (await client.reply()).startswith("220")
            third = await Client.connect(gate.ports["open"])
            said = await third.reply()
            assert said.startswith("421 4.7.0 ") and said.endswith("(TooManyConnections)")
            assert await third.ended()
            assert gate.count("connections", listener="open") == 2
            await clients[0].close()
            await until(lambda: gate.count("connections", listener="open") == 1)
            fourth = await Client.connect(gate.ports["open"])
            assert (await fourth.reply()).startswith("220")
            assert gate.count("connections_total", listener="open", result="refused") == 1
            assert gate.count("connections_total", listener="open", result="accepted") == 3
            for client in (clients[1], third, fourth):
                await client.close()


async def test_a_silent_client_is_asked_to_leave(tmp_path: Path) -> None:
    async with open_gate(tmp_path, timeouts=Timeouts(idle=0.1, linger=0.1)) as gate:
        client = await Client.connect(gate.ports["open"])
        assert (await client.reply()).startswith("220")
        assert (await client.reply()).startswith("421 4.4.2 ")
        assert await client.ended()
        await client.close()


async def test_a_stalling_message_is_cut_off_although_octets_come(tmp_path: Path) -> None:
    async with open_gate(tmp_path, timeouts=Timeouts(idle=0.2, content=0.5, linger=0.1)) as gate:
        client = await Client.connect(gate.ports["open"])
        await to_data(client)

        async def trickle() -> None:
            while not client.writer.is_closing():
                client.writer.write(b"x")
                await asyncio.sleep(0.02)

        trickling = asyncio.create_task(trickle())
        assert (await client.reply()).startswith("421 4.4.2 ")
        trickling.cancel()
        await client.close()


def has_failed_handshake(gate: Gate, listener: str) -> bool:
    labels = {"listener": listener, "stage": "starttls", "reason": "TlsFailed"}
    return gate.count("rejected_total", **labels) == 1


async def test_a_handshake_that_does_not_come_has_a_deadline(tmp_path: Path) -> None:
    async with open_gate(tmp_path, timeouts=Timeouts(handshake=0.1)) as gate:
        implicit = await Client.connect(gate.ports["implicit"])
        await implicit.send(b"\x16\x03\x01")  # the beginning of one
        submission = await Client.connect(gate.ports["submission"])
        await submission.reply()
        await submission.ask("EHLO c")
        assert (await submission.ask("STARTTLS")).startswith("220")
        for client, name in ((implicit, "implicit"), (submission, "submission")):
            await client.ended()
            await until(partial(has_failed_handshake, gate, name))
            await client.close()
        await until(lambda: gate.listeners.sessions == 0)


async def test_a_client_that_does_not_trust_us_is_told_apart(gate: Gate) -> None:
    """The most frequent mistake of all: the words of OpenSSL tell nobody what to do."""

    def connect() -> None:  # not by asyncio, whose clients leave without the alert
        with socket.create_connection(("127.0.0.1", gate.ports["implicit"])) as sock:
            ssl.create_default_context().wrap_socket(sock, server_hostname="localhost")

    with capture_logs() as lines:
        with pytest.raises(ssl.SSLError):
            await asyncio.to_thread(connect)
        await until(partial(has_failed_handshake, gate, "implicit"))
    (refused,) = [line for line in lines if line["event"] == "refused"]
    assert refused["detail"].startswith("The client does not trust the certificate: give it ca.crt")


@pytest.mark.parametrize("listener", ["implicit", "submission", "open"])
@pytest.mark.parametrize("how", ["close", "reset", "silence"])
async def test_a_probe_that_says_nothing_is_no_failure(
    tmp_path: Path, listener: str, how: str
) -> None:
    """Load balancers and kubelets connect and leave all day."""
    quick = Timeouts(handshake=0.3, linger=0.1)
    with capture_logs() as lines:
        async with open_gate(tmp_path, timeouts=quick) as gate:
            for _ in range(5):
                client = await Client.connect(gate.ports[listener])
                if how == "reset":
                    client.reset()
                elif how == "close":
                    await client.close()
                elif listener == "implicit":
                    assert await client.ended()
                await client.close()
            # One that speaks is served, and all before it are done.
            trust = trusting(certificate("localhost", HOSTNAME))
            last = await Client.connect(
                gate.ports[listener], trust if listener == "implicit" else None
            )
            assert (await last.reply()).startswith("220")
            await last.ask("QUIT")
            await last.close()
            await until(lambda: gate.listeners.sessions == 0)
            assert not any(port._handshakes for port in gate.listeners._ports.values())
            assert gate.count("tls_handshakes_total", listener=listener, result="failed") == 0
    assert [line for line in lines if line["event"] == "refused"] == []


async def test_the_kernel_keeps_as_many_connections_as_we_ask_for(gate: Gate) -> None:
    """asyncio's and uvloop's default is 100, which a burst of pods exceeds."""
    with open("/proc/sys/net/core/somaxconn") as file:
        most = min(1024, int(file.read()))
    for listener in ("open", "implicit"):
        key = gate.listeners._wanted[listener]
        info = gate.listeners._ports[key]._socket.getsockopt(
            socket.IPPROTO_TCP, socket.TCP_INFO, 104
        )
        # struct tcp_info: of a listening socket tcpi_sacked is the length of its queue
        assert struct.unpack_from("I", info, 28)[0] >= most


async def test_stopping_lets_messages_finish_and_sends_the_idle_away(tmp_path: Path) -> None:
    async with open_gate(tmp_path) as gate:
        idle = await Client.connect(gate.ports["open"])
        await idle.reply()
        sending = await Client.connect(gate.ports["open"])
        await to_data(sending)
        committing = await Client.connect(gate.ports["open"])
        await to_data(committing)
        gate.intake.hold = True
        await committing.send("Subject: one", ".")
        await until(lambda: len(gate.intake.pending) == 1)

        stopping = asyncio.create_task(gate.listeners.stop(0.0, 10.0))
        assert (await idle.reply()).startswith("421 4.3.2 ")
        assert await idle.ended()
        with pytest.raises(ConnectionRefusedError):
            await Client.connect(gate.ports["open"])
        gate.intake.hold = False
        gate.intake.commit_all()
        assert (await committing.reply()).startswith("250 2.0.0 ")
        assert (await committing.reply()).startswith("421 4.3.2 ")
        assert (await sending.ask("Subject: two", ".")).startswith("250 2.0.0 ")
        assert (await sending.reply()).startswith("421 4.3.2 ")
        for client in (idle, sending, committing):
            await client.close()
        await asyncio.wait_for(stopping, 5)
        assert gate.listeners.sessions == 0


async def test_stopping_does_not_wait_for_ever(tmp_path: Path) -> None:
    async with open_gate(tmp_path) as gate:
        client = await Client.connect(gate.ports["open"])
        await to_data(client)
        await asyncio.wait_for(gate.listeners.stop(0.0, 0.1), 5)
        assert gate.listeners.sessions == 0
        await client.close()


async def test_an_ehlo_answer_is_one_write(gate: Gate) -> None:
    """Tools such as sslscan take the first segment for the whole answer."""
    client = await Client.connect(gate.ports["submission"])
    await client.reply()
    await client.send("EHLO c")
    first = await client.reader.read(65536)
    assert first.endswith(b"250 STARTTLS\r\n")
    await client.close()


async def test_use_of_limits_is_shown_and_survives_a_reload(tmp_path: Path) -> None:
    rates = [made.rate(scope=Scope.RELAY, count=2, per=3600.0, burst=2)]
    async with open_gate(tmp_path, configuration(rates=rates)) as gate:
        client = await Client.connect(gate.ports["open"])
        for number, used in enumerate((0.5, 1.0)):
            await to_data(client, greeted=number == 0)
            assert (await client.ask("Subject: one", ".")).startswith("250")
            await gate.configure(configuration(rates=rates))
            ratio = gate.count("limit_usage_ratio", scope="Relay", sender_namespace="")
            assert ratio == pytest.approx(used, abs=0.01)
        await client.ask("MAIL FROM:<a@example.com>")
        await client.ask("RCPT TO:<b@example.org>")
        assert (await client.ask("DATA")).startswith("451 4.7.1 ")
        assert gate.count("limited_total", scope="Relay", sender_namespace="") == 1
        await gate.configure(configuration())
        assert gate.count("limit_usage_ratio", scope="Relay", sender_namespace="") == 0
        assert gate.count("smtp_commands_total", verb="MAIL") == 3
        await client.close()


async def test_a_network_that_is_none_is_named(gate: Gate) -> None:
    *_, closed = listeners()
    authentication = closed.authentication.model_copy(update={"client_cidrs": ("10.0.0.0/99",)})
    broken = closed.model_copy(update={"authentication": authentication})
    with pytest.raises(ConfigError, match=r"listener closed .* clientCIDRs.*10\.0\.0\.0/99"):
        gate.listeners.prepare(configuration(on=[broken]))
    assert set(gate.listeners.ports()) == {"submission", "implicit", "open", "closed"}
