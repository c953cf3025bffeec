"""A session from greeting to ready: EHLO, STARTTLS, AUTH, and each way in which it can fail."""

from __future__ import annotations

from base64 import b64decode

import pytest

from mailrelay_gateway.contract.documents import TlsMode
from mailrelay_gateway.contract.stage import Stage
from mailrelay_gateway.smtp.client.events import (
    Goodbye,
    SessionEnded,
    SessionReady,
    StartTls,
    Trouble,
)
from mailrelay_gateway.smtp.client.states import IllegalMove, State
from tests.unit.smtp_client.conversation import EHLO_PLAIN, Conversation, ready, under_tls


def ended(conversation: Conversation) -> tuple[Stage, Trouble]:
    event = conversation.events[-1]
    assert isinstance(event, SessionEnded)
    assert conversation.client.state is State.CLOSED
    assert conversation.sent() == b""
    return event.stage, event.trouble


def test_a_server_without_ehlo_gets_helo() -> None:
    conversation = Conversation()
    conversation.feed(b"220 old\r\n")
    conversation.sent()
    conversation.feed(b"502 what?\r\n")
    assert conversation.sent() == b"HELO mail.example.com\r\n"
    assert conversation.feed(b"250 hello\r\n") == [SessionReady()]
    assert not conversation.client.capabilities.pipelining


def test_helo_is_no_way_around_tls() -> None:
    conversation = Conversation(tls=TlsMode.START_TLS)
    conversation.feed(b"220 old\r\n")
    conversation.feed(b"502 what?\r\n")
    assert ended(conversation) == (Stage.EHLO, Trouble.REFUSED)


@pytest.mark.parametrize(
    ("script", "stage", "trouble"),
    [
        (b"554 go away\r\n", Stage.GREETING, Trouble.REFUSED),
        (b"450 later\r\n", Stage.GREETING, Trouble.REFUSED),
        (b"421 busy\r\n", Stage.GREETING, Trouble.CLOSING),
        (b"354 what\r\n", Stage.GREETING, Trouble.PROTOCOL),
        (b"SSH-2.0-OpenSSH_9.2\r\n", Stage.GREETING, Trouble.PROTOCOL),
        (b"220 hi\r\n450 no\r\n", Stage.EHLO, Trouble.REFUSED),
        (b"220 hi\r\n502 a\r\n550 b\r\n", Stage.EHLO, Trouble.REFUSED),
        (b"220 hi\r\n421 bye\r\n", Stage.EHLO, Trouble.CLOSING),
    ],
)
def test_a_refusal_before_mail_ends_the_session(
    script: bytes, stage: Stage, trouble: Trouble
) -> None:
    conversation = Conversation()
    conversation.feed(script)
    assert ended(conversation) == (stage, trouble)


def test_starttls_is_insisted_on() -> None:
    conversation = Conversation(tls=TlsMode.START_TLS)
    conversation.feed(b"220 hi\r\n250-sink\r\n250 PIPELINING\r\n")
    assert ended(conversation) == (Stage.EHLO, Trouble.NO_STARTTLS)


def test_a_refused_starttls_ends_the_session() -> None:
    conversation = Conversation(tls=TlsMode.START_TLS)
    conversation.feed(b"220 hi\r\n250-sink\r\n250 STARTTLS\r\n454 no TLS today\r\n")
    assert ended(conversation) == (Stage.STARTTLS, Trouble.REFUSED)


@pytest.mark.parametrize("injected", [b"2", b"250 injected\r\n", b"250-injected\r\n", b"\x16\x03"])
def test_octets_behind_the_starttls_reply_end_the_session(injected: bytes) -> None:
    conversation = Conversation(tls=TlsMode.START_TLS)
    conversation.feed(b"220 hi\r\n250-sink\r\n250 STARTTLS\r\n")
    conversation.feed(b"220 go\r\n" + injected)
    assert conversation.events[-2] == StartTls()
    assert ended(conversation) == (Stage.TLS, Trouble.PROTOCOL)
    with pytest.raises(IllegalMove):
        conversation.client.tls_established()


