"""Examines a message's header without parsing all of it: which fields it has, and who it claims to
be from. Pure.

The hot path is one search for the header's end and one pattern over it; the email package is never
used. If two programs could read a header differently, both readings count: a field that any of them
may take for a From is treated as one.
"""

from __future__ import annotations

import re
from base64 import b64decode
from typing import NamedTuple

from mailrelay_gateway.smtp.address import is_address, utf8_address

#: Octets of a header; Gmail's limit is 500 KB, Postfix's header_size_limit 102400. It may contain
#: many Received fields.
MAX_HEADER = 240 * 1024
#: Octets of a From's body that are examined; a few dozen mailboxes with their names fit.
MAX_FROM = 8 * 1024
#: Mailboxes in a From: RFC 5322 allows many, but no honest message has more than a few.
MAX_MAILBOXES = 50

#: Fields that stay with us: they would show blind copies to everybody, or claim a return path
#: (Postfix, message_drop_headers), or are said to us.
REMOVED = frozenset({b"bcc", b"resent-bcc", b"return-path", b"x-mailrelay-class"})

#: Fields of which a header has at most one (RFC 5322 section 3.6).
ONCE = frozenset(
    b"from sender reply-to to cc message-id in-reply-to references subject date".split()
)

# RFC 5322 section 2.2: field = name ":" body, folded where a line begins with a blank; blanks
# before ":" are obsolete syntax (section 4.5) that some programs still accept. One pass finds the
# fields we look for, and lines that are not fields.
_NO_FIELD = rb"\r\n(?![!-9;-~]+[ \t]*:|[ \t]|\Z)"
_FIELDS = re.compile(
    rb"\r\n(?:(from|date|message-id|received|sender|bcc|resent-bcc|return-path|x-mailrelay-class)"
    rb"[ \t]*:([^\r]*(?:\r\n[ \t][^\r]*)*)|(?![!-9;-~]+[ \t]*:|[ \t]|\Z))",
    re.IGNORECASE,
)
# The others that may occur once, in lower case: only their number matters.
_OTHERS = re.compile(rb"\r\n(?:to|cc|subject|reply-to|in-reply-to|references)(?=[ \t]*:)")
# RFC 5322 section 3.6.4: msg-id, perhaps with a comment after it. Lenient inside the brackets, as
# ids in practice are.
_MESSAGE_ID = re.compile(rb"<[^<>]*[^<> \t][^<>]*>[ \t]*(?:\(.*\))?")
_SIGNED = re.compile(
    rb"\r\n(?:dkim-signature[ \t]*:|content-type[ \t]*:\s*multipart/(?:signed|encrypted)\b)",
    re.IGNORECASE,
)
# What a mailbox file has before each message, as in Postfix. "From :" is a field.
_MAILBOX_LINE = re.compile(rb">?From [ \t]*(?![ \t:])[^\r]*\r\n")


class Header(NamedTuple):
    """What we need to know about a header."""

    froms: tuple[bytes, ...]  # the bodies of all From fields, unfolded
    message_id: str  # "" if missing or empty
    has_date: bool  # one that is not empty
    received: int  # how many Received fields
    fault: str  # what is malformed, as a sentence; "" if nothing is
    senders: tuple[bytes, ...] = ()  # the bodies of all Sender fields, unfolded
    mend: bool = False  # whether it needs corrections (submission.py)
    begin: int = 0  # where it begins: after the line of a mailbox file, if any
    end: int = 0  # where it ends: at the empty line, or with the message
    line_end: bytes = b""  # what its last line lacks
    bulk: bool = False  # it asks for the class Bulk


