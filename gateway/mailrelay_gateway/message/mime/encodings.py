"""Encoders that make a body 7-bit with short lines, as it streams by. Pure.

Each decodes to the octets that its input decodes to. Lines end in CRLF, and have at most 76
characters (RFC 2045 section 6.7).
"""

from __future__ import annotations

from base64 import b64encode
from binascii import a2b_qp, b2a_qp
from collections.abc import Sequence
from typing import Protocol

#: Octets of a line of base64: 76 characters.
_TRIPLES = 57
_LINE = 76
_SOFT = b"=\r\n"  # a line end that is no part of the content
#: Octets of lines that are encoded at once. A longer line is cut there, by a soft line end.
LONG = 16 * 1024
_HIGH = bytes(range(128, 256))


class Encoder(Protocol):
    """Takes a body in pieces, gives it encoded."""

    def feed(self, octets: bytes) -> bytes:
        """The next octets."""
        ...

    def finish(self) -> bytes:
        """The rest."""
        ...


class Unchanged:
    """For bodies that need no encoding."""

    __slots__ = ()

    def feed(self, octets: bytes) -> bytes:
        """As it is."""
        return octets

    def finish(self) -> bytes:
        """Nothing was kept."""
        return b""


class QuotedPrintable:
    """Quoted-printable of text (RFC 2045 section 6.7): line ends stay line ends."""

    __slots__ = ("_kept",)

    def __init__(self) -> None:
        """Begin with the first line."""
        self._kept = b""

    def feed(self, octets: bytes) -> bytes:
        """Whole lines, and of a very long one pieces."""
        octets = self._kept + octets
        done: list[bytes] = []
        at = 0
        while (end := _end_of_piece(octets, at)) > at:
            done.append(_quoted(octets[at:end]))
            if octets[end - 1 : end] != b"\n":
                done.append(_SOFT)
            at = end
        self._kept = octets[at:]
        return b"".join(done)

    def finish(self) -> bytes:
        """The last line, if it has no end."""
        return _quoted(self._kept)


def _end_of_piece(octets: bytes, at: int) -> int:
    """Where whole lines end that begin at `at`, or a piece of a line longer than LONG; `at` where
    more octets decide. The same however the octets came.
    """
    newline = octets.rfind(b"\n", at, at + LONG)
    if newline >= 0:
        return newline + 1
    if len(octets) - at <= LONG:
        return at
    end = at + LONG
    return end - 1 if octets[end - 1 : end] == b"\r" else end  # a line end is never cut


def _quoted(octets: bytes) -> bytes:
    return b2a_qp(octets.replace(b"\r\n", b"\n")).replace(b"\n", b"\r\n")


class _Lines:
    """Joins lines that come in several lots: a line end stands between two, and none at the end."""

    __slots__ = ("_begun",)

    def __init__(self) -> None:
        self._begun = False

    def join(self, lines: Sequence[bytes]) -> bytes:
        if not lines:
            return b""
        begin = b"\r\n" if self._begun else b""
        self._begun = True
        return begin + b"\r\n".join(lines)


class Base64:
    """Base64 (RFC 2045 section 6.8): every octet as it is, line ends too."""

    __slots__ = ("_kept", "_lines")

    def __init__(self) -> None:
        """Begin with the first octet."""
        self._kept = b""
        self._lines = _Lines()

    def feed(self, octets: bytes) -> bytes:
        """Whole lines of base64, each after the first with a line end in front."""
        octets = self._kept + octets
        cut = len(octets) - len(octets) % _TRIPLES
        self._kept = octets[cut:]
        return self._encoded(octets[:cut])

    def finish(self) -> bytes:
        """The last line, without an end."""
        return self._encoded(self._kept)

    def _encoded(self, octets: bytes) -> bytes:
        return self._lines.join(
            [b64encode(octets[at : at + _TRIPLES]) for at in range(0, len(octets), _TRIPLES)]
        )


class MendedQuotedPrintable:
    """What calls itself quoted-printable and has octets or lines that it may not have."""

    __slots__ = ("_kept",)

    def __init__(self) -> None:
        """Begin with the first line."""
        self._kept = b""

    def feed(self, octets: bytes) -> bytes:
        """Whole lines, and of a very long one pieces."""
        octets = self._kept + octets
        done: list[bytes] = []
        at = 0
        while (end := _end_of_piece(octets, at)) > at:
            if octets[end - 1 : end] == b"\n":
                done += map(_mended, octets[at:end].splitlines(keepends=True))
            else:
                escape = octets.find(b"=", end - 2, end)  # an escape is never cut
                end = escape if escape > at else end
                done += (_quoted(a2b_qp(octets[at:end])), _SOFT)
            at = end
        self._kept = octets[at:]
        return b"".join(done)

    def finish(self) -> bytes:
        """The last line, if it has no end."""
        return _mended(self._kept)


def _mended(line: bytes) -> bytes:
    if line.isascii() and len(line) <= _LINE + 2:
        return line
    content = line.rstrip(b"\r\n")
    end = line[len(content) :]
    if content.endswith(b"="):  # a soft line break
        content, end = content[:-1], _SOFT
    return _quoted(a2b_qp(content)) + end


class RewrappedBase64:
    """What calls itself base64 and has octets or lines that it may not have: readers ignore both
    (RFC 2045 section 6.8).
    """

    __slots__ = ("_kept", "_lines")

    def __init__(self) -> None:
        """Begin with the first line."""
        self._kept = b""
        self._lines = _Lines()

    def feed(self, octets: bytes) -> bytes:
        """Whole lines, each after the first with a line end in front."""
        octets = self._kept + octets.translate(None, _HIGH + b"\r\n \t")
        cut = len(octets) - len(octets) % _LINE
        self._kept = octets[cut:]
        return self._wrapped(octets[:cut])

    def finish(self) -> bytes:
        """The last line, without an end."""
        return self._wrapped(self._kept)

    def _wrapped(self, octets: bytes) -> bytes:
        return self._lines.join([octets[at : at + _LINE] for at in range(0, len(octets), _LINE)])
