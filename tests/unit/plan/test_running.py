"""What is said of pods, upstreams and Secrets that wait for them."""

from __future__ import annotations

from datetime import timedelta

import pytest

from mailrelay_gateway.contract.documents import Sender
from mailrelay_gateway.contract.status import UpstreamState
from mailrelay_operator.plan.facts import PodFacts
from mailrelay_operator.plan.running import (
    known_senders,
    programmed_trouble,
    stamps,
    upstream_verdict,
)
from mailrelay_operator.plan.shares import Share
from tests.models import made
from tests.unit.plan.build import NOW, facts, pod, relay, upstream

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
            [pod(0, digest="new"), pod(1, digest="new", not_serving=("Listener a ...",))],
            ("False", "ListenerNotServing"),
        ),
        (
            [pod(0, digest="new"), pod(1, digest="new", terminating=True)],
            ("False", "ReplicasPending"),
        ),
    ],
)
def test_all_replicas_must_run_the_digest(
    pods: list[PodFacts], expected: tuple[str, str] | None
) -> None:
    verdict = programmed_trouble(pods, ROLLED_OUT, relay_file="new", replicas=2)
    assert (None if verdict is None else (verdict.status, verdict.reason.value)) == expected


@pytest.mark.parametrize(
    "status", [{"observedGeneration": 1}, {"updatedReplicas": 1}, {"updateRevision": "b"}]
)
def test_a_roll_out_must_be_over(status: dict[str, object]) -> None:
    found = ROLLED_OUT | {"status": {**dict(ROLLED_OUT["status"]), **status}}  # type: ignore[call-overload]
    pods = [pod(0, digest="new"), pod(1, digest="new")]
    verdict = programmed_trouble(pods, found, relay_file="new", replicas=2)
    assert verdict is not None
    assert verdict.reason.value == "ReplicasPending"


def entry(uid: str, *addresses: str) -> Sender:
    return made.sender(uid=uid, namespace="mail", name=uid, username=uid, addresses=addresses)


OLD = {"a": entry("a"), "b": entry("b", "x@example.com")}
NEW = {"a": entry("a"), "b": entry("b", "y@example.com"), "c": entry("c")}
VERSIONS = {"old": OLD, "new": NEW}


def share(digest: str) -> dict[str, str]:
    return {"relay": "r", "senders-03": digest}


@pytest.mark.parametrize(
    ("pods", "known"),
    [
        ([], set()),
        ([pod(0, digest="x", files=share("new"))], {"a", "b", "c"}),
        ([pod(0, digest="y", files=share("old"))], {"a"}),
        ([pod(0, digest="x", files=share("new")), pod(1, digest="y", files=share("old"))], {"a"}),
        (
            [
                pod(0, digest="x", files=share("new")),
                pod(1, digest="y", files=share("old"), ready=False),
            ],
            {"a", "b", "c"},
        ),
        ([pod(0, digest="x", files=share("new"), ready=False)], set()),
        ([pod(0, digest="x", files=share("unheard of"))], set()),
        ([pod(0, digest="x", files={"relay": "r"})], set()),
        ([pod(0, digest="x", files=share("new")), pod(1)], set()),
    ],
)
def test_a_sender_is_known_when_its_entry_is_in_what_every_ready_replica_runs(
    pods: list[PodFacts], known: set[str]
) -> None:
    shares = [Share(number=3, file=b"", senders=NEW)]
    assert known_senders(pods, shares, VERSIONS) == known


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
    assert bool(stamps(facts(pods=(one,)), relay(), "new")) is stamped


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
        ([pod(digest="x", upstreams=(UP,), unrouted=2)], ("False", "NoRoute")),
        ([pod(digest="x", unrouted=1)], ("False", "NoRoute")),
        (
            [pod(0, digest="x", upstreams=(UP,)), pod(1, digest="x", upstreams=(UP,), unrouted=1)],
            ("False", "NoRoute"),
        ),
        ([pod(digest="x", upstreams=(UP, HELD), unrouted=1)], ("False", "UpstreamAuthFailed")),
    ],
)
def test_one_held_upstream_is_said(pods: list[PodFacts], expected: tuple[str, str]) -> None:
    verdict = upstream_verdict(pods, suspended=False)
    assert (verdict.status, verdict.reason.value) == expected


def test_the_upstreams_own_words_are_in_the_message() -> None:
    verdict = upstream_verdict([pod(digest="x", upstreams=(HELD,))], suspended=False)
    assert verdict.message == "b is held: 535 5.7.8 bad login"
    verdict = upstream_verdict([pod(digest="x", upstreams=(HELD,), unrouted=1)], suspended=False)
    assert verdict.message.startswith("b is held: 535 5.7.8 bad login; Mail is queued that no")
    suspended = upstream_verdict([pod(digest="x", upstreams=(HELD,))], suspended=True)
    assert (suspended.status, suspended.reason.value) == ("Unknown", "Suspended")
