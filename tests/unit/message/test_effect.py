"""Effects and the scope of a hold are values: equal by content, and impossible to build askew."""

from __future__ import annotations

from dataclasses import FrozenInstanceError

import pytest

from mailrelay_gateway.message.effect import (
    Cap,
    HoldScope,
    PauseUntil,
    Reconnect,
    Scope,
    Slow,
    Split,
)
from mailrelay_gateway.message.envelope import Outcome, Result
from mailrelay_gateway.reasons import Reason


def test_effects_are_equal_by_content() -> None:
    assert Slow() == Slow()
    assert {Cap(3), Cap(3), Cap(), Split(), Reconnect(), Slow()} == {
        Cap(3),
        Cap(None),
        Split(),
        Reconnect(),
        Slow(),
    }
    with pytest.raises(FrozenInstanceError):
        Cap(3).connections = 4  # type: ignore[misc]


@pytest.mark.parametrize(
    ("pause", "moment"),
    [
        (PauseUntil(seconds=92), 1092.0),
        (PauseUntil(seconds=-5), 1000.0),
        (PauseUntil(at=5000), 5000.0),
        (PauseUntil(at=4e9), 87_400.0),
        (PauseUntil(seconds=1e9), 87_400.0),
        (PauseUntil(at=10), 1000.0),
    ],
)
def test_a_pause_ends_at_a_moment_that_is_not_past(pause: PauseUntil, moment: float) -> None:
    assert pause.moment(1000.0) == moment


def test_a_pause_has_one_time() -> None:
    with pytest.raises(ValueError, match="either"):
        PauseUntil()
    with pytest.raises(ValueError, match="either"):
        PauseUntil(at=1.0, seconds=1.0)


def test_a_hold_covers_an_upstream_or_one_namespace_at_it() -> None:
    everybody = HoldScope.of(Scope.UPSTREAM, upstream="ses", namespace="shop")
    tenant = HoldScope.of(Scope.NAMESPACE, upstream="ses", namespace="shop")
    assert everybody == HoldScope(upstream="ses")
    assert tenant == HoldScope(upstream="ses", namespace="shop")


def test_an_outcome_says_nothing_of_the_future_unless_told() -> None:
    outcome = Outcome(0, Result.DELIVERED, Reason.DELIVERED)
    assert (outcome.effect, outcome.retry_after, outcome.scope, outcome.detail) == (
        None,
        None,
        Scope.UPSTREAM,
        "",
    )
