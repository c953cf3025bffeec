"""A message made 7-bit with lines of legal length, for a server without 8BITMIME (RFC 6152 section
3) or without SMTPUTF8 (RFC 6531). Pure.

Read twice as it streams: once to see what each part needs, once to write it. Memory holds a
number for each part and some lines, whatever the size. The bodies decode to what they did before;
parts that need nothing stay octet for octet.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import Enum, auto

from mailrelay_gateway.message.mime.encodings import (
    Base64,
    Encoder,
    MendedQuotedPrintable,
    QuotedPrintable,
    RewrappedBase64,
    Unchanged,
)
from mailrelay_gateway.message.mime.header import Domains, ascii_header, no_domains
from mailrelay_gateway.message.mime.parts import ENCODED, Kind, Part, PartReader, TooComplex
from mailrelay_gateway.message.submission import fold

#: RFC 5322 section 2.1.1: octets of a line without its CRLF.
MAX_LINE = 998
#: Text with more octets above 127 than one in so many is shorter in base64.
DENSE = 6

_HIGH = bytes(range(128, 256))
_SIGNED = re.compile(rb"(?:\A|\r\n)dkim-signature[ \t]*:", re.IGNORECASE)
_ENCODING = re.compile(
    rb"(?<=\r\n)content-transfer-encoding[ \t]*:(?:[^\r]|\r\n[ \t])*\r\n", re.IGNORECASE
)
_MIME = re.compile(rb"(?:\A|\r\n)mime-version[ \t]*:", re.IGNORECASE)


class Unconvertible(ValueError):
    """The message cannot be made 7-bit; the text says why, as a clause."""


class SignatureWouldBreak(Unconvertible):
    """It could, but a signature of its author's would no longer be valid."""


class Change(Enum):
    """What is done to one part."""

    KEEP = auto()
    RELABEL = auto()  # it calls itself 8bit and is 7bit, or will be
    QUOTED_PRINTABLE = auto()
    BASE64 = auto()
    MEND_QUOTED_PRINTABLE = auto()
    REWRAP_BASE64 = auto()


@dataclass(frozen=True, slots=True, kw_only=True)
class Needs:
    """What a server needs of a message, besides lines of legal length."""

    bodies: bool = True  # 7-bit bodies: it has no 8BITMIME
    headers: bool = True  # ASCII headers: it has no SMTPUTF8, or the message is none of that
    legal: bool = False  # 8 bits in the header are UTF-8 by RFC 6532: they may not stay there


ALL = Needs()


@dataclass(frozen=True, slots=True, kw_only=True)
class Survey:
    """What a message needs: a change for each part. `charset` is that of a message that says
    nothing of its content; "" where it does.
    """

    changes: tuple[Change, ...]
    charset: str
    between: bool  # what stands before and after the parts is not 7-bit, and is left out
    keep: bool  # it is signed, and nothing has to be changed: then nothing may be
    headers: bool  # make them ASCII


def survey(chunks: Iterable[bytes], needs: Needs = ALL) -> Survey:
    """Look at a message, given in pieces. Unconvertible: it cannot be made what is needed."""
    surveyor = _Surveyor(needs)
    reader = PartReader(surveyor)
    try:
        for chunk in chunks:
            reader.feed(chunk)
        reader.finish()
    except TooComplex as error:
        raise Unconvertible(str(error)) from None
    return surveyor.result()


def seven_bit(
    chunks: Iterable[bytes], survey: Survey, domains: Domains = no_domains
) -> Iterator[bytes]:
    """The message in pieces, each part changed as the survey of the same octets says."""
    writer = _Writer(survey, domains)
    reader = PartReader(writer)
    for chunk in chunks:
        reader.feed(chunk)
        yield writer.take()
    reader.finish()
    yield writer.take()


class _Lines:
    """Whether any line of what streams by is too long."""

    __slots__ = ("_line", "_long")

    def __init__(self) -> None:
        self._line = 0
        self._long = False

    @property
    def over(self) -> bool:
        return self._long or self._line > MAX_LINE

    def feed(self, octets: bytes) -> None:
        # From line end to line end in leaps as long as a line may be, as in data_reader.py.
        length, start, inside = len(octets), -self._line, 0
        while length - start > MAX_LINE + 1:
            newline = octets.rfind(b"\n", inside, start + MAX_LINE + 2)
            if newline < 0:
                self._long = True
                break
            start = inside = newline + 1
        last = octets.rfind(b"\n", inside)
        self._line = length - (start if last < 0 else last + 1)


