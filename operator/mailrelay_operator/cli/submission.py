"""Submitting one message as a mail program would: connect, TLS, AUTH, envelope, data.

The network part of `mailrelay send`. Each refusal keeps its stage and the server's reply verbatim;
what to do about it stands in `advice`.
"""

from __future__ import annotations

import re
import smtplib
import socket
import ssl
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from urllib.parse import unquote, urlsplit

from mailrelay_gateway.contract.documents import TlsMode
from mailrelay_gateway.contract.pem import PemProblem, read_bundle

#: Seconds for each step; the reply to the final dot comes after an fsync, not after a delivery.
DEADLINE = 30.0
_QUEUE_ID = re.compile(r"\b[0-9A-HJKMNP-TV-Z]{26}\b")
_REASON = re.compile(r"\(([A-Z][A-Za-z]+)\)\s*$")


class Stage(StrEnum):
    """How far a submission came."""

    CONNECT = "connecting"
    TLS = "TLS"
    AUTH = "AUTH"
    MAIL = "MAIL"
    RCPT = "RCPT"
    DATA = "DATA"


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """Where to submit, and as whom; `ca` is a PEM file instead of the system's certificates."""

    host: str
    port: int
    tls: TlsMode
    server_name: str = ""  # what the certificate has to carry, where it is not `host`
    ca: str = ""
    username: str = ""
    password: str = ""

    def __str__(self) -> str:
        """`127.0.0.1:2525 (StartTLS) as default.demo`; never the password."""
        login = f" as {self.username}" if self.username else ""
        return f"{self.host}:{self.port} ({self.tls}){login}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """The message was accepted; `queue_id` is empty where the reply names none of our form."""

    reply: str
    queue_id: str


class Refused(Exception):
    """The message was not accepted: at which stage, and the reply in the server's words."""

    def __init__(self, stage: Stage, reply: str) -> None:
        """Keep stage and reply."""
        super().__init__(f"{stage}: {reply}")
        self.stage = stage
        self.reply = reply

    @property
    def reason(self) -> str:
        """The reason word at the end of our gateway's replies; "" where there is none."""
        found = _REASON.search(self.reply)
        return found[1] if found else ""

    @property
    def is_temporary(self) -> bool:
        """Whether the reply says to try again later."""
        return self.reply.startswith("4")


def parse_url(url: str, *, ca: str = "") -> Target:
    """`smtp://USER:PASSWORD@HOST:PORT` (STARTTLS) or `smtps://` (TLS at once); ValueError."""
    parts = urlsplit(url)
    if parts.scheme not in ("smtp", "smtps") or not parts.hostname:
        raise ValueError(
            f"{hide_password(url)!r} is no address of a mail server; it is written like"
            " smtp://USER:PASSWORD@HOST:587 (STARTTLS) or smtps://USER:PASSWORD@HOST:465"
        )
    implicit = parts.scheme == "smtps"
    return Target(
        host=parts.hostname,
        port=parts.port or (465 if implicit else 587),
        tls=TlsMode.IMPLICIT if implicit else TlsMode.START_TLS,
        ca=ca,
        username=unquote(parts.username or ""),
        password=unquote(parts.password or ""),
    )


def hide_password(url: str) -> str:
    """The URL with its password blotted out, for messages."""
    return re.sub(r"(://[^:/@]*):[^@/]*@", r"\1:***@", url)


