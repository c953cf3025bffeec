"""Submits one message as a mail client would: connect, TLS, AUTH, envelope, data.

The network part of `mailrelay send`. Each refusal keeps its stage and the server's reply verbatim;
what to do about it is in `advice`.
"""

from __future__ import annotations

import re
import smtplib
import socket
import ssl
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

from mailrelay_gateway.contract.documents import TlsMode
from mailrelay_gateway.contract.pem import PemProblem, read_bundle
from mailrelay_gateway.contract.stage import Stage

#: Seconds for each step; the final reply follows an fsync, not a delivery.
DEADLINE = 30.0
_QUEUE_ID = re.compile(r"\b[0-9A-HJKMNP-TV-Z]{26}\b")
_REASON = re.compile(r"\(([A-Z][A-Za-z]+)\)\s*$")


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """Where to submit, and with which login; `ca` is PEM to trust instead of the system's CAs."""

    host: str
    port: int
    tls: TlsMode
    server_name: str = ""  # the name that the certificate must be valid for, if not `host`
    ca: str = ""
    username: str = ""
    password: str = ""

    def __str__(self) -> str:
        """`127.0.0.1:2525 (StartTLS) as default.demo`; never the password."""
        login = f" as {self.username}" if self.username else ""
        return f"{self.host}:{self.port} ({self.tls}){login}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """The message was accepted; `queue_id` is empty if the reply has none of the gateway's form."""

    reply: str
    queue_id: str


class Refused(Exception):
    """The message was not accepted: the stage, and the server's verbatim reply. `remedy` is what to
    do, if it depends on this client."""

    def __init__(self, stage: Stage, reply: str, *, remedy: str = "") -> None:
        """Keep stage, reply and remedy."""
        super().__init__(f"{stage}: {reply}")
        self.stage = stage
        self.reply = reply
        self.remedy = remedy

    @property
    def reason(self) -> str:
        """The reason at the end of the gateway's reply; "" if there is none."""
        found = _REASON.search(self.reply)
        return found[1] if found else ""

    @property
    def is_temporary(self) -> bool:
        """Whether the reply says to try again later."""
        return self.reply.startswith("4")


def parse_url(url: str, *, ca: str = "") -> Target:
    """`smtp://USER:PASSWORD@HOST:PORT` (STARTTLS) or `smtps://` (implicit TLS); raises
    ValueError."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:  # its text may contain a part of the password
        parts, port = None, None
    rest = (parts.path.strip("/") or parts.query or parts.fragment) if parts else ""
    if (
        parts is None
        or parts.scheme not in ("smtp", "smtps")
        or not parts.hostname
        or rest
        or port == 0
    ):
        raise ValueError(
            f"{hide_password(url)!r} is not the URL of a mail server; write"
            " smtp://USER:PASSWORD@HOST:587 (STARTTLS) or smtps://USER:PASSWORD@HOST:465 (implicit"
            " TLS), with / ? # in user or password as %2F %3F %23"
        )
    implicit = parts.scheme == "smtps"
    return Target(
        host=parts.hostname,
        port=port or (465 if implicit else 587),
        tls=TlsMode.IMPLICIT if implicit else TlsMode.START_TLS,
        ca=ca,
        username=unquote(parts.username or ""),
        password=unquote(parts.password or ""),
    )


def hide_password(url: str) -> str:
    """The URL with its password replaced, for messages."""
    return re.sub(r"(://[^:@]*):.*@", r"\1:***@", url)


def submit(target: Target, *, sender: str, recipients: list[str], message: bytes) -> Receipt:
    """Submit one message over one connection; raises Refused if it is not accepted."""
    client = _connect(target)
    stage = Stage.EHLO
    try:
        _check(stage, client.ehlo())
        if target.tls is TlsMode.START_TLS:
            stage = Stage.STARTTLS
            _start_tls(client, target)
        if target.username:
            stage = Stage.AUTH
            _log_in(client, target)
        stage = Stage.MAIL
        _check(stage, client.mail(sender, [f"SIZE={len(message)}"]))
        stage = Stage.RCPT
        for recipient in recipients:
            _check(stage, client.rcpt(recipient))
        stage = Stage.DATA
        try:
            answer = client.data(message)
        except smtplib.SMTPDataError as error:
            raise Refused(stage, _reply(error.smtp_code, error.smtp_error)) from None
        reply = _check(Stage.END_OF_MESSAGE, answer)
        found = _QUEUE_ID.search(reply)
        return Receipt(reply=reply, queue_id=found[0] if found else "")
    except smtplib.SMTPServerDisconnected as error:
        raise Refused(stage, f"the server closed the connection ({_words(error)})") from None
    except OSError as error:
        raise Refused(stage, f"the connection broke ({_words(error)})") from None
    finally:
        client.close()


class _Client(smtplib.SMTP):
    """An SMTP client that verifies the target's server name."""

    def __init__(self, target: Target) -> None:
        self._target = target
        super().__init__(target.server_name or target.host, target.port, timeout=DEADLINE)

    def _get_socket(self, _host: str, _port: int, timeout: float) -> socket.socket:
        return socket.create_connection((self._target.host, self._target.port), timeout)


class _TlsClient(_Client):
    """The same with implicit TLS."""

    def _get_socket(self, host: str, port: int, timeout: float) -> socket.socket:
        plain = super()._get_socket(host, port, timeout)
        return _context(self._target).wrap_socket(plain, server_hostname=host)


