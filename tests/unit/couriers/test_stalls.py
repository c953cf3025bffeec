"""Silence on all connections, in time and in words."""

from __future__ import annotations

import pytest

from mailrelay_gateway.contract.stage import Stage
from mailrelay_gateway.couriers.smtp.stalls import (
    MOST_PATIENCE,
    Waiting,
    describe,
    more_patience,
    stalled_at,
)
from mailrelay_gateway.reasons import Reason
from mailrelay_gateway.smtp.client.states import STAGES

DOT = Waiting(Stage.END_OF_MESSAGE, 100.0, 100.0)
GREETING = Waiting(Stage.GREETING, 103.0, 0.0)


LATER = Waiting(Stage.CONNECT, 105.0, 0.0)


@pytest.mark.parametrize(
    ("busy", "openings", "at"),
    [
        ([DOT], [], 104.0),
        ([DOT, Waiting(Stage.MAIL, 110.0, 20.0)], [], 114.0),  # it began with its message just now
        ([DOT], [GREETING], 107.0),
        ([], [GREETING, LATER], 107.0),  # the later one was begun because the first is silent
        ([], [GREETING, Waiting(Stage.EHLO, 105.0, 105.5)], 107.0),  # and got no further
        ([], [Waiting(Stage.EHLO, 103.0, 104.5)], 108.5),
        ([], [Waiting(Stage.EHLO, 50.0, 50.5), LATER], 105.5),  # it has a moment to do better
    ],
)
def test_the_last_one_that_got_on_counts(
    busy: list[Waiting], openings: list[Waiting], at: float
) -> None:
    assert stalled_at(busy, openings, 4.0) == at


@pytest.mark.parametrize(
    ("waiting", "stage", "words"),
    [
        (
            [DOT] * 10,
            Stage.END_OF_MESSAGE,
            "has been silent for 4 s when we awaited its answer to the final dot, on all 10"
            " connections",
        ),
        (
            [Waiting(Stage.CONNECT, 100.0, 0.0)],
            Stage.CONNECT,
            "has been silent for 4 s when we awaited an answer to our connection, on the only"
            " connection",
        ),
        (
            [DOT, GREETING, GREETING],
            Stage.GREETING,
            "has been silent for 4 s when we awaited its greeting on 2 of 3 connections and awaited"
            " its answer to the final dot on 1 of 3 connections",
        ),
    ],
)
def test_the_stages_are_named(waiting: list[Waiting], stage: Stage, words: str) -> None:
    failure = describe(waiting, 4.0)
    assert (failure.stage, failure.reason, failure.detail) == (
        stage,
        Reason.UPSTREAM_TIMEOUT,
        words,
    )


@pytest.mark.parametrize("stage", sorted({Stage.RESOLVE, Stage.CONNECT, *STAGES.values()}))
def test_every_stage_has_words(stage: Stage) -> None:
    assert "awaited" in describe([Waiting(stage, 0.0, 0.0)], 5.0).detail


def test_patience_grows_with_a_slow_server_but_not_for_ever() -> None:
    assert more_patience(4.0, 6.0) == 9.0
    assert more_patience(9.0, 2.0) == 9.0
    assert more_patience(9.0, 60.0) == MOST_PATIENCE
