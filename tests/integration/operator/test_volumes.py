"""The volumes of a relay: they grow where they can, and what they cannot is said."""

from __future__ import annotations

from typing import Any

import pytest

from mailrelay_operator.cluster.port import Forbidden
from tests.integration.operator.world import World, relay, sender


async def test_a_size_below_that_of_the_claims_is_said_and_can_be_taken_back(world: World) -> None:
    world.cluster.put(relay(queue={"storage": {"size": "2Gi"}}))
    await world.settle()
    world.cluster.put(claim("2Gi"))
    world.edit("MailRelay", "out", queue={"storage": {"size": "1Gi"}})
    await world.settle()
    assert world.condition("Programmed") == ("False", "VolumeCannotShrink")
    world.edit("MailRelay", "out", queue={"storage": {"size": "2Gi"}})
    await world.settle()
    assert world.condition("Ready") == ("True", "Ready")


async def test_a_volume_that_cannot_grow_can_be_set_back(world: World) -> None:
    world.cluster.put(relay(queue={"storage": {"size": "1Gi"}}))
    await world.settle()
    world.cluster.put(claim("1Gi"))
    words = Forbidden("patching", "only dynamically provisioned pvc can be resized")
    world.cluster.refuse("merge", "PersistentVolumeClaim", words)
    world.edit("MailRelay", "out", queue={"storage": {"size": "2Gi"}})
    await world.settle()
    assert world.condition("Programmed") == ("False", "VolumeCannotGrow")
    world.edit("MailRelay", "out", queue={"storage": {"size": "1Gi"}})
    await world.settle()
    assert world.condition("Ready") == ("True", "Ready")


def claim(size: str) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": "spool-out-0", "namespace": "mail"},
        "spec": {"resources": {"requests": {"storage": size}}},
    }


async def test_volumes_grow_and_the_stateful_set_is_replaced_around_its_pods(world: World) -> None:
    world.cluster.put(relay(queue={"storage": {"size": "1Gi"}}))
    await world.settle()
    world.cluster.put(claim("1Gi"))
    world.cluster.writes()
    world.edit("MailRelay", "out", queue={"storage": {"size": "2Gi"}})
    await world.settle()
    writes = world.cluster.writes()
    grown = writes.index(("merge", "PersistentVolumeClaim", "mail", "spool-out-0"))
    assert writes.index(("orphan", "StatefulSet", "mail", "out")) > grown
    assert world.cluster.find("Pod", "mail", "out-0") is not None
    template = world.cluster.objects["StatefulSet", "mail", "out"]["spec"]["volumeClaimTemplates"]
    assert template[0]["spec"]["resources"]["requests"]["storage"] == "2Gi"
    assert world.condition("Ready") == ("True", "Ready")


@pytest.mark.parametrize(
    ("verb", "words", "reason"),
    [
        ("get", "no right", "ApplyFailed"),
        ("merge", "cannot be resized", "VolumeCannotGrow"),
    ],
)
async def test_volumes_that_cannot_grow_are_said_and_everything_else_goes_on(
    world: World, verb: str, words: str, reason: str
) -> None:
    world.cluster.put(relay(queue={"storage": {"size": "1Gi"}}))
    await world.settle()
    world.cluster.put(claim("1Gi"))
    refusal = Forbidden("patching PersistentVolumeClaim spool-out-0", words)
    world.cluster.refuse(verb, "PersistentVolumeClaim", refusal)
    world.cluster.refuse("merge", "PersistentVolumeClaim", refusal)
    queue = {"storage": {"size": "2Gi"}}
    world.edit("MailRelay", "out", queue=queue, hostname="new.example.com")
    world.cluster.put(sender())
    await world.settle()
    assert world.condition("Programmed") == ("False", reason)
    assert "orphan" not in {verb for verb, *_ in world.cluster.writes()}
    assert world.kubelet.loaded("out-0").relay.hostname == "new.example.com"
    assert world.cluster.data("mail", "app-smtp")["username"] == "mail.app"


async def test_a_claim_of_an_earlier_relay_beyond_the_replicas_is_said(world: World) -> None:
    left = claim("10Gi")
    left["metadata"]["name"] = "spool-out-1"
    world.cluster.put(relay(), left)
    await world.settle()
    assert world.condition("Programmed") == ("False", "QueueStranded")
    assert "spool-out-1" in world.cluster.message("MailRelay", "mail", "out", "Programmed")
    world.edit("MailRelay", "out", replicas=2)
    await world.settle()
    assert world.condition("Ready") == ("True", "Ready")
