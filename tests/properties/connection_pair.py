"""ConnectionPair: our SMTP client and our server's session joined by a wire that cuts octets
anywhere, lets either direction run ahead of the other, and may break at any point.
"""

from __future__ import annotations

import asyncio
import ssl
import tempfile
from pathlib import Path
from random import Random
from typing import Any

from mailrelay_gateway.contract.documents import TlsMode
from mailrelay_gateway.intake.smtp.session import Session
from mailrelay_gateway.smtp.client.client import ClientSettings, SmtpClient
from mailrelay_gateway.smtp.client.events import (
    Event,
    SendBody,
    SessionEnded,
    SessionReady,
    StartTls,
    TransactionEnded,
    Transcript,
)
from mailrelay_gateway.smtp.client.replies import ReplyReader
from mailrelay_gateway.smtp.client.states import State
from mailrelay_gateway.smtp.reply import Reply
from tests.integration.intake.gate import (
    HOSTNAME,
    PASSWORD,
    USERNAME,
    Gate,
    configuration,
    open_gate,
)
from tests.peers.certificates import certificate, trusting

#: What either side may have on the wire at once: the largest body, stuffed, and the dialog.
WIRE_LIMIT = 32 * 1024
#: Moves of the wire in one run; an octet at a time, a run takes fewer.
MOVES = 20_000
#: Turns of the loop in which nothing moves, after which nothing will: a handshake needs some.
IDLE_TURNS = 10
PLAIN = ClientSettings(hostname="client.example.org", tls=TlsMode.NONE)
LOGGING_IN = ClientSettings(
    hostname="client.example.org",
    tls=TlsMode.START_TLS,
    username=USERNAME,
    password=PASSWORD,
)


class Wire(asyncio.Transport):
    """The server's transport: what it writes lies here until the wire carries it."""

    _start_tls_compatible = True  # asyncio asks for this before it puts TLS on top

    def __init__(self) -> None:
        super().__init__({"peername": ("127.0.0.1", 40000)})
        self.protocol: Any = None
        self.written = b""
        self.closing = False
        self.reading = True

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written += bytes(data)
        assert len(self.written) <= WIRE_LIMIT

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self.protocol = protocol

    def get_protocol(self) -> asyncio.BaseProtocol:
        return self.protocol

    def feed(self, data: bytes) -> None:
        """Octets from the client, to whatever reads at this end: TLS reads into a buffer."""
        if not isinstance(self.protocol, asyncio.BufferedProtocol):
            self.protocol.data_received(data)
            return
        while data:
            room = memoryview(self.protocol.get_buffer(len(data)))
            n = min(len(room), len(data))
            room[:n] = data[:n]
            self.protocol.buffer_updated(n)
            data = data[n:]

    def can_write_eof(self) -> bool:
        return False

    def close(self) -> None:
        self.closing = True

    def abort(self) -> None:
        self.closing = True

    def is_closing(self) -> bool:
        return self.closing


class ClientTls:
    """The client's end of TLS, over octets."""

    def __init__(self, context: ssl.SSLContext) -> None:
        self._in, self._out = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._object = context.wrap_bio(self._in, self._out, server_hostname="localhost")
        self.established = False

    def shake_hands(self, octets: bytes = b"") -> bool:
        """Go on with the handshake; whether it is done."""
        self._in.write(octets)
        try:
            self._object.do_handshake()
        except ssl.SSLWantReadError:
            return False
        self.established = True
        return True

    def decrypted(self, octets: bytes) -> bytes:
        self._in.write(octets)
        found = b""
        while True:
            try:
                piece = self._object.read(65536)
            except ssl.SSLWantReadError:
                return found
            if not piece:
                return found
            found += piece

    def to_send(self, octets: bytes = b"") -> bytes:
        """These, encrypted, and what the handshake has to say."""
        if octets:
            self._object.write(octets)
        return self._out.read()


class ChunkTalker:
    """A client that sends a message by BDAT: all commands and chunks at once after the greeting."""

    def __init__(self, chunks: list[bytes]) -> None:
        self._reader = ReplyReader()
        self._output = (
            b"EHLO client.example.org\r\nMAIL FROM:<s0@shop.example.com>\r\n"
            b"RCPT TO:<r0-0@example.org>\r\n"
        )
        for each in chunks:
            self._output += b"BDAT %d\r\n" % len(each) + each
        self._output += b"BDAT 0 LAST\r\n"
        self.replies: list[Reply] = []

    def receive(self, data: bytes) -> list[Event]:
        self.replies += self._reader.receive(data)
        return []

    def take_output(self) -> bytes:
        output, self._output = self._output, b""
        return output


