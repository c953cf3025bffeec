"""Bodies of every size arrive octet for octet, in the clear and over TLS, and whatever connections
do, no message is left sitting.
"""

from __future__ import annotations

import array
import asyncio
import fcntl
import termios
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from mailrelay_gateway.contract.documents import TlsMode
from mailrelay_gateway.contract.status import UpstreamState
from mailrelay_gateway.couriers.smtp.body_stream import stream_body
from mailrelay_gateway.couriers.smtp.health import Probing
from mailrelay_gateway.message.envelope import Attempt, Result
from mailrelay_gateway.reasons import Reason
from tests.integration.couriers.conftest import Rig
from tests.integration.couriers.memory_work import attempt
from tests.integration.couriers.scripted_server import Peer, Script, ScriptedServer, take_all
from tests.waiting import PATIENCE

DELIVERED = (Result.DELIVERED, Reason.DELIVERED)
QUICK = Probing(first=0.02, longest=0.1, spread=0.0)
LINE = b"%08d the quick brown fox jumps over the lazy dog, and over it again.\r\n"

pytestmark = pytest.mark.both_loops


def body_of(octets: int, mark: int = 0) -> bytes:
    """At least so many octets, of lines that are all different; some begin with a dot."""
    lines = [b"Subject: %d\r\n\r\n" % mark]
    size = 0
    while size < octets:
        line = LINE % (len(lines) + mark)
        lines.append(b".\r\n" if len(lines) % 1000 == 0 else line)
        size += len(lines[-1])
    return b"".join(lines)


def on_the_wire(body: bytes) -> bytes:
    """With its dots doubled."""
    return body.replace(b"\r\n.", b"\r\n..")


async def serve(rig: Rig, mode: TlsMode, end: Script = take_all) -> ScriptedServer:
    """A server for this mode that plays `end` once the session is up."""
    if mode is TlsMode.START_TLS:
        context = rig.authority.server_context("127.0.0.1")

        async def script(peer: Peer) -> None:
            await peer.greet("PIPELINING", "STARTTLS")
            await peer.hear("STARTTLS")
            await peer.say("220 go")
            await peer.start_tls(context)
            await peer.ehlo("PIPELINING")
            await end(peer)

        return await rig.serve(script)

    async def plain(peer: Peer) -> None:
        await peer.greet("PIPELINING")
        await end(peer)

    return await rig.serve(plain, tls=("127.0.0.1",) if mode is TlsMode.IMPLICIT else ())


def bodies(server: ScriptedServer) -> list[bytes]:
    return [body for peer in server.peers for body in peer.bodies]


MODES = [TlsMode.NONE, TlsMode.START_TLS, TlsMode.IMPLICIT]
SIZES = [0, 4_000, 100_000, 262_143, 300 * 1024, 5 * 1024 * 1024]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("in_a_file", [False, True])
async def test_a_body_arrives_octet_for_octet(
    rig: Rig, tmp_path: Path, mode: TlsMode, size: int, in_a_file: bool
) -> None:
    server = await serve(rig, mode)
    rig.run(rig.config(server.port, mode=mode))
    sent = [body_of(size, mark) for mark in range(3)]
    for number, body in enumerate(sent):
        kept: bytes | Path = body
        if in_a_file:
            kept = tmp_path / str(number)
            kept.write_bytes(body)
        rig.work.add(attempt(number, body=kept))
    await rig.work.until_finished(3)
    assert rig.work.results == [DELIVERED] * 3
    assert bodies(server) == [on_the_wire(body) for body in sent]
    assert len(server.peers) == 1, "one connection is enough"


