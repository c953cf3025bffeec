"""Delivery status notifications (RFC 3464, RFC 6522): the message that tells a sender what failed,
and why. Pure.

One notice has a block for each recipient that failed at the same time. It is 7-bit ASCII, whatever
addresses and replies contain (RFC 6533 section 3 defines an encoding), so that no server can refuse
it for its octets; the only exception is its `To` if the envelope sender is not ASCII. Quoted text
is short and folded: a line that made the message fail must not make the notice fail.
"""

from __future__ import annotations

import quopri
import re
from collections.abc import Sequence
from dataclasses import dataclass

from mailrelay_gateway.message.trace import format_date, message_id
from mailrelay_gateway.reasons import Reason
from mailrelay_gateway.smtp.reply import Reply

#: Characters shown of a reply, and their total for all recipients: a notice about 1,000 recipients
#: stays small enough for a row of the spool.
MAX_REPLY = 900
REPLIES_ROOM = 100_000
LEAST_REPLY = 80
#: Recipients in the human-readable part; the machine-readable part has them all.
MAX_LISTED = 50
#: RFC 5322 section 2.1.1: a line has at most 998 octets, and should have 78.
LINE = 78
MAX_LINE = 998
#: Reasons for which no server was asked: the reply is ours.
OUR_WORDS = frozenset(
    {Reason.ADDRESS_UNSENDABLE, Reason.SIGNATURE_WOULD_BREAK, Reason.CONVERSION_IMPOSSIBLE}
)

_CONTROL = re.compile(r"[\x00-\x1f\x7f]+")
#: Octets that are not allowed in 7bit content (RFC 2045 section 2.7): NUL, and bare CR.
_NO_CONTENT = bytes.maketrans(b"\0\r", b"??")
#: RFC 6533 section 3: utf-8-addr-xtext, for non-ASCII characters and escapes.
_XTEXT = re.compile(r"[^\x21-\x7e]|[\\+=]")


@dataclass(frozen=True, slots=True, kw_only=True)
class FailedRecipient:
    """A recipient that did not get the message, and why.

    `reply` is the last one about this recipient, from `host` ("host:port" or ""); `detail`
    describes the failure if there was none.
    """

    address: str
    reason: Reason
    reply: Reply | None = None
    host: str = ""
    detail: str = ""
    uncertain: bool = False  # it may have been delivered nevertheless


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
    without its blank line, truncated if it is long.
    """
    boundary = f"mailrelay-{queue_id}"
    date = format_date(int(now))
    room = max(LEAST_REPLY, min(MAX_REPLY, REPLIES_ROOM // len(failed)))
    blocks = "\r\n".join(_block(recipient, date, room) for recipient in failed)
    head = (
        f"From: Mail Delivery System <MAILER-DAEMON@{hostname}>\r\n"
        f"To: <{_line(to)}>\r\n"
        "Subject: Undelivered Mail Returned to Sender\r\n"
        f"Date: {date}\r\n"
        f"Message-ID: {message_id(queue_id, hostname)}\r\n"
        "Auto-Submitted: auto-replied\r\n"
        "MIME-Version: 1.0\r\n"
        "Content-Type: multipart/report; report-type=delivery-status;\r\n"
        f' boundary="{boundary}"\r\n'
        "\r\n"
        f"--{boundary}\r\n"
    )
    report = (
        f"--{boundary}\r\n"
        "Content-Description: Delivery report\r\n"
        "Content-Type: message/delivery-status\r\n"
        "Content-Transfer-Encoding: 7bit\r\n"
        "\r\n"
        f"Reporting-MTA: dns; {hostname}\r\n"
        f"X-Mailrelay-Queue-Id: {original_id}\r\n"
        f"Arrival-Date: {format_date(int(received_at))}\r\n"
        "\r\n"
        f"{blocks}\r\n"
        f"--{boundary}\r\n"
        "Content-Description: Header of the message\r\n"
    )
    return b"".join(
        (
            head.encode("utf-8", "replace"),
            _text_part(_for_people(failed, room, hostname, original_id, now - received_at)),
            report.encode("ascii", "replace"),
            _header_part(header),
            f"--{boundary}--\r\n".encode(),
        )
    )


# --- the human-readable part


def _for_people(
    failed: Sequence[FailedRecipient], room: int, hostname: str, original_id: str, age: float
) -> str:
    """The human-readable part, with a summary in the first two lines."""
    first = failed[0]
    if len(failed) == 1:
        lines = [f"Your message to {_line(first.address)} could not be delivered."]
        lines += _why(first, room, age)
    else:
        lines = [
            f"Your message could not be delivered to {len(failed)} of its recipients.",
            "The recipients and the replies of their servers:",
        ]
        for recipient in failed[:MAX_LISTED]:
            lines += ["", _line(recipient.address)]
            lines += [f"  {line}" for line in _why(recipient, room, age)]
        if len(failed) > MAX_LISTED:
            lines += ["", f"... and {len(failed) - MAX_LISTED} more, listed in the report below."]
    lines += [
        "",
        f"This is the mail gateway {hostname}. It will not retry the delivery.",
        f"The queue id of your message is {original_id}.",
        "",
    ]
    return "\n".join(lines)


def _why(recipient: FailedRecipient, room: int, age: float) -> list[str]:
    """The server's reply, and for how long delivery was retried if that is the reason."""
    host = _host(recipient.host)
    if recipient.reply is None and not recipient.detail:
        said = recipient.reason.sentence
    elif not host or recipient.reason in OUR_WORDS:
        said = f"{recipient.reason.sentence} ({_words(recipient, room)})"
    elif recipient.reply is not None:
        said = f"The server {host} answered: {_words(recipient, room)}"
    else:
        said = f"The last error from the server {host}: {_words(recipient, room)}"
    lines = [said]
    if recipient.reason is Reason.GAVE_UP:
        lines.append(f"Delivery was retried for {_duration(age)}.")
    if recipient.uncertain:
        lines.append("It may have been delivered nevertheless: a reply of the server was lost.")
    return lines


