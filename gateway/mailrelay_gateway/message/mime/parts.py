"""Takes a message apart as it streams by: headers, bodies of leaves, and what lies between. Pure.

Rule 1: what is held back between two feeds is at most a header or a line that may be a boundary,
        however the octets are cut.
Rule 2: whatever is handed over is handed over once and in order: together it is the message.
Rule 3: what MIME lets nobody change (multipart/signed, multipart/encrypted: RFC 1847 section 2) is
        one opaque part.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum, auto
from typing import Protocol

#: Multiparts and messages inside each other; mail programs read a few dozen at most.
MAX_DEPTH = 50
#: Headers of parts that a message may have; an honest one has some hundred.
MAX_PARTS = 2000
#: Octets of a part's header: as much as intake lets a message have.
MAX_PART_HEADER = 256 * 1024
#: Octets of a boundary: 70 by RFC 2046 section 5.1.1; a line of legal length has room for it.
MAX_BOUNDARY = 900
#: Octets of a line that may be one, with blanks after it.
MAX_DELIMITER = 998

#: Encodings that readers decode. With any other word the octets are the content, as Python's email
#: and most readers take it (`utf-8` and `8-bit` are common there).
ENCODED = frozenset(b"quoted-printable base64 x-uuencode uuencode x-uue uue".split())

_FIELD_LINE = re.compile(rb"[!-9;-~\x80-\xff]+[ \t]*:|[ \t]")
_TYPE = re.compile(rb"\r\ncontent-type[ \t]*:([^\r]*(?:\r\n[ \t][^\r]*)*)", re.IGNORECASE)
_ENCODING = re.compile(
    rb"\r\ncontent-transfer-encoding[ \t]*:([^\r]*(?:\r\n[ \t][^\r]*)*)", re.IGNORECASE
)
_TYPE_NAME = re.compile(rb"[ \t\r\n]*([!-'*-.0-:<-~]+/[!-'*-:<-~]+)")
_BOUNDARY = re.compile(
    rb";[ \t\r\n]*boundary[ \t]*=[ \t\r\n]*(?:\"((?:[^\"\\]|\\.)*)\"|([^;\" \t\r\n]+))",
    re.IGNORECASE | re.DOTALL,
)
_WORD = re.compile(rb"[^ \t\r\n;()]+")


class Kind(Enum):
    """What a part is made of."""

    LEAF = auto()
    MULTIPART = auto()
    MESSAGE = auto()  # another message: message/rfc822 and its like
    SEALED = auto()  # a multipart that nobody may change


@dataclass(frozen=True, slots=True)
class Part:
    """One part, as its header describes it. `number` counts them in order; 0 is the message."""

    number: int
    whole: bool  # a message's header, not only a part's
    kind: Kind
    type: bytes  # in lower case, such as b"text/plain"; b"": not said
    encoding: bytes  # of Content-Transfer-Encoding, in lower case; b"": not said


class TooComplex(ValueError):
    """More parts, deeper or with longer headers than anybody sends."""


class Visitor(Protocol):
    """Who is told of a message's pieces, in order."""

    def header(self, part: Part, octets: bytes) -> None:
        """A header with its line ends, without the empty line after it, which may be missing."""
        ...

    def body(self, octets: bytes) -> None:
        """The next octets of the body of the last part, a leaf or a sealed one."""
        ...

    def end_body(self, *, last: bool) -> None:
        """That body has ended; `last`: with the message, else a boundary follows. A line end in
        front of a boundary belongs to that.
        """
        ...

    def boundary(self, octets: bytes) -> None:
        """A boundary with its line ends."""
        ...

    def between(self, octets: bytes) -> None:
        """What no reader shows: it stands before the first boundary, or after the last."""
        ...

    def barren(self) -> None:
        """A multipart has ended without any boundary: what came after its header is `between`,
        and yet the only thing that readers can show.
        """
        ...


@dataclass(slots=True)
class _Multipart:
    boundary: bytes
    digest: bool  # what is in it is a message, unless it says otherwise
    depth: int
    begun: bool = False  # one of its boundaries has come