def _connect(target: Target) -> smtplib.SMTP:
    try:
        return _TlsClient(target) if target.tls is TlsMode.IMPLICIT else _Client(target)
    except ssl.SSLError as error:
        raise _tls_trouble(error, target) from None
    except smtplib.SMTPResponseException as error:
        raise Refused(Stage.CONNECT, _reply(error.smtp_code, error.smtp_error)) from None
    except (smtplib.SMTPServerDisconnected, TimeoutError) as error:
        # The client waits for a greeting while the server waits for a TLS handshake.
        raise Refused(Stage.CONNECT, _words(error), remedy=_MAYBE_IMPLICIT) from None
    except smtplib.SMTPException as error:
        raise Refused(Stage.CONNECT, _words(error)) from None
    except (socket.gaierror, UnicodeError) as error:
        raise Refused(
            Stage.CONNECT, _words(error), remedy=f"Check the host name {target.host}."
        ) from None
    except OSError as error:
        raise Refused(Stage.CONNECT, _words(error)) from None


def _start_tls(client: smtplib.SMTP, target: Target) -> None:
    if not client.has_extn("starttls"):
        raise Refused(Stage.STARTTLS, "the server does not offer STARTTLS", remedy=_NO_TLS)
    try:
        _check(Stage.STARTTLS, client.starttls(context=_context(target)))
    except ssl.SSLError as error:
        raise _tls_trouble(error, target) from None
    _check(Stage.EHLO, client.ehlo())


def _log_in(client: smtplib.SMTP, target: Target) -> None:
    try:
        client.login(target.username, target.password)
    except smtplib.SMTPResponseException as error:
        raise Refused(Stage.AUTH, _reply(error.smtp_code, error.smtp_error)) from None
    except smtplib.SMTPException as error:
        raise Refused(Stage.AUTH, _words(error)) from None
    except UnicodeError:
        raise Refused(
            Stage.AUTH, "user and password must be ASCII", remedy="Log in with another client."
        ) from None


def read_authorities(file: str) -> str:
    """The certificates of a PEM file; raises ValueError with what is wrong."""
    try:
        text = Path(file).read_text(encoding="utf-8", errors="replace")
        pem = read_bundle(text, field=file).pem
        ssl.create_default_context(cadata=pem)
    except PemProblem as problem:
        raise ValueError(str(problem)) from None
    except OSError as error:
        raise ValueError(f"{file}: {_words(error)}") from None
    return pem


def _context(target: Target) -> ssl.SSLContext:
    return ssl.create_default_context(cadata=target.ca or None)


_NO_TLS = (
    "`mailrelay send --url` submits over TLS only, so that no password is sent in cleartext. For a"
    " mailrelay listener without TLS use --data instead."
)
_MAYBE_IMPLICIT = (
    "The port may use implicit TLS: try smtps:// instead of smtp://. Or no mail server listens"
    " there."
)
_NOT_IMPLICIT = "The port does not use implicit TLS: use smtp:// (STARTTLS) instead of smtps://."
#: OpenSSL's verification errors (x509_vfy.h).
_SELF_SIGNED, _EXPIRED, _NOT_YET, _WRONG_NAMES = 18, 10, 9, (62, 64)


def _tls_trouble(error: ssl.SSLError, target: Target) -> Refused:
    if not isinstance(error, ssl.SSLCertVerificationError):
        plain = target.tls is TlsMode.IMPLICIT and error.reason in (
            "WRONG_VERSION_NUMBER",
            "RECORD_LAYER_FAILURE",
            "PACKET_LENGTH_TOO_LONG",
        )
        return Refused(
            Stage.TLS,
            f"the TLS handshake failed: {error.reason or _words(error)}",
            remedy=_NOT_IMPLICIT if plain else "",
        )
    reply = f"the server's certificate is not trusted: {error.verify_message}"
    code = error.verify_code
    if code in _WRONG_NAMES:
        remedy = "Connect with a host name that the certificate is valid for."
    elif code == _EXPIRED:
        remedy = "Renew the server's certificate, or correct this machine's clock."
    elif code == _NOT_YET:
        remedy = "Wait until the certificate is valid, or correct this machine's clock."
    elif target.ca:
        remedy = (
            "The certificate was not issued by the CA in this file. The CA of `mailrelay up` is in"
            " DATA/ca.crt; in a cluster it is ca.crt in the MailSender's Secret."
        )
    elif code == _SELF_SIGNED:
        remedy = "The certificate is self-signed: save it to a file and pass that with --ca FILE."
    else:
        remedy = (
            "Trust the relay's own CA with --ca FILE (`mailrelay up` prints which; in a cluster it"
            " is ca.crt in the MailSender's Secret)."
        )
    return Refused(Stage.TLS, reply, remedy=remedy)


def _words(error: Exception) -> str:
    """The text of an error, without numbers and brackets; never empty."""
    return getattr(error, "strerror", None) or str(error) or type(error).__name__


def _check(stage: Stage, answer: tuple[int, bytes]) -> str:
    code, text = answer
    reply = _reply(code, text)
    if not 200 <= code < 400:
        raise Refused(stage, reply)
    return reply


def _reply(code: int, text: bytes | str) -> str:
    shown = text.decode("utf-8", "replace") if isinstance(text, bytes) else text
    return f"{code} {' '.join(shown.split())}"
