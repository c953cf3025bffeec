"""Delivery status notifications (RFC 3464, RFC 6522): the message that tells a sender what became
of a message, and why. Pure.

One notice has a block for each recipient to whom the same happened at the same time. It is 7-bit
ASCII, whatever addresses and replies contain (RFC 6533 section 3 defines an encoding), so that no
server can refuse it for its octets; the only exception is its `To` if the envelope sender is not
ASCII. Quoted text is short and folded: a line that made the message fail must not make the notice
fail.
"""

from __future__ import annotations

import quopri
import re
from collections.abc import Sequence

from mailrelay_gateway.message.dsn_text import (
    OUR_WORDS,
    Action,
    NoticeRecipient,
    for_people,
    host_name,
    on_one_line,
    words_of,
)
from mailrelay_gateway.message.trace import format_date, message_id
from mailrelay_gateway.reasons import Reason
from mailrelay_gateway.smtp.dsn import MAX_ORCPT, decode_xtext

#: Characters shown of a reply, and their total for all recipients: a notice about 1,000 recipients
#: stays small enough for a row of the spool.
MAX_REPLY = 900
REPLIES_ROOM = 100_000
LEAST_REPLY = 80
#: RFC 5322 section 2.1.1: a line has at most 998 octets, and should have 78.
LINE = 78
MAX_LINE = 998
LONGEST_WORD = 900

SUBJECTS = {
    Action.FAILED: "Undelivered Mail Returned to Sender",
    Action.DELAYED: "Delayed Mail (delivery is still retried)",
    Action.RELAYED: "Mail Passed On (delivery status)",
}

_REPORT = re.compile(
    rb"\r\ncontent-type[ \t]*:\s*multipart/report\b[^\r]*(?:\r\n[ \t][^\r]*)*"
    rb"report-type[ \t]*=[ \t]*\"?delivery-status\b",
    re.IGNORECASE,
)
#: Octets that are not allowed in 7bit content (RFC 2045 section 2.7): NUL, and bare CR.
_NO_CONTENT = bytes.maketrans(b"\0\r", b"??")
#: RFC 6533 section 3: utf-8-addr-xtext, for non-ASCII characters and escapes.
_XTEXT = re.compile(r"[^\x21-\x7e]|[\\+=]")


