"""Takes fields out of a client's header by which it could steer the provider behind the relay:
choose a tenant, other recipients, tracking. Pure.

Which ones is configuration; a header without them is not changed by an octet.
"""

from __future__ import annotations

import re
from collections.abc import Iterable


class ControlFields:
    """The fields to take out."""

    __slots__ = ("_passed", "_pattern")

    def __init__(self, names: Iterable[str], passed: Iterable[str]) -> None:
        """Names of fields, or their beginnings (they end in `-`), whatever their case; `passed` are
        single ones that stay.
        """
        wanted = sorted({name.lower() for name in names})
        self._passed = frozenset(name.lower().encode("ascii") for name in passed)
        #: RFC 5322 section 2.2, with the blank before the colon that some readers still take.
        names_pattern = "|".join(
            re.escape(name) + (r"[!-9;-~]*" if name.endswith("-") else "") for name in wanted
        )
        self._pattern = (
            re.compile(
                rf"(?:(?<=\r\n)|\A)({names_pattern})[ \t]*:[^\r]*(?:\r\n[ \t][^\r]*)*\r\n".encode(),
                re.IGNORECASE,
            )
            if wanted
            else None
        )

    def without(self, content: bytes) -> bytes:
        """The message, which begins with its whole header, without those fields in the header."""
        if self._pattern is None:
            return content
        # From the last octet of the header on: a message may consist of a header only.
        end = content.find(b"\r\n\r\n")
        end = len(content) if end < 0 else end + 2
        if content[:2] == b"\r\n" or self._pattern.search(content, 0, end) is None:
            return content
        return self._pattern.sub(self._kept, content[:end]) + content[end:]

    def _kept(self, found: re.Match[bytes]) -> bytes:
        return found[0] if found[1].lower() in self._passed else b""