def read_header(content: bytes) -> Header:
    """Examine the header of a message (CRLF line endings, no bare ones), given its first octets or
    all of it.

    A message may end with its header. The header is everything before the first empty line.
    """
    begin = 0
    if content.startswith((b"From ", b">From ")):
        mailbox_line = _MAILBOX_LINE.match(content)
        if mailbox_line is not None:
            begin = mailbox_line.end()
    if content[begin : begin + 2] == b"\r\n":
        return Header((), "", False, 0, "", mend=begin > 0, begin=begin, end=begin)
    end = content.find(b"\r\n\r\n", begin, begin + MAX_HEADER + 4)
    if end < 0 and len(content) - begin > MAX_HEADER:
        return Header((), "", False, 0, f"The header is longer than {MAX_HEADER} octets")
    end = len(content) if end < 0 else end + 2
    header = b"\r\n" + content[begin:end]
    line_end = b"" if header[-2:] == b"\r\n" else b"\r\n"
    header += line_end
    froms: list[bytes] = []
    senders: list[bytes] = []
    message_id, received, ids, dates, empty = "", 0, 0, 0, 0
    removed = bulk = False
    fault = "" if header[2:3] not in (b" ", b"\t") else _fault(1)
    for name, body in _FIELDS.findall(header):
        kind = name.lower()
        if kind == b"received":
            received += 1
        elif kind == b"from":
            froms.append(unfold(body))
        elif kind == b"date":
            dates += 1
            if not body.strip(b" \t\r\n"):
                empty += 1
        elif kind == b"message-id":
            ids += 1
            value = unfold(body)
            if not message_id and is_message_id(value):
                message_id = value.decode("ascii", "replace")[:255]
        elif kind == b"sender":
            senders.append(unfold(body))
        elif kind:
            removed = True
            if kind == b"x-mailrelay-class":
                bulk = bulk or unfold(body).lower() == b"bulk"
        elif not fault:
            line = re.search(_NO_FIELD, header)
            assert line is not None  # the other pattern found it
            fault = _fault(header.count(b"\r\n", 0, line.start()) + (2 if begin else 1))
    others = _OTHERS.findall(header.lower())
    return Header(
        tuple(froms),
        message_id,
        dates > empty,
        received,
        fault,
        tuple(senders),
        # What is missing is not corrected here: it is added in front.
        removed
        or begin > 0
        or empty > 0
        or (ids > 0 and (ids > 1 or not message_id))
        or dates > 1
        or len(froms) > 1
        or len(senders) > 1
        or (len(others) > 1 and len(set(others)) < len(others)),
        begin,
        end,
        line_end,
        bulk,
    )


def is_message_id(value: bytes) -> bool:
    """Whether the unfolded body of a Message-ID field contains an id."""
    # What almost every one looks like, before what else is legal.
    if value[:1] == b"<" and value.find(b">") == len(value) - 1 and value.find(b"<", 1) < 0:
        return value[1:-1].strip(b" \t") != b""
    return _MESSAGE_ID.fullmatch(value) is not None


def is_signed(header: bytes) -> bool:
    """Whether re-encoding the body would break a signature that the header announces: DKIM, or a
    signed or encrypted multipart. `header` are whole lines.
    """
    return _SIGNED.search(b"\r\n" + header) is not None


def unfold(value: bytes) -> bytes:
    """The body of a field without its folding and outer blanks."""
    return (value.replace(b"\r\n", b"") if b"\r" in value else value).strip(b" \t")


def _fault(line: int) -> str:
    return (
        f"Line {line} of the message is no header field, and no empty line came before it:"
        " put one between the header and the body"
    )


# --- mailboxes of a From field (RFC 5322 section 3.4)

# What almost every From looks like: `a@b`, `<a@b>`, `Some Name <a@b>`, `"Some, Name" <a@b>`. No
# comment, no list.
_ATOM = rb'[^<>()@,:;"\\\[\] \t\x00-\x1f]+'
_PLAIN_ADDRESS = rb"(" + _ATOM + rb"@[A-Za-z0-9._-]+)"
_NAME = rb'(?:"(?:[^"\\\x00-\x1f]|\\[ -~])*"[ \t]*|[^"\x00-\x1f\\<>()@,:;\[\]]*)'
_SIMPLE = re.compile(_NAME + rb"<" + _PLAIN_ADDRESS + rb">|" + _PLAIN_ADDRESS)
# Encoded words: the text of those in Q, and of those in B.
_ENCODED = re.compile(rb"=\?[^?]*\?(?:[qQ]\?([^?]*)|[bB]\?([^?]*))")
_Token = tuple[str, bytes]  # kind and octets
_AT, _COLON, _SEMICOLON = ("special", b"@"), ("special", b":"), ("special", b";")
_END_OF_LIST = ("end", b"")
_SEPARATORS = frozenset({("special", b","), _COLON, _SEMICOLON, _END_OF_LIST})
# Tokens of everything else. A quoted string directly before "@" is a local part.
_TOKENS = re.compile(
    rb'(?P<quoted>"(?:[^"\\]|\\.)*")'
    rb"|(?P<blank>[ \t]+)"
    rb"|(?P<special>[<>,:;@()])"
    rb"|(?P<literal>\[[^\[\]\\]*\])"
    rb"|(?P<atom>[^\"<>,:;@()\[\]\\ \t\x00-\x1f]+)"
)


