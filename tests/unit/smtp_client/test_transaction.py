"""Transactions: what leaves in which write, and the corner cases of RFC 2920 when some of it is
refused.
"""

from __future__ import annotations

import pytest

from mailrelay_gateway.contract.stage import Stage
from mailrelay_gateway.smtp.client.commands import UnsendableAddress
from mailrelay_gateway.smtp.client.events import SendBody, SessionEnded, TransactionEnded, Trouble
from mailrelay_gateway.smtp.client.states import State
from tests.unit.smtp_client.conversation import EHLO_PIPELINING, EHLO_PLAIN, Conversation, ready


def codes(conversation: Conversation) -> tuple[object, ...]:
    """The transcript as numbers: MAIL, RCPTs, DATA, final."""
    transcript = conversation.client.transcript

    def code(reply: object) -> int | None:
        return getattr(reply, "code", None)

    return (
        code(transcript.mail),
        tuple(map(code, transcript.recipients)),
        code(transcript.data),
        code(transcript.final),
    )


def test_with_pipelining_a_message_takes_two_writes() -> None:
    conversation = ready()
    assert conversation.begin("b@example.net", "c@example.net") == (
        b"MAIL FROM:<a@example.com> SIZE=100\r\n"
        b"RCPT TO:<b@example.net>\r\nRCPT TO:<c@example.net>\r\nDATA\r\n"
    )
    assert conversation.feed(b"250 ok\r\n250 ok\r\n250 ok\r\n354 go\r\n") == [SendBody()]
    conversation.client.send_body(b"x\r\n.y\r\n")
    assert conversation.sent() == b"x\r\n..y\r\n.\r\n"
    [event] = conversation.feed(b"250 stored\r\n")
    assert isinstance(event, TransactionEnded)
    assert event.transcript == conversation.client.transcript
    assert codes(conversation) == (250, (250, 250), 354, 250)
    assert event.transcript.dot_sent
    assert event.transcript.answered == 5


def test_many_transactions_on_one_connection_need_no_rset() -> None:
    conversation = ready()
    for _ in range(3):
        assert conversation.begin().startswith(b"MAIL FROM:<a@example.com>")
        conversation.feed(b"250 ok\r\n250 ok\r\n354 go\r\n")
        conversation.client.send_body(b"x\r\n")
        conversation.sent()
        conversation.feed(b"250 stored\r\n")
    assert len(conversation.events) == 1 + 3 * 2


def test_without_pipelining_each_command_waits_for_its_reply() -> None:
    conversation = ready(EHLO_PLAIN)
    assert conversation.begin("b@example.net", "c@example.net") == b"MAIL FROM:<a@example.com>\r\n"
    conversation.feed(b"250 ok\r\n")
    assert conversation.sent() == b"RCPT TO:<b@example.net>\r\n"
    conversation.feed(b"550 no\r\n")
    assert conversation.sent() == b"RCPT TO:<c@example.net>\r\n"
    conversation.feed(b"250 ok\r\n")
    assert conversation.sent() == b"DATA\r\n"
    assert conversation.feed(b"354 go\r\n") == [SendBody()]
    conversation.client.send_body(b"x\r\n")
    conversation.sent()
    conversation.feed(b"250 ok\r\n")
    assert codes(conversation) == (250, (550, 250), 354, 250)


def test_without_pipelining_a_refused_mail_ends_it_at_once() -> None:
    conversation = ready(EHLO_PLAIN)
    conversation.begin()
    conversation.feed(b"550 no\r\n")
    assert conversation.sent() == b""
    assert codes(conversation) == (550, (None,), None, None)
    assert conversation.begin() == b"MAIL FROM:<a@example.com>\r\n"


def test_without_pipelining_no_data_without_recipients_and_rset_before_the_next() -> None:
    conversation = ready(EHLO_PLAIN)
    conversation.begin()
    conversation.feed(b"250 ok\r\n550 no\r\n")
    assert codes(conversation) == (250, (550,), None, None)
    assert conversation.client.state is State.READY
    conversation.sent()
    assert conversation.begin() == b"RSET\r\n"
    conversation.feed(b"250 flushed\r\n")
    assert conversation.sent() == b"MAIL FROM:<a@example.com>\r\n"


def test_some_recipients_refused() -> None:
    conversation = ready()
    conversation.begin("b@example.net", "c@example.net", "d@example.net")
    assert conversation.feed(b"250 ok\r\n550 no\r\n250 ok\r\n452 4.5.3 many\r\n354 go\r\n") == [
        SendBody()
    ]
    conversation.client.send_body(b"x\r\n")
    conversation.feed(b"250 ok\r\n")
    assert codes(conversation) == (250, (550, 250, 452), 354, 250)


