"""The backlog: keys with due times, by examples and by its invariants."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from mailrelay_operator.engine.backlog import (
    LONGEST_BACK_OFF,
    LONGEST_SILENCE,
    REST,
    Backlog,
    Key,
    Urgency,
)

A, B = (Key(kind="MailRelay", namespace="mail", name=name) for name in "ab")


def test_the_key_that_is_due_for_longest_comes_first() -> None:
    backlog = Backlog()
    backlog.add(A, due=2.0)
    backlog.add(B, due=1.0)
    assert backlog.take(now=0.5) is None
    assert backlog.next_due() == 1.0
    assert [backlog.take(now=3.0), backlog.take(now=3.0), backlog.take(now=3.0)] == [B, A, None]


def test_adding_again_keeps_the_earlier_time() -> None:
    backlog = Backlog()
    backlog.add(A, due=5.0)
    backlog.add(A, due=1.0)
    backlog.add(A, due=9.0)
    assert len(backlog) == 1
    assert backlog.take(now=1.0) == A
    assert backlog.take(now=9.0) is None


def test_a_key_that_is_added_while_a_worker_has_it_comes_once_more() -> None:
    backlog = Backlog()
    backlog.add(A, due=0.0)
    assert backlog.take(now=0.0) == A
    backlog.add(A, due=0.0)
    backlog.add(A, due=0.0)
    assert backlog.take(now=9.0) is None
    backlog.done(A, look_again_at=60.0)
    assert backlog.take(now=0.0) == A
    backlog.done(A)
    assert len(backlog) == 0
    assert backlog.next_due() is None


def test_failures_wait_ever_longer_and_success_forgets_them() -> None:
    backlog = Backlog()
    backlog.add(A, due=0.0)
    pauses = []
    now = 0.0
    for _ in range(10):
        assert backlog.take(now=now) == A
        pauses.append(backlog.failed(A, now=now, jitter=0.0))
        assert backlog.take(now=now) is None
        now += pauses[-1]
    assert pauses[:4] == [1.0, 2.0, 4.0, 8.0]
    assert pauses[-1] == LONGEST_BACK_OFF
    assert backlog.take(now=now) == A
    backlog.done(A, look_again_at=now)
    assert backlog.take(now=now) == A
    assert backlog.failed(A, now=now, jitter=0.0) == 1.0


def test_news_shorten_the_pause_after_a_failure() -> None:
    backlog = Backlog()
    backlog.add(A, due=0.0)
    backlog.take(now=0.0)
    backlog.failed(A, now=0.0, jitter=0.0)
    backlog.add(A, due=0.1)
    assert backlog.take(now=0.1) is None  # it rests first, like every key
    assert backlog.take(now=REST) == A


@pytest.mark.parametrize(
    ("urgency", "due"),
    [(Urgency.ROUTINE, 1.0), (Urgency.AWAITED, REST), (Urgency.REVOKING, REST)],
)
def test_what_was_added_during_a_failing_round_waits_unless_it_is_urgent(
    urgency: Urgency, due: float
) -> None:
    backlog = Backlog()
    backlog.add(A, due=0.0)
    backlog.take(now=0.0)
    backlog.add(A, due=0.0, urgency=urgency)
    backlog.failed(A, now=0.0, jitter=0.0)
    assert backlog.next_due() == due


def relays(count: int) -> list[Key]:
    return [Key(kind="MailRelay", namespace="mail", name=str(number)) for number in range(count)]


@pytest.mark.parametrize("urgency", [Urgency.AWAITED, Urgency.REVOKING])
def test_urgent_keys_come_before_all_others_that_are_due(urgency: Urgency) -> None:
    backlog = Backlog()
    keys = relays(200)
    for key in keys:
        backlog.add(key, due=0.0)
    backlog.add(A, due=1.0, urgency=urgency)
    backlog.add(keys[100], due=1.0, urgency=urgency)  # it is due already, and now urgent too
    assert [backlog.take(now=0.5), backlog.take(now=0.5)] == [keys[100], keys[0]]
    assert [backlog.take(now=1.0), backlog.take(now=1.0)] == [A, keys[1]]


def test_a_revocation_comes_before_all_newcomers() -> None:
    backlog = Backlog()
    for key in relays(200):
        backlog.add(key, due=0.0, urgency=Urgency.AWAITED)
    backlog.add(A, due=9.0, urgency=Urgency.REVOKING)
    assert backlog.take(now=9.0) == A


def test_who_only_revokes_is_given_nothing_else() -> None:
    backlog = Backlog()
    keys = relays(2)
    backlog.add(keys[0], due=0.0)
    backlog.add(keys[1], due=0.0, urgency=Urgency.AWAITED)
    assert backlog.take(now=9.0, least=Urgency.REVOKING) is None
    assert backlog.next_due(least=Urgency.REVOKING) is None
    backlog.add(A, due=3.0, urgency=Urgency.REVOKING)
    assert backlog.next_due(least=Urgency.REVOKING) == 3.0
    assert backlog.take(now=2.0, least=Urgency.REVOKING) is None
    assert backlog.take(now=3.0, least=Urgency.REVOKING) == A


def test_a_round_that_failed_is_repeated_as_urgently() -> None:
    """A revocation that met a concurrent write does not queue up behind the newcomers."""
    backlog = Backlog()
    backlog.add(A, due=0.0, urgency=Urgency.REVOKING)
    assert backlog.take(now=0.0) == A
    backlog.failed(A, now=0.0, jitter=0.0)
    for key in relays(200):
        backlog.add(key, due=0.0, urgency=Urgency.AWAITED)
    assert backlog.take(now=1.0, least=Urgency.REVOKING) == A
    backlog.done(A, look_again_at=2.0)
    assert backlog.take(now=2.0) == relays(1)[0]  # done, and routine again


def test_a_key_that_changes_all_the_time_rests_between_two_rounds() -> None:
    backlog = Backlog()
    backlog.add(A, due=0.0)
    rounds = 0
    for tick in range(100):
        now = tick / 100
        backlog.add(A, due=now)
        if backlog.take(now=now) is not None:
            rounds += 1
            backlog.done(A, now=now)
    assert rounds == 4


def test_a_silent_api_server_is_asked_again_sooner() -> None:
    backlog = Backlog()
    now = 0.0
    backlog.add(A, due=now)
    for _ in range(12):
        assert backlog.take(now=now) == A
        now += backlog.failed(A, now=now, jitter=0.0, longest=LONGEST_SILENCE)
    assert backlog.take(now=now) == A
    assert backlog.failed(A, now=now, jitter=0.0, longest=LONGEST_SILENCE) == LONGEST_SILENCE


@given(st.floats(min_value=0.0, max_value=1.0, exclude_max=True))
def test_jitter_shortens_a_pause_by_up_to_a_quarter(jitter: float) -> None:
    """Whatever the jitter, a pause is between three quarters of itself and itself."""
    backlog = Backlog()
    backlog.add(A, due=0.0)
    backlog.take(now=0.0)
    assert 0.75 <= backlog.failed(A, now=0.0, jitter=jitter) <= 1.0


def test_only_who_has_a_key_may_hand_it_back() -> None:
    backlog = Backlog()
    backlog.add(A, due=0.0)
    with pytest.raises(ValueError, match="MailRelay mail/a is not with a worker"):
        backlog.done(A)
    assert backlog.take(now=0.0) == A


KEYS = st.sampled_from(
    [Key(kind="MailRelay", namespace="mail", name=str(number)) for number in range(5)]
)


class BacklogModel(RuleBasedStateMachine):
    """No added key is ever lost, and none is with two workers: after every step, what was added
    since a worker last took it is waiting or will be handed out when that worker is done."""

    def __init__(self) -> None:
        super().__init__()
        self.backlog = Backlog()
        self.now = 0.0
        self.owed: dict[Key, Urgency] = {}
        self.held: dict[Key, Urgency] = {}

    def owe(self, key: Key, urgency: Urgency) -> None:
        self.owed[key] = max(urgency, self.owed.get(key, urgency))

    @rule(
        key=KEYS,
        delay=st.floats(min_value=0.0, max_value=5.0),
        urgency=st.sampled_from(Urgency),
    )
    def add(self, key: Key, delay: float, urgency: Urgency) -> None:
        self.backlog.add(key, due=self.now + delay, urgency=urgency)
        self.owe(key, urgency)

    @rule(least=st.sampled_from(Urgency))
    def take(self, least: Urgency) -> None:
        """Whatever waits, the most urgent of what is due is handed out."""
        due = self.backlog.next_due(least=Urgency.REVOKING)
        key = self.backlog.take(now=self.now, least=least)
        if due is not None and due <= self.now:
            assert key is not None
            assert self.owed[key] is Urgency.REVOKING
        if key is not None:
            assert key not in self.held
            urgency = self.owed.pop(key)
            assert urgency >= least
            self.held[key] = urgency

    @rule(seconds=st.floats(min_value=0.0, max_value=300.0))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @precondition(lambda self: self.held)
    @rule(data=st.data(), pause=st.none() | st.floats(min_value=0.0, max_value=10.0))
    def finish(self, data: st.DataObject, pause: float | None) -> None:
        key = data.draw(st.sampled_from(sorted(self.held)))
        again = None if pause is None else self.now + pause
        self.backlog.done(key, look_again_at=again, now=self.now)
        del self.held[key]
        if pause is not None:
            self.owe(key, Urgency.ROUTINE)

    @precondition(lambda self: self.held)
    @rule(data=st.data(), jitter=st.floats(min_value=0.0, max_value=0.99))
    def fail(self, data: st.DataObject, jitter: float) -> None:
        key = data.draw(st.sampled_from(sorted(self.held)))
        self.backlog.failed(key, now=self.now, jitter=jitter)
        self.owe(key, self.held.pop(key))

    @invariant()
    def holds_exactly_what_is_owed_or_in_work(self) -> None:
        assert len(self.backlog) == len(self.owed.keys() | self.held.keys())

    @invariant()
    def says_when_the_next_key_is_due(self) -> None:
        waiting = self.owed.keys() - self.held.keys()
        assert (self.backlog.next_due() is not None) == bool(waiting)

    def teardown(self) -> None:
        for key in sorted(self.held):
            self.backlog.done(key)
        self.now += 10_000.0
        taken = set(iter(lambda: self.backlog.take(now=self.now), None))
        assert taken == self.owed.keys()


TestBacklogModel = BacklogModel.TestCase
