"""A notice is read back by Python's email parser: the right status and the right host for each
recipient, plain ASCII, and nothing in it that made the message fail.
"""

from __future__ import annotations

from dataclasses import replace
from email import policy
from email.message import EmailMessage
from email.parser import BytesParser

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailrelay_gateway.message.dsn_text import Action, NoticeRecipient
from mailrelay_gateway.reasons import Reason
from mailrelay_gateway.smtp.reply import Reply
from tests.unit.message.notices import REJECTED, failed, octets, parse, parts, wire


def block(recipient: NoticeRecipient) -> EmailMessage:
    _, [_, found], _ = parts(octets(recipient))
    return found


@pytest.mark.parametrize(
    ("reply", "status"),
    [
        ("550 5.1.1 nobody", "5.1.1"),
        ("550-5.7.1 two\r\n550 5.7.1 lines", "5.7.1"),
        ("554 Your IP address 45.1.1.20 is on our block list", "5.0.0"),
        ("554 see RFC 5.1.1 of ours", "5.0.0"),
        ("550 no 5.1.1", "5.0.0"),
        ("550 4.2.0 of another class", "5.0.0"),
        ("550 5.1.1.20 is no enhanced code", "5.0.0"),
        ("550", "5.0.0"),
    ],
)
def test_the_status_is_only_what_stands_directly_after_the_code(reply: str, status: str) -> None:
    assert block(failed(reply))["Status"] == status


@pytest.mark.parametrize(
    ("reply", "status"),
    [
        ("450 4.2.2 mailbox full", "4.2.2"),
        ("450 later", "4.0.0"),
        ("451 5.7.1 of another class", "4.0.0"),
        (None, "4.4.7"),
    ],
)
def test_what_was_given_up_keeps_the_status_of_the_trouble(reply: str | None, status: str) -> None:
    found = block(failed(reply, reason=Reason.GAVE_UP, detail="" if reply else "was silent"))
    assert found["Status"] == status
    assert found["Action"] == "failed"


def test_the_host_that_refused_is_named() -> None:
    assert block(failed())["Remote-MTA"] == "dns; mx.example.net"
    assert block(failed(host="192.0.2.1:25"))["Remote-MTA"] == "dns; [192.0.2.1]"
    assert block(failed(host="2001:db8::1:25"))["Remote-MTA"] == "dns; [IPv6:2001:db8::1]"
    ours = failed("553 5.1.3 bad", reason=Reason.ADDRESS_UNSENDABLE)
    assert block(ours)["Remote-MTA"] is None
    assert block(failed(None, detail="closed the connection"))["Remote-MTA"] is None


def test_a_block_for_one_recipient() -> None:
    found = block(failed("550-5.1.1 No such user\r\n550 5.1.1 here"))
    assert dict(found.items()) == {
        "Final-Recipient": "rfc822; ann@example.net",
        "Action": "failed",
        "Status": "5.1.1",
        "Remote-MTA": "dns; mx.example.net",
        "Diagnostic-Code": "smtp; 550 5.1.1 No such user here",
        "Last-Attempt-Date": "Wed, 20 Jan 2027 08:00:00 +0000",
    }
    _, [fields, _], _ = parts(octets(failed()))
    assert dict(fields.items()) == {
        "Reporting-MTA": "dns; relay.example.com",
        "X-Mailrelay-Queue-Id": "01ORIGINAL",
        "Arrival-Date": "Fri, 15 Jan 2027 08:00:00 +0000",
    }


def test_the_head() -> None:
    message = parse(octets(failed()))
    assert message["From"] == "Mail Delivery System <MAILER-DAEMON@relay.example.com>"
    assert message["To"] == "a@example.com"
    assert message["Message-ID"] == "<01NOTICE@relay.example.com>"
    assert message["Date"] == "Wed, 20 Jan 2027 08:00:00 +0000"
    assert message["Auto-Submitted"] == "auto-replied"


