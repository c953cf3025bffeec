"""A message body as sent after 354: dot-stuffed and ended by a dot (RFC 5321 section 4.5.2). Pure.

Bodies have CRLF line endings only: intake refuses or corrects anything else, so dots are stuffed
after CRLF.
"""

from __future__ import annotations

_CRLF = b"\r\n"
_END = b".\r\n"


def encode_body(body: bytes, prelude: bytes = b"") -> bytes:
    """A whole body for one write, final dot included. A last line without CRLF gets one. `prelude`
    are whole lines to be sent first, none of which begins with a dot.
    """
    # Each copy of a large body costs: this is the only one, if nothing is stuffed.
    stuffed = body.replace(b"\r\n.", b"\r\n..")
    dot = b"." if body.startswith(b".") else b""
    end = b"\r\n.\r\n" if body and not body.endswith(_CRLF) else _END
    return b"".join((prelude, dot, stuffed, end))


class BodyEncoder:
    """The same for a body in chunks, split anywhere; holds back at most two octets."""

    __slots__ = ("_begun", "_held")

    def __init__(self) -> None:
        """Start before the first octet."""
        self._held = b""  # a line ending at the end of a chunk: what follows it decides
        self._begun = False

    def encode(self, chunk: bytes) -> bytes:
        """The next octets to send; may be empty."""
        data = self._held + chunk if self._held else chunk
        if data.endswith(_CRLF):
            keep = 2
        elif data.endswith(b"\r"):
            keep = 1
        else:
            keep = 0
        cut = len(data) - keep
        self._held = data[cut:]
        ready = data[:cut] if keep else data
        stuffed = ready.replace(b"\r\n.", b"\r\n..")
        if not self._begun and data:
            self._begun = True
            if data.startswith(b"."):
                stuffed = b"." + stuffed
        return stuffed

    def finish(self) -> bytes:
        """The last octets: what was held back, and the final dot."""
        if self._begun and self._held != _CRLF:
            return self._held + b"\r\n.\r\n"
        return self._held + _END
