"""What replies mean, row by row: nothing before MAIL costs a message, and nothing is bounced for
our own fault.
"""

from __future__ import annotations

import pytest

from mailrelay_gateway.contract.stage import Stage
from mailrelay_gateway.couriers.replies.classify import (
    ENDINGS,
    classify_session,
    classify_transaction,
)
from mailrelay_gateway.couriers.replies.verdict import Ending, Failure, Refusal, Verdict
from mailrelay_gateway.message.effect import Cap, PauseUntil, Reconnect, Slow, Split
from mailrelay_gateway.message.envelope import Result
from mailrelay_gateway.reasons import Reason
from mailrelay_gateway.smtp.client.events import SessionEnded, Transcript, Trouble
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


def classify(
    said: Transcript,
    ending: Ending = Ending.COMPLETE,
    *,
    reused: bool = False,
    closing: Reply | None = None,
    detail: str = "",
    attempts: int = 0,
) -> Verdict:
    return classify_transaction(
        said,
        ending,
        attempts=[attempts] * len(said.recipients),
        reused=reused,
        closing=closing,
        detail=detail,
    )


@pytest.mark.parametrize(
    ("stage", "trouble", "text", "reason"),
    [
        (Stage.GREETING, Trouble.REFUSED, "554 5.7.1 blocked", Reason.UPSTREAM_REFUSED),
        (Stage.GREETING, Trouble.CLOSING, "421 4.7.0 too many", Reason.UPSTREAM_REFUSED),
        (Stage.EHLO, Trouble.REFUSED, "550 bad name", Reason.UPSTREAM_REFUSED),
        (Stage.STARTTLS, Trouble.REFUSED, "454 no TLS now", Reason.UPSTREAM_TLS_FAILED),
        (Stage.STARTTLS, Trouble.REFUSED, "502 what", Reason.UPSTREAM_TLS_FAILED),
        (Stage.AUTH, Trouble.REFUSED, "535 5.7.8 no", Reason.UPSTREAM_AUTH_FAILED),
        (Stage.AUTH, Trouble.REFUSED, "454 4.7.0 database", Reason.UPSTREAM_REFUSED),
        (Stage.AUTH, Trouble.CLOSING, "421 bye", Reason.UPSTREAM_REFUSED),
        (Stage.EHLO, Trouble.NO_STARTTLS, None, Reason.UPSTREAM_TLS_MISSING),
        (Stage.EHLO, Trouble.NO_AUTH, None, Reason.UPSTREAM_AUTH_MISSING),
        (Stage.EHLO, Trouble.CLEAR_LOGIN, None, Reason.UPSTREAM_TLS_MISSING),
        (Stage.TLS, Trouble.PROTOCOL, None, Reason.UPSTREAM_PROTOCOL_ERROR),
        (Stage.GREETING, Trouble.PROTOCOL, None, Reason.UPSTREAM_PROTOCOL_ERROR),
    ],
)
def test_trouble_before_mail_concerns_the_upstream(
    stage: Stage, trouble: Trouble, text: str | None, reason: Reason
) -> None:
    answer = reply(text) if text else None
    failure = classify_session(SessionEnded(stage, trouble, answer, "" if text else "why"))
    assert (failure.stage, failure.reason, failure.reply) == (stage, reason, answer)
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
        verdict = classify(said, ending, reused=True)
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
    verdict = classify(said, Ending.COMPLETE, reused=False)
    assert [meaning.result for meaning in verdict.meanings] == [OK, F, D]
    assert verdict.meanings[0].reason is Reason.DELIVERED
    assert str(verdict.meanings[0].reply) == "250 2.0.0 queued"
    assert verdict.passed is Stage.END_OF_MESSAGE
    assert verdict.failure is None


def test_a_recipients_own_refusal_outweighs_what_came_later() -> None:
    refused = "550 5.1.1 nobody"
    for later in (
        transcript("250 ok", (refused, "250 ok"), "354 go", "451 later"),
        transcript("250 ok", (refused, "250 ok"), "354 go", dot=True),
        transcript("250 ok", (refused, "250 ok"), "451 later"),
        transcript("250 ok", (refused, None)),
    ):
        verdict = classify(later, Ending.LOST, reused=True)
        assert verdict.meanings[0].result is F
        assert verdict.meanings[1].result in (D, U)


