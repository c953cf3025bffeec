"""ConnectionPair: our SMTP client and our server's session joined by a wire that cuts octets
anywhere, lets either direction run ahead of the other, and may break at any point.
"""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path
from random import Random
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from mailrelay_gateway.contract.documents import TlsMode
from mailrelay_gateway.intake.smtp.session import Session
from mailrelay_gateway.smtp.client.client import ClientSettings, SmtpClient
from mailrelay_gateway.smtp.client.events import (
    Event,
    SendBody,
    SessionEnded,
    SessionReady,
    TransactionEnded,
    Transcript,
)
from mailrelay_gateway.smtp.client.states import State
from tests.integration.intake.gate import Gate, open_gate

HEADER = b"From: a@example.com\r\nTo: b@example.org\r\nDate: Fri, 27 Nov 2026 12:00:00 +0000\r\n"
HEADER += b"Message-ID: <1@example.com>\r\n\r\n"
BODIES = st.lists(
    st.sampled_from([b"text", b".", b"..", b"\r\n", b"\r\n.\r\n", b"x" * 70]), max_size=30
).map(lambda pieces: HEADER + b"".join(pieces) + b"\r\n")
#: What either side may have on the wire at once: the largest body, stuffed, and the dialog.
WIRE_LIMIT = 32 * 1024
#: Moves of the wire in one run; an octet at a time, a run takes fewer.
MOVES = 20_000


class Wire(asyncio.Transport):
    """The server's transport: what it writes lies here until the wire carries it."""

    def __init__(self) -> None:
        super().__init__({"peername": ("127.0.0.1", 40000)})
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

    def can_write_eof(self) -> bool:
        return False

    def close(self) -> None:
        self.closing = True

    def abort(self) -> None:
        self.closing = True

    def is_closing(self) -> bool:
        return self.closing


class ConnectionPair:
    """The two ends, the wire between them, and what the client was told."""

    def __init__(self, gate: Gate, bodies: list[bytes], rng: Random, cut_after: int) -> None:
        self.intake = gate.intake
        self.intake.hold = True
        self.rng = rng
        self.left = cut_after
        self.bodies = list(bodies)
        self.told: list[Transcript] = []
        self.begun = 0
        self.to_server = b""
        self.wire = Wire()
        self.client = SmtpClient(ClientSettings(hostname="client.example.org", tls=TlsMode.NONE))
        self.session = Session(gate.listeners._open["open"], gate.listeners._commons)
        self.session.connection_made(self.wire)
        self.ended = False

    def _cut(self, octets: bytes) -> int:
        """How many of these the wire carries this time."""
        return min(self.rng.choice((1, 2, 7, 100, len(octets))), len(octets), self.left)

    def step(self) -> bool:
        """One random thing that can happen; False once nothing can."""
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
        self.session.data_received(data)

    def _to_client(self) -> None:
        n = self._cut(self.wire.written)
        data, self.wire.written = self.wire.written[:n], self.wire.written[n:]
        self.left -= n
        self._do(self.client.receive(data))
        self.to_server += self.client.take_output()
        assert len(self.to_server) <= WIRE_LIMIT

    def _do(self, events: list[Event]) -> None:
        for event in events:
            if isinstance(event, SendBody) and self.client.state is State.BODY:
                self.client.send_body(self.bodies[self.begun - 1])
            if isinstance(event, TransactionEnded):
                self.told.append(event.transcript)
            if isinstance(event, SessionEnded):
                self.ended = True
            ready = isinstance(event, SessionReady | TransactionEnded)
            if ready and self.client.state is State.READY and self.begun < len(self.bodies):
                self.client.begin(
                    f"s{self.begun}@example.com",
                    [f"r{self.begun}@example.org"],
                    size=len(self.bodies[self.begun]),
                    eight_bit=False,
                    smtputf8=False,
                )
                self.begun += 1


async def run(bodies: list[bytes], seed: int, cut_after: int) -> tuple[ConnectionPair, Gate]:
    """Until all is said, or the wire breaks; then the server learns of the break."""
    with tempfile.TemporaryDirectory() as folder:
        async with open_gate(Path(folder)) as gate:
            pair = ConnectionPair(gate, bodies, Random(seed), cut_after)
            for _ in range(MOVES):
                if not pair.step():
                    break
                await asyncio.sleep(0)
            else:
                raise AssertionError("the two talk for ever")
            pair.session.connection_lost(None)
            gate.intake.commit_all()
            return pair, gate


def check(pair: ConnectionPair, gate: Gate) -> None:
    """What was stored is what the client was told, whole and in order."""
    for n, transcript in enumerate(pair.told):
        final = transcript.final
        assert final is not None
        stored = [m for m in gate.intake.messages if m.envelope_sender == f"s{n}@example.com"]
        assert len(stored) == (1 if final.code == 250 else 0)
        assert not stored or stored[0].queue_id in final.text
    for place, message in enumerate(gate.intake.messages):
        n = int(message.envelope_sender[1:].split("@")[0])
        assert gate.intake.recipients[place] == (f"r{n}@example.org",)
        assert gate.intake.body(place).endswith(pair.bodies[n])
    senders = [message.envelope_sender for message in gate.intake.messages]
    assert senders == sorted(set(senders), key=senders.index)


SEEDS = st.integers(0, 2**32)


@given(st.lists(BODIES, min_size=1, max_size=4), SEEDS)
def test_what_was_stored_is_what_the_client_was_told(bodies: list[bytes], seed: int) -> None:
    """However the octets are cut, each message is stored once, whole, and answered 250."""
    pair, gate = asyncio.run(run(bodies, seed, 1 << 30))
    check(pair, gate)
    assert [t.final.code for t in pair.told if t.final] == [250] * len(bodies), "a deadlock"


@given(st.lists(BODIES, min_size=1, max_size=3), SEEDS, st.integers(0, 3000))
def test_a_wire_that_breaks_leaves_no_lie(bodies: list[bytes], seed: int, cut: int) -> None:
    """Wherever the wire breaks, 250 means stored, and at most the last message is in doubt."""
    pair, gate = asyncio.run(run(bodies, seed, cut))
    check(pair, gate)
    assert 0 <= len(gate.intake.messages) - len(pair.told) <= 1
