"""One sender's deferrals make nobody else wait; an upstream that throttles everybody is heeded."""

from __future__ import annotations

import pytest

from mailrelay_gateway.contract.stage import Stage
from mailrelay_gateway.couriers.replies.verdict import Verdict
from mailrelay_gateway.couriers.smtp.slowing import LONGEST_OF_ONE, MAX_SENDERS, Slowing
from mailrelay_gateway.message.effect import Effect, PauseUntil, Slow

TAKEN = Verdict(passed=Stage.END_OF_MESSAGE)
ALL = frozenset({"b", "g"})
GENTLY = Slow(longest=LONGEST_OF_ONE)


def story(*senders: str) -> list[Effect | None]:
    """What each request to slow down comes to; a sender in capitals gets through."""
    slowing = Slowing()
    found: list[Effect | None] = []
    for sender in senders:
        verdict = TAKEN if sender.isupper() else Verdict(effect=Slow(), retry_after=90.0)
        judged = slowing.judge(verdict, sender.lower(), ALL)
        if verdict is TAKEN:
            assert judged is TAKEN
        else:
            found.append(judged.effect)
            assert (judged.retry_after is None) is (judged.effect != Slow())
    return found


@pytest.mark.parametrize(
    ("senders", "effects"),
    [
        ("b", [GENTLY]),
        ("bbb", [GENTLY] * 3),  # nobody else was there to tell
        ("bGb", [GENTLY, None]),
        ("bGbbbb", [GENTLY] + [None] * 4),
        ("Gbbgb", [GENTLY, GENTLY, Slow(), Slow()]),  # everybody is asked
        ("bgGHbg", [GENTLY, Slow(), None, GENTLY]),  # of two that were, one got through
        ("bGBb", [GENTLY, GENTLY]),  # it gets through by now
        ("bBb", [GENTLY, GENTLY]),
    ],
)
def test_whose_a_request_to_slow_down_is(senders: str, effects: list[Effect | None]) -> None:
    assert story(*senders) == effects


def test_a_relay_of_one_sender_rests_as_long_as_it_takes() -> None:
    verdict = Verdict(effect=Slow(), retry_after=90.0)
    assert Slowing().judge(verdict, "b", frozenset({"b"})) is verdict


def test_a_pause_for_a_quota_is_nobodys_own() -> None:
    slowing = Slowing()
    slowing.judge(Verdict(effect=Slow()), "b", ALL)
    slowing.judge(TAKEN, "g", ALL)
    verdict = Verdict(effect=PauseUntil(seconds=600.0))
    assert slowing.judge(verdict, "b", ALL) is verdict


def test_no_more_senders_are_remembered_than_fit() -> None:
    slowing = Slowing()
    for number in range(MAX_SENDERS + 1):
        slowing.judge(Verdict(effect=Slow()), str(number), ALL)
    slowing.judge(TAKEN, "g", ALL)
    assert slowing.judge(Verdict(effect=Slow()), "0", ALL).effect == GENTLY
    assert slowing.judge(Verdict(effect=Slow()), "1", ALL).effect is None