def test_all_recipients_refused_is_their_refusal_whatever_data_said() -> None:
    said = transcript("250 ok", ("450 later", "550 no"), "503 RCPT first")
    verdict = classify(said, Ending.COMPLETE, reused=False)
    assert [meaning.result for meaning in verdict.meanings] == [D, F]


def test_a_refused_mail_outweighs_odd_answers_to_the_rest() -> None:
    said = transcript("550 5.1.8 no", ("503 MAIL first", "250 strange"), "503 what")
    verdict = classify(said, Ending.COMPLETE, reused=False)
    assert [meaning.reason for meaning in verdict.meanings] == [Reason.UPSTREAM_REJECTED] * 2
    assert verdict.passed is None


def test_a_login_refused_at_mail_holds_the_upstream_and_blames_no_message() -> None:
    said = transcript("530 5.7.0 login first", ("503 what",), "503 what")
    verdict = classify(said, Ending.COMPLETE, reused=True)
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
    assert classify(said, ending, reused=True, closing=closing).give_back
    fresh = classify(said, ending, reused=False, closing=closing)
    assert [meaning.result for meaning in fresh.meanings] == [D]


def test_a_timeout_is_never_given_back() -> None:
    verdict = classify(transcript(), Ending.TIMEOUT, reused=True)
    assert [meaning.reason for meaning in verdict.meanings] == [Reason.UPSTREAM_TIMEOUT]


def test_421_amid_a_transaction_defers_with_the_servers_words() -> None:
    closing = reply("421 4.3.2 stopping")
    said = Transcript(reply("250 ok"), (closing, None), None, None, 2, False)
    verdict = classify(said, Ending.CLOSING, reused=True, closing=closing)
    assert [(m.result, m.reply) for m in verdict.meanings] == [(D, closing)] * 2


# --- what the rest of the transaction makes of a refusal


def test_too_many_recipients_goes_on_at_once_behind_those_that_were_taken() -> None:
    said = transcript(
        "250 ok", ("250 ok", "452 4.5.3 too many", "452 4.5.3 too many"), "354 go", "250 ok"
    )
    verdict = classify(said)
    assert [(m.result, m.effect) for m in verdict.meanings] == [(OK, None)] + [(D, Split())] * 2
    assert verdict.meanings[1].reason is Reason.UPSTREAM_TOO_MANY_RECIPIENTS
    assert verdict.effect is None
    # Those that were taken are deferred at the dot: the rest still goes on.
    said = transcript("250 ok", ("250 ok", "452 4.5.3 too many"), "354 go", "451 4.3.0 later")
    assert classify(said).meanings[1].effect == Split()


def test_splitting_ends_where_nobody_was_taken() -> None:
    said = transcript("250 ok", ("452 4.5.3 too many", "452 4.5.3 too many"), "503 what")
    assert [(m.result, m.effect) for m in classify(said).meanings] == [(D, Slow())] * 2


def test_a_refusal_of_us_at_rcpt_holds_the_upstream() -> None:
    said = transcript("250 ok", ("554 5.7.1 <a@b.example>: Relay access denied",), "554 no")
    verdict = classify(said)
    assert [m.result for m in verdict.meanings] == [H]
    assert verdict.failure == Failure(
        Stage.RCPT,
        Reason.UPSTREAM_REFUSED,
        "answered 554 5.7.1 <a@b.example>: Relay access denied to RCPT",
        reply("554 5.7.1 <a@b.example>: Relay access denied"),
    )
    assert verdict.refusal == Refusal(Stage.RCPT, verdict.failure.reply or reply("250"), sure=True)


def test_refused_relaying_of_one_recipient_among_others_holds_nobody() -> None:
    said = transcript(
        "250 ok", ("250 ok", "554 5.7.1 <a@b.example>: Relay access denied"), "354 go", "250 ok"
    )
    verdict = classify(said)
    assert [m.result for m in verdict.meanings] == [OK, D]
    assert (verdict.failure, verdict.refusal, verdict.passed) == (None, None, Stage.END_OF_MESSAGE)


