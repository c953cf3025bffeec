"""Trace headers: Received (RFC 5321 section 4.4), and Date and Message-ID if a submission lacks
them (RFC 6409, 8).

Pure: time, ids and names are arguments.
"""

from __future__ import annotations

from datetime import UTC, datetime
from functools import lru_cache

#: Upper bound of a trace: HELO name, host name and recipient are bounded (255, 253, 320 octets).
MAX_TRACE = 4096

_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


@lru_cache(maxsize=2)
def format_date(seconds: int) -> str:
    """A date as in RFC 5322 section 3.3, in UTC: `Mon, 02 Jan 2006 15:04:05 +0000`. `seconds` is
    Unix time.
    """
    at = datetime.fromtimestamp(seconds, UTC)
    day, month = _DAYS[at.weekday()], _MONTHS[at.month - 1]
    return f"{day}, {at.day:02d} {month} {at:%Y %H:%M:%S} +0000"


def received(
    *,
    helo: str,
    client: str,
    hostname: str,
    protocol: str,
    queue_id: str,
    recipients: tuple[str, ...],
    at: int,
) -> bytes:
    """The Received field of a message received over SMTP.

    `client` is the content of an RFC 5321 address literal (`192.0.2.1`, `IPv6:2001:db8::1`),
    `protocol` a keyword of RFC 3848. The recipient is included only if there is one: a list would
    disclose blind copies. Nor is one beyond ASCII, for servers that take ASCII only.
    """
    single = len(recipients) == 1 and recipients[0].isascii()
    one = f"\r\n\tfor <{recipients[0]}>" if single else ""
    return (
        f"Received: from {helo} ([{client}])\r\n"
        f"\tby {hostname} (mailrelay) with {protocol} id {queue_id}{one};\r\n"
        f"\t{format_date(at)}\r\n"
    ).encode("ascii", "replace")


def transmission(*, extended: bool, tls: bool, authenticated: bool) -> str:
    """The keyword after `with` (RFC 3848): SMTP, ESMTP, ESMTPS, ESMTPA or ESMTPSA."""
    if not extended:
        return "SMTP"
    return "ESMTP" + ("S" if tls else "") + ("A" if authenticated else "")


def date(at: int) -> bytes:
    """A Date field for a submission without one. `at` is Unix time."""
    return f"Date: {format_date(at)}\r\n".encode("ascii")


def message_id(queue_id: str, hostname: str) -> str:
    """A Message-ID for a submission without one, with angle brackets: unique because the
    queue id is.
    """
    return f"<{queue_id}@{hostname}>"


def client_literal(ip: str) -> str:
    """An IP address as in an address literal, without the brackets (RFC 5321 section
    4.1.3).
    """
    return f"IPv6:{ip}" if ":" in ip else ip