def test_the_first_two_lines_say_what_happened() -> None:
    text, _, _ = parts(octets(failed()))
    assert text.splitlines()[:2] == [
        "Your message to ann@example.net could not be delivered.",
        "The server mx.example.net answered: 550 5.1.1 nobody",
    ]
    text, _, _ = parts(octets(failed("450 4.2.2 full", reason=Reason.GAVE_UP)))
    assert text.splitlines()[1:3] == [
        "The server mx.example.net answered: 450 4.2.2 full",
        "Delivery was retried for 5 days.",
    ]
    text, _, _ = parts(octets(failed(None, detail="was silent for 300 s")))
    assert text.splitlines()[1] == (
        "The last error from the server mx.example.net: was silent for 300 s"
    )
    lost = failed(None, detail="closed the connection", reason=Reason.GAVE_UP)
    text, _, _ = parts(octets(replace(lost, uncertain=True)))
    assert text.splitlines()[3] == (
        "It may have been delivered nevertheless: a reply of the server was lost."
    )
    text, _, _ = parts(octets(failed(None, host="", reason=Reason.GAVE_UP)))
    assert text.splitlines()[1] == Reason.GAVE_UP.sentence


UNTIL = 1_800_864_000.0


def test_a_delay_says_so_in_two_lines_and_until_when_it_is_retried() -> None:
    waits = replace(failed("451 4.3.0 later", reason=Reason.UPSTREAM_DEFERRED), until=UNTIL)
    notice = octets(waits, action=Action.DELAYED)
    text, [_, found], _ = parts(notice)
    assert text.splitlines()[:3] == [
        "Your message to ann@example.net has not been delivered yet.",
        "The server mx.example.net answered: 451 4.3.0 later",
        "Delivery has been retried for 5 days.",
    ]
    assert "It retries the delivery until Mon, 25 Jan 2027 08:00:00 +0000: you need not" in text
    assert (found["Action"], found["Status"]) == ("delayed", "4.3.0")
    assert found["Will-Retry-Until"] == "Mon, 25 Jan 2027 08:00:00 +0000"
    assert parse(notice)["Subject"] == "Delayed Mail (delivery is still retried)"
    doubted = replace(waits, reply=wire("550 5.7.1 what"))
    _, [_, found], _ = parts(octets(doubted, action=Action.DELAYED))
    assert found["Status"] == "4.0.0", "a delay is no failure, whatever the server said"


def test_a_relay_says_in_two_lines_that_no_more_is_known() -> None:
    passed = failed("250 2.6.0 queued", reason=Reason.DELIVERED)
    text, [_, found], _ = parts(octets(passed, action=Action.RELAYED))
    assert text.splitlines()[:2] == [
        "Your message to ann@example.net was passed on to the next server mx.example.net.",
        "That server does not report deliveries: this is all that is known here.",
    ]
    assert (found["Action"], found["Status"]) == ("relayed", "2.6.0")
    several = [replace(passed, address=f"p{n}@example.net") for n in range(3)]
    text, [_, *blocks], _ = parts(octets(*several, action=Action.RELAYED))
    assert text.startswith("Your message was passed on to the next server for 3 recipients.\r\n")
    assert [each["Action"] for each in blocks] == ["relayed"] * 3


def test_ten_recipients_have_one_notice_with_ten_blocks() -> None:
    people = [failed(f"550 5.1.{n} no", address=f"p{n}@example.net") for n in range(10)]
    text, [_, *blocks], _ = parts(octets(*people))
    assert [b["Final-Recipient"] for b in blocks] == [
        f"rfc822; p{n}@example.net" for n in range(10)
    ]
    assert [b["Status"] for b in blocks] == [f"5.1.{n}" for n in range(10)]
    assert text.startswith("Your message could not be delivered to 10 of its recipients.\r\n")
    assert text.count("550 5.1.") == 10


def test_a_notice_about_a_thousand_stays_small_and_whole() -> None:
    people = [
        failed("550 5.7.1 " + "no " * 1000, address=f"person-{n:04d}@department.example.net")
        for n in range(1000)
    ]
    notice = octets(*people, header=b"X: " + b"y" * 8000)
    _, [_, *blocks], _ = parts(notice)
    assert len(blocks) == 1000
    assert len(notice) < 512 * 1024
    assert max(map(len, notice.split(b"\r\n"))) <= 998


