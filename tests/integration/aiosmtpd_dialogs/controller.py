"""Our listeners in the place of aiosmtpd's Controller: in a thread, since the clients block."""

from __future__ import annotations

import asyncio
import smtplib
import ssl
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import uvloop
from aiosmtpd.smtp import Envelope

from mailrelay_gateway.contract.documents import AuthenticationMode, Listener, Sender, TlsMode
from mailrelay_gateway.message.body import whole
from mailrelay_gateway.message.envelope import Message
from mailrelay_gateway.smtp.refusal import Problem
from tests.integration.aiosmtpd_dialogs.theirs import ADDRESS
from tests.integration.intake.gate import (
    MemoryIntake,
    configuration,
    open_gate,
    sha256_verifier,
)
from tests.models import made
from tests.peers.certificates import certificate
from tests.waiting import PATIENCE

#: As large as theirs.
MAX_SIZE = 33554432


def _listener(mode: TlsMode, *, login: bool = False) -> Listener:
    certificates = () if mode is TlsMode.NONE else (certificate("localhost"),)
    return made.listener(
        name="theirs",
        port=0,
        tls=made.listener_tls(mode=mode, certificates=certificates),
        authentication=made.listener_authentication(
            mode=AuthenticationMode.REQUIRED if login else AuthenticationMode.NONE,
            client_cidrs=() if login else ("127.0.0.0/8",),
        ),
    )


#: What their tests ask of a server, and which listener of ours is like it: we never offer a login
#: without TLS, nor mail in plain text where there is STARTTLS.
OPEN = _listener(TlsMode.NONE)
STARTTLS = _listener(TlsMode.START_TLS)
IMPLICIT = _listener(TlsMode.IMPLICIT)
LOGIN_AFTER_STARTTLS = _listener(TlsMode.START_TLS, login=True)
LOGIN = _listener(TlsMode.IMPLICIT, login=True)


def _sender() -> Sender:
    """Whom their authenticators let in."""
    return made.sender(
        uid="uid",
        namespace="theirs",
        name="sender",
        username="goodlogin",
        verifiers=(sha256_verifier("goodpasswd"), sha256_verifier("goodpassword")),
        addresses=("*@example.com",),
    )


class _Boxed(MemoryIntake):
    """Puts what is stored into the box of their handler, if it has one."""

    def __init__(self, folder: Path, handler: Any) -> None:
        super().__init__(folder)
        self.handler = handler

    def accept(
        self, message: Message, addresses: Any, done: Callable[[Problem | None], None]
    ) -> None:
        def boxed(problem: Problem | None) -> None:
            if problem is None and hasattr(self.handler, "box"):
                envelope = Envelope()
                envelope.mail_from = message.envelope_sender
                envelope.rcpt_tos = list(addresses)
                envelope.content = whole(message.body)
                self.handler.box.append(envelope)
            done(problem)

        super().accept(message, addresses, boxed)


class Controller:
    """What their tests use of one."""

    def __init__(self, folder: Path, listener: Listener, handler: Any, *, max_size: int) -> None:
        self.handler = handler
        self.listener = listener
        self.hostname = "127.0.0.1"
        self.port = 0
        self._folder = folder
        self._config = configuration(on=[listener], of=[_sender()], max_size=max_size)
        self._loop = uvloop.new_event_loop()
        self._end = asyncio.Event()
        self._started = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def start(self) -> None:
        self._thread.start()
        assert self._started.wait(PATIENCE)
        ADDRESS.set_addr_from(self)

    def _run(self) -> None:
        try:
            self._loop.run_until_complete(self._serve())
        finally:
            self._loop.close()
            self._started.set()

    async def _serve(self) -> None:
        intake = _Boxed(self._folder, self.handler)
        async with open_gate(self._folder, self._config, intake=intake) as gate:
            self.port = gate.ports["theirs"]
            self._started.set()
            await self._end.wait()

    def stop(self) -> None:
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._end.set)
            self._thread.join(PATIENCE)
            assert not self._thread.is_alive()


class AnyText(bytes):
    """The text of a reply, which is no matter: only codes are compared."""

    __hash__ = bytes.__hash__

    def __eq__(self, other: object) -> bool:
        return True

    def __ne__(self, other: object) -> bool:
        return False


class Client(smtplib.SMTP):
    """A client of smtplib's whose replies equal all replies of the same code."""

    codes: tuple[int, ...] = ()  # of all replies

    def getreply(self) -> tuple[int, bytes]:
        code, text = super().getreply()
        self.codes += (code,)
        return code, AnyText(text)


class TlsClient(Client, smtplib.SMTP_SSL):
    """The same, with TLS from the first octet."""


def connect(listener: Listener) -> Client:
    """A client of that listener, at the address that their tests keep."""
    host, port = ADDRESS.SrvAddr
    if listener.tls.mode is not TlsMode.IMPLICIT:
        return Client(host, port, timeout=PATIENCE)
    context = ssl.create_default_context(cadata=listener.tls.certificates[0].chain)
    context.check_hostname = False
    return TlsClient(host, port, timeout=PATIENCE, context=context)