def test_an_unknown_5xx_to_mail_is_tried_once_more() -> None:
    said = transcript("550 5.7.1 no", (None, None))
    first, second = classify(said), classify(said, attempts=1)
    assert {(m.result, m.reason) for m in first.meanings} == {(D, Reason.UPSTREAM_DOUBTED)}
    assert {(m.result, m.reason) for m in second.meanings} == {(F, Reason.UPSTREAM_REJECTED)}
    for verdict in (first, second):
        assert verdict.failure is None
        assert verdict.refusal == Refusal(Stage.MAIL, reply("550 5.7.1 no"), sure=False)
        assert verdict.passed is None


@pytest.mark.parametrize(
    ("said", "refusal", "passed"),
    [
        (transcript("250 ok", ("550 nope",), "503 x"), (Stage.RCPT, "550 nope"), Stage.MAIL),
        (transcript("250 ok", ("550 5.1.1 nobody",), "503 x"), None, Stage.MAIL),
        (
            transcript("250 ok", ("550 nope", "250 ok"), "354 go", "250 ok"),
            None,
            Stage.END_OF_MESSAGE,
        ),
        (transcript("250 ok", ("250 ok",), "554 nope"), (Stage.DATA, "554 nope"), Stage.RCPT),
        (
            transcript("250 ok", ("250 ok",), "354 go", "550 nope"),
            (Stage.END_OF_MESSAGE, "550 nope"),
            Stage.DATA,
        ),
        (transcript("250 ok", ("250 ok",), "354 go", "554 5.7.1 spam"), None, Stage.DATA),
        (transcript("250 ok", ("250 ok",), "354 go", "451 later"), None, Stage.DATA),
    ],
)
def test_what_the_breaker_is_shown(
    said: Transcript, refusal: tuple[Stage, str] | None, passed: Stage
) -> None:
    verdict = classify(said)
    expected = refusal and Refusal(refusal[0], reply(refusal[1]), sure=False)
    assert (verdict.refusal, verdict.passed) == (expected, passed)


def test_the_time_that_the_upstream_names_comes_with_the_outcome() -> None:
    said = transcript("454 4.7.0 Throttling, try again in 92 seconds")
    verdict = classify(said)
    assert verdict.meanings[0].outcome(7, "h:25").retry_after == 92
    assert (verdict.effect, verdict.retry_after) == (Slow(), 92)
    quota = transcript(
        "421 Domain d is not allowed to send: recipient limit exceeded, try again"
        " after 2026-05-01 10:00:00 UTC"
    )
    verdict = classify(quota)
    assert verdict.failure is not None
    assert verdict.failure.effect == verdict.effect == PauseUntil(at=1777629600)


def test_421_on_a_reused_connection_still_tells_the_lane_what_it_said() -> None:
    for text, effect in (
        ("421 4.7.0 too many connections from you", Cap()),
        ("421 too many messages in this connection", Reconnect()),
        ("421 4.4.2 bye", Reconnect()),
        ("421 4.7.0 rate limit exceeded", Slow()),
    ):
        closing = reply(text)
        said = Transcript(closing, (None,), None, None, 1, False)
        verdict = classify(said, Ending.CLOSING, reused=True, closing=closing)
        assert (verdict.give_back, verdict.effect) == (True, effect)


def test_what_came_instead_of_an_answer_stands_in_the_outcome() -> None:
    said = transcript(None)
    verdict = classify(said, Ending.PROTOCOL, detail="no space after the reply code: '250OK'")
    outcome = verdict.meanings[0].outcome(0, "h:25")
    assert (outcome.reply, outcome.detail) == (None, "no space after the reply code: '250OK'")


def test_a_session_refused_for_a_quota_or_for_its_number_says_so() -> None:
    used_up = reply("451 Authentication failed: Maximum credits exceeded")
    failure = classify_session(SessionEnded(Stage.AUTH, Trouble.REFUSED, used_up))
    assert failure.reason is Reason.UPSTREAM_QUOTA_EXCEEDED
    assert failure.effect == PauseUntil(seconds=600)
    many = reply("421 4.7.0 Too many concurrent SMTP connections; please try again later.")
    failure = classify_session(SessionEnded(Stage.GREETING, Trouble.CLOSING, many))
    assert (failure.reason, failure.effect) == (Reason.UPSTREAM_REFUSED, Cap())