def submit(target: Target, *, sender: str, recipients: list[str], message: bytes) -> Receipt:
    """Submit one message over one connection; Refused says why it was not accepted."""
    client = _connect(target)
    try:
        _check(Stage.CONNECT, client.ehlo())
        if target.tls is TlsMode.START_TLS:
            _start_tls(client, target)
        if target.username:
            _log_in(client, target)
        _check(Stage.MAIL, client.mail(sender, [f"SIZE={len(message)}"]))
        for recipient in recipients:
            _check(Stage.RCPT, client.rcpt(recipient))
        try:
            code, text = client.data(message)
        except smtplib.SMTPDataError as error:
            code, text = error.smtp_code, _octets(error.smtp_error)
        reply = _check(Stage.DATA, (code, text))
        found = _QUEUE_ID.search(reply)
        return Receipt(reply=reply, queue_id=found[0] if found else "")
    except smtplib.SMTPServerDisconnected as error:
        raise Refused(Stage.DATA, f"the server closed the connection ({error})") from None
    except OSError as error:
        raise Refused(Stage.DATA, f"the connection broke ({error})") from None
    finally:
        client.close()


class _Client(smtplib.SMTP):
    """Connects to the target's address and verifies its server name."""

    def __init__(self, target: Target) -> None:
        self._target = target
        super().__init__(target.server_name or target.host, target.port, timeout=DEADLINE)

    def _get_socket(self, _host: str, _port: int, timeout: float) -> socket.socket:
        return socket.create_connection((self._target.host, self._target.port), timeout)


class _TlsClient(_Client):
    """The same with TLS from the start."""

    def _get_socket(self, host: str, port: int, timeout: float) -> socket.socket:
        plain = super()._get_socket(host, port, timeout)
        return _context(self._target).wrap_socket(plain, server_hostname=host)


def _connect(target: Target) -> smtplib.SMTP:
    try:
        return _TlsClient(target) if target.tls is TlsMode.IMPLICIT else _Client(target)
    except ssl.SSLError as error:
        raise Refused(Stage.TLS, _tls_trouble(error)) from None
    except smtplib.SMTPResponseException as error:
        raise Refused(Stage.CONNECT, _reply(error.smtp_code, error.smtp_error)) from None
    except smtplib.SMTPException as error:
        raise Refused(Stage.CONNECT, str(error)) from None
    except OSError as error:
        raise Refused(Stage.CONNECT, error.strerror or str(error)) from None


def _start_tls(client: smtplib.SMTP, target: Target) -> None:
    if not client.has_extn("starttls"):
        raise Refused(Stage.TLS, "the server does not offer STARTTLS")
    try:
        _check(Stage.TLS, client.starttls(context=_context(target)))
    except ssl.SSLError as error:
        raise Refused(Stage.TLS, _tls_trouble(error)) from None
    _check(Stage.TLS, client.ehlo())


def _log_in(client: smtplib.SMTP, target: Target) -> None:
    try:
        client.login(target.username, target.password)
    except smtplib.SMTPResponseException as error:
        raise Refused(Stage.AUTH, _reply(error.smtp_code, error.smtp_error)) from None
    except smtplib.SMTPException as error:
        raise Refused(Stage.AUTH, str(error)) from None


def _context(target: Target) -> ssl.SSLContext:
    if not target.ca:
        return ssl.create_default_context()
    try:
        text = Path(target.ca).read_text(encoding="utf-8", errors="replace")
        return ssl.create_default_context(cadata=read_bundle(text, field=target.ca).pem)
    except PemProblem as problem:
        raise Refused(Stage.TLS, f"the CA file {problem}") from None
    except (OSError, ssl.SSLError) as error:
        raise Refused(Stage.TLS, f"the CA file {target.ca} cannot be used ({error})") from None


def _tls_trouble(error: ssl.SSLError) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"the server's certificate was not accepted: {error.verify_message}"
    return f"no TLS with the server: {error.reason or error}"


def _check(stage: Stage, answer: tuple[int, bytes]) -> str:
    code, text = answer
    reply = _reply(code, text)
    if not 200 <= code < 400:
        raise Refused(stage, reply)
    return reply


def _reply(code: int, text: bytes | str) -> str:
    shown = text.decode("utf-8", "replace") if isinstance(text, bytes) else text
    return f"{code} {' '.join(shown.split())}"


def _octets(text: bytes | str) -> bytes:
    return text.encode() if isinstance(text, str) else text