@pytest.mark.parametrize("mode", MODES)
async def test_replies_in_one_segment_do_not_cost_the_connection(rig: Rig, mode: TlsMode) -> None:
    async def in_one_segment(peer: Peer) -> None:
        for _ in range(40):
            await peer.hear("MAIL", "RCPT", "DATA")
            await peer.say("250 ok", "250 ok", "354 go")
            await peer.hear_body()
            await peer.say("250 2.0.0 stored")

    server = await serve(rig, mode, in_one_segment)
    rig.run(rig.config(server.port, mode=mode))
    rig.work.add(*(attempt(number) for number in range(40)))
    await rig.work.until_finished(40)
    assert rig.work.results == [DELIVERED] * 40
    assert len(server.peers) == 1


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("size", [4_000, 300 * 1024])
async def test_a_reply_lost_after_the_dot_is_uncertain(
    rig: Rig, tmp_path: Path, mode: TlsMode, size: int
) -> None:
    async def take_and_leave(peer: Peer) -> None:
        await peer.take_envelope()
        await peer.hear_body()
        peer.writer.transport.abort()

    body = tmp_path / "body"
    body.write_bytes(body_of(size))
    server = await serve(rig, mode, take_and_leave)
    rig.run(rig.config(server.port, mode=mode))
    rig.work.add(attempt(1, body=body))
    await rig.work.until_finished(1)
    assert rig.work.results == [(Result.UNCERTAIN, Reason.REPLY_LOST)]


async def until_octets_wait(peer: Peer) -> None:
    """Wait until the kernel holds something for a server that does not read."""
    found = array.array("i", [0])
    socket = peer.writer.get_extra_info("socket")
    while not found[0]:
        await asyncio.sleep(0.01)
        fcntl.ioctl(socket.fileno(), termios.FIONREAD, found)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("in_a_file", [False, True])
async def test_a_yes_before_the_message_has_left_is_no_delivery(
    rig: Rig, tmp_path: Path, mode: TlsMode, in_a_file: bool
) -> None:
    """A server out of step: what it has not even been sent, it cannot have taken."""

    async def say_yes_too_early(peer: Peer) -> None:
        await peer.hear("MAIL", "RCPT", "DATA")
        peer.writer.transport.pause_reading()  # type: ignore[attr-defined]
        await peer.say("250 ok", "250 ok", "354 go")
        await until_octets_wait(peer)
        await peer.say("250 2.0.0 stored")
        await rig.work.until_finished(1)

    server = await serve(rig, mode, say_yes_too_early)
    rig.run(rig.config(server.port, mode=mode))
    body: bytes | Path = body_of(20 * 1024 * 1024)
    if isinstance(body, bytes) and in_a_file:
        (tmp_path / "body").write_bytes(body)
        body = tmp_path / "body"
    rig.work.add(attempt(1, body=body))
    [outcome] = await rig.work.until_finished(1)
    assert (outcome.result, outcome.reason) == (Result.DEFERRED, Reason.UPSTREAM_PROTOCOL_ERROR)
    assert "250 2.0.0 stored" in outcome.detail


@pytest.mark.parametrize("octets", [b"", b"Subject: x\r\n\r\ncut sho"])
async def test_a_body_of_another_length_is_never_sent(
    rig: Rig, tmp_path: Path, octets: bytes
) -> None:
    """Neither from memory nor from a file: the message waits, and its recipient gets nothing."""
    server = await serve(rig, TlsMode.NONE)
    rig.run(rig.config(server.port))
    file = tmp_path / "body"
    file.write_bytes(octets)
    rig.work.add(attempt(1, body=octets, size=5_000), attempt(2, body=file, size=5_000))
    await rig.work.until_finished(2)
    assert rig.work.results == [(Result.DEFERRED, Reason.INTERNAL_ERROR)] * 2
    assert bodies(server) == []


class SlowDisk:
    """A StoredBody whose first read takes until the test says so."""

    size = 1

    def __init__(self) -> None:
        self.reading = threading.Event()
        self.read = threading.Event()
        self.closed = threading.Event()

    def chunks(self, octets: int) -> Iterator[bytes]:
        del octets
        try:
            self.reading.set()
            self.read.wait(PATIENCE)
            yield b"x"
        finally:
            self.closed.set()


