"""The lines that the SMTP client sends, and what it reads from an EHLO reply. Pure functions over
values.

No line contains a control character: a CR or LF in an address would be a second command (aiosmtplib
GHSA-v3q9-hj7j-63hq).
"""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass

from mailrelay_gateway.smtp.dsn import DsnParameters, mail_arguments
from mailrelay_gateway.smtp.reply import Reply

#: Anything that could end a path or a command, or hide in one. Space and angle brackets are allowed
#: only inside quotes.
_SUSPICIOUS = re.compile(r"[\x00-\x20\x7f<>]")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_QUOTED_LOCAL_PART = re.compile(r'"(?:[^"\\]|\\.)*"@[^\s<>"]+', re.ASCII)
#: RFC 5321 section 4.5.3.1.3 allows 256 octets for a path; internationalised ones are longer.
#: Sendmail accepts 1024.
MAX_ADDRESS = 1024
#: RFC 6531 section 3.7.4.2: a non-ASCII address, and no SMTPUTF8 (RFC 3463, X.6.7).
NEEDS_SMTPUTF8 = "5.6.7"
#: Octets of a username or password. Access tokens used as passwords reach 4 KiB.
MAX_CREDENTIAL = 8192
#: Octets of a command line (RFC 5321 section 4.5.3.1.4).
MAX_COMMAND = 512


class UnsendableAddress(ValueError):
    """An address that cannot be sent in a command: `reply` is what the upstream would have to
    reply.
    """

    def __init__(self, reply: Reply) -> None:
        """Carry the reply for the outcome."""
        super().__init__(str(reply))
        self.reply = reply


@dataclass(frozen=True, slots=True, kw_only=True)
class Capabilities:
    """What the server offered in its latest EHLO reply. `size` is in octets; None: no limit or none
    given.
    """

    pipelining: bool = False
    starttls: bool = False
    eight_bit: bool = False
    smtputf8: bool = False
    dsn: bool = False
    size_known: bool = False
    size: int | None = None
    auth: frozenset[str] = frozenset()


def parse_capabilities(reply: Reply) -> Capabilities:
    """Read an EHLO reply (RFC 5321 section 4.1.1.1): one keyword per line after the first, in any
    case.
    """
    words: dict[str, list[str]] = {}
    auth: set[str] = set()
    for line in reply.text.split("\n")[1:]:
        # `AUTH=LOGIN PLAIN` is the form from before RFC 2554, which some servers still send beside
        # the right one.
        keyword, *parameters = line.upper().replace("AUTH=", "AUTH ", 1).split() or [""]
        if keyword == "AUTH":
            auth.update(parameters)
        words[keyword] = parameters
    sizes = words.get("SIZE") or [""]
    size = int(sizes[0]) if sizes[0].isascii() and sizes[0].isdigit() and len(sizes[0]) < 20 else 0
    return Capabilities(
        pipelining="PIPELINING" in words,
        starttls="STARTTLS" in words,
        eight_bit="8BITMIME" in words,
        smtputf8="SMTPUTF8" in words,
        dsn="DSN" in words,
        size_known="SIZE" in words,
        size=size or None,  # RFC 1870 section 3: 0 and nothing mean no fixed limit
        auth=frozenset(auth),
    )


def check_address(address: str, *, utf8: bool) -> None:
    """Make sure that an address may be put between angle brackets in a command; otherwise
    UnsendableAddress.

    `utf8`: the transaction uses SMTPUTF8 (RFC 6531).
    """
    if (
        _SUSPICIOUS.search(address) is not None
        and (_CONTROL.search(address) is not None or _QUOTED_LOCAL_PART.fullmatch(address) is None)
    ) or len(address) > MAX_ADDRESS:
        raise UnsendableAddress(
            Reply(553, "5.1.3", "the address cannot be sent: its syntax is invalid")
        )
    if not utf8 and not address.isascii():
        raise UnsendableAddress(
            Reply(
                553,
                NEEDS_SMTPUTF8,
                "the address is not ASCII, and the upstream does not take SMTPUTF8",
            )
        )