def test_foreign_characters_travel_as_ascii() -> None:
    notice = octets(
        failed("550 5.1.1 Empfänger unbekannt", address="jörg+x@bücher.example"),
        header="From: a@example.com\r\nSubject: grüße 日本".encode(),
    )
    assert notice.isascii()
    text, [_, found], header = parts(notice)
    assert found["Final-Recipient"] == "utf-8; j\\x{F6}rg\\x{2B}x@b\\x{FC}cher.example"
    assert found["Diagnostic-Code"] == "smtp; 550 5.1.1 Empf\\xe4nger unbekannt"
    assert "Your message to jörg+x@bücher.example could" in text
    assert "Empfänger unbekannt" in text
    assert "grüße 日本" in header.decode()
    for part in parse(notice).walk():
        assert part.get("Content-Transfer-Encoding", "7bit") in ("7bit", "quoted-printable")


def test_octets_that_are_no_text_travel_too() -> None:
    notice = octets(failed(), header=b"Subject: gr\xfc\xdfe\r\nX: \x00")
    assert notice.isascii()
    assert b"gr\xfc\xdfe" in parts(notice)[2]


def test_what_made_the_message_fail_does_not_fail_the_notice() -> None:
    to = b"To: " + b", ".join(b"somebody-%03d@department.example.net" % n for n in range(200))
    for header in (to, b"X-Long: " + b"x" * 7000, b"X: " + b" " * 3000, b" " * 3000):
        notice = octets(failed(), header=b"From: a@example.com\r\n" + header)
        assert max(map(len, notice.split(b"\r\n"))) <= 998
        assert b"\n" not in notice.replace(b"\r\n", b"")
        assert parts(notice)[2].startswith(b"From: a@example.com\r\n")
    quoted = parts(octets(failed(), header=to))[2]
    assert quoted.replace(b"\r\n", b"").startswith(to)


@pytest.mark.parametrize(
    "recipient",
    [
        failed("450 4.2.0 " + "日本" * 450),
        failed("450 4.2.0 " + "word " * 180, host=f"vpce-{'0' * 60}.{'x' * 40}.example.com:587"),
        replace(failed(), orcpt="rfc822;" + "+FF" * 500),
    ],
    ids=["no spaces", "long host", "original recipient"],
)
def test_no_line_is_too_long_for_the_next_server(recipient: NoticeRecipient) -> None:
    notice = octets(recipient)
    assert max(map(len, notice.split(b"\r\n"))) <= 998
    parts(notice)


def test_nothing_foreign_starts_a_field_of_its_own() -> None:
    evil = NoticeRecipient(
        address="a@b\r\nStatus: 2.0.0",
        reason=REJECTED,
        reply=Reply(550, "", "no\r\nAction: delivered"),
        host="h\r\nAction: relayed:25",
    )
    _, blocks, _ = parts(octets(evil, to="a@b\r\nBcc: c@d"))
    assert len(blocks) == 2
    assert blocks[1].get_all("Action") == ["failed"]
    assert blocks[1].get_all("Status") == ["5.0.0"]


TEXT = st.text(max_size=60)


@given(
    address=TEXT,
    code=st.sampled_from([421, 450, 550, 554]),
    enhanced=st.sampled_from(["", "5.1.1", "5.\u0667.1"]),
    text=st.text(max_size=2000),
    host=TEXT,
    header=st.binary(max_size=3000),
    detail=TEXT,
    replied=st.booleans(),
)
def test_whatever_was_said_the_notice_is_whole(
    address: str,
    code: int,
    enhanced: str,
    text: str,
    host: str,
    header: bytes,
    detail: str,
    replied: bool,
) -> None:
    """Invariant: ASCII, CRLF only, no line beyond 998, three parts, one block per recipient."""
    recipient = NoticeRecipient(
        address=address,
        reason=Reason.GAVE_UP,
        reply=Reply(code, enhanced, text) if replied else None,
        host=host,
        detail=detail,
    )
    notice = octets(recipient, recipient, header=header)
    assert notice.isascii()
    assert b"\n" not in notice.replace(b"\r\n", b"")
    assert b"\r" not in notice.replace(b"\r\n", b"")
    assert max(map(len, notice.split(b"\r\n"))) <= 998
    message = BytesParser(policy=policy.compat32).parsebytes(notice)
    parts_found = list(message.walk())
    assert [part.get_content_type() for part in parts_found] == [
        "multipart/report",
        "text/plain",
        "message/delivery-status",
        *["text/plain"] * 3,  # the blocks
        "text/rfc822-headers",
    ]
