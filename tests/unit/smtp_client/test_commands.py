"""What is read out of an EHLO reply, and which logins are refused before they are sent."""

from __future__ import annotations

import pytest

from mailrelay_gateway.smtp.client.commands import (
    Capabilities,
    credential_defect,
    parse_capabilities,
)
from mailrelay_gateway.smtp.reply import Reply


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("sink", Capabilities()),
        ("PIPELINING", Capabilities()),  # the first line is the server's name
        ("sink\npipelining", Capabilities(pipelining=True)),
        ("sink\nSIZE", Capabilities(size_known=True)),
        ("sink\nSIZE 0", Capabilities(size_known=True)),
        ("sink\nSIZE 1000", Capabilities(size_known=True, size=1000)),
        ("sink\nSIZE many", Capabilities(size_known=True)),
        ("sink\nSIZE " + "9" * 5000, Capabilities(size_known=True)),
        ("sink\nAUTH PLAIN LOGIN", Capabilities(auth=frozenset({"PLAIN", "LOGIN"}))),
        ("sink\nAUTH=PLAIN\nAUTH LOGIN", Capabilities(auth=frozenset({"PLAIN", "LOGIN"}))),
        ("sink\n\n   \nSTARTTLS", Capabilities(starttls=True)),
        ("sink\nSMTPUTF8\n8BITMIME", Capabilities(smtputf8=True, eight_bit=True)),
    ],
)
def test_capabilities(text: str, expected: Capabilities) -> None:
    assert parse_capabilities(Reply(250, "", text)) == expected


@pytest.mark.parametrize(
    ("username", "password", "words"),
    [
        ("user", "pass", ""),
        ("user", "pä ss", ""),
        ("", "pass", "username is empty"),
        ("user", "", "password is empty"),
        ("user", "pass\n", "password ends in a line break"),
        ("us\0er", "pass", "username contains a control character"),
        ("user", "p" * 9000, "password has more than"),
    ],
)
def test_a_login_that_cannot_be_right_is_named(username: str, password: str, words: str) -> None:
    sentence = credential_defect(username, password)
    assert words in sentence
    assert (sentence == "") == (words == "")
    assert not password or password not in sentence
