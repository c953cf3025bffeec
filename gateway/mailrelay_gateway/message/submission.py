"""Corrections of a submission's header (RFC 6409 section 8), so that a message has each field once
and no private fields. Pure.

Rule 1: what can be corrected without changing what a reader sees is corrected; anything else is
refused with an explanation (docs/adr/0025).
Rule 2: a header that needs no correction is not changed by a single octet; headers.py detects this
in its one pass.
"""

from __future__ import annotations

import re

from mailrelay_gateway.message.headers import (
    ONCE,
    REMOVED,
    Header,
    is_message_id,
    unfold,
)

#: RFC 5322 section 2.1.1: octets of a line without its CRLF.
MAX_LINE = 998
#: Where an overlong header line is folded: with a margin for programs that count CRLF or more.
FOLD_AT = 900

# Fields that can be merged, since they are lists of addresses (RFC 5322 section 4.5.3).
_COMBINED = frozenset({b"to", b"cc"})
# Fields that hold addresses.
_ADDRESSES = frozenset(
    b"from to cc reply-to sender resent-from resent-to resent-cc resent-sender".split()
)
_BLANK = re.compile(rb"[ \t]")
# Fields of which one non-empty one is kept.
_DATED = frozenset({b"date", b"message-id"})
# A field with its folded lines, without the last line end.
_FIELD = re.compile(rb"([!-9;-~]+)[ \t]*:([^\r]*(?:\r\n[ \t][^\r]*)*)\r\n")


def mend(content: bytes, header: Header, *, without_sender: bool) -> bytes | str:
    """The message with its header corrected, or why that is not possible, as a sentence.

    `content` begins with the whole header, which is well-formed; `without_sender` removes the
    Sender fields.
    """
    fields: list[tuple[bytes, bytes]] = []  # kind and octets without the last line end
    first: dict[bytes, int] = {}  # where the first of a kind stands
    for match in _FIELD.finditer(content[header.begin : header.end] + header.line_end):
        kind, body = match[1].lower(), match[2]
        if kind in REMOVED or (kind == b"sender" and without_sender) or _says_nothing(kind, body):
            continue
        at = first.setdefault(kind, len(fields))
        if at == len(fields) or kind not in ONCE:
            fields.append((kind, match[0][:-2]))
        elif kind in _COMBINED:
            fields[at] = (kind, _combine(fields[at][1], body))
        elif kind not in _DATED and unfold(body) != unfold(fields[at][1].partition(b":")[2]):
            name = match[1].decode("ascii")
            return f"The header has two fields {name} that differ: RFC 5322 section 3.6 allows one"
    lines: list[bytes] = []
    for kind, field in fields:
        if len(field) > MAX_LINE:
            for line in field.split(b"\r\n"):
                folded = fold(line, at_commas=kind in _ADDRESSES)
                if folded is None:
                    return (
                        f"A header line has {len(line)} octets and no blank where it could be"
                        f" folded: a line has at most {MAX_LINE}"
                    )
                lines += folded
        else:
            lines.append(field)
    lines.append(b"")
    return b"\r\n".join(lines) + content[header.end :]


def fold(line: bytes, *, at_commas: bool = False) -> list[bytes] | None:
    """An overlong header line folded before blanks, so that it unfolds unchanged. `at_commas`: a
    list of addresses, where a blank may be inserted after a comma. None if it cannot be folded.
    """
    if len(line) <= MAX_LINE:
        return [line]
    # Outer blanks are insignificant, and a blank line would end the header for some readers.
    line = b" " + line.strip(b" \t") if line[:1] in b" \t" else line.rstrip(b" \t")
    if line == b" ":
        return []
    pieces = []
    while len(line) > MAX_LINE:
        at = max(line.rfind(b" ", 2, FOLD_AT), line.rfind(b"\t", 2, FOLD_AT))
        if at < 0:
            blank = _BLANK.search(line, FOLD_AT, MAX_LINE + 1)
            at = -1 if blank is None else blank.start()
        comma = line.rfind(b",", 2, FOLD_AT) if at_commas and at < 0 else -1
        if comma >= 0:
            pieces.append(line[: comma + 1])
            line = b" " + line[comma + 1 :]
        elif at >= 0:
            pieces.append(line[:at])
            line = line[at:]
        else:
            return None
    pieces.append(line)
    return pieces


def _says_nothing(kind: bytes, body: bytes) -> bool:
    if kind == b"message-id":
        return not is_message_id(unfold(body))
    return kind == b"date" and not unfold(body)


def _combine(field: bytes, body: bytes) -> bytes:
    """A field with another's list of addresses appended."""
    more = body.strip(b" \t\r\n")
    if not more:
        return field
    if not field.partition(b":")[2].strip(b" \t\r\n"):
        return field + b" " + more
    return field.rstrip(b" \t\r\n,") + b",\r\n " + more
