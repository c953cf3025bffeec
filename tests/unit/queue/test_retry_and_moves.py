"""When a recipient is tried again, and what each outcome makes of it."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailrelay_gateway.message.effect import Elsewhere, Split
from mailrelay_gateway.message.envelope import Outcome, Result
from mailrelay_gateway.message.route import Route
from mailrelay_gateway.queue.item import (
    IllegalMove,
    Move,
    Recipient,
    State,
    decide_moves,
    stand_in_moves,
)
from mailrelay_gateway.queue.retry import FIRST_DELAY, UNCERTAIN_DELAY, RetryPolicy
from mailrelay_gateway.reasons import Reason
from mailrelay_gateway.smtp.reply import Reply
from tests.unit.queue.build import job

POLICY = RetryPolicy(give_up_after=1000.0, max_interval=3600.0)
LATER = Reply(451, "4.3.0", "later")
NEW_ROUTE = Route(("third",))


def to_new(_: Recipient) -> Route:
    return NEW_ROUTE


def outcome(result: Result = Result.DEFERRED, index: int = 0) -> Outcome:
    return Outcome(index, result, Reason.UPSTREAM_DEFERRED, LATER)


def moves(recipients: list[Recipient], outcomes: list[Outcome], now: float = 0.0) -> list[Move]:
    return decide_moves(
        job(1, "u", *recipients),
        outcomes,
        route_of=to_new,
        now=now,
        policy=POLICY,
        jitter=0.5,
    )


def move(recipient: Recipient, result: Result, now: float = 0.0) -> Move:
    [found] = moves([recipient], [outcome(result, recipient.index)], now)
    return found


def test_delivered_goes() -> None:
    found = move(Recipient(0, "a@b"), Result.DELIVERED)
    assert found.state is None
    assert not found.failed


def test_failed_goes_to_the_dead_letters_with_the_reply() -> None:
    found = move(Recipient(0, "a@b"), Result.FAILED)
    assert found.state is None
    assert found.failed
    assert found.reply == "451 4.3.0 later"


def test_deferred_waits_and_counts_and_takes_the_route_in_force() -> None:
    found = move(Recipient(0, "a@b"), Result.DEFERRED, now=100.0)
    assert found.state is State.DEFERRED
    assert found.recipient.attempts == 1
    assert found.recipient.first_tried_at == 100.0
    assert found.recipient.waited == FIRST_DELAY
    assert found.next_at == 100.0 + FIRST_DELAY
    assert found.route == NEW_ROUTE


def test_held_costs_nothing() -> None:
    before = Recipient(0, "a@b", attempts=3, first_tried_at=5.0, waited=900.0)
    found = move(before, Result.HELD, now=1e9)
    assert found.state is State.READY
    assert found.recipient == before
    assert found.next_at is None


def test_too_many_recipients_go_at_once_in_the_next_transaction() -> None:
    split = Outcome(0, Result.DEFERRED, Reason.UPSTREAM_DEFERRED, LATER, effect=Split())
    [found] = moves([Recipient(0, "a@b")], [split])
    assert found.state is State.READY
    assert found.recipient == Recipient(0, "a@b")


ELSEWHERE = Outcome(
    0, Result.DEFERRED, Reason.SIGNATURE_WOULD_BREAK, Reply(554, "5.6.3", "no"), effect=Elsewhere()
)


def test_what_one_upstream_cannot_take_goes_to_the_others_at_once_and_uncounted() -> None:
    """And to none twice, whatever the configuration says."""
    here = replace(job(1, "u", Recipient(0, "a@b")), route=Route(("first", "second", "third")))
    for upstream, rest in (("first", ("second", "third")), ("second", ("first", "third"))):
        tried = replace(here, upstream=upstream)
        [found] = decide_moves(
            tried, [ELSEWHERE], route_of=to_new, now=0.0, policy=POLICY, jitter=0.5
        )
        assert (found.state, found.failed) == (State.READY, False)
        assert found.route == Route(rest, pinned=True)
        assert found.recipient == Recipient(0, "a@b"), "it is bound to nothing that it was sent to"


@pytest.mark.parametrize("pinned", [False, True])
def test_what_the_last_upstream_cannot_take_has_failed_with_its_reason(pinned: bool) -> None:
    only = ("first", "second") if pinned else ("first",)
    last = replace(
        job(1, "u", Recipient(0, "a@b", pinned=pinned)), route=Route(only), upstream="first"
    )
    [found] = decide_moves(last, [ELSEWHERE], route_of=to_new, now=0.0, policy=POLICY, jitter=0.5)
    assert (found.state, found.failed) == (None, True)
    assert found.reason is Reason.SIGNATURE_WOULD_BREAK
    assert found.reply == "554 5.6.3 no"


WARNS = RetryPolicy(give_up_after=432_000.0, max_interval=3600.0, warn_after=14_400.0)


def life(policy: RetryPolicy, jitters: list[float], named: list[float | None]) -> list[Recipient]:
    """A recipient that is deferred again and again; as it was each time its sender was told."""
    recipient, told = Recipient(0, "a@b"), []
    for jitter, retry_after in zip(jitters, named, strict=True):
        later = replace(outcome(), retry_after=retry_after)
        [found] = decide_moves(
            job(1, "u", recipient), [later], route_of=to_new, now=0.0, policy=policy, jitter=jitter
        )
        assert found.next_at is not None
        assert found.recipient.waited == pytest.approx(recipient.waited + found.next_at)
        if found.delayed:
            told.append(recipient)
        recipient = found.recipient
    return told


PAUSES = st.lists(st.none() | st.floats(1, 20_000), min_size=60, max_size=60)


@given(st.lists(st.floats(0, 0.99), min_size=60, max_size=60), PAUSES)
def test_the_sender_is_told_of_a_delay_exactly_once(
    jitters: list[float], named: list[float | None]
) -> None:
    """After four hours of waiting; only where the upstream named a later time, before that."""
    [recipient] = life(WARNS, jitters, named)
    assert recipient.waited <= WARNS.warn_after
    [recipient] = life(WARNS, jitters, [None] * 60)
    assert WARNS.warn_after - FIRST_DELAY < recipient.waited <= WARNS.warn_after
    assert life(replace(WARNS, warn_after=0.0), jitters, named) == []


@pytest.mark.parametrize("warn_after", [1.0, 29.0])
def test_where_the_time_is_short_the_first_failure_tells(warn_after: float) -> None:
    [recipient] = life(replace(WARNS, warn_after=warn_after), [0.5] * 5, [None] * 5)
    assert recipient.attempts == 0


def test_uncertain_is_bound_to_its_upstream_and_waits_longer() -> None:
    found = move(Recipient(0, "a@b"), Result.UNCERTAIN)
    assert found.state is State.UNCERTAIN
    assert found.recipient.pinned
    assert found.route == Route(("first",), pinned=True)
    assert found.next_at is not None
    assert found.next_at >= UNCERTAIN_DELAY


@pytest.mark.parametrize("result", [Result.DEFERRED, Result.HELD])
def test_once_uncertain_a_message_stays_with_its_upstream(result: Result) -> None:
    found = move(Recipient(0, "a@b", attempts=1, first_tried_at=0.0, pinned=True), result)
    assert found.recipient.pinned
    assert found.route == Route(("first",), pinned=True)


def test_gives_up_when_its_waiting_is_over_and_not_before() -> None:
    assert move(Recipient(0, "a@b", attempts=9, waited=999.0), Result.DEFERRED).failed is False
    over = move(Recipient(0, "a@b", attempts=9, waited=1000.0), Result.DEFERRED)
    assert over.failed
    assert over.reason is Reason.GAVE_UP
    assert over.reply == "451 4.3.0 later"


@pytest.mark.parametrize("waited", [30.0, 1000.0])
def test_an_error_of_ours_never_ends_a_message_and_counts_for_nothing(waited: float) -> None:
    before = Recipient(0, "a@b", attempts=9, first_tried_at=0.0, waited=waited)
    ours = Outcome(0, Result.DEFERRED, Reason.INTERNAL_ERROR, detail="its body cannot be read")
    [found] = moves([before], [ours])
    assert found.state is State.DEFERRED
    assert found.next_at is not None
    assert found.recipient.waited == waited


@pytest.mark.parametrize("now", [-1e9, 0.0, 1e9, 4e9])
def test_no_step_of_the_clock_makes_it_give_up(now: float) -> None:
    """Only pauses of our own schedule count: not a hold, a stop, nor a clock that jumped."""
    found = move(
        Recipient(0, "a@b", attempts=1, first_tried_at=0.0, waited=30.0), Result.DEFERRED, now
    )
    assert found.state is State.DEFERRED


def test_recipients_deferred_together_come_back_together() -> None:
    recipients = [Recipient(n, f"{n}@b") for n in range(50)]
    found = moves(recipients, [outcome(index=n) for n in range(50)])
    assert len({move.next_at for move in found}) == 1


def test_the_time_that_the_upstream_names_is_kept_to() -> None:
    named = Outcome(0, Result.DEFERRED, Reason.UPSTREAM_DEFERRED, LATER, retry_after=92.0)
    [found] = moves([Recipient(0, "a@b")], [named])
    assert found.next_at is not None
    assert 92.0 <= found.next_at <= 92.0 * 1.1


def test_a_named_time_is_bounded() -> None:
    named = Outcome(0, Result.DEFERRED, Reason.UPSTREAM_DEFERRED, LATER, retry_after=1e12)
    [found] = moves([Recipient(0, "a@b")], [named])
    assert found.next_at is not None
    assert found.next_at <= POLICY.longest


def test_a_move_keeps_the_outcome_that_led_to_it() -> None:
    failed = Outcome(0, Result.FAILED, Reason.UPSTREAM_REJECTED, LATER, "mx.example.net:25")
    [found] = moves([Recipient(0, "a@b")], [failed])
    assert found.outcome is failed


def test_what_came_instead_of_a_reply_stands_in_the_queue() -> None:
    odd = Outcome(
        0, Result.DEFERRED, Reason.UPSTREAM_PROTOCOL_ERROR, detail="not an SMTP reply: '250OK'"
    )
    [found] = moves([Recipient(0, "a@b")], [odd])
    assert found.reply == "not an SMTP reply: '250OK'"


def test_unknown_result_is_an_illegal_move() -> None:
    with pytest.raises(IllegalMove):
        moves([Recipient(0, "a@b")], [Outcome(0, "lost", Reason.REPLY_LOST)])  # type: ignore[arg-type]


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


def test_what_we_failed_to_judge_is_neither_lost_nor_delivered_twice() -> None:
    ended = job(1, "u", *(Recipient(n, f"r{n}@b") for n in range(4)))
    results = (Result.DELIVERED, Result.FAILED, Result.DEFERRED, Result.UNCERTAIN)
    outcomes = [outcome(result, n) for n, result in enumerate(results)]
    gone, failed, deferred, uncertain = stand_in_moves(ended, outcomes, next_at=60.0)
    assert (gone.state, gone.failed, gone.reason) == (None, False, Reason.DELIVERED)
    for put_off in (failed, deferred):
        assert (put_off.state, put_off.next_at) == (State.DEFERRED, 60.0)
        assert (put_off.reason, put_off.route) == (Reason.INTERNAL_ERROR, ended.route)
    # perhaps delivered: at the same upstream only, whatever its route says
    assert (uncertain.state, uncertain.next_at) == (State.UNCERTAIN, 60.0)
    assert uncertain.recipient.pinned
    assert uncertain.route == ended.route.pinned_to(ended.upstream)
    for move in (failed, deferred, uncertain):
        assert (move.recipient.attempts, move.recipient.waited) == (0, 0.0), "at no charge"
