"""AUTH with an access token: XOAUTH2 and OAUTHBEARER, what is said to their error challenges, and
that no other login ever takes its place.
"""

from __future__ import annotations

import base64

import pytest

from mailrelay_gateway.contract.stage import Stage
from mailrelay_gateway.smtp.client.commands import oauthbearer_response, xoauth2_response
from mailrelay_gateway.smtp.client.events import SessionEnded, SessionReady, Trouble
from mailrelay_gateway.smtp.client.login import Bearer, challenge_status
from tests.unit.smtp_client.conversation import Conversation, under_tls

TOKEN = "ya29.token"
LONG = "x" * 1500
CHALLENGE = base64.b64encode(b'{"status":"invalid_token","schemes":"bearer"}')


def xoauth2(token: str = TOKEN) -> Bearer:
    response = xoauth2_response("robot@example.com", token)
    return Bearer(mechanism="XOAUTH2", response=response, dismissal="")


def oauthbearer(token: str = TOKEN) -> Bearer:
    response = oauthbearer_response("robot@example.com", token, "smtp.example.com", 587)
    return Bearer(mechanism="OAUTHBEARER", response=response, dismissal="AQ==")


def logging_in(bearer: Bearer, offered: bytes = b"PLAIN LOGIN XOAUTH2 OAUTHBEARER") -> Conversation:
    return under_tls(
        b"250-sink\r\n250 AUTH " + offered + b"\r\n", username="robot@example.com", bearer=bearer
    )


def ended(conversation: Conversation) -> SessionEnded:
    [event] = [event for event in conversation.events if isinstance(event, SessionEnded)]
    return event


def test_the_responses_are_those_of_the_descriptions() -> None:
    # Google's and Microsoft's examples have this form; RFC 7628 section 4.1
    assert base64.b64decode(
        xoauth2_response("someuser@example.com", "vF9dft4qmTc2Nvb3RlckBhdH")
    ) == (b"user=someuser@example.com\x01auth=Bearer vF9dft4qmTc2Nvb3RlckBhdH\x01\x01")
    assert base64.b64decode(
        oauthbearer_response(
            "user@example.com", "vF9dft4qmTc2Nvb3RlckBhdH", "server.example.com", 143
        )
    ) == (
        b"n,a=user@example.com,\x01host=server.example.com\x01port=143\x01"
        b"auth=Bearer vF9dft4qmTc2Nvb3RlckBhdH\x01\x01"
    )


def test_a_name_with_the_marks_of_a_saslname_is_escaped() -> None:
    response = base64.b64decode(oauthbearer_response("a,b=c@example.com", "t", "h", 25))
    assert response.startswith(b"n,a=a=2Cb=3Dc@example.com,\x01")


@pytest.mark.parametrize("bearer", [xoauth2(), oauthbearer()])
def test_a_short_token_goes_with_the_command(bearer: Bearer) -> None:
    conversation = logging_in(bearer)
    expected = f"AUTH {bearer.mechanism} {bearer.response}\r\n".encode()
    assert conversation.sent() == expected
    assert conversation.feed(b"235 2.7.0 Accepted\r\n") == [SessionReady()]


@pytest.mark.parametrize("bearer", [xoauth2(LONG), oauthbearer(LONG)])
@pytest.mark.parametrize("asks", [b"334 \r\n", b"334 go on\r\n"])
def test_a_long_one_is_shown_when_the_server_asks(bearer: Bearer, asks: bytes) -> None:
    conversation = logging_in(bearer)
    assert conversation.sent() == f"AUTH {bearer.mechanism}\r\n".encode()
    conversation.feed(asks)
    assert conversation.sent() == f"{bearer.response}\r\n".encode()
    assert conversation.feed(b"235 2.7.0 Accepted\r\n") == [SessionReady()]


@pytest.mark.parametrize(
    ("bearer", "dismissal"),
    [
        (xoauth2(), b"\r\n"),
        (xoauth2(LONG), b"\r\n"),
        (oauthbearer(), b"AQ==\r\n"),
        (oauthbearer(LONG), b"AQ==\r\n"),
    ],
)
def test_an_error_challenge_is_dismissed_and_told(bearer: Bearer, dismissal: bytes) -> None:
    conversation = logging_in(bearer)
    if len(conversation.sent()) < 40:
        conversation.feed(b"334 \r\n")
        conversation.sent()
    conversation.feed(b"334 " + CHALLENGE + b"\r\n")
    assert conversation.sent() == dismissal
    conversation.feed(b"535 5.7.8 no\r\n")
    event = ended(conversation)
    assert (event.stage, event.trouble) == (Stage.AUTH, Trouble.REFUSED)
    assert event.detail == (
        f"answered 535 5.7.8 no to AUTH {bearer.mechanism} (status invalid_token)"
    )


def test_after_its_own_error_nobody_lets_us_in() -> None:
    conversation = logging_in(xoauth2())
    conversation.feed(b"334 " + CHALLENGE + b"\r\n235 in\r\n")
    assert ended(conversation).trouble is Trouble.PROTOCOL


def test_a_server_that_does_not_offer_it_gets_no_other_login() -> None:
    conversation = logging_in(xoauth2(), b"PLAIN LOGIN")
    assert conversation.sent() == b""
    event = ended(conversation)
    assert event.trouble is Trouble.NO_AUTH
    assert event.detail == "it offers AUTH LOGIN PLAIN; the gateway supports XOAUTH2 here"


def test_a_refusal_is_not_followed_by_another_mechanism() -> None:
    conversation = logging_in(xoauth2())
    conversation.sent()
    conversation.feed(b"535 5.7.3 Authentication unsuccessful\r\n")
    assert conversation.sent() == b""
    assert ended(conversation).trouble is Trouble.REFUSED


@pytest.mark.parametrize(
    ("text", "status"),
    [
        (CHALLENGE.decode(), "invalid_token"),
        (base64.b64encode(b'{"status":401}').decode(), "401"),
        (base64.b64encode(b'{"status":"a\\r\\nb"}').decode(), "ab"),
        ("not base64", ""),
        (base64.b64encode(b"[]").decode(), ""),
        ("", ""),
    ],
)
def test_the_status_of_a_challenge(text: str, status: str) -> None:
    assert challenge_status(text) == status


def test_nothing_shows_a_token() -> None:
    conversation = logging_in(xoauth2("topsecret"))
    response = xoauth2("topsecret").response
    for shown in (repr(conversation.client), repr(xoauth2("topsecret"))):
        assert "topsecret" not in shown
        assert response not in shown