class _State(Enum):
    HEADER = auto()
    BODY = auto()
    BETWEEN = auto()


class PartReader:
    """Reads one message: `feed` its octets (CRLF line ends), then `finish`."""

    __slots__ = (
        "_buffer",
        "_depth",
        "_digest",
        "_header",
        "_header_octets",
        "_inside",
        "_line_start",
        "_number",
        "_state",
        "_visitor",
        "_whole",
    )

    def __init__(self, visitor: Visitor) -> None:
        """Begin before the first octet of the message's header."""
        self._visitor = visitor
        self._buffer = b""
        self._header: list[bytes] = []
        self._header_octets = 0
        self._whole = True
        self._inside: list[_Multipart] = []
        self._state = _State.HEADER
        self._depth = 0
        self._digest = False
        self._number = -1
        self._line_start = True

    def feed(self, octets: bytes) -> None:
        """The next octets."""
        self._buffer += octets
        self._work(final=False)

    def finish(self) -> None:
        """There are no more."""
        self._work(final=True)
        if self._state is _State.HEADER:
            self._end_header()
        if self._state is _State.BODY:
            self._visitor.end_body(last=True)
        self._end_multiparts(self._inside)

    def _work(self, *, final: bool) -> None:
        going_on = True
        while going_on:
            if self._state is _State.HEADER:
                going_on = self._read_header(final=final)
            else:
                going_on = self._read_content(final=final)

    # --- headers

    def _read_header(self, *, final: bool) -> bool:
        """Take lines up to the end of the header; False: more octets are needed."""
        buffer, position = self._buffer, 0
        while True:
            end = buffer.find(b"\r\n", position)
            if end < 0 and not (final and position < len(buffer)):
                break
            line = buffer[position:] if end < 0 else buffer[position:end]
            if not line:
                self._buffer = buffer[end + 2 :]
                self._end_header()
                return True
            if self._boundary_of(line) is not None or _FIELD_LINE.match(line) is None:
                # A boundary ends a part that has no body; anything else begins one.
                self._buffer = buffer[position:]
                self._end_header()
                return True
            position = len(buffer) if end < 0 else end + 2
            self._header.append(line + b"\r\n")
            self._header_octets += len(line) + 2
            if self._header_octets > MAX_PART_HEADER:
                raise TooComplex("the header of a part is too long")
        self._buffer = buffer[position:]
        if len(self._buffer) > MAX_PART_HEADER:
            raise TooComplex("a header line of a part is too long")
        return False

    def _end_header(self) -> None:
        octets = b"".join(self._header)
        self._header, self._header_octets = [], 0
        self._number += 1
        if self._number >= MAX_PARTS:
            raise TooComplex(f"more than {MAX_PARTS} parts")
        type_, boundary = _read_type(octets)
        encoding = _read_encoding(octets)
        if not type_ and self._digest:
            type_ = b"message/rfc822"
        kind = _kind(type_, boundary, encoding)
        part = Part(self._number, self._whole, kind, type_, encoding)
        self._visitor.header(part, octets)
        self._whole = kind is Kind.MESSAGE
        if kind in (Kind.MULTIPART, Kind.MESSAGE):
            self._depth += 1
            if self._depth > MAX_DEPTH:
                raise TooComplex(f"parts inside each other more than {MAX_DEPTH} deep")
        self._digest = False
        self._line_start = True
        if kind is Kind.MULTIPART:
            digest = type_ == b"multipart/digest"
            self._inside.append(_Multipart(boundary, digest, self._depth))
            self._state = _State.BETWEEN
        elif kind is Kind.MESSAGE:
            self._state = _State.HEADER
        else:
            self._state = _State.BODY

    # --- bodies, and what is between them

    def _read_content(self, *, final: bool) -> bool:
        """Hand over what comes before the next boundary, and that; False: more is needed."""
        buffer = self._buffer
        if not self._inside:
            self._give(buffer)
            self._buffer = b""
            return False
        at = -2 if self._line_start and b"--".startswith(buffer[:2]) else buffer.find(b"\r\n--")
        while at != -1:
            end = buffer.find(b"\r\n", at + 2)
            if end < 0 and not final and len(buffer) - at < MAX_DELIMITER:
                self._hold_from(at)
                return False
            line = buffer[at + 2 :] if end < 0 else buffer[at + 2 : end]
            found = self._boundary_of(line)
            if found is not None:
                self._pass_boundary(max(at, 0), len(buffer) if end < 0 else end + 2, found)
                return True
            at = buffer.find(b"\r\n--", at + 2 if at >= 0 else 0)
        if final:
            self._give(buffer)
            self._buffer = b""
        else:
            self._hold_from(len(buffer) - _prefix(buffer))
        return False

    def _hold_from(self, at: int) -> None:
        """Hand over what stands before `at`, and keep the rest."""
        if at > 0:
            self._give(self._buffer[:at])
            self._buffer = self._buffer[at:]

    def _pass_boundary(self, at: int, after: int, found: tuple[int, bool]) -> None:
        """The boundary of the multipart `found` lies between `at` and `after`."""
        level, closes = found
        buffer = self._buffer
        self._give(buffer[:at])
        if self._state is _State.BODY:
            self._visitor.end_body(last=False)
        self._visitor.boundary(buffer[at:after])
        self._buffer = buffer[after:]
        multipart = self._inside[level]
        multipart.begun = True
        self._end_multiparts(self._inside[level + 1 :])
        del self._inside[level if closes else level + 1 :]
        self._depth = multipart.depth - closes
        self._whole = False
        self._line_start = True
        if closes:
            self._state = _State.BETWEEN
        else:
            self._digest = multipart.digest
            self._state = _State.HEADER

    def _end_multiparts(self, ended: Sequence[_Multipart]) -> None:
        for multipart in ended:
            if not multipart.begun:
                self._visitor.barren()

    def _give(self, octets: bytes) -> None:
        if not octets:
            return
        self._line_start = octets.endswith(b"\r\n")
        if self._state is _State.BODY:
            self._visitor.body(octets)
        else:
            self._visitor.between(octets)

    def _boundary_of(self, line: bytes) -> tuple[int, bool] | None:
        """Which multipart's boundary a line is, the innermost first, and whether it closes it."""
        if line[:2] != b"--":
            return None
        name = line[2:].rstrip(b" \t")
        for level in range(len(self._inside) - 1, -1, -1):
            boundary = self._inside[level].boundary
            if name == boundary:
                return level, False
            if name == boundary + b"--":
                return level, True
        return None


