"""DSN parameters as values: what they ask for, and how they are stored and passed on."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailrelay_gateway.smtp.dsn import (
    DsnParameters,
    RecipientDsn,
    decode_xtext,
    from_json,
    is_envid,
    is_orcpt,
    to_json,
    wants,
)
from tests.unit.smtp_client.conversation import ready

ASKED = DsnParameters(
    "HDRS", "QQ+3D", (RecipientDsn("NEVER", "rfc822;x@y.org"), RecipientDsn("SUCCESS,DELAY"))
)


@pytest.mark.parametrize(
    ("notify", "told"),
    [
        ("", {"FAILURE", "DELAY"}),
        ("NEVER", set()),
        ("SUCCESS", {"SUCCESS"}),
        ("SUCCESS,FAILURE,DELAY", {"SUCCESS", "FAILURE", "DELAY"}),
    ],
)
def test_who_is_told_of_what(notify: str, told: set[str]) -> None:
    dsn = DsnParameters(recipients=(RecipientDsn(notify),))
    events = {"SUCCESS", "FAILURE", "DELAY"}
    assert {event for event in events if wants(dsn, 0, event)} == told
    usual = {event for event in events if wants(None, 0, event)}
    assert usual == {event for event in events if wants(dsn, 1, event)} == {"FAILURE", "DELAY"}


@given(st.text())
def test_stored_is_read_again(text: str) -> None:
    asked = DsnParameters("FULL", text, (RecipientDsn(text, text), RecipientDsn()))
    assert from_json(to_json(asked)) == asked


@given(st.text(max_size=60))
def test_nothing_that_is_taken_could_end_a_command(text: str) -> None:
    for value in (text, "rfc822;" + text):
        if is_envid(value) or is_orcpt(value):
            assert value.isascii() and value.isprintable() and " " not in value


def test_xtext_is_decoded() -> None:
    assert decode_xtext("a+2Bb+3D+40") == "a+b=@"


EHLO = b"250-sink\r\n%s250 DSN\r\n"


@pytest.mark.parametrize("pipelining", [True, False])
def test_they_are_passed_on_where_offered(pipelining: bool) -> None:
    conversation = ready(EHLO % (b"250-PIPELINING\r\n" if pipelining else b""))
    said = conversation.begin("b@x.net", "c@x.net", dsn=ASKED)
    if not pipelining:
        for reply in (b"250 ok\r\n", b"250 ok\r\n", b"250 ok\r\n"):
            conversation.feed(reply)
            said += conversation.sent()
    assert said == (
        b"MAIL FROM:<a@example.com> RET=HDRS ENVID=QQ+3D\r\n"
        b"RCPT TO:<b@x.net> NOTIFY=NEVER ORCPT=rfc822;x@y.org\r\n"
        b"RCPT TO:<c@x.net> NOTIFY=SUCCESS,DELAY\r\n"
        b"DATA\r\n"
    )


def test_they_are_not_where_it_is_not_offered_and_never_for_the_next_message() -> None:
    plain = b"MAIL FROM:<a@example.com>\r\nRCPT TO:<b@x.net>\r\nDATA\r\n"
    assert ready(b"250-sink\r\n250 PIPELINING\r\n").begin("b@x.net", dsn=ASKED) == plain
    conversation = ready(EHLO % b"250-PIPELINING\r\n")
    one = DsnParameters(recipients=(RecipientDsn("NEVER"),))
    assert b"NOTIFY" in conversation.begin("b@x.net", dsn=one)
    conversation.feed(b"450 no\r\n450 no\r\n503 no\r\n")
    assert conversation.begin("b@x.net") == plain