def test_what_was_offered_before_tls_does_not_count() -> None:
    conversation = under_tls(EHLO_PLAIN)
    assert conversation.client.state is State.READY
    assert conversation.client.capabilities.auth == frozenset()
    assert not conversation.client.capabilities.starttls


def test_implicit_tls_waits_for_the_handshake() -> None:
    conversation = Conversation(tls=TlsMode.IMPLICIT)
    assert conversation.client.state is State.TLS
    conversation.client.tls_established()
    assert conversation.sent() == b""
    conversation.feed(b"220 hi\r\n" + EHLO_PLAIN)
    assert conversation.events == [SessionReady()]


def test_auth_plain_is_sent_with_its_initial_response() -> None:
    conversation = under_tls(
        b"250-sink\r\n250 AUTH LOGIN PLAIN\r\n", username="grüße", password="pä ss"
    )
    command = conversation.sent()
    assert command.startswith(b"AUTH PLAIN ")
    assert b64decode(command.split()[2]) == "\0grüße\0pä ss".encode()
    assert conversation.feed(b"235 2.7.0 welcome\r\n") == [SessionReady()]


@pytest.mark.parametrize("offer", [b"AUTH LOGIN", b"AUTH=LOGIN", b"auth login ntlm"])
def test_auth_login_answers_two_questions(offer: bytes) -> None:
    conversation = under_tls(
        b"250-sink\r\n250 " + offer + b"\r\n", username="user", password="word"
    )
    assert conversation.sent() == b"AUTH LOGIN\r\n"
    conversation.feed(b"334 VXNlcm5hbWU6\r\n")
    assert conversation.sent() == b"dXNlcg==\r\n"
    conversation.feed(b"334 UGFzc3dvcmQ6\r\n")
    assert conversation.sent() == b"d29yZA==\r\n"
    assert conversation.feed(b"235 ok\r\n") == [SessionReady()]


@pytest.mark.parametrize("reply", [b"535 5.7.8 no\r\n", b"454 4.7.0 later\r\n", b"538 no\r\n"])
@pytest.mark.parametrize(
    ("offer", "replies"),
    [
        (b"PLAIN", b""),
        (b"LOGIN", b""),
        (b"LOGIN", b"334 u\r\n"),
        (b"LOGIN", b"334 u\r\n334 p\r\n"),
    ],
)
def test_a_refused_login_ends_the_session(offer: bytes, replies: bytes, reply: bytes) -> None:
    conversation = under_tls(b"250-sink\r\n250 AUTH " + offer + b"\r\n", username="u", password="p")
    conversation.feed(replies)
    conversation.feed(reply)
    assert ended(conversation) == (Stage.AUTH, Trouble.REFUSED)


BOTH = b"250-sink\r\n250 AUTH PLAIN LOGIN\r\n"


@pytest.mark.parametrize("refusal", [b"504 5.5.4 not here\r\n", b"535 no\r\n", b"502 what\r\n"])
def test_the_second_mechanism_is_tried_before_the_login_has_failed(refusal: bytes) -> None:
    conversation = under_tls(BOTH, username="user", password="word")
    assert conversation.sent().startswith(b"AUTH PLAIN ")
    assert conversation.feed(refusal) == []
    assert conversation.sent() == b"AUTH LOGIN\r\n"
    conversation.feed(b"334 u\r\n334 p\r\n")
    assert conversation.sent() == b"dXNlcg==\r\nd29yZA==\r\n"
    assert conversation.feed(b"235 ok\r\n") == [SessionReady()]


@pytest.mark.parametrize(
    ("first", "second", "told"),
    [
        (b"535 5.7.8 wrong", b"535 5.7.8 wrong again", "535 5.7.8 wrong again"),
        (b"535 5.7.8 wrong", b"504 5.5.4 what", "535 5.7.8 wrong"),
        (b"504 5.5.4 what", b"535 5.7.8 wrong", "535 5.7.8 wrong"),
        (b"535 5.7.8 wrong", b"454 4.7.0 later", "454 4.7.0 later"),
    ],
)
def test_of_two_refusals_the_one_about_the_login_is_told(
    first: bytes, second: bytes, told: str
) -> None:
    conversation = under_tls(BOTH, username="u", password="p")
    conversation.feed(first + b"\r\n" + second + b"\r\n")
    event = conversation.events[-1]
    assert isinstance(event, SessionEnded)
    assert (event.stage, event.trouble, str(event.reply)) == (Stage.AUTH, Trouble.REFUSED, told)
    assert event.detail == (
        f"answered {first.decode()} to AUTH PLAIN, and {second.decode()} to AUTH LOGIN"
    )


