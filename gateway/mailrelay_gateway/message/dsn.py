"""Delivery status notifications (RFC 3461, 3462, 3464): the message that tells a sender what
failed. Pure.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from email.utils import formatdate

from mailrelay_gateway.reasons import Reason

#: RFC 5322 section 2.1.1: a line has at most 998 octets; a reply of an upstream may be longer.
MAX_LINE = 900

_ENHANCED = re.compile(r"[245]\.\d{1,3}\.\d{1,3}")
#: The status for reasons that have no reply of an upstream with an enhanced code (RFC 3463).
_STATUS = {Reason.GAVE_UP: "5.4.7"}


@dataclass(frozen=True, slots=True)
class FailedRecipient:
    """Who did not get the message, why, and what the upstream said (`reply`, may be empty)."""

    address: str
    reason: Reason
    reply: str


def build_notice(
    *,
    queue_id: str,
    hostname: str,
    to: str,
    now: float,
    original_id: str,
    received_at: float,
    header: bytes,
    failed: Sequence[FailedRecipient],
) -> bytes:
    """The notification as a message with CRLF line ends; `header` is the header of the original,
    without its blank line.
    """
    boundary = f"mailrelay-{queue_id}"
    people = "\r\n".join(
        f"  {_line(r.address)}\r\n    {r.reason.sentence}\r\n    {_line(r.reply) or 'No reply.'}"
        for r in failed
    )
    statuses = "\r\n".join(_recipient_fields(r, now) for r in failed)
    head = (
        f"From: Mail Delivery System <MAILER-DAEMON@{hostname}>\r\n"
        f"To: <{_line(to)}>\r\n"
        "Subject: Undelivered Mail Returned to Sender\r\n"
        f"Date: {formatdate(now)}\r\n"
        f"Message-ID: <{queue_id}@{hostname}>\r\n"
        "Auto-Submitted: auto-replied\r\n"
        "MIME-Version: 1.0\r\n"
        "Content-Type: multipart/report; report-type=delivery-status;\r\n"
        f' boundary="{boundary}"\r\n'
        "\r\n"
        f"--{boundary}\r\n"
        "Content-Type: text/plain; charset=utf-8\r\n"
        "Content-Transfer-Encoding: 8bit\r\n"
        "\r\n"
        f"This is the mail gateway {hostname}.\r\n"
        "\r\n"
        "Your message could not be delivered to:\r\n"
        "\r\n"
        f"{people}\r\n"
        "\r\n"
        f"The gateway's id of your message is {original_id}.\r\n"
        "\r\n"
        f"--{boundary}\r\n"
        "Content-Type: message/delivery-status\r\n"
        "\r\n"
        f"Reporting-MTA: dns; {hostname}\r\n"
        f"X-Mailrelay-Queue-Id: {original_id}\r\n"
        f"Arrival-Date: {formatdate(received_at)}\r\n"
        "\r\n"
        f"{statuses}\r\n"
        f"--{boundary}\r\n"
        "Content-Type: text/rfc822-headers\r\n"
        "\r\n"
    )
    return head.encode("utf-8", "replace") + header + f"\r\n\r\n--{boundary}--\r\n".encode()


def _recipient_fields(recipient: FailedRecipient, now: float) -> str:
    """The per-recipient fields of RFC 3464 section 2.3."""
    found = _ENHANCED.search(recipient.reply)
    status = _STATUS.get(recipient.reason) or (found.group() if found else "5.0.0")
    fields = [
        f"Final-Recipient: rfc822; {_line(recipient.address)}",
        "Action: failed",
        f"Status: {'5' + status[1:]}",
        f"Last-Attempt-Date: {formatdate(now)}",
    ]
    if recipient.reply:
        fields.insert(3, f"Diagnostic-Code: smtp; {_line(recipient.reply)}")
    return "\r\n".join(fields) + "\r\n"


def _line(text: str) -> str:
    """Foreign text as one line: no control character of a reply or an address may start a field
    of its own.
    """
    return re.sub(r"[\x00-\x1f\x7f]+", " ", text)[:MAX_LINE]
