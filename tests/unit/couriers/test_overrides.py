"""Rules of a relay's owner come before the shipped ones, text is no pattern, and a wait that is
asked for is kept.
"""

from __future__ import annotations

from typing import Any

import pytest

from mailrelay_gateway.contract.replies import ReplyOutcome
from mailrelay_gateway.contract.stage import Stage
from mailrelay_gateway.couriers.replies.classify import classify_reply, classify_session
from mailrelay_gateway.couriers.replies.overrides import rule_book
from mailrelay_gateway.couriers.replies.reply_rules import RULES
from mailrelay_gateway.couriers.replies.verdict import Meaning
from mailrelay_gateway.message.effect import PauseUntil, Reconnect, Scope, Split
from mailrelay_gateway.message.envelope import Result
from mailrelay_gateway.reasons import Reason
from mailrelay_gateway.smtp.client.events import SessionEnded, Trouble
from mailrelay_gateway.smtp.client.replies import ReplyReader
from mailrelay_gateway.smtp.reply import Reply
from tests.models import made

RCPT, FINAL = Stage.RCPT, Stage.END_OF_MESSAGE


def reply(text: str) -> Reply:
    [found] = ReplyReader().receive(text.encode() + b"\r\n")
    return found


def meaning(at: Stage, said: str, *, now: float | None = None, **rule: Any) -> Meaning:
    book = rule_book([made.reply_rule(**{"name": "own"} | rule)])
    return classify_reply(at, reply(said), book, now=now)


DEFERRED, FAILED, HELD = ReplyOutcome.DEFERRED, ReplyOutcome.FAILED, ReplyOutcome.HELD


def test_without_rules_of_ones_own_there_are_the_shipped_ones() -> None:
    assert rule_book([]) is RULES


@pytest.mark.parametrize(
    ("outcome", "result", "reason", "effect"),
    [
        (DEFERRED, Result.DEFERRED, Reason.UPSTREAM_DEFERRED, None),
        (FAILED, Result.FAILED, Reason.UPSTREAM_REJECTED, None),
        (HELD, Result.HELD, Reason.UPSTREAM_REFUSED, None),
        (ReplyOutcome.SPLIT, Result.DEFERRED, Reason.UPSTREAM_TOO_MANY_RECIPIENTS, Split()),
        (ReplyOutcome.RECONNECT, Result.DEFERRED, Reason.UPSTREAM_DEFERRED, Reconnect()),
    ],
)
def test_each_outcome(outcome: ReplyOutcome, result: Result, reason: Reason, effect: Any) -> None:
    for text in ("550 5.1.1 no such user", "450 4.2.0 greylisted"):
        found = meaning(RCPT, text, code=int(text[:3]), outcome=outcome)
        assert (found.result, found.reason, found.effect) == (result, reason, effect)
        assert found.sure


@pytest.mark.parametrize(
    "rule",
    [
        {"code": 551},
        {"enhanced": "5.7.2"},
        {"text": "something else"},
        {"stage": Stage.END_OF_MESSAGE},
        {"code": 550, "enhanced": "5.7.1", "text": "policy", "stage": Stage.MAIL},
    ],
)
def test_all_criteria_must_match(rule: dict[str, Any]) -> None:
    found = meaning(RCPT, "550 5.7.1 policy", outcome=HELD, **rule)
    assert found.result is Result.FAILED


def test_the_first_match_wins() -> None:
    book = rule_book(
        [
            made.reply_rule(name="a", code=550, text="quota", outcome=DEFERRED),
            made.reply_rule(name="b", code=550, outcome=HELD),
        ]
    )
    assert classify_reply(RCPT, reply("550 over quota"), book).result is Result.DEFERRED
    assert classify_reply(RCPT, reply("550 whatever"), book).result is Result.HELD
    assert classify_reply(RCPT, reply("551 not local"), book).result is Result.FAILED


def test_text_is_compared_whatever_its_case_and_spaces() -> None:
    text = "550-Too  MANY\r\n550 messages from <a@example.com> today"
    found = meaning(FINAL, text, text="too many  Messages from today", outcome=DEFERRED)
    assert found.result is Result.DEFERRED


