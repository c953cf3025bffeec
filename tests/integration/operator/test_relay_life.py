"""A MailRelay from creation to deletion, on a cluster in memory."""

from __future__ import annotations

import pytest

from mailrelay_gateway.config import UpstreamState, UpstreamStatus
from mailrelay_operator.cluster.port import Forbidden, Invalid, Unavailable
from tests.integration.operator.world import World, brought, relay, sender


async def test_a_relay_gets_its_objects_and_becomes_ready(world: World) -> None:
    world.cluster.put(relay())
    await world.settle()
    assert world.condition("Ready") == ("True", "Ready")
    kinds = sorted({(kind, name) for kind, where, name in world.cluster.objects if where == "mail"})
    for expected in (
        ("NetworkPolicy", "out-gateway"),
        ("Pod", "out-0"),
        ("PodDisruptionBudget", "out"),
        ("Secret", "out-admin"),
        ("Secret", "out-ca"),
        ("Secret", "out-config"),
        ("Service", "out"),
        ("Service", "out-pods"),
        ("ServiceAccount", "out-gateway"),
        ("StatefulSet", "out"),
    ):
        assert expected in kinds
    assert world.kubelet.loaded("out-0").relay.hostname == "relay.example.com"


async def test_a_round_in_which_nothing_changed_writes_nothing(world: World) -> None:
    world.cluster.put(relay(), sender())
    await world.settle()
    await world.round()  # the StatefulSet's status was written after our last look
    world.cluster.writes()
    await world.round()
    assert world.cluster.writes() == []


async def test_after_a_restart_the_same_is_applied_and_nothing_is_minted_anew(world: World) -> None:
    world.cluster.put(relay(), sender())
    await world.settle()
    digest = world.kubelet.loaded("out-0").digest
    password = world.cluster.data("mail", "app-smtp")["password"]
    world.restart()
    await world.settle()
    assert world.kubelet.loaded("out-0").digest == digest
    assert world.cluster.data("mail", "app-smtp")["password"] == password


async def test_a_change_reaches_the_gateways_by_a_stamp_and_no_condition_flaps(
    world: World,
) -> None:
    world.cluster.put(relay())
    await world.settle()
    world.cluster.writes()
    world.edit("MailRelay", "out", hostname="other.example.com")
    await world.settle()
    assert world.kubelet.loaded("out-0").relay.hostname == "other.example.com"
    assert ("merge", "Pod", "mail", "out-0") in world.cluster.writes()
    programmed = next(
        one
        for one in world.cluster.objects["MailRelay", "mail", "out"]["status"]["conditions"]
        if one["type"] == "Programmed"
    )
    assert programmed["observedGeneration"] == 2
    assert world.cluster.events().count(("MailRelay", "Ready")) == 1


async def test_a_pod_that_does_not_load_is_stamped_again_and_reported(world: World) -> None:
    world.cluster.put(relay())
    await world.settle()
    world.kubelet.slow.add("out-0")
    world.edit("MailRelay", "out", hostname="other.example.com")
    await world.round()
    world.pass_time(4)
    await world.round()
    assert world.condition("Programmed") == ("Unknown", "ConfigurationPending")
    world.pass_time(2)
    await world.round()
    assert world.condition("Programmed") == ("False", "ConfigurationPending")
    world.cluster.writes()
    world.pass_time(2)
    await world.round()
    assert ("merge", "Pod", "mail", "out-0") in world.cluster.writes()
    world.kubelet.slow.clear()
    world.pass_time(2)
    await world.settle()
    assert world.condition("Ready") == ("True", "Ready")


async def test_a_gateway_that_does_not_answer_makes_programmed_unknown(world: World) -> None:
    world.cluster.put(relay())
    await world.settle()
    world.kubelet.silent.add("out-0")
    await world.round()
    assert world.condition("Programmed") == ("Unknown", "GatewayUnreachable")
    assert world.condition("Ready") == ("Unknown", "GatewayUnreachable")


