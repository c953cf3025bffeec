"""What tools that know nothing of us make of a status: kstatus (Flux, Helm), kubectl wait."""

from __future__ import annotations

from typing import Any

from mailrelay_operator.api.conditions import initial_conditions
from mailrelay_operator.engine.ringing import sender_key
from tests.integration.operator.world import World, relay, sender

Manifest = dict[str, Any]


def kstatus(manifest: Manifest) -> str:
    """Current, InProgress or Failed: the rules for kinds that it has none of its own for
    (sigs.k8s.io/cli-utils/pkg/kstatus/status, checkGenericProperties and checkReadyCondition)."""
    status = manifest.get("status") or {}
    observed = status.get("observedGeneration")
    if observed is not None and observed != manifest["metadata"]["generation"]:
        return "InProgress"
    conditions = {one["type"]: one["status"] for one in status.get("conditions") or ()}
    if conditions.get("Reconciling") == "True":
        return "InProgress"
    if conditions.get("Stalled") == "True":
        return "Failed"
    return "Current" if conditions.get("Ready", "True") == "True" else "InProgress"


def waits(manifest: Manifest) -> bool:
    """Whether `kubectl wait --for=condition=Ready` goes on waiting: a condition of an older
    generation does not count for it."""
    for one in (manifest.get("status") or {}).get("conditions") or ():
        if one["type"] == "Ready":
            known = one.get("observedGeneration", 0)
            current = not known or known >= manifest["metadata"]["generation"]
            return not (current and one["status"] == "True")
    return True


def seen(world: World, kind: str = "MailRelay", name: str = "out") -> tuple[str, bool]:
    found = world.cluster.find(kind, "mail", name)
    assert found is not None
    return kstatus(found), waits(found)


DONE, UNDER_WAY = ("Current", False), ("InProgress", True)


def test_what_no_operator_has_seen_is_under_way() -> None:
    for kind in ("MailRelay", "MailSender", "MailDomain"):
        waiting = [one.model_dump(by_alias=True) for one in initial_conditions(kind)]
        fresh = {"metadata": {"generation": 1}, "status": {"conditions": waiting}}
        assert (kstatus(fresh), waits(fresh)) == UNDER_WAY


async def test_ready_objects_are_current(world: World) -> None:
    world.cluster.put(relay(), sender())
    await world.round()
    assert seen(world) == UNDER_WAY
    await world.settle()
    assert seen(world) == seen(world, "MailSender", "app") == DONE


async def test_a_new_spec_is_under_way_until_every_gateway_runs_it(world: World) -> None:
    world.cluster.put(relay())
    await world.settle()
    world.kubelet.slow.add("out-0")
    world.edit("MailRelay", "out", hostname="other.example.com")
    assert seen(world) == UNDER_WAY
    await world.round()
    assert seen(world) == UNDER_WAY
    world.kubelet.slow.clear()
    await world.settle()
    assert seen(world) == DONE


async def test_a_sender_is_not_ready_before_the_gateways_run_its_new_spec(world: World) -> None:
    world.cluster.put(relay(), sender())
    await world.settle()
    world.kubelet.slow.add("out-0")
    world.edit("MailSender", "app", "mail", **{"from": ["new@example.com"]})
    manifest = world.cluster.find("MailSender", "mail", "app")
    assert manifest is not None
    await world.reconciler.reconcile(sender_key(manifest))  # a worker for senders is the quicker
    assert seen(world, "MailSender", "app") == UNDER_WAY
    await world.work()
    assert seen(world, "MailSender", "app") == UNDER_WAY
    world.kubelet.slow.clear()
    await world.settle()
    assert seen(world, "MailSender", "app") == DONE
    (entry,) = world.kubelet.loaded("out-0").senders
    assert entry.addresses == ("new@example.com",)


async def test_a_refused_spec_is_not_current_though_the_one_before_runs(world: World) -> None:
    world.cluster.put(relay(), sender())
    await world.settle()
    world.edit("MailRelay", "out", replicas=0)
    world.edit("MailSender", "app", "mail", **{"from": []})
    await world.settle()
    assert seen(world) == seen(world, "MailSender", "app") == UNDER_WAY
    status = world.cluster.objects["MailRelay", "mail", "out"]["status"]
    assert (status["observedGeneration"], status["generationInForce"]) == (2, 1)
    assert world.condition("Ready") == ("False", "Invalid")


async def test_ready_pods_are_shown_beside_those_that_shall_be(world: World) -> None:
    world.cluster.put(relay(replicas=2))
    await world.settle()
    assert world.cluster.objects["MailRelay", "mail", "out"]["status"]["ready"] == "2/2"


async def test_the_load_balancers_addresses_are_shown(world: World) -> None:
    world.cluster.put(relay(service={"type": "LoadBalancer"}))
    await world.settle()
    service = world.cluster.find("Service", "mail", "out")
    assert service is not None
    balancer = {"ingress": [{"ip": "192.0.2.7"}, {"hostname": "lb.example.net"}]}
    world.cluster.put(service | {"status": {"loadBalancer": balancer}})
    await world.settle()
    status = world.cluster.objects["MailRelay", "mail", "out"]["status"]
    assert [(one["type"], one["value"]) for one in status["addresses"]] == [
        ("Hostname", "out.mail.svc"),
        ("IPAddress", "192.0.2.7"),
        ("Hostname", "lb.example.net"),
    ]
