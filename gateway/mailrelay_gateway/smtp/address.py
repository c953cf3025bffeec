"""The grammar of addresses and paths (RFC 5321 section 4.1.2), as named patterns over octets. Pure.

Only grammar lives here: whose address it is and who may use it is policy. The patterns are strict
where an address could be read in two ways (brackets, quotes, control characters), and lenient where
mail in the wild is: dots anywhere in a local part (docomo.ne.jp), underscores in host names.
"""

from __future__ import annotations

import re
from functools import cache
from ipaddress import IPv4Address, IPv6Address

from mailrelay_gateway.smtp.idn import a_labels

#: RFC 5321 section 4.5.3.1.2.
MAX_DOMAIN = 255
#: 64 + "@" + 255: what section 4.5.3.1 adds up to. Its own 64 for the local part is too short for
#: VERP and BATV.
MAX_ADDRESS = 320

# RFC 5321:  Dot-string = Atom *("." Atom)          -- here dots are allowed anywhere
_DOT_STRING = rb"[A-Za-z0-9!#$%&'*+/=?^_`{|}~.-]+"
# RFC 5321:  Quoted-string = DQUOTE *( qtextSMTP / quoted-pairSMTP ) DQUOTE
_QUOTED = rb'"(?:[\x20\x21\x23-\x5b\x5d-\x7e]|\\[\x20-\x7e])*"'
# RFC 5321:  sub-domain = Let-dig [Ldh-str]          -- here also "_"
_LABEL = rb"[A-Za-z0-9](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9])?"
_DOMAIN = _LABEL + rb"(?:\." + _LABEL + rb")*"
# RFC 5321:  address-literal = "[" ( IPv4 / IPv6: / General ) "]"; no tag but IPv6 was ever
# registered. Whether it is an IP address is checked apart (section 4.1.3).
_LITERAL = rb"\[[A-Za-z0-9.:-]{2,80}\]"
# RFC 5321:  A-d-l = At-domain *( "," At-domain )    -- a source route: accepted and ignored
# (appendix C)
_ROUTE = rb"(?:@" + _DOMAIN + rb"(?:,@" + _DOMAIN + rb")*:)?"
_MAILBOX = rb"(?:" + _DOT_STRING + rb"|" + _QUOTED + rb")@(?:" + _DOMAIN + rb"|" + _LITERAL + rb")"

#: `<a@b>`, `<>`, or, as old devices send it, `a@b` without brackets; groups `boxed`, `bare`, `rest`
#: (parameters).
PATH = re.compile(
    rb"[ \t]*(?:<" + _ROUTE + rb"(?P<boxed>" + _MAILBOX + rb")?>|(?P<bare>" + _MAILBOX + rb"))"
    rb"[ \t]*(?:(?<=[ \t])(?P<rest>[!-~][ -~\t]*))?"
)
_ADDRESS = re.compile(_MAILBOX)


@cache
def _utf8_path() -> re.Pattern[bytes]:
    """PATH with what RFC 6531 section 3.3 adds: octets above 127 in local parts and domains, whose
    characters are looked at afterwards. Seldom needed.
    """
    high = rb"\x80-\xff"
    local = (
        rb"(?:["
        + high
        + _DOT_STRING[1:]
        + rb"|"
        + _QUOTED.replace(rb"[\x20", rb"[" + high + rb"\x20", 1)
        + rb")"
    )
    domain = (
        rb"[" + high + rb"A-Za-z0-9](?:[" + high + rb"A-Za-z0-9._-]*[" + high + rb"A-Za-z0-9])?"
    )
    mailbox = local + rb"@(?:" + domain + rb"|" + _LITERAL + rb")"
    return re.compile(
        rb"[ \t]*(?:<(?P<boxed>" + mailbox + rb")>|(?P<bare>" + mailbox + rb"))"
        rb"[ \t]*(?:(?<=[ \t])(?P<rest>[!-~][ -~\t]*))?"
    )


def split_path(argument: bytes) -> tuple[str, str] | None:
    """What follows `FROM:` or `TO:` as (address, parameters); address "" is the null path. None: it
    does not match the grammar.
    """
    match = PATH.fullmatch(argument)
    if match is None:
        return None if argument.isascii() else _split_utf8_path(argument)
    boxed, bare, rest = match.groups()
    octets = boxed or bare or b""
    if len(octets) > MAX_DOMAIN and (
        len(octets) > MAX_ADDRESS or len(octets) - octets.rfind(b"@") - 1 > MAX_DOMAIN
    ):
        return None
    address = octets.decode("ascii")
    if address[-1:] == "]" and not _ends_in_literal(address):
        return None
    return address, rest.decode("ascii") if rest else ""


def _split_utf8_path(argument: bytes) -> tuple[str, str] | None:
    """The same for an address that is not ASCII; its domain comes as A-labels."""
    match = _utf8_path().fullmatch(argument)
    if match is None:
        return None
    try:
        address = utf8_address((match["boxed"] or match["bare"]).decode())
    except UnicodeDecodeError:
        return None
    rest = match["rest"]
    return None if address is None else (address, rest.decode("ascii") if rest else "")


def utf8_address(text: str) -> str | None:
    """An address of RFC 6531, with its domain as A-labels; None: invalid. Invisible characters
    (controls, unusual spaces) could make it look like another one.
    """
    local, at, domain = text.rpartition("@")
    ascii_domain = a_labels(domain)
    if not at or ascii_domain is None or not all(each.isprintable() for each in local):
        return None
    address = f"{local}@{ascii_domain}"
    if address.isascii():
        return address if is_address(address) else None
    match = _utf8_path().fullmatch(f"<{address}>".encode())
    too_long = len(address.encode()) > MAX_ADDRESS
    return None if match is None or too_long or address[-1] == "]" else address


def is_address(text: str) -> bool:
    """Whether `text` is one address of the grammar, `local@domain`, within its lengths."""
    return (
        text.isascii()
        and len(text) <= MAX_ADDRESS
        and len(text) - text.rfind("@") - 1 <= MAX_DOMAIN
        and _ADDRESS.fullmatch(text.encode("ascii")) is not None
        and (text[-1] != "]" or _ends_in_literal(text))
    )


def _ends_in_literal(address: str) -> bool:
    """Whether the part in brackets at the end is an IP address (RFC 5321 section 4.1.3)."""
    literal = address[address.rfind("[") + 1 : -1]
    try:
        if literal[:5].lower() == "ipv6:":
            IPv6Address(literal[5:])
        else:
            IPv4Address(literal)
    except ValueError:
        return False
    return True
