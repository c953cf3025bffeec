"""What replies mean, row by row: nothing before MAIL costs a message, and nothing is bounced for
our own fault.
"""

from __future__ import annotations

import pytest

from mailrelay_gateway.delivery.classify import (
    ENDINGS,
    REPLIES,
    Ending,
    classify_reply,
    classify_session,
    classify_transaction,
)
from mailrelay_gateway.message.envelope import Result
from mailrelay_gateway.reasons import Reason
from mailrelay_gateway.smtp.client_events import SessionEnded, Transcript, Trouble
from mailrelay_gateway.smtp.client_states import Phase
from mailrelay_gateway.smtp.reply import Reply


def reply(text: str) -> Reply:
    """`550 5.1.1 text` as a reply."""
    code, _, rest = text.partition(" ")
    first, _, others = rest.partition(" ")
    return Reply(int(code), first, others) if first[:1].isdigit() else Reply(int(code), "", rest)


def transcript(
    mail: str | None = None,
    recipients: tuple[str | None, ...] = (None,),
    data: str | None = None,
    final: str | None = None,
    *,
    dot: bool = False,
) -> Transcript:
    replies = [mail, *recipients, data, final]
    return Transcript(
        mail=reply(mail) if mail else None,
        recipients=tuple(reply(text) if text else None for text in recipients),
        data=reply(data) if data else None,
        final=reply(final) if final else None,
        answered=sum(text is not None for text in replies),
        dot_sent=dot or final is not None,
    )


D, F, H, U, OK = (
    Result.DEFERRED,
    Result.FAILED,
    Result.HELD,
    Result.UNCERTAIN,
    Result.DELIVERED,
)


@pytest.mark.parametrize(
    ("phase", "text", "result", "reason"),
    [
        (Phase.MAIL, "450 4.1.0 later", D, Reason.UPSTREAM_DEFERRED),
        (Phase.MAIL, "421 4.7.0 too fast", D, Reason.UPSTREAM_DEFERRED),
        (Phase.MAIL, "550 5.7.1 no", F, Reason.UPSTREAM_REJECTED),
        (Phase.MAIL, "552 5.3.4 too big", F, Reason.UPSTREAM_REJECTED),
        (Phase.MAIL, "530 5.7.0 Authentication required", H, Reason.UPSTREAM_AUTH_FAILED),
        (Phase.MAIL, "530 5.7.0 Must issue STARTTLS", H, Reason.UPSTREAM_AUTH_FAILED),
        (Phase.MAIL, "534 5.7.9 mechanism too weak", H, Reason.UPSTREAM_AUTH_FAILED),
        (Phase.MAIL, "535 5.7.8 credentials invalid", H, Reason.UPSTREAM_AUTH_FAILED),
        (Phase.MAIL, "538 5.7.11 encryption required", H, Reason.UPSTREAM_AUTH_FAILED),
        (Phase.MAIL, "500 5.5.2 what", D, Reason.UPSTREAM_PROTOCOL_ERROR),
        (Phase.MAIL, "502 5.5.1 no MAIL here", D, Reason.UPSTREAM_PROTOCOL_ERROR),
        (Phase.MAIL, "503 5.5.1 AUTH first", D, Reason.UPSTREAM_PROTOCOL_ERROR),
        (Phase.MAIL, "555 5.5.4 unknown parameter", D, Reason.UPSTREAM_PROTOCOL_ERROR),
        (Phase.RCPT, "450 4.2.0 greylisted", D, Reason.UPSTREAM_DEFERRED),
        (Phase.RCPT, "452 4.5.3 too many recipients", D, Reason.UPSTREAM_DEFERRED),
        (Phase.RCPT, "552 5.5.3 too many recipients", D, Reason.UPSTREAM_DEFERRED),
        (Phase.RCPT, "552 too many recipients", D, Reason.UPSTREAM_DEFERRED),
        (Phase.RCPT, "552 5.2.2 mailbox full", F, Reason.UPSTREAM_REJECTED),
        (Phase.RCPT, "550 5.1.1 nobody", F, Reason.UPSTREAM_REJECTED),
        (Phase.RCPT, "553 relaying denied", F, Reason.UPSTREAM_REJECTED),
        (Phase.RCPT, "530 5.7.1 odd", D, Reason.UPSTREAM_DEFERRED),
        (Phase.RCPT, "535 5.7.1 odd", D, Reason.UPSTREAM_DEFERRED),
        (Phase.RCPT, "538 odd", D, Reason.UPSTREAM_DEFERRED),
        (Phase.RCPT, "500 what", D, Reason.UPSTREAM_PROTOCOL_ERROR),
        (Phase.RCPT, "502 what", D, Reason.UPSTREAM_PROTOCOL_ERROR),
        (Phase.RCPT, "503 MAIL first", D, Reason.UPSTREAM_PROTOCOL_ERROR),
        (Phase.RCPT, "555 what", D, Reason.UPSTREAM_PROTOCOL_ERROR),
        (Phase.DATA, "451 4.3.0 disk", D, Reason.UPSTREAM_DEFERRED),
        (Phase.DATA, "550 5.7.1 no", F, Reason.UPSTREAM_REJECTED),
        (Phase.DATA, "530 login", D, Reason.UPSTREAM_DEFERRED),
        (Phase.DATA, "535 login", D, Reason.UPSTREAM_DEFERRED),
        (Phase.DATA, "538 login", D, Reason.UPSTREAM_DEFERRED),
        (Phase.DATA, "500 what", D, Reason.UPSTREAM_PROTOCOL_ERROR),
        (Phase.DATA, "502 what", D, Reason.UPSTREAM_PROTOCOL_ERROR),
        (Phase.DATA, "503 what", D, Reason.UPSTREAM_PROTOCOL_ERROR),
        (Phase.FINAL, "421 4.3.2 stopping", D, Reason.UPSTREAM_DEFERRED),
        (Phase.FINAL, "454 Throttling failure", D, Reason.UPSTREAM_DEFERRED),
        (Phase.FINAL, "554 5.7.1 spam", F, Reason.UPSTREAM_REJECTED),
        (Phase.FINAL, "500 Line too long", F, Reason.UPSTREAM_REJECTED),
        (Phase.FINAL, "503 what", D, Reason.UPSTREAM_PROTOCOL_ERROR),
        (Phase.FINAL, "530 login", D, Reason.UPSTREAM_DEFERRED),
        (Phase.FINAL, "535 login", D, Reason.UPSTREAM_DEFERRED),
        (Phase.FINAL, "538 login", D, Reason.UPSTREAM_DEFERRED),
    ],
)
def test_a_refusal_at_mail_or_later(
    phase: Phase, text: str, result: Result, reason: Reason
) -> None:
    meaning = classify_reply(phase, reply(text))
    assert (meaning.result, meaning.reason, meaning.reply) == (result, reason, reply(text))