async def test_a_gateway_that_refuses_the_configuration_says_why(world: World) -> None:
    world.cluster.put(relay())
    await world.settle()
    world.kubelet.slow.add("out-0")
    world.kubelet.problem = "relay: has schema 2, and this gateway reads up to 1"
    world.edit("MailRelay", "out", hostname="other.example.com")
    await world.round()
    await world.round()
    assert world.condition("Programmed") == ("False", "ConfigurationRefused")


async def test_what_upstreams_say_is_a_condition_and_never_takes_part_in_ready(
    world: World,
) -> None:
    world.cluster.put(relay())
    await world.settle()
    assert world.condition("UpstreamReachable") == ("Unknown", "NotTried")
    world.kubelet.upstreams = (
        UpstreamStatus(
            name="box",
            state=UpstreamState.HELD,
            reason="UpstreamAuthFailed",
            message="535 5.7.8 no",
        ),
    )
    await world.round()
    assert world.condition("UpstreamReachable") == ("False", "UpstreamAuthFailed")
    assert world.condition("Ready") == ("True", "Ready")
    world.kubelet.upstreams = (UpstreamStatus(name="box", state=UpstreamState.UP),)
    await world.round()
    assert world.condition("UpstreamReachable") == ("True", "Reachable")


async def test_queue_numbers_are_written_at_most_once_a_minute(world: World) -> None:
    world.cluster.put(relay())
    await world.settle()

    def messages() -> int:
        return int(world.cluster.objects["MailRelay", "mail", "out"]["status"]["queue"]["messages"])

    world.kubelet.queue = world.kubelet.queue.model_copy(update={"messages": 5})
    world.pass_time(61)
    await world.round()
    assert messages() == 5
    world.kubelet.queue = world.kubelet.queue.model_copy(update={"messages": 6})
    world.pass_time(30)
    await world.round()
    assert messages() == 5
    world.pass_time(31)
    await world.round()
    assert messages() == 6


async def test_fewer_replicas_are_refused_and_nothing_shrinks(world: World) -> None:
    world.cluster.put(relay(replicas=3))
    await world.settle()
    world.edit("MailRelay", "out", replicas=1)
    await world.round()
    await world.round()
    assert world.cluster.objects["StatefulSet", "mail", "out"]["spec"]["replicas"] == 3
    assert world.kubelet.loaded("out-0").relay.replicas == 3
    assert world.condition("Programmed") == ("False", "ScaleDownBlocked")
    world.edit("MailRelay", "out", replicas=4)
    await world.settle()
    assert world.condition("Ready") == ("True", "Ready")
    assert world.kubelet.loaded("out-3").relay.replicas == 4


async def test_a_refused_spec_changes_nothing_that_runs(world: World) -> None:
    world.cluster.put(relay())
    await world.settle()
    digest = world.kubelet.loaded("out-0").digest
    world.edit(
        "MailRelay",
        "out",
        hostname="new.example.com",
        webhooks=[{"name": "hook", "url": "https://example.com/"}],
    )
    await world.settle()
    assert world.condition("Accepted") == ("False", "Unsupported")
    assert world.condition("Programmed") == ("True", "Programmed")
    assert world.condition("Ready") == ("False", "Unsupported")
    assert world.kubelet.loaded("out-0").digest == digest
    status = world.cluster.objects["MailRelay", "mail", "out"]["status"]
    assert {one["observedGeneration"] for one in status["conditions"] if one["reason"]} == {2}
    assert (status["observedGeneration"], status["generationInForce"]) == (2, 1)


async def test_a_refused_spec_changes_nothing_even_after_a_restart(world: World) -> None:
    world.cluster.put(relay())
    await world.settle()
    digest = world.kubelet.loaded("out-0").digest
    world.edit("MailRelay", "out", replicas=0)
    world.restart()
    world.cluster.drop("StatefulSet", "mail", "out")
    await world.settle()
    assert world.condition("Accepted") == ("False", "Invalid")
    assert world.cluster.objects["StatefulSet", "mail", "out"]["spec"]["replicas"] == 1
    assert world.kubelet.loaded("out-0").digest == digest


