"""Doing what a plan says: nothing twice, and all of it that can be done."""

from __future__ import annotations

import copy
from datetime import UTC, datetime
from typing import Any

import pytest

from mailrelay_operator.cluster.port import ClusterError, Conflict, Forbidden, Invalid, Unavailable
from mailrelay_operator.engine.acting import Actor
from mailrelay_operator.engine.announcing import Announcer
from mailrelay_operator.engine.contents import Contents
from mailrelay_operator.engine.scope import Scope
from mailrelay_operator.engine.store import Store
from mailrelay_operator.plan.actions import Apply, Create, key_of
from mailrelay_operator.plan.facts import ObjectKey
from tests.integration.operator.fake_cluster import FakeCluster

OWNER = ObjectKey(kind="MailRelay", namespace="mail", name="out")


def service(name: str = "out", **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "namespace": "mail", "labels": {"a": "b"}},
        "spec": {"ports": [{"port": 587}], **spec},
    }


class Rewriting(FakeCluster):
    """Writes a quantity as it likes, and adds a default, as the real one does."""

    def store(self, manifest: dict[str, Any]) -> None:
        if "memory" in manifest.get("spec", {}):
            manifest["spec"]["memory"] = "1Gi"
        manifest.setdefault("spec", {}).setdefault("sessionAffinity", "None")
        super().store(manifest)


def actor_on(cluster: FakeCluster) -> tuple[Actor, Contents]:
    contents = Contents(cluster, Scope())
    announcer = Announcer(cluster=cluster, now=lambda: datetime.now(UTC))
    actor = Actor(cluster=cluster, contents=contents, store=Store(), announcer=announcer)
    return actor, contents


async def applies(actor: Actor, cluster: FakeCluster, *manifests: dict[str, Any]) -> int:
    cluster.writes()
    outcome = await actor.do([Apply(owner=OWNER, manifest=copy.deepcopy(m)) for m in manifests])
    assert outcome.error is None
    return len(cluster.writes())


@pytest.mark.parametrize("spec", [{}, {"memory": "1024Mi"}, {"selector": {}}])
async def test_what_is_there_already_is_not_applied_again(spec: dict[str, Any]) -> None:
    cluster = Rewriting()
    actor, _ = actor_on(cluster)
    assert await applies(actor, cluster, service(**spec)) == 1
    assert await applies(actor, cluster, service(**spec)) == 0


async def test_a_restart_applies_nothing_that_is_there_already() -> None:
    cluster = Rewriting()
    actor, _ = actor_on(cluster)
    await applies(actor, cluster, service())
    again, contents = actor_on(cluster)
    await contents.get(key_of(service()))
    assert await applies(again, cluster, service()) == 0


async def test_what_a_person_changed_or_we_say_no_more_is_applied() -> None:
    cluster = Rewriting()
    actor, contents = actor_on(cluster)
    await applies(actor, cluster, service(type="LoadBalancer"))
    # We say a field no more: it has to go.
    assert await applies(actor, cluster, service()) == 1
    assert "type" not in cluster.objects["Service", "mail", "out"]["spec"]
    edited = copy.deepcopy(cluster.objects["Service", "mail", "out"])
    edited["spec"]["ports"] = [{"port": 25}]
    cluster.put(edited)
    contents.forget(key_of(service()))
    await contents.get(key_of(service()))
    assert await applies(actor, cluster, service()) == 1
    assert cluster.objects["Service", "mail", "out"]["spec"]["ports"] == [{"port": 587}]


@pytest.mark.parametrize(
    ("error", "done", "conflict"),
    [
        (Invalid("applying", "bad"), ["b"], False),
        (Forbidden("applying", "quota"), ["b"], False),
        (Conflict("applying", "changed"), ["b"], True),
        (Unavailable("applying", "webhook", answered=True), ["b"], False),
        (Unavailable("applying", "no answer"), [], False),
    ],
)
async def test_one_that_fails_stops_no_other(
    error: ClusterError, done: list[str], *, conflict: bool
) -> None:
    cluster = FakeCluster()
    actor, _ = actor_on(cluster)
    cluster.refuse("apply", "Service", error, name="a")
    outcome = await actor.do(
        [Apply(owner=OWNER, manifest=service("a")), Apply(owner=OWNER, manifest=service("b"))]
    )
    assert [name for _, _, _, name in cluster.writes()] == done
    assert list(outcome.failures) == [key_of(service("a"))]
    assert outcome.is_conflict is conflict
    assert outcome.silent is (done == [])


async def test_nothing_follows_what_could_not_be_created() -> None:
    cluster = FakeCluster()
    actor, _ = actor_on(cluster)
    cluster.put(service("a"))
    outcome = await actor.do(
        [Create(owner=OWNER, manifest=service("a")), Apply(owner=OWNER, manifest=service("b"))]
    )
    assert cluster.writes() == []
    assert outcome.is_conflict
