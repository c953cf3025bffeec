"""When a recipient is tried again, and what each outcome makes of it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailrelay_gateway.message.envelope import Outcome, Result
from mailrelay_gateway.queue.item import IllegalMove, Move, Recipient, State, decide_move
from mailrelay_gateway.queue.retry import FIRST_DELAY, UNCERTAIN_DELAY, RetryPolicy
from mailrelay_gateway.reasons import Reason
from mailrelay_gateway.smtp.reply import Reply

POLICY = RetryPolicy(give_up_after=1000.0, max_interval=3600.0)
LATER = Reply(451, "4.3.0", "later")


def move(
    recipient: Recipient, result: Result, now: float = 0.0, policy: RetryPolicy = POLICY
) -> Move:
    outcome = Outcome(recipient.index, result, Reason.UPSTREAM_DEFERRED, LATER)
    return decide_move(recipient, outcome, now=now, policy=policy, jitter=0.5)


def test_delivered_goes() -> None:
    found = move(Recipient(0, "a@b"), Result.DELIVERED)
    assert found.state is None
    assert not found.failed


def test_failed_goes_to_the_dead_letters_with_the_reply() -> None:
    found = move(Recipient(0, "a@b"), Result.FAILED)
    assert found.state is None
    assert found.failed
    assert found.reply == "451 4.3.0 later"


def test_deferred_waits_and_counts() -> None:
    found = move(Recipient(0, "a@b"), Result.DEFERRED, now=100.0)
    assert found.state is State.DEFERRED
    assert found.recipient.attempts == 1
    assert found.recipient.first_tried_at == 100.0
    assert found.next_at == 100.0 + FIRST_DELAY


def test_held_costs_nothing() -> None:
    before = Recipient(0, "a@b", attempts=3, first_tried_at=5.0)
    found = move(before, Result.HELD, now=1e9)
    assert found.state is State.READY
    assert found.recipient == before
    assert found.next_at is None


def test_uncertain_is_bound_to_its_upstream_and_waits_longer() -> None:
    found = move(Recipient(0, "a@b"), Result.UNCERTAIN)
    assert found.state is State.UNCERTAIN
    assert found.recipient.pinned
    assert found.next_at is not None
    assert found.next_at >= UNCERTAIN_DELAY


def test_once_uncertain_a_message_stays_with_its_upstream() -> None:
    found = move(Recipient(0, "a@b", attempts=1, first_tried_at=0.0, pinned=True), Result.DEFERRED)
    assert found.recipient.pinned


def test_gives_up_when_the_time_is_over_and_not_before() -> None:
    tried = Recipient(0, "a@b", attempts=9, first_tried_at=0.0)
    assert move(tried, Result.DEFERRED, now=999.0).state is State.DEFERRED
    over = move(tried, Result.DEFERRED, now=1000.0)
    assert over.failed
    assert over.reason is Reason.GAVE_UP
    assert over.reply == "451 4.3.0 later"


def test_the_first_deferral_never_gives_up_however_old_the_message() -> None:
    found = move(Recipient(0, "a@b"), Result.DEFERRED, now=1e9)
    assert found.state is State.DEFERRED


def test_a_move_keeps_the_outcome_that_led_to_it() -> None:
    outcome = Outcome(0, Result.FAILED, Reason.UPSTREAM_REJECTED, LATER, "mx.example.net:25")
    found = decide_move(Recipient(0, "a@b"), outcome, now=0.0, policy=POLICY, jitter=0.5)
    assert found.outcome is outcome


def test_what_came_instead_of_a_reply_stands_in_the_queue() -> None:
    outcome = Outcome(
        0, Result.DEFERRED, Reason.UPSTREAM_PROTOCOL_ERROR, detail="not an SMTP reply: '250OK'"
    )
    found = decide_move(Recipient(0, "a@b"), outcome, now=0.0, policy=POLICY, jitter=0.5)
    assert found.reply == "not an SMTP reply: '250OK'"


def test_unknown_result_is_an_illegal_move() -> None:
    with pytest.raises(IllegalMove):
        decide_move(
            Recipient(0, "a@b"),
            Outcome(0, "lost", Reason.REPLY_LOST),  # type: ignore[arg-type]
            now=0.0,
            policy=POLICY,
            jitter=0.0,
        )


@given(
    attempts=st.integers(1, 10_000),
    jitter=st.floats(0, 1, exclude_max=True),
    max_interval=st.floats(1, 86400),
)
def test_the_pause_is_bounded(attempts: int, jitter: float, max_interval: float) -> None:
    """Invariant: no pause is longer than 1.4 times the longest that was asked for, and none is
    zero.
    """
    policy = RetryPolicy(give_up_after=1e6, max_interval=max_interval)
    for pause in (policy.delay(attempts, jitter), policy.uncertain_delay(attempts, jitter)):
        assert 0 < pause <= 1.4 * max_interval
    assert policy.uncertain_delay(attempts, jitter) >= policy.delay(attempts, jitter)