async def test_a_secret_that_is_deleted_stops_nothing_that_runs(world: World) -> None:
    smarthost = {
        "hosts": [{"host": "smtp.example.net"}],
        "auth": {"basic": {"secretRef": {"name": "login"}}},
    }
    world.cluster.put(
        relay(upstreams=[{"name": "up", "smarthost": smarthost}]),
        brought("login", username="u", password="p"),
    )
    await world.settle()
    digest = world.kubelet.loaded("out-0").digest
    world.cluster.drop("Secret", "mail", "login")
    await world.settle()
    assert world.condition("ResolvedRefs") == ("False", "SecretNotFound")
    assert world.kubelet.loaded("out-0").digest == digest
    world.edit("MailRelay", "out", hostname="new.example.com")
    await world.settle()
    login = world.kubelet.loaded("out-0").relay.upstreams[0].smarthost
    assert login is not None and login.login is not None
    assert login.login.password == "p"
    assert world.kubelet.loaded("out-0").relay.hostname == "new.example.com"


async def test_a_relay_whose_login_was_never_found_starts_nothing(world: World) -> None:
    smarthost = {
        "hosts": [{"host": "smtp.example.net"}],
        "auth": {"basic": {"secretRef": {"name": "login"}}},
    }
    world.cluster.put(relay(upstreams=[{"name": "up", "smarthost": smarthost}]))
    await world.settle()
    assert world.condition("Accepted") == ("True", "Accepted")
    assert world.condition("ResolvedRefs") == ("False", "SecretNotFound")
    assert world.condition("Programmed") == ("False", "ConfigurationPending")
    assert world.cluster.find("StatefulSet", "mail", "out") is None


async def test_a_changed_login_reaches_the_gateways(world: World) -> None:
    smarthost = {
        "hosts": [{"host": "smtp.example.net"}],
        "auth": {"basic": {"secretRef": {"name": "login"}}},
    }
    login = brought("login", username="u", password="old")
    world.cluster.put(relay(upstreams=[{"name": "up", "smarthost": smarthost}]), login)
    await world.settle()
    world.cluster.put(brought("login", username="u", password="new\n"))
    await world.settle()
    found = world.kubelet.loaded("out-0").relay.upstreams[0].smarthost
    assert found is not None and found.login is not None
    assert found.login.password == "new"


@pytest.mark.parametrize(
    ("kind", "name"),
    [("StatefulSet", "out"), ("Service", "out"), ("Secret", "out-config"), ("Secret", "out-ca")],
)
async def test_objects_of_others_are_never_taken_over(world: World, kind: str, name: str) -> None:
    theirs = {
        "apiVersion": "v1",
        "kind": kind,
        "metadata": {"name": name, "namespace": "mail"},
        "spec": {"replicas": 7, "theirs": True},
    }
    world.cluster.put(relay(), theirs)
    before = dict(world.cluster.objects[kind, "mail", name])
    await world.round()
    await world.round()
    assert world.condition("Programmed") == ("False", "NotOwned")
    assert world.cluster.objects[kind, "mail", name] == before
    if kind != "StatefulSet":
        assert world.cluster.find("StatefulSet", "mail", "out") is None


async def test_children_whose_owner_was_made_anew_are_adopted(world: World) -> None:
    world.cluster.put(relay(), sender())
    await world.settle()
    password = world.cluster.data("mail", "app-smtp")["password"]
    ca = world.cluster.data("mail", "out-ca")
    for kind, name in (("MailRelay", "out"), ("MailSender", "app")):
        world.cluster.drop(kind, "mail", name)
    world.cluster.put(relay(), sender())  # with new UIDs, as a restore makes them
    world.restart()
    await world.settle()
    new = world.cluster.objects["MailRelay", "mail", "out"]["metadata"]["uid"]
    for kind, name in (("Secret", "out-ca"), ("StatefulSet", "out"), ("Service", "out")):
        owners = world.cluster.objects[kind, "mail", name]["metadata"]["ownerReferences"]
        assert [one["uid"] for one in owners] == [new]
    assert world.cluster.data("mail", "out-ca") == ca
    assert world.cluster.data("mail", "app-smtp")["password"] == password
    assert world.condition("Ready") == ("True", "Ready")


