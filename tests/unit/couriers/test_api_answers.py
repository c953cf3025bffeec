"""What providers' answers mean for a message and its upstream: each row of the tables, and what has
no row.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

import pytest

from mailrelay_gateway.contract.replies import ReplyOutcome, ReplyRule, ReplyScope
from mailrelay_gateway.contract.stage import Stage
from mailrelay_gateway.couriers.api.answers import (
    GRAPH_CODES,
    SES_CODES,
    read_graph,
    read_ses,
    refuses_credentials,
)
from mailrelay_gateway.couriers.replies.overrides import rule_book
from mailrelay_gateway.couriers.replies.reply_rules import RULES
from mailrelay_gateway.couriers.replies.rules import Ruling
from mailrelay_gateway.couriers.replies.verdict import Verdict
from mailrelay_gateway.egress.client import Answer
from mailrelay_gateway.message.effect import PauseUntil, Slow
from mailrelay_gateway.message.envelope import Result
from mailrelay_gateway.reasons import Reason

NOW = 1_700_000_000.0


def ses(
    status: int, code: str = "", words: str = "", headers: Mapping[str, str] | None = None
) -> Verdict:
    given = {"x-amzn-errortype": f"{code}:http://internal.amazon.com/"} if code else {}
    body = json.dumps({"message": words}).encode()
    answer = Answer(status=status, headers={**given, **(headers or {})}, body=body)
    return read_ses(answer, 2, RULES, now=NOW)


def graph(status: int, code: str = "", words: str = "", **headers: str) -> Verdict:
    body = json.dumps({"error": {"code": code, "message": words}}).encode() if code else b"<html>"
    answer = Answer(
        status=status, headers={k.replace("_", "-"): v for k, v in headers.items()}, body=body
    )
    return read_graph(answer, 1, RULES, now=NOW)


def test_accepted() -> None:
    verdict = read_ses(
        Answer(status=200, headers={}, body=b'{"MessageId": "0100-abc\\r\\nX: y"}'),
        3,
        RULES,
        now=NOW,
    )
    assert [m.result for m in verdict.meanings] == [Result.DELIVERED] * 3
    assert str(verdict.meanings[0].reply) == "250 2.0.0 MessageId 0100-abc??X: y"
    assert verdict.passed is Stage.END_OF_MESSAGE
    verdict = graph(202, request_id="77-aa")
    assert str(verdict.meanings[0].reply) == "250 2.0.0 request-id 77-aa"


@pytest.mark.parametrize("verdict", [ses(504), graph(504), graph(504, "UnknownError")])
def test_a_gateways_timeout_is_no_answer_of_the_service(verdict: Verdict) -> None:
    for meaning in verdict.meanings:
        assert (meaning.result, meaning.reason) == (Result.UNCERTAIN, Reason.REPLY_LOST)
    assert isinstance(verdict.effect, Slow)
    assert verdict.passed is None


def test_the_session_token_that_ses_repeats_is_not_shown() -> None:
    words = (
        "The request signature we calculated does not match the signature you provided.\n\nThe"
        " Canonical String for this request should have been\n'POST\n/v2/email/outbound-emails\n\n"
        "content-type:application/json\nx-amz-date:20260101T000000Z\n"
        "x-amz-security-token:IQoJb3JpZ2luX2VjE/+c==\n\ncontent-type;x-amz-security-token\nab12'"
    )
    verdict = ses(403, "InvalidSignatureException", words)
    assert verdict.failure is not None
    for shown in (verdict.failure.detail, verdict.meanings[0].detail, str(verdict.failure.reply)):
        assert "x-amz-security-token:[...]" in shown
        assert "IQoJ" not in shown


def test_a_200_that_is_not_the_apis_is_no_delivery() -> None:
    verdict = read_ses(Answer(status=200, headers={}, body=b"<html>login"), 1, RULES, now=NOW)
    assert verdict.meanings[0].result is Result.DEFERRED
    assert graph(200).meanings[0].result is Result.DEFERRED


@pytest.mark.parametrize("code", [c for c, known in SES_CODES.items() if isinstance(known, Ruling)])
def test_each_row_of_ses(code: str) -> None:
    known = SES_CODES[code]
    assert isinstance(known, Ruling)
    meaning = ses(400, code, "words").meanings[0]
    assert (meaning.result, meaning.reason) == (known.result, known.reason)
    assert meaning.detail == f"answered 400 {code}: words"
    assert meaning.reply is None


@pytest.mark.parametrize(
    "code", [c for c, known in GRAPH_CODES.items() if isinstance(known, Ruling)]
)
def test_each_row_of_graph(code: str) -> None:
    known = GRAPH_CODES[code]
    assert isinstance(known, Ruling)
    meaning = graph(400, code, "words").meanings[0]
    assert (meaning.result, meaning.reason) == (known.result, known.reason)


@pytest.mark.parametrize(
    ("verdict", "result", "reason"),
    [
        (
            ses(
                400,
                "MessageRejected",
                "Email address is not verified. The following identities failed the check in"
                " region EU-CENTRAL-1: a@example.com",
            ),
            Result.FAILED,
            Reason.SENDER_NOT_VERIFIED,
        ),
        (
            ses(429, "TooManyRequestsException", "Maximum sending rate exceeded."),
            Result.DEFERRED,
            Reason.UPSTREAM_THROTTLED,
        ),
        (
            ses(429, "TooManyRequestsException", "Daily message quota exceeded."),
            Result.HELD,
            Reason.UPSTREAM_QUOTA_EXCEEDED,
        ),
        (
            graph(
                403,
                "ErrorSendAsDenied",
                "The user account does not have SendAs permission: SendAsDenied",
            ),
            Result.FAILED,
            Reason.SENDER_NOT_VERIFIED,
        ),
        (ses(500), Result.DEFERRED, Reason.UPSTREAM_DEFERRED),
        (ses(503, "SomethingNew", "sorry"), Result.DEFERRED, Reason.UPSTREAM_DEFERRED),
        (ses(403, "SomethingNew", "sorry"), Result.HELD, Reason.UPSTREAM_AUTH_FAILED),
        (ses(302), Result.DEFERRED, Reason.UPSTREAM_PROTOCOL_ERROR),
        (ses(400), Result.DEFERRED, Reason.UPSTREAM_PROTOCOL_ERROR),
        (graph(407), Result.DEFERRED, Reason.UPSTREAM_PROTOCOL_ERROR),
        (graph(413), Result.FAILED, Reason.UPSTREAM_REJECTED),
    ],
)
def test_what_else_there_is(verdict: Verdict, result: Result, reason: Reason) -> None:
    assert (verdict.meanings[0].result, verdict.meanings[0].reason) == (result, reason)
    assert (verdict.failure is not None) is (result is Result.HELD)


def test_an_unknown_refusal_goes_to_the_breaker() -> None:
    verdict = ses(400, "SomethingNew", "no idea")
    assert verdict.refusal is not None
    assert not verdict.refusal.sure
    assert verdict.meanings[0].result is Result.FAILED


def test_refused_credentials_are_known_as_such() -> None:
    assert refuses_credentials(graph(401, "InvalidAuthenticationToken", "Access token expired"))
    assert refuses_credentials(ses(403, "ExpiredTokenException", "expired"))
    assert not refuses_credentials(ses(500))


def test_retry_after_is_heeded_in_both_forms() -> None:
    verdict = graph(429, "ApplicationThrottled", "slow", retry_after="17")
    assert verdict.retry_after == 17
    assert verdict.effect == Slow()
    verdict = graph(503, retry_after="Tue, 14 Nov 2023 22:14:00 GMT")
    assert verdict.retry_after == 40
    assert graph(429, "TooManyRequests", retry_after="99999999").retry_after == 3600
    assert graph(429, "TooManyRequests", retry_after="soon").retry_after is None


def test_the_quota_is_asked_again_later() -> None:
    assert ses(429, "TooManyRequestsException", "Daily message quota exceeded.").effect == (
        PauseUntil(seconds=600.0)
    )


def test_owners_rules_come_first() -> None:
    rule = ReplyRule(
        name="full",
        stage=None,
        code=None,
        enhanced=None,
        text="errorquotaexceeded",
        outcome=ReplyOutcome.DEFERRED,
        after=None,
        reason="",
        scope=ReplyScope.UPSTREAM,
    )
    body = b'{"error": {"code": "ErrorQuotaExceeded", "message": "full"}}'
    answer = Answer(status=507, headers={}, body=body)
    book = rule_book([rule])
    assert read_graph(answer, 1, RULES, now=NOW).meanings[0].result is Result.HELD
    assert read_graph(answer, 1, book, now=NOW).meanings[0].result is Result.DEFERRED


def test_words_cannot_inject_lines_or_grow() -> None:
    detail = ses(400, "MessageRejected", "a\r\nX: y\x00" + "z" * 5000).meanings[0].detail
    assert "\n" not in detail
    assert len(detail) < 600