def read_mailboxes(value: bytes, *, utf8: bool = False) -> tuple[str, ...] | None:
    """Every address that a program may see in a From's body, in order; None if it cannot be parsed
    with certainty.

    Display names in quotes and comments are not addresses; an address in a display name without
    quotes counts as one, since some programs show or use it. `utf8`: addresses may be UTF-8 (RFC
    6532); their domains are returned as A-labels.
    """
    simple = _SIMPLE.fullmatch(value)
    if simple is not None:
        only = _address(simple[1] or simple[2], utf8)
        return None if only is None else (only,)
    tokens = _tokenize(value) if len(value) <= MAX_FROM else None
    if tokens is None:
        return None
    found: list[str] = []
    element: list[_Token] = []
    in_group = after_group = False
    for token in (*tokens, ("end", b"")):
        if token not in _SEPARATORS:
            element.append(token)
            continue
        # A colon ends a group's name (`Board: a@b, c@d;`): no address may be in it.
        is_name = token == _COLON
        addresses = _read_element(element, utf8, is_name=is_name)
        if addresses is None or len(found) + len(addresses) > MAX_MAILBOXES:
            return None
        # Groups do not nest, have a name, and end in a semicolon, after which only a comma or the
        # end is allowed: a program that parses it differently sees other mailboxes.
        if (
            (is_name and (in_group or not element))
            or (token == _SEMICOLON and not in_group)
            or (token == _END_OF_LIST and in_group)
            or (after_group and element)
        ):
            return None
        in_group = is_name or (in_group and token != _SEMICOLON)
        after_group = token == _SEMICOLON
        found += addresses
        element = []
    return tuple(found)


def _address(octets: bytes, utf8: bool) -> str | None:
    text = octets.decode("utf-8", "replace")
    if utf8 and not text.isascii() and "\ufffd" not in text:
        return utf8_address(text)
    return text if is_address(text) else None


def _read_element(tokens: list[_Token], utf8: bool, *, is_name: bool) -> list[str] | None:
    """The addresses in one element of the list: `local@domain` or `phrase <local@domain>`. None:
    neither.
    """
    while tokens and tokens[-1][0] == "blank":
        tokens.pop()
    while tokens and tokens[0][0] == "blank":
        del tokens[0]
    if not tokens:
        return []
    if ("special", b"<") not in tokens:
        if is_name:
            return _read_phrase(tokens, utf8)
        return _read_address(tokens, utf8)
    opening = tokens.index(("special", b"<"))
    if tokens[-1] != ("special", b">"):
        return None
    phrase = _read_phrase(tokens[:opening], utf8)
    address = _read_address(tokens[opening + 1 : -1], utf8)
    return None if phrase is None or address is None else phrase + address


def _read_address(tokens: list[_Token], utf8: bool) -> list[str] | None:
    """Exactly one address, without blanks, routes and comments in it: programs parse those
    differently.
    """
    if (
        len(tokens) != 3
        or tokens[0][0] not in ("atom", "quoted")
        or tokens[1] != ("special", b"@")
        or tokens[2][0] not in ("atom", "literal")
    ):
        return None
    address = _address(b"".join(octets for _, octets in tokens), utf8)
    return None if address is None else [address]


def _read_phrase(tokens: list[_Token], utf8: bool) -> list[str] | None:
    """The addresses in a display name without quotes: usually none."""
    found: list[str] = []
    for position, token in enumerate(tokens):
        if token == _AT:
            address = _read_address(tokens[max(position - 1, 0) : position + 2], utf8)
            if address is None:
                return None
            found += address
        elif token[0] == "special":
            return None
    if any(token == _AT or token[0] == "literal" for token in tokens) and any(
        _hides_at(octets) for kind, octets in tokens if kind != "special"
    ):
        # This is not a phrase, and Python's email then takes what is quoted or encoded beside it
        # for the address: `"one@example.com"[x]<two@example.net>`.
        return None
    return found


def _hides_at(octets: bytes) -> bool:
    """Whether an "@" is quoted or encoded (RFC 2047) in a token."""
    for q, b in _ENCODED.findall(octets):
        try:
            if b"=40" in q or b"@" in b64decode(b):
                return True
        except ValueError:
            return True
    return b"@" in octets


def _tokenize(value: bytes) -> list[_Token] | None:
    """The tokens of a From's body without comments; None if a quote or a comment does not end."""
    tokens: list[_Token] = []
    position = 0
    while position < len(value):
        if value[position : position + 1] == b"(":
            position = _end_of_comment(value, position)
            if position < 0:
                return None
            tokens.append(("blank", b" "))
            continue
        match = _TOKENS.match(value, position)
        if match is None or match[0] == b")":
            return None
        position = match.end()
        kind = match.lastgroup
        assert kind is not None  # each alternative is a group
        tokens.append((kind, match[0]))
    return tokens


def _end_of_comment(value: bytes, position: int) -> int:
    """The end of the comment that begins at `position`; comments nest (RFC 5322 section 3.2.2). -1:
    it does not end.
    """
    depth = 0
    while position < len(value):
        octet = value[position : position + 1]
        if octet == b"\\":
            position += 1
        elif octet == b"(":
            depth += 1
        elif octet == b")":
            depth -= 1
            if depth == 0:
                return position + 1
        position += 1
    return -1