def test_every_phase_from_mail_on_has_rows_for_both_classes() -> None:
    for phase in Phase:
        for digit in (4, 5):
            assert ((phase, digit, None) in REPLIES) == (phase >= Phase.MAIL)


@pytest.mark.parametrize(
    ("phase", "trouble", "text", "reason"),
    [
        (Phase.GREETING, Trouble.REFUSED, "554 5.7.1 blocked", Reason.UPSTREAM_REFUSED),
        (Phase.GREETING, Trouble.CLOSING, "421 4.7.0 too many", Reason.UPSTREAM_REFUSED),
        (Phase.EHLO, Trouble.REFUSED, "550 bad name", Reason.UPSTREAM_REFUSED),
        (Phase.STARTTLS, Trouble.REFUSED, "454 no TLS now", Reason.UPSTREAM_TLS_FAILED),
        (Phase.STARTTLS, Trouble.REFUSED, "502 what", Reason.UPSTREAM_TLS_FAILED),
        (Phase.AUTH, Trouble.REFUSED, "535 5.7.8 no", Reason.UPSTREAM_AUTH_FAILED),
        (Phase.AUTH, Trouble.REFUSED, "454 4.7.0 database", Reason.UPSTREAM_REFUSED),
        (Phase.AUTH, Trouble.CLOSING, "421 bye", Reason.UPSTREAM_REFUSED),
        (Phase.EHLO, Trouble.NO_STARTTLS, None, Reason.UPSTREAM_TLS_MISSING),
        (Phase.EHLO, Trouble.NO_AUTH, None, Reason.UPSTREAM_AUTH_MISSING),
        (Phase.EHLO, Trouble.CLEAR_LOGIN, None, Reason.UPSTREAM_TLS_MISSING),
        (Phase.TLS, Trouble.PROTOCOL, None, Reason.UPSTREAM_PROTOCOL_ERROR),
        (Phase.GREETING, Trouble.PROTOCOL, None, Reason.UPSTREAM_PROTOCOL_ERROR),
    ],
)
def test_trouble_before_mail_concerns_the_upstream(
    phase: Phase, trouble: Trouble, text: str | None, reason: Reason
) -> None:
    answer = reply(text) if text else None
    failure = classify_session(SessionEnded(phase, trouble, answer, "" if text else "why"))
    assert (failure.phase, failure.reason, failure.reply) == (phase, reason, answer)
    assert failure.detail == (f"answered {text}" if text else "why")


