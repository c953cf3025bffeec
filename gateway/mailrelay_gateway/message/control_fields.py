"""Takes fields out of a client's header by which it could steer the provider behind the relay:
choose a tenant, other recipients, tracking. Pure.

Which ones is configuration; a header without them is not changed by an octet.
"""

from __future__ import annotations

import re
from collections.abc import Iterable


class ControlFields:
    """The fields to take out."""

    __slots__ = ("_first", "_passed", "_pattern")

    def __init__(self, names: Iterable[str], passed: Iterable[str]) -> None:
        """Names of fields, or their beginnings (they end in `-`), whatever their case; `passed` are
        single ones that stay.
        """
        self._passed = frozenset(name.lower().encode("ascii") for name in passed)
        wanted = "|".join(
            re.escape(name) + (r"[!-9;-~]*" if name.endswith("-") else "")
            for name in sorted({name.lower() for name in names})
        )
        # RFC 5322 section 2.2, with the blank before the colon that some readers still take. A
        # pattern that begins with a line end is found some 300 times as fast as one that looks
        # behind at each octet, and every message is searched.
        field = rf"({wanted})[ \t]*:[^\r]*(?:\r\n[ \t][^\r]*)*(?=\r\n)".encode()
        self._pattern = re.compile(rb"\r\n" + field, re.IGNORECASE) if wanted else None
        self._first = re.compile(field, re.IGNORECASE)

    def without(self, content: bytes) -> bytes:
        """The message, which begins with its whole header, without those fields in the header."""
        if self._pattern is None or content[:2] == b"\r\n":
            return content
        # The line end of the last field, too: a message may consist of a header only.
        end = content.find(b"\r\n\r\n")
        end = len(content) if end < 0 else end + 2
        if (
            self._pattern.search(content, 0, end) is None
            and self._first.match(content, 0, end) is None
        ):
            return content
        header = self._pattern.sub(self._kept, b"\r\n" + content[:end])
        return header[2:] + content[end:]

    def _kept(self, found: re.Match[bytes]) -> bytes:
        return found[0] if found[1].lower() in self._passed else b""