def mail_command(
    sender: str,
    capabilities: Capabilities,
    *,
    size: int,
    eight_bit: bool,
    smtputf8: bool,
    dsn: DsnParameters | None = None,
) -> str:
    """MAIL with the parameters that the server offered: SIZE (RFC 1870), BODY (RFC 6152), SMTPUTF8
    (RFC 6531), RET and ENVID (RFC 3461).

    A message above the server's SIZE is announced nevertheless: the server refuses it, in its own
    words, and no body is sent.
    """
    command = f"MAIL FROM:<{sender}>"
    if capabilities.size_known:
        command += f" SIZE={size}"
    if eight_bit and capabilities.eight_bit:
        command += " BODY=8BITMIME"
    if smtputf8 and capabilities.smtputf8:
        command += " SMTPUTF8"
    if dsn is not None and capabilities.dsn:
        command += mail_arguments(dsn)
    return command + "\r\n"


def envelope_commands(
    mail: str, recipients: Sequence[str], arguments: Sequence[str] | None = None
) -> bytes:
    """The whole envelope for one write: MAIL, every RCPT, DATA (RFC 2920). `arguments` follow the
    recipients' paths.
    """
    if arguments is not None:
        pairs = zip(recipients, arguments, strict=True)
        lines = "".join([f"RCPT TO:<{address}>{argument}\r\n" for address, argument in pairs])
        return f"{mail}{lines}DATA\r\n".encode()
    rcpts = ">\r\nRCPT TO:<".join(recipients)
    return f"{mail}RCPT TO:<{rcpts}>\r\nDATA\r\n".encode()


def rcpt_command(recipient: str, argument: str = "") -> bytes:
    """One RCPT."""
    return f"RCPT TO:<{recipient}>{argument}\r\n".encode()


def credential_defect(username: str, password: str) -> str:
    """Why a login cannot be used, as a sentence without the login in it; "" if it can."""
    for name, value in (("username", username), ("password", password)):
        if not value:
            return f"the {name} is empty"
        if value.endswith(("\n", "\r")):
            return (
                f"the {name} ends in a line break: write the Secret without it (printf, not echo)"
            )
        if _CONTROL.search(value):
            return f"the {name} contains a control character"
        if len(value) > MAX_CREDENTIAL:
            return f"the {name} has more than {MAX_CREDENTIAL} characters"
    return ""


def auth_plain_command(username: str, password: str) -> bytes:
    """AUTH PLAIN with its initial response (RFC 4616)."""
    return b"AUTH PLAIN " + auth_plain_line(username, password)


def auth_plain_line(username: str, password: str) -> bytes:
    """The response without the command, for a server that prompts for it."""
    return b64encode(f"\0{username}\0{password}".encode()) + b"\r\n"


def auth_line(value: str) -> bytes:
    """One answer in AUTH LOGIN."""
    return b64encode(value.encode()) + b"\r\n"


def xoauth2_response(username: str, token: str) -> str:
    """The client response of XOAUTH2 (Google's and Microsoft's), in base64."""
    return b64encode(f"user={username}\x01auth=Bearer {token}\x01\x01".encode()).decode()


def oauthbearer_response(username: str, token: str, host: str, port: int) -> str:
    """The client response of OAUTHBEARER (RFC 7628 section 3.1), in base64."""
    name = username.replace("=", "=3D").replace(",", "=2C")  # RFC 5801 section 4: a saslname
    words = f"n,a={name},\x01host={host}\x01port={port}\x01auth=Bearer {token}\x01\x01"
    return b64encode(words.encode()).decode()


def bearer_command(mechanism: str, response: str) -> bytes | None:
    """AUTH with its initial response; None if that would be a command line of more than 512 octets,
    which is not allowed (RFC 4954 section 4): then the server asks for it.
    """
    octets = f"AUTH {mechanism} {response}\r\n".encode()
    return octets if len(octets) <= MAX_COMMAND else None