def build_notice(
    *,
    queue_id: str,
    hostname: str,
    to: str,
    now: float,
    original_id: str,
    received_at: float,
    header: bytes,
    recipients: Sequence[NoticeRecipient],
    action: Action = Action.FAILED,
    envid: str = "",
    whole: bytes | None = None,
) -> bytes:
    """The notification as a message with CRLF line ends; `header` is the header of the original,
    without its blank line, truncated if it is long. `envid` is the original's, in xtext; `whole` is
    the original, 7-bit, if it is to be returned instead of its header.
    """
    boundary = f"mailrelay-{queue_id}"
    date = format_date(int(now))
    room = max(LEAST_REPLY, min(MAX_REPLY, REPLIES_ROOM // len(recipients)))
    blocks = "\r\n".join(_block(recipient, action, date, room) for recipient in recipients)
    envelope = f"Original-Envelope-Id: {_ascii(on_one_line(decode_xtext(envid)))}\r\n"
    text = for_people(action, recipients, room, hostname, original_id, now - received_at)
    head = (
        f"From: Mail Delivery System <MAILER-DAEMON@{hostname}>\r\n"
        f"To: <{on_one_line(to)}>\r\n"
        f"Subject: {SUBJECTS[action]}\r\n"
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
        f"{envelope if envid else ''}"
        f"Reporting-MTA: dns; {hostname}\r\n"
        f"X-Mailrelay-Queue-Id: {original_id}\r\n"
        f"Arrival-Date: {format_date(int(received_at))}\r\n"
        "\r\n"
        f"{blocks}\r\n"
        f"--{boundary}\r\n"
    )
    return b"".join(
        (
            head.encode("utf-8", "replace"),
            _text_part(text),
            report.encode("ascii", "replace"),
            _header_part(header) if whole is None else _message_part(whole),
            f"--{boundary}--\r\n".encode(),
        )
    )


# --- the human-readable part


def _text_part(text: str) -> bytes:
    """The text part, in 7bit if it is ASCII."""
    if text.isascii():
        kind = "Content-Type: text/plain; charset=us-ascii\r\nContent-Transfer-Encoding: 7bit\r\n"
        lines = text.encode().split(b"\n")
        body = b"\r\n".join(part for line in lines for part in _fold(line))
    else:
        kind = (
            "Content-Type: text/plain; charset=utf-8\r\n"
            "Content-Transfer-Encoding: quoted-printable\r\n"
        )
        body = _quoted_printable(text.encode("utf-8", "replace"))
    return f"Content-Description: What happened\r\n{kind}\r\n".encode() + body + b"\r\n"


# --- the machine-readable part


def _block(recipient: NoticeRecipient, action: Action, date: str, room: int) -> str:
    """The per-recipient fields of RFC 3464 section 2.3."""
    reply, host = recipient.reply, host_name(recipient.host)
    kind, _, original = recipient.orcpt.partition(";")
    fields = [f"Original-Recipient: {kind}; {_original(kind, original)}"] if original else []
    fields += [
        f"Final-Recipient: {_typed(recipient.address)}",
        f"Action: {action}",
        f"Status: {_status(recipient, action)}",
    ]
    if reply is not None and host and recipient.reason not in OUR_WORDS:
        fields.append(f"Remote-MTA: dns; {host}")
    if reply is not None:
        fields.append(_folded(f"Diagnostic-Code: smtp; {_ascii(words_of(recipient, room))}"))
    elif recipient.detail:
        fields.append(_folded(f"Diagnostic-Code: x-mailrelay; {_ascii(words_of(recipient, room))}"))
    fields.append(f"Last-Attempt-Date: {date}")
    if recipient.until is not None:
        fields.append(f"Will-Retry-Until: {format_date(int(recipient.until))}")
    return "\r\n".join(fields) + "\r\n"


def _original(kind: str, address: str) -> str:
    """The address of an ORCPT; that of RFC 6533's type stays encoded."""
    if kind.lower() == "utf-8":
        return address
    return _ascii(on_one_line(decode_xtext(address)))[:MAX_ORCPT]


def _status(recipient: NoticeRecipient, action: Action) -> str:
    """The enhanced code directly after the reply's code (RFC 2034 section 4), never one from its
    text: "Your IP 5.1.1.20 is listed" is not 5.1.1, after which bounce processors suppress the
    recipient. After giving up on a 4xx, it stays the 4.x.x of that reply (RFC 3463 section 3.5, of
    X.4.7).
    """
    reply = recipient.reply
    if action is not Action.FAILED:  # RFC 3464 section 2.3.4: their class says what they are
        wanted = "4." if action is Action.DELAYED else "2."
        known = reply is not None and reply.enhanced.startswith(wanted)
        return reply.enhanced if reply is not None and known else f"{wanted}0.0"
    if reply is not None and reply.code >= 400:
        return reply.enhanced or f"{reply.code // 100}.0.0"
    return "4.4.7" if recipient.reason is Reason.GAVE_UP else "5.0.0"


def _typed(address: str) -> str:
    """An address with its type (RFC 3464 section 2.1.2, RFC 6533 section 3)."""
    plain = on_one_line(address)
    if plain.isascii():
        return f"rfc822; {plain}"
    return "utf-8; " + _XTEXT.sub(lambda found: f"\\x{{{ord(found[0]):X}}}", plain)


# --- quoted text


def _message_part(whole: bytes) -> bytes:
    """The original, for a sender that asked for it (RET=FULL)."""
    kind = b"Content-Description: The message\r\nContent-Type: message/rfc822\r\n"
    return kind + b"Content-Transfer-Encoding: 7bit\r\n\r\n" + whole + b"\r\n"


def _header_part(header: bytes) -> bytes:
    """The original's header. Overlong lines are folded; with octets above 127 it is
    quoted-printable, as RFC 6522 section 4 allows.
    """
    lines = [line.rstrip(b"\r").translate(_NO_CONTENT) for line in header.split(b"\n")]
    body = b"\n".join(part for line in lines for part in _fold(line))
    encoding = "7bit" if body.isascii() else "quoted-printable"
    kind = (
        "Content-Description: Header of the message\r\n"
        f"Content-Type: text/rfc822-headers\r\nContent-Transfer-Encoding: {encoding}\r\n\r\n"
    )
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
    """A generated field, folded at spaces to lines of LINE octets. A word that no line has room for
    is cut: a reply that is not ASCII has grown, and its language may write without spaces.
    """
    lines = [""]
    for word in re.sub(f"(\\S{{{LONGEST_WORD}}})(?=\\S)", r"\1 ", field).split(" "):
        if lines[-1] and len(lines[-1]) + len(word) >= LINE:
            lines.append("")
        lines[-1] += f" {word}" if lines[-1] or len(lines) > 1 else word
    return "\r\n".join(lines)


def _quoted_printable(octets: bytes) -> bytes:
    """Quoted-printable text with CRLF line ends; the last line end is kept as it was."""
    return quopri.encodestring(octets).replace(b"\n", b"\r\n")


def _ascii(text: str) -> str:
    """ASCII text for a field that allows nothing else."""
    return text.encode("ascii", "backslashreplace").decode()


def is_report(header: bytes) -> bool:
    """Whether a message is a notice itself, by its header: nobody is told of what becomes of it."""
    return _REPORT.search(b"\r\n" + header) is not None
