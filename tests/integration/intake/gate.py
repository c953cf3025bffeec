"""Real listeners on loopback with an intake that keeps messages in memory: what all tests of this
folder start.
"""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from mailrelay_gateway.contract.documents import (
    Certificate,
    Listener,
    Rate,
    Sandbox,
    ScryptVerifier,
    Sender,
    Sha256Verifier,
)
from mailrelay_gateway.contract.files import GatewayConfig
from mailrelay_gateway.intake.budget import InFlightBudget
from mailrelay_gateway.intake.commons import Timeouts
from mailrelay_gateway.intake.places import Caps
from mailrelay_gateway.intake.smtp.listeners import Listeners
from mailrelay_gateway.intake.smtp.session import Session
from mailrelay_gateway.message.body import whole
from mailrelay_gateway.message.envelope import Message
from mailrelay_gateway.metrics import Metrics
from mailrelay_gateway.smtp.refusal import Problem
from tests.models import made
from tests.peers.certificates import certificate
from tests.waiting import PATIENCE

HOSTNAME = "relay.example.com"
USERNAME = "shop.billing"
PASSWORD = "correct horse battery staple"
SCRYPT_USERNAME = "printer@example.com"
SCRYPT_PASSWORD = "chosen by a person"
SUSPENDED_USERNAME = "shop.suspended"

#: No test waits for a clock of five minutes, and failed logins answer at once.
QUICK = Timeouts(idle=30.0, handshake=5.0, failure=0.0, linger=0.2, drain=1.0)


#: Clients of the present test: those that it left open, a failed test's above all, are closed with
#: the gate.
_clients: list[Client] = []


class MemoryIntake:
    """Our Intake Protocol over a list. `hold` keeps commits pending; `refusal` is what accept
    answers.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.messages: list[Message] = []
        self.recipients: list[tuple[str, ...]] = []  # of each message
        self.pending: list[Callable[[], None]] = []
        self.hold = False
        self.refusal: Problem | None = None
        self.full: Problem | None = None
        self.broken = False
        self.raises = False
        self._numbers = itertools.count(1)

    def problem(self, octets: int = 0) -> Problem | None:
        return self.full

    def new_id(self) -> str:
        if self.broken:
            raise OSError(28, "No space left on device: /secret/path")
        return f"{next(self._numbers):026d}"

    def body_path(self, queue_id: str) -> Path:
        return self.folder / queue_id

    def accept(
        self, message: Message, addresses: Sequence[str], done: Callable[[Problem | None], None]
    ) -> None:
        if self.raises:
            raise OSError(5, "Input/output error")

        def commit() -> None:
            if self.refusal is None:
                self.messages.append(message)
                self.recipients.append(tuple(addresses))
            done(self.refusal)

        if self.hold:
            self.pending.append(commit)
        else:
            asyncio.get_running_loop().call_soon(commit)

    def commit_all(self) -> None:
        pending, self.pending = self.pending, []
        for commit in pending:
            commit()

    def body(self, index: int = -1) -> bytes:
        return self.messages[index].prelude + whole(self.messages[index].body)


def sha256_verifier(password: str) -> Sha256Verifier:
    return made.sha256_verifier(hash=hashlib.sha256(password.encode()).hexdigest())


@cache
def scrypt_verifier(password: str) -> ScryptVerifier:
    salt = b"\x01" * 16
    digest = hashlib.scrypt(password.encode(), salt=salt, n=1024, r=8, p=1, dklen=32)
    return ScryptVerifier(n=1024, r=8, p=1, salt=salt.hex(), hash=digest.hex())


def senders() -> tuple[Sender, ...]:
    return (
        made.sender(
            uid="uid-billing",
            namespace="shop",
            name="billing",
            username=USERNAME,
            verifiers=(sha256_verifier(PASSWORD),),
            addresses=("billing@example.com", "*@shop.example.com"),
        ),
        made.sender(
            uid="uid-printer",
            namespace="office",
            name="printer",
            username=SCRYPT_USERNAME,
            verifiers=(scrypt_verifier(SCRYPT_PASSWORD),),
            addresses=("printer@example.com",),
        ),
        made.sender(
            uid="uid-suspended",
            namespace="shop",
            name="suspended",
            username=SUSPENDED_USERNAME,
            verifiers=(sha256_verifier(PASSWORD),),
            addresses=("*@shop.example.com",),
            suspend=True,
        ),
    )


def listeners(*certificates: Certificate) -> tuple[Listener, ...]:
    """One of each kind: `submission` (STARTTLS), `implicit`, `open` (no login, loopback only),
    `closed` (no login).
    """
    tls = certificates or (certificate("localhost", HOSTNAME),)
    return (
        made.listener(name="submission", port=0, tls=made.listener_tls(certificates=tls)),
        made.listener(
            name="implicit", port=0, tls=made.listener_tls(mode="Implicit", certificates=tls)
        ),
        made.listener(
            name="open",
            port=0,
            tls=made.listener_tls(mode="None"),
            authentication=made.listener_authentication(mode="None", client_cidrs=("127.0.0.0/8",)),
        ),
        made.listener(
            name="closed",
            port=0,
            tls=made.listener_tls(mode="None"),
            authentication=made.listener_authentication(
                mode="None", client_cidrs=("192.0.2.0/24",)
            ),
        ),
    )


def configuration(
    *,
    on: Sequence[Listener] | None = None,
    of: Sequence[Sender] | None = None,
    max_size: int = 1024 * 1024,
    max_recipients: int = 3,
    defers_surplus: bool = False,
    rejects_long_lines: bool = False,
    rates: Sequence[Rate] = (),
    control_headers: Sequence[str] = (),
    pass_headers: Sequence[str] = (),
) -> GatewayConfig:
    """A configuration of our listeners and senders."""
    return GatewayConfig(
        relay=made.relay_document(
            relay=made.relay_reference(namespace="mail", name="main"),
            hostname=HOSTNAME,
            listeners=tuple(listeners() if on is None else on),
            upstreams=(
                made.upstream(
                    name="out",
                    settings=Sandbox(keep=1),
                    control_headers=tuple(control_headers),
                    pass_headers=tuple(pass_headers),
                ),
            ),
            limits=made.limits(
                max_size=max_size,
                max_recipients=max_recipients,
                on_too_many_recipients="DeferRecipients" if defers_surplus else "RejectMessage",
                long_lines="Reject" if rejects_long_lines else "Encode",
                rates=tuple(rates),
            ),
        ),
        senders=tuple(senders() if of is None else of),
        digest="test",
    )


@dataclass
class Gate:
    """Running listeners and what they stored."""

    listeners: Listeners
    intake: MemoryIntake
    metrics: Metrics
    ports: dict[str, int] = field(default_factory=dict)

    async def configure(self, config: GatewayConfig) -> None:
        self.metrics.configure(config)
        self.metrics.admit(config)
        self.listeners.apply(self.listeners.prepare(config))
        await self.listeners.open_ports()
        self.ports = self.listeners.ports()

    def sessions(self, listener: str) -> list[Session]:
        """The open sessions of a listener."""
        return [
            session
            for session in self.listeners._open[listener].sessions
            if isinstance(session, Session)
        ]

    def count(self, name: str, **labels: str) -> float:
        """A metric's value, as Prometheus would read it; 0 for a series that does not exist."""
        for family in text_string_to_metric_families(self.metrics.render().decode()):
            for sample in family.samples:
                if sample.name == f"mailrelay_{name}" and sample.labels == labels:
                    return sample.value
        return 0.0


