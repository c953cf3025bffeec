"""A header made ASCII: encoded words (RFC 2047), parameters in percent encoding (RFC 2231), domains
as A-labels, for servers that take nothing else. Pure.

A field that is ASCII is not touched. What has no ASCII form is shown to people and to no program:
an address as an empty group (RFC 6857 section 3.1.8), any other field as `Downgraded-NAME`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from urllib.parse import quote_from_bytes

#: The charset of octets that are no UTF-8 (RFC 1428 section 3).
UNKNOWN = "unknown-8bit"
#: Characters of an encoded word: 75 may be (RFC 2047 section 2), and 76 on a line with the name of
#: its field.
MAX_WORD = 58
#: Characters of a parameter's value in one piece (RFC 2231 section 3).
MAX_PIECE = 60

#: Fields whose content is addresses.
ADDRESSES = frozenset(
    b"from sender reply-to to cc bcc resent-from resent-sender resent-to resent-cc resent-bcc"
    b" resent-reply-to return-receipt-to disposition-notification-to errors-to mail-followup-to"
    b" mail-reply-to delivered-to apparently-to".split()
)
#: Fields that have parameters.
PARAMETERS = frozenset(b"content-type content-disposition".split())
#: Fields in which an encoded word would mean nothing to the programs that read them.
STRUCTURED = frozenset(
    b"message-id in-reply-to references resent-message-id received return-path date resent-date"
    b" mime-version content-transfer-encoding content-id content-location content-language"
    b" dkim-signature domainkey-signature arc-seal arc-message-signature arc-authentication-results"
    b" authentication-results received-spf auto-submitted precedence list-id list-help"
    b" list-subscribe list-unsubscribe list-unsubscribe-post list-post list-owner list-archive"
    b" original-recipient".split()
)

_FIELD = re.compile(rb"([^\x00-\x20:\x7f]+)([ \t]*):((?:[^\r]|\r(?!\n)|\r\n[ \t])*)(\r\n|\Z)")
_HIGH = rb"[^ \t\r\n\x80-\xff]*[\x80-\xff][^ \t\r\n]*"
# Words that are not ASCII, with the blanks in front. It matches only from the first octet of blanks
# or of a word: tried at each octet of a long word, it would take the square of its length.
_RUN = re.compile(
    rb"(\r\n[ \t]*|(?<![ \t\n])[ \t]+|(?<![^ \t\r\n]))"
    rb"(" + _HIGH + rb"(?:(?:\r\n)?[ \t]+" + _HIGH + rb")*)"
)
_FOLD = re.compile(rb"\r\n(?=[ \t])")
# RFC 2047 section 5 (3): what may stand as it is in an encoded word anywhere.
_PLAIN = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789!*+-/")
_TOKEN = re.compile(
    rb"(?P<quoted>\"(?:[^\"\\]|\\.)*\")"
    rb"|(?P<comment>\((?:[^()\\]|\\.|\((?:[^()\\]|\\.)*\))*\))"
    rb"|(?P<angle><(?:\"(?:[^\"\\]|\\.)*\"|[^<>\"])*>)"
    rb"|(?P<comma>,)|(?P<colon>:)|(?P<semicolon>;)"
    rb"|(?P<blank>[ \t]+)"
    rb"|(?P<atom>[^ \t\"(),:;<>]+|.)",
    re.DOTALL,
)
_PARAMETER = re.compile(
    rb";([ \t\r\n]*)([^=; \t\r\n]+)[ \t]*=[ \t]*(\"(?:[^\"\\]|\\.)*\"|[^;\r\n]*)", re.DOTALL
)

#: A domain in its ASCII form; None: it has none.
Domains = Callable[[str], str | None]


def no_domains(domain: str) -> str | None:
    """Knows no A-labels."""
    del domain
    return None


def ascii_header(header: bytes, domains: Domains = no_domains) -> bytes:
    """A header with each field in ASCII. `header` are whole lines without the empty one."""
    if header.isascii():
        return header
    fields = []
    at = 0
    while at < len(header):
        match = _FIELD.match(header, at)
        if match is None:  # no field: a line that readers skip
            end = header.find(b"\r\n", at)
            end = len(header) if end < 0 else end + 2
            fields.append(_questioned(header[at:end]))
            at = end
            continue
        field = match[0]
        at = match.end()
        fields.append(
            field
            if field.isascii()
            else _ascii_field(match[1], match[2], match[3], domains) + match[4]
        )
    return b"".join(fields)


def _ascii_field(name: bytes, blank: bytes, value: bytes, domains: Domains) -> bytes:
    kind = name.lower()
    if not name.isascii():
        return b"Downgraded-Field: " + encoded_words(name + b":" + _unfolded(value))
    made: bytes | None
    if kind in ADDRESSES:
        made = _ascii_addresses(value, domains)
    elif kind in PARAMETERS:
        made = _ascii_parameters(value)
    elif kind in STRUCTURED:
        made = None
    else:
        made = _ascii_text(value)
    if made is None:
        return b"Downgraded-" + name + b": " + encoded_words(_unfolded(value).strip())
    return name + blank + b":" + made


def encoded_words(octets: bytes) -> bytes:
    """Text as encoded words, one on a line. Octets that are no UTF-8 stay what they are."""
    try:
        characters: Sequence[bytes] = [each.encode() for each in octets.decode()]
        begin = b"=?utf-8?q?"
    except UnicodeDecodeError:
        characters = [octets[at : at + 1] for at in range(len(octets))]
        begin = f"=?{UNKNOWN}?q?".encode()
    room = MAX_WORD - len(begin) - 2
    words = [b""]
    for character in characters:
        quoted = b"".join(
            bytes((octet,)) if octet in _PLAIN else b"_" if octet == 32 else b"=%02X" % octet
            for octet in character
        )
        if len(words[-1]) + len(quoted) > room:
            words.append(b"")
        words[-1] += quoted
    return b"\r\n ".join(begin + word + b"?=" for word in words)


# --- unstructured text


def _ascii_text(value: bytes) -> bytes:
    """Text with what is not ASCII in encoded words, each run of them on lines of its own."""

    def encode(found: re.Match[bytes]) -> bytes:
        blank = b"" if not found[1] else b" " if found.start() == 0 else b"\r\n "
        return blank + encoded_words(_unfolded(found[2]))

    return _RUN.sub(encode, value)


# --- addresses

_Token = tuple[str, bytes]


def _ascii_addresses(value: bytes, domains: Domains) -> bytes | None:
    """A list of mailboxes and groups; None: it cannot be read."""
    elements: list[tuple[list[_Token], bytes]] = []
    element: list[_Token] = []
    in_group = False
    for match in _TOKEN.finditer(_unfolded(value)):
        kind, octets = match.lastgroup or "", match[0]
        if kind in ("comma", "colon", "semicolon"):
            elements.append((element, octets))
            element = []
        elif octets in b'"()<>':
            return None  # what opened it does not close
        else:
            element.append((kind, octets))
    elements.append((element, b""))
    lines: list[bytes] = []
    for tokens, end in elements:
        made = _ascii_element(tokens, domains, is_name=end == b":", in_group=in_group)
        in_group = end == b":" or (in_group and end != b";")
        if made or end:
            lines.append(b" " + made + end)
    return b"\r\n".join(lines)


def _ascii_element(
    tokens: list[_Token], domains: Domains, *, is_name: bool, in_group: bool
) -> bytes:
    """One mailbox, or the name of a group."""
    text = b"".join(octets for _, octets in tokens).strip()
    if text.isascii():
        return text
    tokens = list(tokens)
    while tokens and tokens[-1][0] == "blank":
        tokens.pop()
    while tokens and tokens[0][0] == "blank":
        del tokens[0]
    angle = next((n for n, (kind, _) in enumerate(tokens) if kind == "angle"), -1)
    if is_name:
        return _ascii_phrase(tokens)
    if angle < 0:
        comments = [token for token in tokens if token[0] == "comment"]
        address = b"".join(o for kind, o in tokens if kind not in ("comment", "blank"))
        if b"@" not in address:
            return _ascii_phrase(tokens)
        made = _ascii_address(address, domains)
        if made is None:
            return b"" if in_group else encoded_words(text) + b" :;"
        return b" ".join([made, *(_ascii_phrase([each]) for each in comments)])
    phrase, rest = _ascii_phrase(tokens[:angle]), _ascii_phrase(tokens[angle + 1 :])
    made = _ascii_address(tokens[angle][1][1:-1], domains)
    if made is None:
        return b"" if in_group else encoded_words(text) + b" :;"
    return b" ".join(filter(None, (phrase, b"<" + made + b">", rest)))


def _ascii_address(address: bytes, domains: Domains) -> bytes | None:
    """An address with its domain in ASCII; None: its local part is not, or it has no such form."""
    if address.isascii():
        return address
    local, _, domain = address.strip(b" \t").rpartition(b"@")
    if not local.isascii():
        return None
    try:
        found = domains(domain.decode())
    except UnicodeDecodeError:
        return None
    return None if found is None else local + b"@" + found.encode()


def _ascii_phrase(tokens: Sequence[_Token]) -> bytes:
    """A display name, with its comments."""
    made: list[bytes] = []
    run: list[bytes] = []  # words that are not ASCII, next to each other

    def end_run() -> None:
        if run:
            made.append(encoded_words(b" ".join(run)))
            run.clear()

    for kind, octets in tokens:
        if kind == "blank":
            continue
        if octets.isascii():
            end_run()
            made.append(octets)
        elif kind == "comment":
            end_run()
            made.append(b"(" + encoded_words(_unescaped(octets[1:-1])) + b")")
        else:
            run.append(_unescaped(octets[1:-1]) if kind == "quoted" else octets)
    end_run()
    return b" ".join(made)


# --- parameters


def _ascii_parameters(value: bytes) -> bytes | None:
    """The parameters of Content-Type and Content-Disposition."""
    begin = _PARAMETER.search(value)
    if begin is None or not value[: begin.start()].isascii():
        return None
    made = _PARAMETER.sub(_ascii_parameter, value[begin.start() :])
    return value[: begin.start()] + _questioned(made)


def _ascii_parameter(found: re.Match[bytes]) -> bytes:
    if found[0].isascii() or not found[2].isascii():
        return found[0]
    name, value = found[2], found[3]
    if value[:1] == b'"':
        value = _unescaped(value[1:-1])
    value = _unfolded(value).strip()
    if name.endswith(b"*"):  # percent encoding that was not complete
        return b";\r\n " + name + b"=" + quote_from_bytes(value, safe="%'*").encode()
    charset = "utf-8"
    characters: Sequence[bytes]
    try:
        characters = [each.encode() for each in value.decode()]
    except UnicodeDecodeError:
        charset = UNKNOWN
        characters = [value[at : at + 1] for at in range(len(value))]
    pieces = [""]
    for character in characters:
        quoted = quote_from_bytes(character, safe="")
        if len(pieces[-1]) + len(quoted) > MAX_PIECE:
            pieces.append("")
        pieces[-1] += quoted
    if len(pieces) == 1:
        return b";\r\n " + name + f"*={charset}''{pieces[0]}".encode()
    return b"".join(
        b";\r\n "
        + name
        + f"*{number}*={charset + chr(39) * 2 if number == 0 else ''}{piece}".encode()
        for number, piece in enumerate(pieces)
    )


# --- octets


def _unfolded(value: bytes) -> bytes:
    return _FOLD.sub(b"", value)


def _unescaped(octets: bytes) -> bytes:
    return re.sub(rb"\\(.)", rb"\1", octets, flags=re.DOTALL)


#: What replaces an octet that has no ASCII form and carries no meaning.
_QUESTIONS = bytes(octet if octet < 128 else ord("?") for octet in range(256))


def _questioned(octets: bytes) -> bytes:
    return octets.translate(_QUESTIONS)