def _prefix(buffer: bytes) -> int:
    """How many octets at the end may be the beginning of CRLF "--"."""
    for length in (3, 2, 1):
        if buffer[-length:] == b"\r\n-"[:length]:
            return length
    return 0


def _kind(type_: bytes, boundary: bytes, encoding: bytes) -> Kind:
    if type_ in (b"multipart/signed", b"multipart/encrypted"):
        return Kind.SEALED
    if boundary:
        return Kind.MULTIPART
    if type_ in (b"message/rfc822", b"message/global", b"message/news") and (
        encoding not in ENCODED
    ):
        return Kind.MESSAGE
    return Kind.LEAF


def _read_type(header: bytes) -> tuple[bytes, bytes]:
    """The media type, and the boundary of a multipart; b"" where there is none."""
    field = _TYPE.search(b"\r\n" + header)
    if field is None:
        return b"", b""
    name = _TYPE_NAME.match(field[1])
    type_ = b"" if name is None else name[1].lower()
    if not type_.startswith(b"multipart/"):
        return type_, b""
    found = _BOUNDARY.search(field[1])
    if found is None:
        return type_, b""
    boundary = found[2] or re.sub(rb"\\(.)", rb"\1", found[1] or b"").replace(b"\r\n", b"")
    boundary = boundary.rstrip()
    usable = boundary.isascii() and len(boundary) <= MAX_BOUNDARY
    return type_, boundary if usable else b""


def _read_encoding(header: bytes) -> bytes:
    field = _ENCODING.search(b"\r\n" + header)
    word = None if field is None else _WORD.search(field[1])
    return b"" if word is None else word[0].lower()
