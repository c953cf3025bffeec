"""What is seen of a header: its fields, its end, and what is broken about it."""

from __future__ import annotations

import pytest

from mailrelay_gateway.message.headers import MAX_HEADER, Header, read_header, read_mailboxes


def test_the_usual_fields() -> None:
    content = (
        b"Received: from a by b\r\n\tfor <c@example.org>; now\r\n"
        b"RECEIVED: from c by d\r\n"
        b"From: Alice\r\n <alice@example.com>\r\n"
        b"message-ID: <1@example.com>\r\n"
        b"DATE : Mon, 02 Jan 2006 15:04:05 +0000\r\n"
        b"\r\n"
        b"From: not@a.header\r\nReceived: no\r\n"
    )
    assert read_header(content) == Header(
        (b"Alice <alice@example.com>",),
        "<1@example.com>",
        True,
        2,
        "",
        end=content.index(b"\r\nFrom: not"),
    )


@pytest.mark.parametrize(
    "content",
    [b"", b"\r\n", b"\r\nFrom: a@example.com\r\n", b"Subject: x\r\n", b"Subject: x\r\n\r\n"],
)
def test_nothing_that_we_look_for(content: bytes) -> None:
    header = read_header(content)
    assert (header.froms, header.message_id, header.has_date, header.fault) == ((), "", False, "")


@pytest.mark.parametrize(
    ("content", "count"),
    [
        (b"From: a@b\r\nFrom: c@d\r\n\r\n", 2),
        (b"FROM: a@b\r\nfrom\t:c@d\r\n\r\n", 2),
        (b"From: a@b\r\nX-From: c@d\r\nFromage: e@f\r\n\r\n", 1),
        (b"Subject: x\r\n From: c@d\r\nFrom: a@b\r\n\r\n", 1),
        (b"From: a@b\r\n From: c@d\r\n\r\n", 1),
        (b"From: a@b", 1),
    ],
)
def test_each_from_that_anybody_may_see_counts(content: bytes, count: int) -> None:
    assert len(read_header(content).froms) == count


@pytest.mark.parametrize(
    ("content", "line"),
    [
        (b"no header at all\r\n\r\nbody", 1),
        (b" folded: first\r\n\r\n", 1),
        (b"Subject: x\r\nY: z\r\nno field\r\n\r\n", 3),
        (b"Subject: x\r\n: no name\r\n\r\n", 2),
        (b"Subject: x\r\nB\xc3\xbc: y\r\n\r\n", 2),
        (b"Subject: x\r\nbody without empty line", 2),
    ],
)
def test_a_line_that_is_no_field_is_named(content: bytes, line: int) -> None:
    assert read_header(content).fault.startswith(f"Line {line} of the message")


@pytest.mark.parametrize(
    "content",
    [b"A: \xff\xfe raw octets\r\n\r\n", b"A:\r\n\r\n", b"A:b\r\n \r\n\t\r\nC: d\r\n\r\n"],
)
def test_odd_but_readable_headers_pass(content: bytes) -> None:
    assert read_header(content).fault == ""


def test_a_header_without_end_is_bounded() -> None:
    assert "longer" in read_header(b"A: " + b"x" * MAX_HEADER + b"\r\n\r\n").fault
    assert read_header(b"A: " + b"x" * (MAX_HEADER - 10) + b"\r\n\r\n").fault == ""


@pytest.mark.parametrize(
    ("value", "addresses"),
    [
        ("a@example.com", ("a@example.com",)),
        ("<a@example.com>", ("a@example.com",)),
        ("Alice Example <a@example.com>", ("a@example.com",)),
        ('"Example, Alice" <a@example.com>', ("a@example.com",)),
        ('"x@evil.example" <a@example.com>', ("a@example.com",)),
        ("=?utf-8?q?B=C3=BCro?= <a@example.com>", ("a@example.com",)),
        ("[EXTERNAL] Alice <a@example.com>", ("a@example.com",)),
        ("[EXTERNAL] =?utf-8?q?B=C3=BCro?= <a@example.com>", ("a@example.com",)),
        ("[EXTERNAL] =?utf-8?b?QsO8cm8=?= <a@example.com>", ("a@example.com",)),
        ('"x@evil.example" [EXTERNAL] <a@example.com>', None),
        ('[EXTERNAL] "x@evil.example" <a@example.com>', None),
        ("=?utf-8?q?x=40evil.example?=[x]<a@example.com>", None),
        ("=?utf-8?B?eEBldmlsLmV4YW1wbGU=?=[x]<a@example.com>", None),
        ("=?utf-8?b?e?=[x]<a@example.com>", None),
        ("=?utf-8?q?x=40evil.example?= a@example.com<a@example.com>", None),
        ("a@example.com (Alice (of Example))", ("a@example.com",)),
        ("a@example.com, B <b@example.com>", ("a@example.com", "b@example.com")),
        ("Board: a@example.com, B <b@example.com>;", ("a@example.com", "b@example.com")),
        ("a@evil.example <b@example.com>", ("a@evil.example", "b@example.com")),
        ('"quoted local"@example.com', ('"quoted local"@example.com',)),
        ("a@[192.0.2.1]", ("a@[192.0.2.1]",)),
        ("B\u00fcro <a@example.com>", ("a@example.com",)),
        ("Undisclosed:;", ()),
        ("", ()),
        ("Alice", None),
        ("a@example.com b@example.com", None),
        ("<a@example.com> <b@example.com>", None),
        ("<a@example.com>b@example.com", None),
        ("<a@example.com, b@example.com>", None),
        ("<@hop.example:a@example.com>", None),
        ("a@evil.example@example.com", None),
        ("a @example.com", None),
        ("a@ example.com", None),
        ("a(comment)@example.com", None),
        ("Alice <a@example.com", None),
        ('"Alice <a@example.com>', None),
        ("(Alice <a@example.com>", None),
        ("Alice \\<a@example.com>", None),
        ("b\u00fcro@example.com", None),
        ('"Board: all": a@example.com;', ("a@example.com",)),
        ("Board: a@example.com;, b@example.com", ("a@example.com", "b@example.com")),
        ("Board: a@example.com; (comment)", ("a@example.com",)),
        ("Board: one: a@example.com;", None),
        ("Board: a@example.com", None),
        ("Board: a@example.com, b@example.com", None),
        ("Board: a@example.com; b@example.com", None),
        ("a@example.com; b@example.com", None),
        (": a@example.com;", None),
        ("Board: One: a@example.com;;", None),
        ("a@[999.1.1.1]", None),
        ("a@[notanip]", None),
        ("a@ex\u00e4mple.com", None),
    ],
)
def test_mailboxes(value: str, addresses: tuple[str, ...] | None) -> None:
    assert read_mailboxes(value.encode()) == addresses
