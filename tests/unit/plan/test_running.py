"""What is said of pods, upstreams and Secrets that wait for them."""

from __future__ import annotations

from datetime import timedelta

import pytest

from mailrelay_gateway.config import UpstreamState
from mailrelay_operator.plan.facts import PodFacts
from mailrelay_operator.plan.running import (
    everybody_knows,
    programmed_trouble,
    stamps,
    upstream_verdict,
)
from tests.unit.plan.build import NOW, facts, pod, upstream

ROLLED_OUT = {
    "metadata": {"name": "out", "generation": 2},
    "spec": {"replicas": 2},
    "status": {
        "observedGeneration": 2,
        "updatedReplicas": 2,
        "currentRevision": "a",
        "updateRevision": "a",
    },
}


@pytest.mark.parametrize(
    ("pods", "expected"),
    [
        ([pod(0, digest="new"), pod(1, digest="new")], None),
        ([pod(0, digest="new")], ("False", "ReplicasPending")),
        ([pod(0, digest="new"), pod(1, ready=False)], ("False", "ReplicasPending")),
        ([pod(0, digest="new"), pod(1, digest="old")], ("False", "ConfigurationPending")),
        ([pod(0, digest="new"), pod(1)], ("Unknown", "GatewayUnreachable")),
        (
            [pod(0, digest="new"), pod(1, digest="old", problem="bad")],
            ("False", "ConfigurationRefused"),
        ),
        ([pod(0, digest="new"), pod(1, digest="new", problem="older")], None),
        (
            [pod(0, digest="new"), pod(1, digest="new", terminating=True)],
            ("False", "ReplicasPending"),
        ),
    ],
)
def test_all_replicas_must_run_the_digest(
    pods: list[PodFacts], expected: tuple[str, str] | None
) -> None:
    verdict = programmed_trouble(pods, ROLLED_OUT, digest="new", replicas=2)
    assert (None if verdict is None else (verdict.status, verdict.reason.value)) == expected


@pytest.mark.parametrize(
    "status", [{"observedGeneration": 1}, {"updatedReplicas": 1}, {"updateRevision": "b"}]
)
def test_a_roll_out_must_be_over(status: dict[str, object]) -> None:
    found = ROLLED_OUT | {"status": {**dict(ROLLED_OUT["status"]), **status}}  # type: ignore[call-overload]
    pods = [pod(0, digest="new"), pod(1, digest="new")]
    verdict = programmed_trouble(pods, found, digest="new", replicas=2)
    assert verdict is not None
    assert verdict.reason.value == "ReplicasPending"


@pytest.mark.parametrize(
    ("pods", "known"),
    [
        ([], False),
        ([pod(0, digest="new")], True),
        ([pod(0, digest="new"), pod(1, digest="old")], False),
        ([pod(0, digest="new"), pod(1, digest="old", ready=False)], True),
        ([pod(0, digest="new", ready=False)], False),
        ([pod(0, digest="new"), pod(1)], False),
    ],
)
def test_a_password_is_shown_when_every_ready_replica_knows_it(
    pods: list[PodFacts], *, known: bool
) -> None:
    assert everybody_knows(pods, "new") is known


@pytest.mark.parametrize(
    ("one", "stamped"),
    [
        (pod(digest="new"), False),
        (pod(digest="old"), True),
        (pod(), True),
        (pod(digest="old", stamp="new", stamped_at=NOW - timedelta(seconds=1)), False),
        (pod(digest="old", stamp="new", stamped_at=NOW - timedelta(seconds=2)), True),
        (pod(digest="old", stamp="old", stamped_at=NOW), True),
        (pod(digest="old", terminating=True), False),
        (pod(address=""), False),
    ],
)
def test_a_pod_is_stamped_until_it_runs_the_digest(one: PodFacts, *, stamped: bool) -> None:
    assert bool(stamps(facts(pods=(one,)), "new")) is stamped


UP = upstream("a", UpstreamState.UP)
HELD = upstream("b", UpstreamState.HELD, "UpstreamAuthFailed", "535 5.7.8 bad login")
ODD = upstream("c", UpstreamState.HELD, "SomethingNew", "what?")


@pytest.mark.parametrize(
    ("pods", "expected"),
    [
        ([], ("Unknown", "NotTried")),
        ([pod(digest="x")], ("Unknown", "NotTried")),
        ([pod(digest="x", upstreams=(UP,))], ("True", "Reachable")),
        ([pod(digest="x", upstreams=(UP, HELD))], ("False", "UpstreamAuthFailed")),
        (
            [pod(0, digest="x", upstreams=(UP,)), pod(1, digest="x", upstreams=(ODD,))],
            ("False", "UpstreamHeld"),
        ),
    ],
)
def test_one_held_upstream_is_said(pods: list[PodFacts], expected: tuple[str, str]) -> None:
    verdict = upstream_verdict(pods, suspended=False)
    assert (verdict.status, verdict.reason.value) == expected


def test_the_upstreams_own_words_are_in_the_message() -> None:
    verdict = upstream_verdict([pod(digest="x", upstreams=(HELD,))], suspended=False)
    assert verdict.message == "b takes no mail: 535 5.7.8 bad login"
    suspended = upstream_verdict([pod(digest="x", upstreams=(HELD,))], suspended=True)
    assert (suspended.status, suspended.reason.value) == ("Unknown", "Suspended")
