"""The server's side of SASL PLAIN (RFC 4616) and LOGIN (draft-murchison-sasl-login), as steps over
lines. Pure.

Only the exchange: whether a password is right is decided elsewhere.
"""

from __future__ import annotations

import binascii
from base64 import b64encode
from dataclasses import dataclass, field

from mailrelay_gateway.reasons import Reason
from mailrelay_gateway.smtp.refusal import Problem, refuse

MECHANISMS = ("PLAIN", "LOGIN")

#: Octets of a username or a password: what fits a line of RFC 4954 section 4 (12,288 octets of
#: base64), since a bearer token may be as long; it also bounds what gets hashed.
MAX_CREDENTIAL = 9216


@dataclass(frozen=True, slots=True)
class Exchange:
    """An AUTH in progress: its mechanism and, for LOGIN, the username once received."""

    mechanism: str
    username: str | None = None


@dataclass(frozen=True, slots=True)
class Challenge:
    """Send `334 prompt` (already base64) and continue with `exchange` at the client's next line."""

    prompt: str
    exchange: Exchange


@dataclass(frozen=True, slots=True)
class Credentials:
    """The client's credentials."""

    mechanism: str
    username: str
    password: str = field(repr=False)


Step = Challenge | Credentials | Problem

_LOGIN_USERNAME = b64encode(b"Username:").decode()
_LOGIN_PASSWORD = b64encode(b"Password:").decode()


def begin(argument: bytes) -> Step:
    """The argument of AUTH: `MECHANISM [initial-response]` (RFC 4954 section 4); "=" is an empty
    response.
    """
    words = argument.split()
    if not 1 <= len(words) <= 2:
        return refuse(Reason.SYNTAX, remedy="Write AUTH PLAIN or AUTH LOGIN")
    mechanism = words[0].decode("ascii", "replace").upper()
    if mechanism not in MECHANISMS:
        offered = " and ".join(MECHANISMS)
        return refuse(Reason.AUTH_MECHANISM, offered=offered)
    exchange = Exchange(mechanism)
    if len(words) == 2:
        return advance(exchange, b"" if words[1] == b"=" else words[1])
    return Challenge("" if mechanism == "PLAIN" else _LOGIN_USERNAME, exchange)


def advance(exchange: Exchange, line: bytes) -> Step:
    """The next step after the client's answer `line`, without its line end."""
    if line == b"*":
        return refuse(Reason.AUTH_FAILED, "cancelled")
    try:
        response = binascii.a2b_base64(line, strict_mode=True)
        text = response.decode("utf-8")
    except (binascii.Error, UnicodeDecodeError):
        return refuse(Reason.SYNTAX, "login", remedy="The response is not base64 of UTF-8")
    return _PLAIN_OR_LOGIN[exchange.mechanism](exchange, text)


def _plain(exchange: Exchange, text: str) -> Step:
    # RFC 4616:  message = [authzid] NUL authcid NUL passwd
    parts = text.split("\0")
    if len(parts) != 3 or not parts[1]:
        return refuse(Reason.SYNTAX, "login", remedy="PLAIN is base64 of NUL username NUL password")
    authzid, username, password = parts
    if authzid not in ("", username):
        return refuse(Reason.AUTH_FAILED, "authzid")
    return _credentials(exchange.mechanism, username, password)


def _login(exchange: Exchange, text: str) -> Step:
    if exchange.username is None:
        return Challenge(_LOGIN_PASSWORD, Exchange(exchange.mechanism, text))
    return _credentials(exchange.mechanism, exchange.username, text)


def _credentials(mechanism: str, username: str, password: str) -> Step:
    if max(len(username), len(password)) > MAX_CREDENTIAL:
        return refuse(
            Reason.SYNTAX,
            "login",
            remedy=f"Username and password have at most {MAX_CREDENTIAL} octets",
        )
    return Credentials(mechanism, username, password)


_PLAIN_OR_LOGIN = {"PLAIN": _plain, "LOGIN": _login}