async def test_a_body_is_closed_when_its_stream_is_broken_off_amid_a_read() -> None:
    body = SlowDisk()

    async def send(_chunk: bytes) -> None:
        """Nowhere."""

    message = replace(attempt().message, body=body, size=1)
    stream = asyncio.get_running_loop().create_task(stream_body(message, send))
    assert await asyncio.to_thread(body.reading.wait, PATIENCE)
    stream.cancel()
    asyncio.get_running_loop().call_later(0.1, body.read.set)
    with pytest.raises(asyncio.CancelledError):
        await stream
    assert await asyncio.to_thread(body.closed.wait, PATIENCE)


# --- nothing sits still


def backlog(count: int) -> list[Attempt]:
    return [attempt(number, body=body_of(500, number)) for number in range(count)]


async def test_an_upstream_that_leaves_after_each_message_gets_them_all(rig: Rig) -> None:
    async def one_each(peer: Peer) -> None:
        await peer.take_envelope()
        await peer.hear_body()
        await peer.say("250 2.0.0 stored", "421 4.4.2 bye")

    server = await serve(rig, TlsMode.NONE, one_each)
    rig.run(rig.config(server.port, connections=3))
    rig.work.add(*backlog(20))
    await rig.work.until_finished(20)
    assert rig.work.results == [DELIVERED] * 20
    assert sorted(bodies(server)) == sorted(on_the_wire(body_of(500, n)) for n in range(20))


async def test_an_upstream_that_dies_after_the_first_dot_is_asked_again(rig: Rig) -> None:
    deaths = 3

    async def die(peer: Peer) -> None:
        nonlocal deaths
        await peer.take_envelope()
        await peer.hear_body()
        if deaths:
            deaths -= 1
            peer.writer.transport.abort()
            return
        await peer.say("250 2.0.0 stored")
        await take_all(peer)

    server = await serve(rig, TlsMode.NONE, die)
    rig.run(rig.config(server.port, connections=1), probing=QUICK)
    rig.work.add(*backlog(20))
    await rig.work.until_finished(20)
    assert rig.work.results.count(DELIVERED) == 17
    assert rig.work.results.count((Result.UNCERTAIN, Reason.REPLY_LOST)) == 3
    assert rig.state() is UpstreamState.UP


async def test_421_to_every_mail_for_a_while_leaves_nothing_waiting(rig: Rig) -> None:
    closing = 6

    async def close(peer: Peer) -> None:
        nonlocal closing
        await peer.hear("MAIL")
        if closing:
            closing -= 1
            await peer.say("421 4.7.0 try again later")
            return
        await peer.say("250 ok")
        await peer.hear("RCPT", "DATA")
        await peer.say("250 ok", "354 go")
        await peer.hear_body()
        await peer.say("250 2.0.0 stored")
        await take_all(peer)

    server = await serve(rig, TlsMode.NONE, close)
    rig.run(rig.config(server.port, connections=4), probing=QUICK)
    rig.work.add(*backlog(50))
    await rig.work.until(lambda: not rig.work.waiting and not rig.work.running)
    assert rig.work.results.count(DELIVERED) >= 40
    assert len(bodies(server)) == rig.work.results.count(DELIVERED)


async def test_an_upstream_that_closes_every_connection_is_asked_ever_more_seldom(
    rig: Rig,
) -> None:
    async def close(peer: Peer) -> None:
        await peer.hear("MAIL")
        await peer.say("421 4.7.0 try again later")

    server = await serve(rig, TlsMode.NONE, close)
    slow = Probing(first=3600, longest=3600, spread=0.0)
    rig.run(rig.config(server.port, connections=4), probing=slow)
    rig.work.add(*backlog(50))
    await server.until(lambda: len(server.peers) >= 2)
    for _ in range(200):
        await asyncio.sleep(0)
    assert len(server.peers) <= 5, "no storm of connections"
