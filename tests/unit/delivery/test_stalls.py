"""Silence on all connections, in time and in words."""

from __future__ import annotations

import pytest

from mailrelay_gateway.delivery.stalls import (
    MOST_PATIENCE,
    Waiting,
    describe,
    more_patience,
    stalled_at,
)
from mailrelay_gateway.reasons import Reason
from mailrelay_gateway.smtp.client_states import Phase

DOT = Waiting(Phase.FINAL, 100.0, 100.0)
GREETING = Waiting(Phase.GREETING, 103.0, 0.0)


def test_the_last_one_that_got_on_counts() -> None:
    assert stalled_at([DOT, GREETING], 4.0) == 107.0


@pytest.mark.parametrize(
    ("waiting", "phase", "words"),
    [
        (
            [DOT] * 10,
            Phase.FINAL,
            "has been silent for 4 s when we awaited its answer to the final dot, on all 10"
            " connections",
        ),
        (
            [Waiting(Phase.CONNECT, 100.0, 0.0)],
            Phase.CONNECT,
            "has been silent for 4 s when we awaited an answer to our connection, on the only"
            " connection",
        ),
        (
            [DOT, GREETING, GREETING],
            Phase.GREETING,
            "has been silent for 1 s when we awaited its greeting on 2 of 3 connections and awaited"
            " its answer to the final dot on 1 of 3 connections",
        ),
    ],
)
def test_the_stages_are_named(waiting: list[Waiting], phase: Phase, words: str) -> None:
    failure = describe(waiting, 104.0)
    assert (failure.phase, failure.reason, failure.detail) == (
        phase,
        Reason.UPSTREAM_TIMEOUT,
        words,
    )


@pytest.mark.parametrize("phase", list(Phase))
def test_every_stage_has_words(phase: Phase) -> None:
    assert "awaited" in describe([Waiting(phase, 0.0, 0.0)], 5.0).detail


def test_patience_grows_with_a_slow_server_but_not_for_ever() -> None:
    assert more_patience(4.0, 6.0) == 9.0
    assert more_patience(9.0, 2.0) == 9.0
    assert more_patience(9.0, 60.0) == MOST_PATIENCE