@pytest.mark.parametrize("answer", [b"554 no valid recipients\r\n", b"250 an empty message\r\n"])
def test_data_accepted_though_all_recipients_were_refused_gets_a_lone_dot(answer: bytes) -> None:
    conversation = ready()
    conversation.begin()
    assert conversation.feed(b"250 ok\r\n550 no\r\n354 go\r\n") == []
    assert conversation.sent() == b".\r\n"
    [event] = conversation.feed(answer)
    assert isinstance(event, TransactionEnded)
    assert codes(conversation) == (250, (550,), 354, None)
    assert not event.transcript.dot_sent
    assert conversation.begin().startswith(b"MAIL FROM")


def test_data_accepted_though_mail_was_refused_gets_a_lone_dot() -> None:
    conversation = ready()
    conversation.begin()
    assert conversation.feed(b"550 no\r\n250 strange\r\n354 stranger\r\n") == []
    assert conversation.sent() == b".\r\n"
    conversation.feed(b"554 no\r\n")
    assert codes(conversation) == (550, (250,), 354, None)


def test_everything_refused() -> None:
    conversation = ready()
    conversation.begin()
    conversation.feed(b"451 later\r\n503 what\r\n503 what\r\n")
    assert codes(conversation) == (451, (503,), 503, None)
    assert conversation.sent() == b""
    assert conversation.begin().startswith(b"MAIL FROM")


def test_refused_data_leaves_a_transaction_that_the_next_one_resets_in_the_same_write() -> None:
    conversation = ready()
    conversation.begin()
    conversation.feed(b"250 ok\r\n250 ok\r\n451 disk full\r\n")
    assert codes(conversation) == (250, (250,), 451, None)
    assert conversation.begin().startswith(b"RSET\r\nMAIL FROM:<a@example.com>")
    conversation.feed(b"250 flushed\r\n250 ok\r\n250 ok\r\n354 go\r\n")
    assert conversation.client.state is State.BODY
    assert conversation.client.transcript.answered == 3


def test_a_refused_rset_ends_the_session() -> None:
    conversation = ready()
    conversation.begin()
    conversation.feed(b"250 ok\r\n250 ok\r\n451 disk full\r\n")
    conversation.begin()
    [event] = conversation.feed(b"500 what\r\n")
    assert isinstance(event, SessionEnded)
    assert event.trouble is Trouble.PROTOCOL


@pytest.mark.parametrize(
    ("replies", "stage", "transcript"),
    [
        (b"421 bye\r\n", Stage.MAIL, (421, (None,), None, None)),
        (b"250 ok\r\n421 bye\r\n", Stage.RCPT, (250, (421,), None, None)),
        (b"250 ok\r\n250 ok\r\n421 bye\r\n", Stage.DATA, (250, (250,), 421, None)),
    ],
)
def test_421_ends_session_and_transaction(
    replies: bytes, stage: Stage, transcript: tuple[object, ...]
) -> None:
    conversation = ready()
    conversation.begin()
    [event] = conversation.feed(replies)
    assert isinstance(event, SessionEnded)
    assert (event.stage, event.trouble) == (stage, Trouble.CLOSING)
    assert codes(conversation) == transcript


def test_421_to_the_final_dot_is_an_answer() -> None:
    conversation = ready()
    conversation.begin()
    conversation.feed(b"250 ok\r\n250 ok\r\n354 go\r\n")
    conversation.client.send_body(b"x\r\n")
    [event] = conversation.feed(b"421 4.3.2 shutting down\r\n")
    assert isinstance(event, SessionEnded)
    assert codes(conversation) == (250, (250,), 354, 421)


def test_a_refusal_amid_the_body_is_the_final_answer_and_the_end() -> None:
    conversation = ready()
    conversation.begin()
    conversation.feed(b"250 ok\r\n250 ok\r\n354 go\r\n")
    [event] = conversation.feed(b"552 5.3.4 too big\r\n")
    assert isinstance(event, SessionEnded)
    assert event.trouble is Trouble.REFUSED
    assert codes(conversation) == (250, (250,), 354, 552)
    assert not conversation.client.transcript.dot_sent


