"""Replies are read from octets: one line or many, bounded, and nothing that is not SMTP gets
through.
"""

from __future__ import annotations

import pytest

from mailrelay_gateway.smtp.client.replies import (
    MAX_LINE,
    MAX_LINES,
    MAX_TEXT,
    ReplyError,
    ReplyReader,
)
from mailrelay_gateway.smtp.reply import Reply


@pytest.mark.parametrize(
    ("octets", "reply"),
    [
        (b"250 2.1.0 Ok\r\n", Reply(250, "2.1.0", "Ok")),
        (b"250 Ok\r\n", Reply(250, "", "Ok")),
        (b"250\r\n", Reply(250, "", "")),
        (b"250 \r\n", Reply(250, "", "")),
        (b"250 2.0.0\r\n", Reply(250, "2.0.0", "")),
        (b"250 ends with LF only\n", Reply(250, "", "ends with LF only")),
        (b"550 5.1.1   spaces kept\r\n", Reply(550, "5.1.1", "spaces kept")),
        # An enhanced code of another class than the reply's is just text (RFC 3463 section 2).
        (b"451 5.7.1 no\r\n", Reply(451, "", "5.7.1 no")),
        (b"250 2.1.0.4 host\r\n", Reply(250, "", "2.1.0.4 host")),
        (b"550-5.7.1 one\r\n550 5.7.1 two\r\n", Reply(550, "5.7.1", "one\ntwo")),
        # RFC 5321 section 4.2.1: the last line's code counts.
        (b"250-one\r\n450 two\r\n", Reply(450, "", "one\ntwo")),
        (b"220-\r\n220 \r\n", Reply(220, "", "\n")),
        (b"250 tab\there \x1b[31m \x00\r\n", Reply(250, "", "tab here ?[31m ?")),
        ("250 grüß\r\n".encode(), Reply(250, "", "grüß")),
        (b"250 \xff\r\n", Reply(250, "", "\\xff")),
        # Digits of other scripts are no status: a notice is ASCII.
        ("550 5.\u0667.\u0661 no\r\n".encode(), Reply(550, "", "5.\u0667.\u0661 no")),
    ],
)
def test_a_reply_is_read(octets: bytes, reply: Reply) -> None:
    reader = ReplyReader()
    assert reader.receive(octets) == [reply]
    assert reader.empty


def test_several_replies_in_one_piece_keep_their_order() -> None:
    replies = ReplyReader().receive(b"250 a\r\n250-b\r\n250 c\r\n354 d\r\n25")
    assert [(reply.code, reply.text) for reply in replies] == [
        (250, "a"),
        (250, "b\nc"),
        (354, "d"),
    ]


@pytest.mark.parametrize("octets", [b"2", b"250 half", b"250-first\r\n", b"250 half\r"])
def test_an_unfinished_reply_is_held(octets: bytes) -> None:
    reader = ReplyReader()
    assert reader.receive(octets) == []
    assert not reader.empty


@pytest.mark.parametrize(
    "octets",
    [
        b"\r\n",
        b"HTTP/1.1 400 Bad Request\r\n",
        b"25 Ok\r\n",
        b"2500 Ok\r\n",
        b"250_Ok\r\n",
        b"150 below\r\n",
        b"600 above\r\n",
        b"\x16\x03\x01\x02\x00\n",
        b"250-one\r\nno code\r\n",
        "２５０ full-width digits\r\n".encode(),
        b"250 " + b"x" * MAX_LINE + b"\r\n",
        b"x" * (MAX_LINE + 1),
        b"250-more\r\n" * (MAX_LINES + 1),
    ],
)
def test_what_is_no_reply_is_refused(octets: bytes) -> None:
    with pytest.raises(ReplyError):
        ReplyReader().receive(octets)


def test_replies_before_a_defect_are_not_lost() -> None:
    with pytest.raises(ReplyError) as caught:
        ReplyReader().receive(b"250 stored\r\nnonsense\r\n")
    assert caught.value.before == [Reply(250, "", "stored")]


def test_a_reply_of_the_greatest_length_is_read_and_little_of_it_kept() -> None:
    line = b"250-" + b"x" * (MAX_LINE - 5) + b"\r\n"
    reader = ReplyReader()
    kept = 0
    for _ in range(MAX_LINES - 1):
        assert reader.receive(line) == []
        kept = max(kept, reader._kept)
    [reply] = reader.receive(b"450 end\r\n")
    assert (reply.code, len(reply.text)) == (450, MAX_TEXT)
    assert kept <= MAX_TEXT + MAX_LINE
    assert reader.empty
    assert reader.receive(b"250-a\r\n250 b\r\n") == [Reply(250, "", "a\nb")]


@pytest.mark.parametrize("lines", [100, 101, 151, 1000])
def test_a_long_reply_is_a_reply(lines: int) -> None:
    octets = b"".join(b"250-X-%d\r\n" % n for n in range(lines - 1)) + b"250 SIZE 1000\r\n"
    [reply] = ReplyReader().receive(octets)
    assert reply.text.count("\n") + 1 == lines or len(reply.text) == MAX_TEXT
    assert reply.text.startswith("X-0\nX-1\n")
