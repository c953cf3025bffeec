"""The health of an upstream: held slowly asked, released at the first session, never by a failure
among others.
"""

from __future__ import annotations

import pytest

from mailrelay_gateway.contract.documents import HostPort
from mailrelay_gateway.contract.stage import Stage
from mailrelay_gateway.contract.status import UpstreamState
from mailrelay_gateway.couriers.replies.verdict import Failure
from mailrelay_gateway.couriers.smtp.health import (
    TABLE,
    Action,
    Happening,
    Health,
    Probing,
    order_hosts,
    pause,
    step,
)
from mailrelay_gateway.reasons import Reason

FAILURE = Failure(Stage.AUTH, Reason.UPSTREAM_AUTH_FAILED, "answered 535 no")
UNKNOWN, UP, HELD = UpstreamState.UNKNOWN, UpstreamState.UP, UpstreamState.HELD


def run(*happenings: Happening) -> tuple[Health, Action]:
    health, action = Health(since=100.0), Action.NOTHING
    for number, happening in enumerate(happenings, start=1):
        health, action = step(health, happening, now=100.0 + number, failure=FAILURE)
    return health, action


def test_the_table_is_complete() -> None:
    assert set(TABLE) == {(state, happening) for state in UpstreamState for happening in Happening}


@pytest.mark.parametrize(
    ("happenings", "state", "action"),
    [
        ([Happening.OPENED], UP, Action.RELEASE),
        ([Happening.OPENED, Happening.OPENED], UP, Action.NOTHING),
        ([Happening.FAILED], HELD, Action.HOLD),
        ([Happening.FAILED, Happening.FAILED], HELD, Action.HOLD),
        ([Happening.FAILED, Happening.OPENED], UP, Action.RELEASE),
        ([Happening.OPENED, Happening.FAILED_EXTRA], UP, Action.CAP),
        ([Happening.OPENED, Happening.FAILED], HELD, Action.HOLD),
        ([Happening.OPENED, Happening.LOGIN_REFUSED], HELD, Action.HOLD),
        ([Happening.OPENED, Happening.LOGIN_REFUSED, Happening.ACCEPTED], UP, Action.RELEASE),
        ([Happening.OPENED, Happening.BARREN], HELD, Action.HOLD),
        ([Happening.OPENED, Happening.STALLED], HELD, Action.HOLD),
        ([Happening.OPENED, Happening.STALLED, Happening.STALLED], HELD, Action.NOTHING),
        ([Happening.OPENED, Happening.STALLED, Happening.HEARD], UP, Action.RELEASE),
        ([Happening.OPENED, Happening.STALLED, Happening.OPENED], UP, Action.RELEASE),
        ([Happening.OPENED, Happening.FAILED, Happening.HEARD], HELD, Action.NOTHING),
        ([Happening.STALLED, Happening.FAILED, Happening.HEARD], HELD, Action.NOTHING),
        ([Happening.OPENED, Happening.HEARD], UP, Action.NOTHING),
        ([Happening.OPENED, Happening.CHANGED], UNKNOWN, Action.NOTHING),
        ([Happening.FAILED, Happening.CHANGED], HELD, Action.PROBE),
    ],
)
def test_what_happens_and_what_follows(
    happenings: list[Happening], state: UpstreamState, action: Action
) -> None:
    health, did = run(*happenings)
    assert (health.state, did) == (state, action)
    assert (health.reason, health.detail) == (
        (FAILURE.reason, FAILURE.detail) if state is HELD else (None, "")
    )


def test_since_is_when_the_state_began() -> None:
    health, _ = run(Happening.OPENED, Happening.FAILED, Happening.FAILED, Happening.FAILED)
    assert (health.state, health.since, health.failures) == (HELD, 102.0, 3)


def test_a_stall_is_no_failure() -> None:
    health, _ = run(Happening.FAILED, Happening.OPENED, Happening.STALLED, Happening.HEARD)
    assert (health.failures, health.stalled) == (1, False)


def test_a_session_alone_does_not_reset_the_pause() -> None:
    health, _ = run(Happening.OPENED, Happening.LOGIN_REFUSED, Happening.OPENED)
    assert (health.state, health.failures) == (UP, 1)
    health, _ = run(Happening.FAILED, Happening.FAILED, Happening.OPENED, Happening.ACCEPTED)
    assert health.failures == 0


def test_one_refusal_on_many_connections_is_one_failure() -> None:
    health, action = run(Happening.OPENED, *[Happening.LOGIN_REFUSED] * 10)
    assert (health.state, health.failures, action) == (HELD, 1, Action.NOTHING)


def test_a_mail_that_is_let_in_does_not_undo_a_refusal_at_rcpt() -> None:
    refused = Failure(Stage.RCPT, Reason.UPSTREAM_REFUSED, "answered 554 Relay access denied")
    health, _ = step(Health(), Happening.LOGIN_REFUSED, now=1, failure=refused)
    health, action = step(health, Happening.ACCEPTED, now=2, passed=Stage.MAIL)
    assert (health.state, health.failures, action) == (HELD, 1, Action.NOTHING)
    health, _ = step(health, Happening.OPENED, now=3)
    health, _ = step(health, Happening.ACCEPTED, now=4, passed=Stage.MAIL)
    assert (health.state, health.failures) == (UP, 1)
    health, _ = step(health, Happening.ACCEPTED, now=5, passed=Stage.RCPT)
    assert (health.state, health.failures, health.stage) == (UP, 0, None)


def test_a_changed_configuration_is_asked_at_once_and_from_the_shortest_pause() -> None:
    health, action = run(Happening.FAILED, Happening.FAILED, Happening.CHANGED)
    assert (action, health.failures) == (Action.PROBE, 0)


def test_pauses_double_up_to_the_longest_and_are_spread() -> None:
    settings = Probing(first=5, longest=300, factor=2, spread=0.2)
    assert [pause(n, settings, 0.5) for n in range(1, 9)] == [5, 10, 20, 40, 80, 160, 300, 300]
    assert pause(1, settings, 0.0) == 4
    assert pause(10_000, settings, 0.999) < 360


def test_hosts_that_failed_lately_come_last() -> None:
    a, b, c = (HostPort(host=name, port=25) for name in "abc")
    assert order_hosts([a, b, c], {}, 10) == [a, b, c]
    assert order_hosts([a, b, c], {a: 20}, 10) == [b, c, a]
    assert order_hosts([a, b, c], {a: 5}, 10) == [a, b, c]
    assert order_hosts([a, b, c], {a: 30, b: 20, c: 40}, 10) == [b, a, c]
