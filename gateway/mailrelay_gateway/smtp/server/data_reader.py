"""The content of DATA and BDAT as it arrives: where it ends, without dot-stuffing, and what is not
allowed in it. Pure.

Rule 1: DATA ends at CRLF "." CRLF and nowhere else; LF.LF, LF.CRLF, CR.CRLF and similar are
        content (and then refused as bare newlines: SMTP smuggling, CVE-2023-51764 and others).
Rule 2: at most four octets are held back between two reads, wherever the input is split.
Rule 3: a line may have any length, and a long one is detected; the caller decides how much content
        is too much, and whether a long line is accepted.
"""

from __future__ import annotations

#: RFC 5321 section 4.5.3.1.6: octets of a line of text without its CRLF.
MAX_TEXT_LINE = 998
_SPAN = MAX_TEXT_LINE + 2  # with it

_END = b"\r\n.\r\n"
_DOT = b"\r\n."  # a line that begins with a dot


class _Checks:
    """What both readers detect in the content that passes through them."""

    __slots__ = ("_line", "bare_newline", "eight_bit", "long_line", "nul")

    def __init__(self) -> None:
        self._line = 0  # octets since the last line end
        self.long_line = False  # one above MAX_TEXT_LINE
        self.bare_newline = False  # a CR or an LF that is not part of a CRLF
        self.nul = False
        self.eight_bit = False  # an octet above 127

    def _check(self, part: bytes) -> None:
        """Inspect a part that begins and ends between line endings, never inside a CRLF."""
        # Is a CR or LF left after each CRLF is removed? A pattern for one that is not part of a
        # CRLF stops at each line: that was a third of all Python code that 100 KB cost us.
        rest = part.replace(b"\r\n", b"  ")
        if b"\r" in rest or b"\n" in rest:
            self.bare_newline = True
        if b"\0" in part:
            self.nul = True
        if not part.isascii():
            self.eight_bit = True
        # From line ending to line ending in steps as long as a line may be: a few for a page of
        # text.
        length, start, inside = len(part), -self._line, 0
        while length - start >= _SPAN:
            newline = part.rfind(b"\n", inside, start + _SPAN)
            if newline < 0:
                self.long_line = True
                break
            start = inside = newline + 1
        last = part.rfind(b"\n", inside)
        self._line = length - (start if last < 0 else last + 1)


class DataReader(_Checks):
    """Reads from after the 354 reply up to and including the final dot."""

    __slots__ = ("_held", "_started")

    def __init__(self) -> None:
        """Begin after 354: the CRLF of the DATA command counts as the one before the first line."""
        super().__init__()
        self._held = b"\r\n"
        self._started = False

    def feed(self, octets: bytes, position: int) -> tuple[bytes, int]:
        """Read `octets` from `position`: (content, the position after the end, or -1 if it has not
        arrived yet).
        """
        if position:
            octets = octets[position:]
        if not self._started and self._held == b"\r\n" and octets[:1] not in (b".", b""):
            # The usual case: the CRLF before the first line does not matter, so nothing is copied
            # for it.
            self._started, self._held = True, b""
        held = len(self._held)
        window = self._held + octets if held else octets
        at, after = window.find(_DOT), -1
        if at < 0:
            at = len(window) - _prefix_of_end(window)
            part, self._held = window[:at], window[at:]
        elif window[at : at + 5] == _END:
            part, after = window[: at + 2], position + at + 5 - held
        elif len(window) - at < 5 and _END.startswith(window[at:]):
            part, self._held = window[:at], window[at:]
        else:
            part, after = self._feed_stuffed(window)
            if after >= 0:
                after += position - held
        if not part:
            return b"", after
        self._check(part)
        if not self._started:
            self._started = True
            part = part[2:]
        return part, after

    def _feed_stuffed(self, window: bytes) -> tuple[bytes, int]:
        """The same for content with dots at the beginning of lines: bounded work in each case."""
        end = window.find(_END)
        if end >= 0:
            part, after = window[: end + 2], end + 5
        else:
            keep = _prefix_of_end(window)
            part = window[: len(window) - keep]
            self._held = window[len(window) - keep :]
            after = -1
        # Un-stuffing (RFC 5321 section 4.5.2). No "\r\n." lies across two parts: what is held
        # begins with its CR.
        return part.replace(b"\r\n.", b"\r\n"), after


def _prefix_of_end(window: bytes) -> int:
    """How many octets at the end of `window` may be the beginning of CRLF "." CRLF (the longest
    one).
    """
    tail = window[-4:]
    for length in (4, 3, 2, 1):
        if tail[-length:] == _END[:length]:
            return length
    return 0


class ChunkReader(_Checks):
    """Reads the chunks of one message sent with BDAT (RFC 3030): counted octets, no dots; the
    checks are those of DATA.
    """

    __slots__ = ("_held", "_last_octet", "_left")

    def __init__(self) -> None:
        """Begin before the first chunk; `start` begins each."""
        super().__init__()
        self._held = b""
        self._left = 0
        self._last_octet = b""

    def start(self, size: int) -> None:
        """A chunk of `size` octets follows."""
        self._left = size

    def feed(self, octets: bytes, position: int) -> tuple[bytes, int]:
        """Read `octets` from `position`: (content, the position after the chunk's end, or -1 if it
        has not arrived yet).
        """
        took = min(self._left, len(octets) - position)
        self._left -= took
        after = position + took if self._left == 0 else -1
        part = self._held + octets[position : position + took]
        # A CR at the end may have its LF in the next chunk.
        self._held = b"\r" if part[-1:] == b"\r" else b""
        if self._held:
            part = part[:-1]
        if part:
            self._check(part)
            self._last_octet = part[-1:]
        return part, after

    def finish(self) -> bytes:
        """What is left after the last chunk: a CR without its LF, or the missing line ending of the
        last line.
        """
        if self._held:
            self.bare_newline = True
            held, self._held = self._held, b""
            return held
        if self._line > MAX_TEXT_LINE:
            self.long_line = True
        return b"" if self._last_octet in (b"\n", b"") else b"\r\n"


def has_long_line(octets: bytes, start: int) -> bool:
    """Whether a line above MAX_TEXT_LINE begins at `start` or after it."""
    checks = _Checks()
    checks._check(octets[start:])
    return checks.long_line or checks._line > MAX_TEXT_LINE