@asynccontextmanager
async def open_gate(
    folder: Path,
    config: GatewayConfig | None = None,
    *,
    timeouts: Timeouts = QUICK,
    caps: Caps | None = None,
    budget: InFlightBudget | None = None,
    intake: MemoryIntake | None = None,
) -> AsyncIterator[Gate]:
    """Start, and stop at the end."""
    metrics, intake = Metrics(), intake or MemoryIntake(folder)
    listeners = Listeners(
        intake, metrics, bind="127.0.0.1", timeouts=timeouts, caps=caps, budget=budget
    )
    gate = Gate(listeners, intake, metrics)
    await gate.configure(config or configuration())
    try:
        yield gate
    finally:
        await listeners.stop(0.0, 0.0)
        while _clients:
            _clients.pop().writer.transport.abort()
        await asyncio.sleep(0)


class Client:
    """A client that says exactly what it is told, octet for octet."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    @classmethod
    async def connect(
        cls, port: int, tls: ssl.SSLContext | None = None, *, address: str = "127.0.0.1"
    ) -> Client:
        """Connect from `address`."""
        reader, writer = await asyncio.open_connection(
            "127.0.0.1",
            port,
            ssl=tls,
            server_hostname="localhost" if tls else None,
            local_addr=(address, 0),
        )
        client = cls(reader, writer)
        _clients.append(client)
        return client

    async def send(self, *lines: str | bytes) -> None:
        """Send lines (str: with CRLF; bytes: as they are) in one write."""
        self.writer.write(
            b"".join(x if isinstance(x, bytes) else f"{x}\r\n".encode() for x in lines)
        )
        await self.writer.drain()

    async def reply(self) -> str:
        """The next reply, its lines joined by newlines; "" at the end of the connection."""
        lines = []
        while True:
            line = (
                (await asyncio.wait_for(self.reader.readline(), PATIENCE)).decode().rstrip("\r\n")
            )
            lines.append(line)
            if line[3:4] != "-":
                return "\n".join(lines)

    async def ask(self, *lines: str | bytes) -> str:
        """Send, and return the next reply."""
        await self.send(*lines)
        return await self.reply()

    async def start_tls(self, context: ssl.SSLContext) -> None:
        """Handshake."""
        await self.writer.start_tls(context, server_hostname="localhost")

    async def ended(self) -> bool:
        """Whether the server closed, having said nothing more."""
        try:
            return await asyncio.wait_for(self.reader.read(), PATIENCE) == b""
        except ConnectionError:
            return True

    def reset(self) -> None:
        """Vanish: the server gets a TCP reset, not an orderly end."""
        sock = self.writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()

    async def close(self) -> None:
        """Close and wait for it."""
        self.writer.close()
        try:
            await self.writer.wait_closed()
        except (ConnectionError, ssl.SSLError):
            pass