class ConnectionPair:
    """The two ends, the wire between them, and what the client was told."""

    def __init__(
        self,
        gate: Gate,
        bodies: list[bytes],
        rng: Random,
        cut_after: int,
        *,
        tls: bool = False,
        recipients: int = 1,
        client: Any = None,
    ) -> None:
        self.intake = gate.intake
        self.intake.hold = True
        self.rng = rng
        self.left = cut_after
        self.bodies = list(bodies)
        self.recipients = recipients
        self.told: list[Transcript] = []
        self.begun = 0
        self.to_server = b""
        self.tls: ClientTls | None = None
        self.client = client or SmtpClient(LOGGING_IN if tls else PLAIN)
        self.wire = Wire()
        listener = gate.listeners._open["submission" if tls else "open"]
        self.wire.protocol = Session(listener, gate.listeners._commons)
        self.wire.protocol.connection_made(self.wire)
        self.ended = False

    def _cut(self, octets: bytes) -> int:
        """How many of these the wire carries this time."""
        return min(self.rng.choice((1, 2, 7, 100, len(octets))), len(octets), self.left)

    def step(self) -> bool:
        """One random thing that can happen; False if nothing can now."""
        can: list[Any] = []
        if self.to_server and self.wire.reading and not self.wire.closing:
            can.append(self._to_server)
        if self.wire.written:
            can.append(self._to_client)
        if self.intake.pending:
            can.append(self.intake.commit_all)
        if not can or self.left <= 0 or self.ended:
            return False
        self.rng.choice(can)()
        return True

    def _to_server(self) -> None:
        n = self._cut(self.to_server)
        data, self.to_server = self.to_server[:n], self.to_server[n:]
        self.left -= n
        self.wire.feed(data)

    def _to_client(self) -> None:
        n = self._cut(self.wire.written)
        data, self.wire.written = self.wire.written[:n], self.wire.written[n:]
        self.left -= n
        tls = self.tls
        if tls is None:
            self._do(self.client.receive(data))
        elif tls.established:
            self._do(self.client.receive(tls.decrypted(data)))
        elif tls.shake_hands(data):
            self.client.tls_established()
            self._do(self.client.receive(tls.decrypted(b"")))
        output = self.client.take_output()
        self.to_server += output if self.tls is None else self.tls.to_send(output)
        assert len(self.to_server) <= WIRE_LIMIT

    def addresses(self, n: int) -> tuple[str, ...]:
        """The recipients of the message with that number."""
        return tuple(f"r{n}-{k}@example.org" for k in range(self.recipients))

    def _do(self, events: list[Event]) -> None:
        for event in events:
            if isinstance(event, StartTls):
                self.tls = ClientTls(trusting(certificate("localhost", HOSTNAME)))
                self.tls.shake_hands()
            if isinstance(event, SendBody) and self.client.state is State.BODY:
                self.client.send_body(self.bodies[self.begun - 1])
            if isinstance(event, TransactionEnded):
                self.told.append(event.transcript)
            if isinstance(event, SessionEnded):
                self.ended = True
            ready = isinstance(event, SessionReady | TransactionEnded)
            if ready and self.client.state is State.READY and self.begun < len(self.bodies):
                self.client.begin(
                    f"s{self.begun}@shop.example.com",
                    self.addresses(self.begun),
                    size=len(self.bodies[self.begun]),
                    eight_bit=False,
                    smtputf8=False,
                )
                self.begun += 1


async def run(
    bodies: list[bytes], seed: int, cut_after: int, **kind: Any
) -> tuple[ConnectionPair, Gate]:
    """Until all is said, or the wire breaks; then the server learns of the break."""
    with tempfile.TemporaryDirectory() as folder:
        async with open_gate(Path(folder), configuration(defers_surplus=True)) as gate:
            pair = ConnectionPair(gate, bodies, Random(seed), cut_after, **kind)
            idle = 0
            for _ in range(MOVES):
                idle = 0 if pair.step() else idle + 1
                if idle > IDLE_TURNS:
                    break
                await asyncio.sleep(0)
            else:
                raise AssertionError("the two talk for ever")
            pair.wire.protocol.connection_lost(None)
            gate.intake.commit_all()
            for _ in range(IDLE_TURNS):
                await asyncio.sleep(0)
            return pair, gate