def _duration(seconds: float) -> str:
    for unit, length in (("day", 86400), ("hour", 3600), ("minute", 60)):
        count = int(seconds // length)
        if count:
            return f"{count} {unit}{'s' if count > 1 else ''}"
    return "less than a minute"


def _text_part(text: str) -> bytes:
    """The text part, in 7bit if it is ASCII."""
    if text.isascii():
        kind = "Content-Type: text/plain; charset=us-ascii\r\nContent-Transfer-Encoding: 7bit\r\n"
        body = text.replace("\n", "\r\n").encode()
    else:
        kind = (
            "Content-Type: text/plain; charset=utf-8\r\n"
            "Content-Transfer-Encoding: quoted-printable\r\n"
        )
        body = _quoted_printable(text.encode("utf-8", "replace"))
    return f"Content-Description: What happened\r\n{kind}\r\n".encode() + body + b"\r\n"


# --- the machine-readable part


def _block(recipient: FailedRecipient, date: str, room: int) -> str:
    """The per-recipient fields of RFC 3464 section 2.3."""
    reply, host = recipient.reply, _host(recipient.host)
    fields = [
        f"Final-Recipient: {_typed(recipient.address)}",
        "Action: failed",
        f"Status: {_status(recipient)}",
    ]
    if reply is not None and host and recipient.reason not in OUR_WORDS:
        fields.append(f"Remote-MTA: dns; {host}")
    if reply is not None:
        fields.append(_folded(f"Diagnostic-Code: smtp; {_ascii(_words(recipient, room))}"))
    elif recipient.detail:
        fields.append(_folded(f"Diagnostic-Code: x-mailrelay; {_ascii(_words(recipient, room))}"))
    fields.append(f"Last-Attempt-Date: {date}")
    return "\r\n".join(fields) + "\r\n"


def _status(recipient: FailedRecipient) -> str:
    """The enhanced code directly after the reply's code (RFC 2034 section 4), never one from its
    text: "Your IP 5.1.1.20 is listed" is not 5.1.1, after which bounce processors suppress the
    recipient. After giving up on a 4xx, it stays the 4.x.x of that reply (RFC 3463 section 3.5, of
    X.4.7).
    """
    reply = recipient.reply
    if reply is not None and reply.code >= 400:
        return reply.enhanced or f"{reply.code // 100}.0.0"
    return "4.4.7" if recipient.reason is Reason.GAVE_UP else "5.0.0"


def _typed(address: str) -> str:
    """An address with its type (RFC 3464 section 2.1.2, RFC 6533 section 3)."""
    plain = _line(address)
    if plain.isascii():
        return f"rfc822; {plain}"
    return "utf-8; " + _XTEXT.sub(lambda found: f"\\x{{{ord(found[0]):X}}}", plain)


def _host(host: str) -> str:
    """The name of "name:port", an address as a literal (RFC 5321 section 4.1.3)."""
    name = _ascii(_line(host)).rpartition(":")[0].strip("[]")
    if ":" in name:
        return f"[IPv6:{name}]"
    return f"[{name}]" if name.replace(".", "").isdigit() else name


def _words(recipient: FailedRecipient, room: int) -> str:
    """The reply, or the error, on one line."""
    words = _line(str(recipient.reply) if recipient.reply is not None else recipient.detail)
    return words if len(words) <= room else f"{words[: room - 3]}..."


# --- quoted text


def _header_part(header: bytes) -> bytes:
    """The original's header. Overlong lines are folded; with octets above 127 it is
    quoted-printable, as RFC 6522 section 4 allows.
    """
    lines = [line.rstrip(b"\r").translate(_NO_CONTENT) for line in header.split(b"\n")]
    body = b"\n".join(part for line in lines for part in _fold(line))
    encoding = "7bit" if body.isascii() else "quoted-printable"
    kind = f"Content-Type: text/rfc822-headers\r\nContent-Transfer-Encoding: {encoding}\r\n\r\n"
    if body.isascii():
        return kind.encode() + body.replace(b"\n", b"\r\n") + b"\r\n\r\n"
    return kind.encode() + _quoted_printable(body) + b"\r\n\r\n"


def _fold(line: bytes) -> list[bytes]:
    """A header line as lines of at most MAX_LINE octets: folded at white space (RFC 5322 section
    2.2.3), split where there is none.
    """
    parts = []
    while len(line) > MAX_LINE:
        at = line.rfind(b" ", 1, MAX_LINE)
        if at < 1 or line[:at].isspace():
            line = line[: MAX_LINE - 3] + b"..."
            break
        parts.append(line[:at])
        line = line[at:]
    return [*parts, line]


def _folded(field: str) -> str:
    """A generated field, folded at spaces to lines of LINE octets."""
    lines = [""]
    for word in field.split(" "):
        if lines[-1] and len(lines[-1]) + len(word) >= LINE:
            lines.append("")
        lines[-1] += f" {word}" if lines[-1] or len(lines) > 1 else word
    return "\r\n".join(lines)


def _quoted_printable(octets: bytes) -> bytes:
    """Quoted-printable text with CRLF line ends; the last line end is kept as it was."""
    return quopri.encodestring(octets).replace(b"\n", b"\r\n")


def _line(text: str) -> str:
    """Foreign text as one line, so that control characters in a reply or an address cannot inject
    a field.
    """
    return _CONTROL.sub(" ", text)


def _ascii(text: str) -> str:
    """ASCII text for a field that allows nothing else."""
    return text.encode("ascii", "backslashreplace").decode()
