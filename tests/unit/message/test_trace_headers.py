"""The headers that we put in front of a message."""

from __future__ import annotations

import email.utils

import pytest

from mailrelay_gateway.message import trace

AT = 1136214245  # 2006-01-02 15:04:05 UTC


def test_received_names_a_single_recipient() -> None:
    line = trace.received(
        helo="client.example.org",
        client="192.0.2.1",
        hostname="relay.example.com",
        protocol="ESMTPSA",
        queue_id="0" * 26,
        recipients=("bob@example.org",),
        at=AT,
    )
    assert line == (
        b"Received: from client.example.org ([192.0.2.1])\r\n"
        b"\tby relay.example.com (mailrelay) with ESMTPSA id 00000000000000000000000000\r\n"
        b"\tfor <bob@example.org>;\r\n"
        b"\tMon, 02 Jan 2006 15:04:05 +0000\r\n"
    )


def test_received_shows_no_blind_copies() -> None:
    line = trace.received(
        helo="c",
        client=trace.client_literal("2001:db8::1"),
        hostname="r",
        protocol="ESMTP",
        queue_id="1",
        recipients=("a@example.org", "b@example.org"),
        at=AT,
    )
    assert b"example.org" not in line
    assert b"([IPv6:2001:db8::1])" in line


@pytest.mark.parametrize(
    ("facts", "word"),
    [
        ((False, False, False), "SMTP"),
        ((True, False, False), "ESMTP"),
        ((True, True, False), "ESMTPS"),
        ((True, True, True), "ESMTPSA"),
    ],
)
def test_transmission_words(facts: tuple[bool, bool, bool], word: str) -> None:
    extended, tls, authenticated = facts
    assert trace.transmission(extended=extended, tls=tls, authenticated=authenticated) == word


@pytest.mark.parametrize("at", [0, AT, 1709164800, 4102444799])
def test_dates_are_those_of_the_email_package(at: int) -> None:
    assert trace.format_date(at) == email.utils.formatdate(at)[:-5] + "+0000"


def test_no_trace_is_longer_than_said() -> None:
    line = trace.received(
        helo="h" * 255,
        client="c" * 50,
        hostname="n" * 253,
        protocol="ESMTPSA",
        queue_id="q" * 26,
        recipients=("r" * 320,),
        at=AT,
    )
    rest = trace.date(AT) + trace.message_id("q" * 26, "n" * 253).encode()
    assert len(line) + len(rest) + 100 < trace.MAX_TRACE