@pytest.mark.parametrize(
    "replies",
    [
        b"354 go\r\n",
        b"250 ok\r\n354 go\r\n",
        b"250 ok\r\n250 ok\r\n250 data?\r\n",
        b"250 ok\r\n250 ok\r\n354 go\r\n250 stored already?\r\n",
        b"nonsense\r\n",
    ],
)
def test_an_answer_that_does_not_fit_ends_the_session(replies: bytes) -> None:
    conversation = ready()
    conversation.begin()
    conversation.feed(replies)
    event = conversation.events[-1]
    assert isinstance(event, SessionEnded)
    assert event.trouble is Trouble.PROTOCOL
    assert conversation.client.state is State.CLOSED


@pytest.mark.parametrize("code", [b"300", b"334", b"350", b"351", b"354"])
@pytest.mark.parametrize("ehlo", [EHLO_PIPELINING, EHLO_PLAIN])
def test_the_first_digit_of_the_answer_to_data_decides(code: bytes, ehlo: bytes) -> None:
    conversation = ready(ehlo)
    conversation.begin()
    assert conversation.feed(b"250 ok\r\n250 ok\r\n" + code + b" go\r\n") == [SendBody()]


def test_a_reply_too_many_after_the_final_one_is_noticed_before_the_next_message() -> None:
    conversation = ready()
    conversation.begin()
    conversation.feed(b"250 ok\r\n250 ok\r\n354 go\r\n")
    conversation.client.send_body(b"x\r\n")
    ended, out_of_step = conversation.feed(b"250 stored\r\n250 one more\r\n")
    assert isinstance(ended, TransactionEnded)
    assert isinstance(out_of_step, SessionEnded)
    assert conversation.client.state is State.CLOSED


@pytest.mark.parametrize(
    ("ehlo", "eight_bit", "smtputf8", "line"),
    [
        (b"250 sink\r\n", True, False, b"MAIL FROM:<a@example.com>\r\n"),
        (
            b"250-sink\r\n250-8bitmime\r\n250 size\r\n",
            True,
            False,
            b"MAIL FROM:<a@example.com> SIZE=100 BODY=8BITMIME\r\n",
        ),
        (
            b"250-sink\r\n250-SMTPUTF8\r\n250 8BITMIME\r\n",
            True,
            True,
            b"MAIL FROM:<a@example.com> BODY=8BITMIME SMTPUTF8\r\n",
        ),
        (b"250-sink\r\n250 8BITMIME\r\n", False, False, b"MAIL FROM:<a@example.com>\r\n"),
        # Above the server's SIZE: announced all the same, the refusal is the server's to make.
        (b"250-sink\r\n250 SIZE 10\r\n", False, False, b"MAIL FROM:<a@example.com> SIZE=100\r\n"),
    ],
)
def test_parameters_of_mail_are_those_offered(
    ehlo: bytes, eight_bit: bool, smtputf8: bool, line: bytes
) -> None:
    assert ready(ehlo).begin(eight_bit=eight_bit, smtputf8=smtputf8) == line


def test_the_null_sender() -> None:
    assert ready(EHLO_PLAIN).begin(sender="") == b"MAIL FROM:<>\r\n"


@pytest.mark.parametrize(
    "address",
    [
        "b@example.net\r\nRCPT TO:<victim@example.org>",
        "b@example.net\n",
        "b\0@example.net",
        '"quoted\r\n"@example.net',
        "b@example.net> SIZE=1",
        "b@example.net>",
        "<b@example.net",
        "b c@example.net",
        '"b"> SIZE=1 <"@example.net',
        "grüße@example.net",
        "b" * 2000 + "@example.net",
    ],
)
def test_an_address_that_could_be_more_than_an_address_is_not_sent(address: str) -> None:
    conversation = ready()
    for sender, recipients in (
        (address, ("c@example.net",)),
        ("a@example.com", ("c@x.net", address)),
    ):
        with pytest.raises(UnsendableAddress) as caught:
            conversation.begin(*recipients, sender=sender)
        assert caught.value.reply.permanent
        assert conversation.client.state is State.READY
        assert conversation.sent() == b""


def test_quoted_local_parts_may_hold_anything_printable() -> None:
    sent = ready(EHLO_PLAIN).begin(sender='"a b> <\\""@example.com')
    assert sent == b'MAIL FROM:<"a b> <\\""@example.com>\r\n'


def test_smtputf8_lets_other_letters_through() -> None:
    conversation = ready(b"250-sink\r\n250-PIPELINING\r\n250 SMTPUTF8\r\n")
    sent = conversation.begin("grüße@example.net", smtputf8=True)
    assert "RCPT TO:<grüße@example.net>".encode() in sent