def test_text_is_no_pattern() -> None:
    assert meaning(RCPT, "550 axb", text="a.b", outcome=HELD).result is Result.FAILED
    assert meaning(RCPT, "550 a.b", text="a.b", outcome=HELD).result is Result.HELD
    said = "550 " + "a" * 590
    assert meaning(RCPT, said, text="(a+)+$", outcome=HELD).result is Result.FAILED
    assert meaning(RCPT, "550 x(a+)+$x", text="(a+)+$", outcome=HELD).result is Result.HELD


def test_split_is_only_for_recipients() -> None:
    found = meaning(FINAL, "452 4.5.3 too many", code=452, outcome=ReplyOutcome.SPLIT)
    assert not isinstance(found.effect, Split)


@pytest.mark.parametrize(
    ("text", "after"),
    [
        ("550 too many messages", 600.0),
        ("550 too many messages, try again in 92 seconds", 600.0),
        ("550 too many messages, try again in 2 hours", 7200.0),
        ("550 too many messages, try again after 1970-01-01 01:00:00 UTC", 3600.0),
    ],
)
def test_the_wait_is_the_longer_of_the_owners_and_the_servers(text: str, after: float) -> None:
    found = meaning(FINAL, text, now=0.0, code=550, outcome=DEFERRED, after=600.0)
    assert (found.result, found.retry_after, found.effect) == (Result.DEFERRED, after, None)
    found = meaning(FINAL, text, now=0.0, code=550, outcome=HELD, after=600.0)
    assert found.effect == PauseUntil(seconds=after)


def test_before_mail_a_rule_says_for_how_long() -> None:
    rule = made.reply_rule(
        name="own", stage=Stage.AUTH, text="credits", outcome=HELD, after=7200.0, reason="Odd"
    )
    ended = SessionEnded(Stage.AUTH, Trouble.REFUSED, reply("454 4.7.0 No credits"), "")
    failure = classify_session(ended, rule_book([rule]))
    assert (failure.reason, failure.effect) == (
        Reason.UPSTREAM_REFUSED,
        PauseUntil(seconds=7200.0),
    )
    elsewhere = SessionEnded(Stage.GREETING, Trouble.REFUSED, reply("454 4.7.0 No credits"), "")
    assert classify_session(elsewhere, rule_book([rule])).effect is None


def test_a_preset_names_its_reason() -> None:
    found = meaning(FINAL, "554 no", code=554, outcome=HELD, reason="UpstreamAccountBlocked")
    assert found.reason is Reason.UPSTREAM_ACCOUNT_BLOCKED


PAUSED = [
    "554 Message rejected: Sending paused for tenant team-a",
    "554 5.7.1 Tenant team-a is paused",
    "454 4.7.1 sending is disabled for this tenant",
]


@pytest.mark.parametrize("text", PAUSED)
def test_a_paused_tenant_is_not_the_whole_account_where_tenants_are_told_apart(text: str) -> None:
    found = classify_reply(FINAL, reply(text), rule_book([], per_tenant=True))
    assert (found.result, found.reason) == (Result.HELD, Reason.UPSTREAM_TENANT_PAUSED)
    assert (found.scope, found.retry_after, found.effect) == (Scope.NAMESPACE, 600.0, None)


def test_elsewhere_it_is_the_account() -> None:
    found = classify_reply(FINAL, reply(PAUSED[0]))
    assert (found.reason, found.scope) == (Reason.UPSTREAM_ACCOUNT_BLOCKED, Scope.UPSTREAM)


def test_an_owner_may_say_that_a_reply_is_about_one_tenant() -> None:
    found = meaning(
        FINAL,
        "550 Stream inactive",
        text="stream inactive",
        outcome=HELD,
        scope="Namespace",
        after=60.0,
    )
    assert (found.scope, found.retry_after, found.effect) == (Scope.NAMESPACE, 60.0, None)


def test_what_is_said_of_a_recipient_is_not_about_the_tenant() -> None:
    said = Reply(550, "5.1.1", "user account disabled for this tenant")
    found = classify_reply(Stage.RCPT, said, rule_book([], per_tenant=True))
    assert found.result is Result.FAILED