async def test_what_the_api_server_refuses_is_said_and_tried_again(world: World) -> None:
    world.cluster.put(relay())
    world.cluster.refuse("apply", "StatefulSet", Invalid("applying StatefulSet out", "no quota"))
    with pytest.raises(Invalid):
        await world.round()
    assert world.condition("Programmed") == ("False", "ApplyFailed")
    world.cluster.writes()
    with pytest.raises(Invalid):
        await world.round()
    assert ("apply-status", "MailRelay", "mail", "out") not in world.cluster.writes()
    world.cluster.refuse("apply", "StatefulSet", None)
    await world.settle()
    assert world.condition("Ready") == ("True", "Ready")


async def test_a_list_that_failed_is_no_fact(world: World) -> None:
    world.cluster.put(relay(), sender())
    await world.settle()
    world.cluster.writes()
    world.cluster.refuse("list", "MailSender", Unavailable("listing mailsenders", "timeout"))
    with pytest.raises(Unavailable):
        await world.round()
    assert world.cluster.writes() == []
    assert len(world.kubelet.loaded("out-0").senders) == 1


async def test_volumes_grow_and_the_stateful_set_is_replaced_around_its_pods(world: World) -> None:
    world.cluster.put(relay(queue={"storage": {"size": "1Gi"}}))
    await world.settle()
    claim = {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": "spool-out-0", "namespace": "mail"},
        "spec": {"resources": {"requests": {"storage": "1Gi"}}},
    }
    world.cluster.put(claim)
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


@pytest.mark.parametrize(("verb", "words"), [("get", "no right"), ("merge", "cannot be resized")])
async def test_volumes_that_cannot_grow_are_said_and_everything_else_goes_on(
    world: World, verb: str, words: str
) -> None:
    world.cluster.put(relay(queue={"storage": {"size": "1Gi"}}))
    await world.settle()
    claim = {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": "spool-out-0", "namespace": "mail"},
        "spec": {"resources": {"requests": {"storage": "1Gi"}}},
    }
    world.cluster.put(claim)
    refusal = Forbidden("patching PersistentVolumeClaim spool-out-0", words)
    world.cluster.refuse(verb, "PersistentVolumeClaim", refusal)
    world.cluster.refuse("merge", "PersistentVolumeClaim", refusal)
    queue = {"storage": {"size": "2Gi"}}
    world.edit("MailRelay", "out", queue=queue, hostname="new.example.com")
    world.cluster.put(sender())
    for _ in range(3):
        await world.round()
        world.pass_time(10)
    assert world.condition("Programmed") == ("False", "ApplyFailed")
    assert "orphan" not in {verb for verb, *_ in world.cluster.writes()}
    assert world.kubelet.loaded("out-0").relay.hostname == "new.example.com"
    assert world.cluster.data("mail", "app-smtp")["username"] == "mail.app"


async def test_a_stateful_set_that_is_gone_comes_back_with_all_its_replicas(world: World) -> None:
    world.cluster.put(relay(replicas=3))
    await world.settle()
    world.edit("MailRelay", "out", replicas=1)
    world.cluster.drop("StatefulSet", "mail", "out")
    await world.round()
    assert world.cluster.objects["StatefulSet", "mail", "out"]["spec"]["replicas"] == 3


async def test_a_relay_that_is_gone_leaves_nothing_to_do(world: World) -> None:
    world.cluster.put(relay(), sender())
    await world.settle()
    world.cluster.drop("MailRelay", "mail", "out")
    world.cluster.writes()
    assert await world.round() is None
    assert world.condition("Accepted", "MailSender", "app") == ("False", "RelayNotFound")
    assert world.cluster.writes() == [("apply-status", "MailSender", "mail", "app")]
    assert not world.memory.relays