def test_a_login_that_cannot_be_checked_now_is_not_tried_otherwise() -> None:
    conversation = under_tls(BOTH, username="u", password="p")
    conversation.feed(b"454 4.7.0 later\r\n")
    assert ended(conversation) == (Stage.AUTH, Trouble.REFUSED)


def test_a_server_that_asks_for_the_initial_response_gets_it_again() -> None:
    conversation = under_tls(BOTH, username="u", password="p")
    assert conversation.sent() == b"AUTH PLAIN AHUAcA==\r\n"
    conversation.feed(b"334 \r\n")
    assert conversation.sent() == b"AHUAcA==\r\n"
    assert conversation.feed(b"235 ok\r\n") == [SessionReady()]


def test_a_server_that_asks_for_ever_is_out_of_step() -> None:
    conversation = under_tls(BOTH, username="u", password="p")
    conversation.feed(b"334 \r\n334 \r\n")
    assert ended(conversation) == (Stage.AUTH, Trouble.PROTOCOL)


def test_a_server_without_our_mechanisms_is_no_use() -> None:
    conversation = under_tls(b"250-sink\r\n250 AUTH GSSAPI NTLM\r\n", username="u", password="p")
    assert ended(conversation) == (Stage.EHLO, Trouble.NO_AUTH)
    event = conversation.events[-1]
    assert isinstance(event, SessionEnded)
    assert "GSSAPI NTLM" in event.detail


def test_a_login_never_travels_in_the_clear() -> None:
    conversation = Conversation(username="u", password="p")
    conversation.feed(b"220 hi\r\n250-sink\r\n250 AUTH PLAIN\r\n")
    assert ended(conversation) == (Stage.EHLO, Trouble.CLEAR_LOGIN)


def test_a_login_may_travel_in_the_clear_over_loopback() -> None:
    conversation = Conversation(username="u", password="p", clear_login=True)
    conversation.feed(b"220 hi\r\n250-sink\r\n250 AUTH PLAIN\r\n")
    assert b"AUTH PLAIN AHUAcA==\r\n" in conversation.sent()


def test_the_password_is_not_in_the_repr() -> None:
    conversation = Conversation(username="u", password="secret-word")
    assert "secret-word" not in repr(conversation.client._settings)


@pytest.mark.parametrize("line", [b"250 unsolicited\r\n", b"451 timeout\r\n", b"garbage\r\n"])
def test_an_unsolicited_line_ends_an_idle_session(line: bytes) -> None:
    conversation = ready()
    conversation.feed(line)
    assert ended(conversation) == (Stage.MAIL, Trouble.PROTOCOL)


def test_421_ends_an_idle_session() -> None:
    conversation = ready()
    conversation.feed(b"421 idle for too long\r\n")
    assert ended(conversation) == (Stage.MAIL, Trouble.CLOSING)


@pytest.mark.parametrize("reply", [b"221 bye\r\n", b"421 bye\r\n", b"500 what\r\n"])
def test_quit_ends_with_any_reply(reply: bytes) -> None:
    conversation = ready()
    conversation.client.quit()
    assert conversation.sent() == b"QUIT\r\n"
    assert conversation.feed(reply) == [Goodbye()]
    assert conversation.client.state is State.CLOSED
    assert conversation.feed(b"250 more\r\n") == []


def test_calls_at_the_wrong_time_change_nothing() -> None:
    conversation = Conversation()
    for call in (
        conversation.client.tls_established,
        conversation.client.quit,
        conversation.client.body_sent,
        conversation.begin,
    ):
        with pytest.raises(IllegalMove):
            call()
        assert conversation.client.state is State.GREETING
