"""Requests to Microsoft Graph's sendMail. Pure.

sendMail knows no envelope: it sends to whoever is named in To, Cc and Bcc. The header's recipients
must therefore be those of the attempt.

https://learn.microsoft.com/graph/api/user-sendmail
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from email.errors import HeaderParseError
from email.utils import formataddr, getaddresses
from urllib.parse import quote

from mailrelay_gateway.message.submission import fold
from mailrelay_gateway.smtp.idn import a_labels

#: Octets of a message: a request has at most 4 MB, in base64.
MOST_OCTETS = 3 * 1024 * 1024
#: Recipients of a message at Exchange Online, at most.
MOST_RECIPIENTS = 500

_NAMING = frozenset({b"to", b"cc", b"bcc", b"resent-to", b"resent-cc", b"resent-bcc"})
_FIELD = re.compile(rb"([!-9;-~]+)[ \t]*:([^\r\n]*(?:\r\n[ \t][^\r\n]*)*)(?:\r\n|\Z)")
# RFC 2047 section 2. Without the characters that a phrase may not have as they are; only Q can
# have a dot.
_ENCODED_WORD = re.compile(r"=\?[A-Za-z0-9_*-]+\?[BbQq]\?[!#-'*+./-9=A-Z^-~-]*\?=")
_ATOM = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+")


class EnvelopeMismatch(Exception):
    """The header names somebody who is no recipient of the attempt; the message says who."""


def send_path(mailbox: str) -> str:
    """The path of sendMail for a mailbox."""
    return f"/v1.0/users/{quote(mailbox, safe='')}/sendMail"


def addressed(header: bytes, recipients: Sequence[str], *, rewrite: bool) -> bytes:
    """The header (whole lines, without the empty one after it) with exactly these recipients.

    Who is named only in the envelope goes into Bcc. `rewrite`: others are taken out of To and Cc;
    without it, EnvelopeMismatch. A header that names the recipients already is not changed.
    """
    wanted = {_key(address): address for address in recipients}
    named: set[str] = set()
    fields: list[bytes] = []
    for match in _FIELD.finditer(header):
        kind = match[1].lower()
        if kind not in _NAMING:
            fields.append(match[0].removesuffix(b"\r\n"))
            continue
        found = _mailboxes(match[2])
        kept = [pair for pair in found or () if _key(pair[1]) in wanted]
        if not rewrite and (found is None or len(kept) < len(found)):
            raise EnvelopeMismatch(_mismatch(match[1].decode(), found, wanted))
        if kind.startswith(b"resent-") or kind == b"bcc":
            # Graph may send to a Resent-To as well, and ours is one Bcc.
            continue
        if found and len(kept) == len(found):
            fields.append(match[0].removesuffix(b"\r\n"))
        elif kept:
            ascii_ = [(name, one if one.isascii() else wanted[_key(one)]) for name, one in kept]
            fields += _field(match[1], ascii_)
        named.update(_key(address) for _, address in kept)
    blind = [address for key, address in wanted.items() if key not in named]
    if blind:
        fields += _field(b"Bcc", [("", address) for address in blind])
    return b"".join(field + b"\r\n" for field in fields)


def _key(address: str) -> str:
    """What is the same for one mailbox. The envelope has A-labels, a header may have U-labels."""
    local, at, domain = address.rpartition("@")
    return f"{local}{at}{a_labels(domain) or domain}".casefold()


def _mailboxes(body: bytes) -> list[tuple[str, str]] | None:
    """Name and address of each mailbox; None when they cannot be read for certain."""
    text = body.replace(b"\r\n", b"").decode("utf-8", "replace").strip()
    if "@" not in text and "=?" not in text:
        return []  # such as `undisclosed-recipients:;`
    try:
        found = getaddresses([text])
    except (HeaderParseError, ValueError):
        return None
    # An empty pair is how getaddresses says that it cannot read the field.
    return None if any("@" not in address for _, address in found) else found


def _mismatch(name: str, found: Iterable[tuple[str, str]] | None, wanted: Iterable[str]) -> str:
    if found is None:
        return f"its header {name} cannot be read for certain"
    known = set(wanted)
    other = next(address for _, address in found if _key(address) not in known)
    return f"its header {name} names {other[:320]}, who is not a recipient of this delivery"


def _field(name: bytes, mailboxes: Iterable[tuple[str, str]]) -> list[bytes]:
    body = b",\r\n ".join(_mailbox(*pair) for pair in mailboxes)
    lines: list[bytes] = []
    for line in (name + b": " + body).split(b"\r\n"):
        lines += fold(line, at_commas=True) or [line]
    return lines


def _mailbox(name: str, address: str) -> bytes:
    if "=?" in name and name.isascii() and address.isascii():
        return f"{' '.join(map(_word, name.split()))} <{address}>".encode()
    try:
        return formataddr((name, address)).encode("ascii")
    except UnicodeError:  # a UTF-8 address
        return f"<{address}>".encode()


def _word(word: str) -> str:
    """A word of a display name. Nobody decodes an encoded word between quotes."""
    if _ENCODED_WORD.fullmatch(word):
        return word.replace(".", "=2E")
    return word if _ATOM.fullmatch(word) else '"' + re.sub(r'([\\"])', r"\\\1", word) + '"'