@pytest.mark.parametrize(
    ("ending", "before", "after"),
    [
        (Ending.COMPLETE, (D, Reason.UPSTREAM_PROTOCOL_ERROR), (U, Reason.REPLY_LOST)),
        (Ending.CLOSING, (D, Reason.UPSTREAM_DEFERRED), (D, Reason.UPSTREAM_DEFERRED)),
        (Ending.REFUSED, (D, Reason.UPSTREAM_DEFERRED), (D, Reason.UPSTREAM_DEFERRED)),
        (Ending.LOST, (D, Reason.CONNECTION_LOST), (U, Reason.REPLY_LOST)),
        (Ending.TIMEOUT, (D, Reason.UPSTREAM_TIMEOUT), (U, Reason.REPLY_LOST)),
        (Ending.PROTOCOL, (D, Reason.UPSTREAM_PROTOCOL_ERROR), (U, Reason.REPLY_LOST)),
        (Ending.STOPPED, None, (U, Reason.REPLY_LOST)),
        (Ending.OUR_FAULT, (D, Reason.INTERNAL_ERROR), (U, Reason.REPLY_LOST)),
    ],
)
def test_an_end_without_the_reply_that_matters(
    ending: Ending, before: tuple[Result, Reason] | None, after: tuple[Result, Reason]
) -> None:
    for dot, expected in ((False, before), (True, after)):
        said = transcript("250 ok", ("250 ok",), "354 go", dot=dot)
        verdict = classify_transaction(said, ending, reused=True)
        if expected is None:
            assert verdict.give_back
        else:
            [meaning] = verdict.meanings
            assert (meaning.result, meaning.reason) == expected
    assert set(ENDINGS) == set(Ending)


def test_delivered_and_refused_recipients_of_one_message() -> None:
    said = transcript(
        "250 ok", ("250 ok", "550 5.1.1 nobody", "452 4.5.3 many"), "354 go", "250 2.0.0 queued"
    )
    verdict = classify_transaction(said, Ending.COMPLETE, reused=False)
    assert [meaning.result for meaning in verdict.meanings] == [OK, F, D]
    assert verdict.meanings[0].reason is Reason.DELIVERED
    assert str(verdict.meanings[0].reply) == "250 2.0.0 queued"
    assert verdict.mail_accepted
    assert verdict.failure is None


def test_a_recipients_own_refusal_outweighs_what_came_later() -> None:
    refused = "550 5.1.1 nobody"
    for later in (
        transcript("250 ok", (refused, "250 ok"), "354 go", "451 later"),
        transcript("250 ok", (refused, "250 ok"), "354 go", dot=True),
        transcript("250 ok", (refused, "250 ok"), "451 later"),
        transcript("250 ok", (refused, None)),
    ):
        verdict = classify_transaction(later, Ending.LOST, reused=True)
        assert verdict.meanings[0].result is F
        assert verdict.meanings[1].result in (D, U)


def test_all_recipients_refused_is_their_refusal_whatever_data_said() -> None:
    said = transcript("250 ok", ("450 later", "550 no"), "503 RCPT first")
    verdict = classify_transaction(said, Ending.COMPLETE, reused=False)
    assert [meaning.result for meaning in verdict.meanings] == [D, F]


def test_a_refused_mail_outweighs_odd_answers_to_the_rest() -> None:
    said = transcript("550 5.1.8 no", ("503 MAIL first", "250 strange"), "503 what")
    verdict = classify_transaction(said, Ending.COMPLETE, reused=False)
    assert [meaning.reason for meaning in verdict.meanings] == [Reason.UPSTREAM_REJECTED] * 2
    assert not verdict.mail_accepted


def test_a_login_refused_at_mail_holds_the_upstream_and_blames_no_message() -> None:
    said = transcript("530 5.7.0 login first", ("503 what",), "503 what")
    verdict = classify_transaction(said, Ending.COMPLETE, reused=True)
    assert [meaning.result for meaning in verdict.meanings] == [H]
    assert verdict.failure is not None
    assert verdict.failure.reason is Reason.UPSTREAM_AUTH_FAILED
    assert "530 5.7.0 login first" in verdict.failure.detail


@pytest.mark.parametrize("ending", [Ending.LOST, Ending.CLOSING])
def test_a_reused_connection_that_ends_before_any_answer_gives_the_message_back(
    ending: Ending,
) -> None:
    closing = reply("421 4.7.0 too many messages") if ending is Ending.CLOSING else None
    said = Transcript(closing, (None,), None, None, 1 if closing else 0, False)
    assert classify_transaction(said, ending, reused=True, closing=closing).give_back
    fresh = classify_transaction(said, ending, reused=False, closing=closing)
    assert [meaning.result for meaning in fresh.meanings] == [D]


def test_a_timeout_is_never_given_back() -> None:
    verdict = classify_transaction(transcript(), Ending.TIMEOUT, reused=True)
    assert [meaning.reason for meaning in verdict.meanings] == [Reason.UPSTREAM_TIMEOUT]


def test_421_amid_a_transaction_defers_with_the_servers_words() -> None:
    closing = reply("421 4.3.2 stopping")
    said = Transcript(reply("250 ok"), (closing, None), None, None, 2, False)
    verdict = classify_transaction(said, Ending.CLOSING, reused=True, closing=closing)
    assert [(m.result, m.reply) for m in verdict.meanings] == [(D, closing)] * 2