class _Surveyor:
    """Counts what each part has that a 7-bit one may not have."""

    def __init__(self, needs: Needs) -> None:
        self._needs = needs
        self._changes: list[Change] = []
        self._part = Part(0, True, Kind.LEAF, b"", b"")
        self._between = _Lines()
        self._high_between = False
        self._barren = False
        self._signed = False
        self._headers = False  # a header that is signed has to be changed
        self._charset = ""
        self._begin(None)

    def _begin(self, charset: codecs.IncrementalDecoder | None) -> None:
        self._octets = 0
        self._high = 0
        self._lines = _Lines()
        self._decoder = charset

    def result(self) -> Survey:
        between = (self._high_between and self._needs.bodies) or self._between.over
        if between and self._barren:
            raise Unconvertible("one of its multiparts has no part: its text would be left out")
        changes = frozenset(self._changes) - {Change.KEEP, Change.RELABEL}
        if self._signed and (changes or between or self._headers):
            raise SignatureWouldBreak("it has a DKIM signature, which re-encoding would break")
        return Survey(
            changes=tuple(self._changes),
            charset=self._charset,
            between=between,
            keep=self._signed,
            headers=self._needs.headers,
        )

    def header(self, part: Part, octets: bytes) -> None:
        self._part = part
        change = Change.KEEP
        composite = part.kind in (Kind.MULTIPART, Kind.MESSAGE)
        if composite and self._needs.bodies and part.encoding not in (b"", b"7bit"):
            change = Change.RELABEL
        self._changes.append(change)
        decoder = None
        if part.number == 0:
            self._signed = _SIGNED.search(octets) is not None
            self._headers = self._needs.headers and self._needs.legal and not octets.isascii()
            if not part.type:
                decoder = codecs.getincrementaldecoder("utf-8")()
                self._charset = "utf-8"
        elif (self._needs.headers and not octets.isascii()) or _has_long_line(octets):
            self._headers = True
        self._begin(decoder)

    def body(self, octets: bytes) -> None:
        self._octets += len(octets)
        if not octets.isascii():
            self._high += len(octets) - len(octets.translate(None, _HIGH))
        self._lines.feed(octets)
        if self._decoder is not None:
            try:
                self._decoder.decode(octets)
            except UnicodeDecodeError:
                self._decoder = None
                self._charset = "unknown-8bit"

    def end_body(self, *, last: bool) -> None:
        del last
        part = self._part
        if (self._high and self._needs.bodies) or self._lines.over:
            self._changes[-1] = self._change(part)
        elif not self._needs.bodies:
            return
        elif part.encoding in (b"8bit", b"binary") and part.kind is Kind.LEAF:
            self._changes[-1] = Change.RELABEL

    def _change(self, part: Part) -> Change:
        if part.kind is Kind.SEALED:
            raise SignatureWouldBreak(f"it is {part.type.decode()}, which nobody may re-encode")
        if part.type.startswith(b"multipart/"):
            raise Unconvertible(f"{part.type.decode('ascii', 'replace')} has no boundary")
        if part.encoding == b"quoted-printable":
            return Change.MEND_QUOTED_PRINTABLE
        if part.encoding == b"base64":
            return Change.REWRAP_BASE64
        if part.encoding in ENCODED:
            raise Unconvertible(f"a part in {part.encoding.decode()} is not 7-bit")
        text = not part.type or part.type.startswith((b"text/", b"message/"))
        dense = self._high * DENSE > self._octets
        return Change.QUOTED_PRINTABLE if text and not dense else Change.BASE64

    def boundary(self, octets: bytes) -> None:
        """Of legal length, and ASCII."""

    def between(self, octets: bytes) -> None:
        self._high_between = self._high_between or not octets.isascii()
        self._between.feed(octets)

    def barren(self) -> None:
        self._barren = True


_LABELS = {
    Change.RELABEL: b"7bit",
    Change.QUOTED_PRINTABLE: b"quoted-printable",
    Change.BASE64: b"base64",
}
_ENCODERS: dict[Change, type[Encoder]] = {
    Change.KEEP: Unchanged,
    Change.RELABEL: Unchanged,
    Change.QUOTED_PRINTABLE: QuotedPrintable,
    Change.BASE64: Base64,
    Change.MEND_QUOTED_PRINTABLE: MendedQuotedPrintable,
    Change.REWRAP_BASE64: RewrappedBase64,
}
#: These write their line ends between lines, so that the last one has none.
_LINES_APART = frozenset({Change.BASE64, Change.REWRAP_BASE64})


class _Writer:
    """Writes a message as its survey says."""

    def __init__(self, survey: Survey, domains: Domains) -> None:
        self._survey = survey
        self._domains = domains
        self._out: list[bytes] = []
        self._encoder: Encoder = Unchanged()
        self._change = Change.KEEP
        self._begun = False  # whether the present body has any octet

    def take(self) -> bytes:
        """What was written since the last call."""
        out = b"".join(self._out)
        self._out.clear()
        return out

    def header(self, part: Part, octets: bytes) -> None:
        survey = self._survey
        self._change = survey.changes[part.number]
        self._encoder = _ENCODERS[self._change]()
        self._begun = False
        label = _LABELS.get(self._change)
        if label is not None:
            octets = _ENCODING.sub(b"", b"\r\n" + octets)[2:]
            if part.whole and _MIME.search(octets) is None:
                octets += b"MIME-Version: 1.0\r\n"
            if part.number == 0 and not part.type and label != b"7bit":
                octets += f"Content-Type: text/plain; charset={survey.charset}\r\n".encode()
            octets += b"Content-Transfer-Encoding: " + label + b"\r\n"
        if survey.headers:
            octets = ascii_header(octets, self._domains)
        if _has_long_line(octets):
            octets = _folded(octets)
        self._out.append(octets + b"\r\n")

    def body(self, octets: bytes) -> None:
        self._begun = True
        self._out.append(self._encoder.feed(octets))

    def end_body(self, *, last: bool) -> None:
        self._out.append(self._encoder.finish())
        if last and self._begun and self._change in _LINES_APART:
            self._out.append(b"\r\n")

    def boundary(self, octets: bytes) -> None:
        self._out.append(octets)

    def between(self, octets: bytes) -> None:
        if not self._survey.between:
            self._out.append(octets)

    def barren(self) -> None:
        """The survey has refused it if anything would be left out."""


def _has_long_line(octets: bytes) -> bool:
    lines = _Lines()
    lines.feed(octets)
    return lines.over


def _folded(header: bytes) -> bytes:
    """A part's header with its overlong lines folded, where they have blanks."""
    lines: list[bytes] = []
    for line in header.split(b"\r\n"):
        lines += fold(line) or [line]
    return b"\r\n".join(lines)
