"""What is mended in a header, what is refused, and that all else stays as it came."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailrelay_gateway.message.headers import read_header
from mailrelay_gateway.message.submission import MAX_LINE, fold, mend


def mended(content: bytes, *, without_sender: bool = False) -> bytes | str:
    header = read_header(content)
    assert header.fault == ""
    if not header.mend and not without_sender:
        return content
    return mend(content, header, without_sender=without_sender)


@pytest.mark.parametrize(
    "content",
    [
        b"From: a@b\r\nTo: c@d\r\nSubject: x\r\nDate: now\r\nMessage-ID: <1@b>\r\n\r\nBcc: x\r\n",
        b"X-Bcc: x\r\nBcc-Not: y\r\nResent-To: z\r\n\r\n",
        b"Message-ID:\r\n <1@b>\r\n\r\n",
        b"Message-ID: <1@b> (comment)\r\n\r\n",
        b"Message-ID: <odd id without at>\r\n\r\n",
        b"Received: a\r\nReceived: b\r\nResent-From: c\r\nResent-From: d\r\n\r\n",
        b"Subject: x\r\n Subject: y\r\n\r\n",
        b"\r\nBcc: body\r\n",
        b"",
    ],
)
def test_what_needs_no_mending_is_not_touched(content: bytes) -> None:
    assert not read_header(content).mend


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        # blind copies and return paths
        (b"A: b\r\nBcc: x@y\r\nC: d\r\n\r\nbody", b"A: b\r\nC: d\r\n\r\nbody"),
        (b"bCC:\r\n x@y,\r\n\tz@y\r\nC: d\r\n\r\nbody", b"C: d\r\n\r\nbody"),
        (b"BCC : x@y\r\nBcc: z@y\r\nC: d\r\n\r\nbody", b"C: d\r\n\r\nbody"),
        (b"C: d\r\nResent-BCC: x@y\r\n\r\nbody", b"C: d\r\n\r\nbody"),
        (b"Return-Path: <x@y>\r\nC: d\r\n\r\nbody", b"C: d\r\n\r\nbody"),
        (b"Bcc: x@y\r\n\r\nbody", b"\r\nbody"),
        (b"C: d\r\nBcc: x@y", b"C: d\r\n"),
        # ids and dates that say nothing
        (b"Message-ID:\r\nC: d\r\n\r\n", b"C: d\r\n\r\n"),
        (b"Message-ID:  \r\n \r\n\t\r\nC: d\r\n\r\n", b"C: d\r\n\r\n"),
        (b"Message-ID: <>\r\nC: d\r\n\r\n", b"C: d\r\n\r\n"),
        (b"Message-ID: < >\r\nC: d\r\n\r\n", b"C: d\r\n\r\n"),
        (b"Message-ID: abc\r\nC: d\r\n\r\n", b"C: d\r\n\r\n"),
        (b"Date:\r\n \r\nC: d\r\n\r\n", b"C: d\r\n\r\n"),
        # of several, the first that says something
        (b"Message-ID: <1@b>\r\nMessage-ID: <2@b>\r\n\r\n", b"Message-ID: <1@b>\r\n\r\n"),
        (b"Message-ID: <>\r\nMessage-ID: <2@b>\r\n\r\n", b"Message-ID: <2@b>\r\n\r\n"),
        (b"Date: one\r\nDate: two\r\n\r\n", b"Date: one\r\n\r\n"),
        (b"Date:\r\nDate: two\r\n\r\n", b"Date: two\r\n\r\n"),
        # the same twice is once; lists are one list
        (b"Subject: x\r\nC: d\r\nSUBJECT:  x\r\n\r\n", b"Subject: x\r\nC: d\r\n\r\n"),
        (b"From: a@b\r\nFrom: a@b\r\n\r\n", b"From: a@b\r\n\r\n"),
        (b"To: a@b\r\nC: d\r\nto: e@f\r\n\r\n", b"To: a@b,\r\n e@f\r\nC: d\r\n\r\n"),
        (b"Cc: a@b,\r\nCc:\r\nCc: e@f\r\n\r\n", b"Cc: a@b,\r\n e@f\r\n\r\n"),
        (b"To:\r\nTo: e@f\r\n\r\n", b"To: e@f\r\n\r\n"),
        # mailbox files
        (b"From a@b Mon Jan  2 15:04:05 2006\r\nC: d\r\n\r\n", b"C: d\r\n\r\n"),
        (b">From a@b Mon Jan  2 15:04:05 2006\r\nC: d\r\n\r\n", b"C: d\r\n\r\n"),
        (b"From a@b Mon Jan  2 15:04:05 2006\r\n\r\nbody", b"\r\nbody"),
    ],
)
def test_what_is_mended(content: bytes, expected: bytes) -> None:
    assert mended(content) == expected
    assert not read_header(expected).mend


@pytest.mark.parametrize(
    ("content", "field"),
    [
        (b"Subject: x\r\nSubject: y\r\n\r\n", "Subject"),
        (b"From: a@b\r\nFROM: c@d\r\n\r\n", "FROM"),
        (b"Sender: a@b\r\nSender: c@d\r\n\r\n", "Sender"),
        (b"Reply-To: a@b\r\nReply-To: c@d\r\n\r\n", "Reply-To"),
        (b"In-Reply-To: <1>\r\nIn-Reply-To: <2>\r\n\r\n", "In-Reply-To"),
        (b"References: <1>\r\nReferences: <2>\r\n\r\n", "References"),
    ],
)
def test_fields_that_differ_are_refused_by_name(content: bytes, field: str) -> None:
    said = mended(content)
    assert isinstance(said, str)
    assert said.startswith(f"The header has two fields {field} that differ")


def test_a_sender_is_taken_out_when_asked() -> None:
    content = b"From: a@b\r\nSender: ceo@other\r\n (folded)\r\nsender: x\r\n\r\nSender: body"
    assert mended(content, without_sender=True) == b"From: a@b\r\n\r\nSender: body"


def test_a_line_of_a_mailbox_file_counts_where_a_fault_is_named() -> None:
    header = read_header(b"From a@b Mon Jan 2\r\nA: b\r\nno field\r\n\r\n")
    assert header.fault.startswith("Line 3 of the message")
    assert read_header(b"From : a@b\r\n\r\n").froms == (b"a@b",)


def test_long_lines_of_a_header_are_folded_and_read_as_before() -> None:
    addresses = [f"recipient-number-{n}@example.org" for n in range(60)]
    for comma in (", ", ","):
        to = f"To: {comma.join(addresses)}\r\n".encode()
        content = b"From: a@b\r\n" + to + b"Subject: x\r\n\r\nbody\r\n"
        done = mend(content, read_header(content), without_sender=False)
        assert isinstance(done, bytes)
        head, _, body = done.partition(b"\r\n\r\n")
        assert body == b"body\r\n"
        assert max(map(len, head.split(b"\r\n"))) <= MAX_LINE
        unfolded = head.replace(b"\r\n ", b" ").decode().split("\r\n")[1]
        assert re.split(", ?", unfolded.removeprefix("To: ")) == addresses


def test_a_header_line_without_a_blank_cannot_be_folded() -> None:
    content = b"Bcc: x@y\r\nX-Token: " + b"x" * 2000 + b"\r\n\r\n"
    said = mended(content)
    assert isinstance(said, str)
    assert said.startswith("A header line has 2009 octets")


@given(st.lists(st.sampled_from([b"x" * 7, b" ", b"\t", b"y" * 300, b", "]), max_size=40))
def test_folding_loses_nothing_and_leaves_no_long_and_no_empty_line(parts: list[bytes]) -> None:
    """Invariant: pieces are of legal length, none is blank, all but the first begin with a blank,
    and joined they are the line.
    """
    line = b"X-Long: z" + b"".join(parts)
    pieces = fold(line)
    if pieces is not None:
        assert b"".join(pieces).rstrip() == line.rstrip()
        assert all(len(piece) <= MAX_LINE and piece.strip() for piece in pieces)
        assert all(piece[:1] in (b" ", b"\t") for piece in pieces[1:])
    else:
        assert re.search(rb"[^ \t]{99}", line)
