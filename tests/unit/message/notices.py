"""Notices for tests, and how Python's email package reads them."""

from __future__ import annotations

from email import policy
from email.message import EmailMessage
from email.parser import BytesParser

from mailrelay_gateway.message.dsn import build_notice
from mailrelay_gateway.message.dsn_text import Action, NoticeRecipient
from mailrelay_gateway.reasons import Reason
from mailrelay_gateway.smtp.client.replies import ReplyReader
from mailrelay_gateway.smtp.reply import Reply

REJECTED = Reason.UPSTREAM_REJECTED
HEADER = b"Received: from app\r\nFrom: a@example.com\r\nSubject: hello"


def wire(text: str) -> Reply:
    """A reply as it is read from the wire."""
    [reply] = ReplyReader().receive(text.encode() + b"\r\n")
    return reply


def failed(
    reply: str | None = "550 5.1.1 nobody",
    *,
    address: str = "ann@example.net",
    host: str = "mx.example.net:25",
    reason: Reason = REJECTED,
    detail: str = "",
) -> NoticeRecipient:
    return NoticeRecipient(
        address=address,
        reason=reason,
        reply=wire(reply) if reply else None,
        host=host,
        detail=detail,
    )


def octets(
    *recipients: NoticeRecipient,
    header: bytes = HEADER,
    to: str = "a@example.com",
    action: Action = Action.FAILED,
) -> bytes:
    return build_notice(
        queue_id="01NOTICE",
        hostname="relay.example.com",
        to=to,
        now=1_800_432_000.5,
        original_id="01ORIGINAL",
        received_at=1_800_000_000.5,
        header=header,
        recipients=recipients,
        action=action,
    )


def parse(notice: bytes) -> EmailMessage:
    """The notice as a message, none of whose parts the parser had anything to say about."""
    message = BytesParser(policy=policy.default).parsebytes(notice)
    assert isinstance(message, EmailMessage)
    assert [
        (part.get_content_type(), part.defects) for part in message.walk() if part.defects
    ] == []
    return message


def parts(notice: bytes) -> tuple[str, list[EmailMessage], bytes]:
    """The text for people, the blocks for programs, the quoted header."""
    message = parse(notice)
    assert message.get_content_type() == "multipart/report"
    assert message.get_param("report-type") == "delivery-status"
    people, report, quoted = message.iter_parts()
    assert people.get_content_type() == "text/plain"
    assert report.get_content_type() == "message/delivery-status"
    assert quoted.get_content_type() == "text/rfc822-headers"
    text = people.get_content()
    blocks = report.get_payload()
    header = quoted.get_payload(decode=True)
    assert isinstance(header, bytes)
    return text, blocks, header  # type: ignore[return-value]
