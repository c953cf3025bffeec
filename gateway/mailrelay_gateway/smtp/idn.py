"""Non-ASCII domains as A-labels (RFC 5890; IDNA2008 with the mapping of UTS 46). Pure.

The envelope contains only A-labels, from MAIL and RCPT on: they are the same domain for every
server, with or without SMTPUTF8, and there is one form to compare.
"""

from __future__ import annotations

import re

import idna

#: RFC 5321 section 4.5.3.1.2.
_MAX_DOMAIN = 255
_ASCII_DOMAIN = re.compile(
    r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
    r"(?:\.[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?)*"
)


def a_labels(domain: str) -> str | None:
    """A domain in ASCII, in lower case if it was not; None: invalid."""
    if domain.isascii():
        return domain
    if len(domain) > _MAX_DOMAIN:
        return None
    try:
        made = idna.encode(domain, uts46=True).decode("ascii")
    except UnicodeError:  # IDNAError is one
        return None
    return made if _ASCII_DOMAIN.fullmatch(made) and len(made) <= _MAX_DOMAIN else None
