"""A MailRelay from creation to deletion, on a cluster in memory."""

from __future__ import annotations

import pytest

from mailrelay_gateway.contract.documents import Login, Smarthost
from mailrelay_gateway.contract.status import UpstreamState
from mailrelay_operator.cluster.port import Invalid, Unavailable
from mailrelay_operator.plan.certificates import carries
from tests.integration.operator.world import World, brought, relay, sender
from tests.models import made


def smarthost_login(world: World) -> Login:
    """What the gateway logs in with at its one upstream."""
    (upstream,) = world.kubelet.loaded("out-0").relay.upstreams
    assert isinstance(upstream.settings, Smarthost)
    assert isinstance(upstream.settings.auth, Login)
    return upstream.settings.auth


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


async def test_a_restart_writes_nothing_and_mints_nothing(world: World) -> None:
    world.cluster.put(relay(), sender(), sender("other"), sender("gone"))
    await world.settle()
    world.cluster.drop("MailSender", "mail", "gone")  # its share is empty now
    await world.settle()
    world.cluster.writes()
    world.restart()
    await world.settle()
    assert world.cluster.writes() == []


async def test_at_rest_nothing_is_read_but_versions(world: World) -> None:
    world.cluster.put(relay(), sender(), sender("other"))
    await world.settle()
    world.cluster.calls.clear()
    for _ in range(3):
        world.pass_time(60)
        await world.work()
    assert not world.cluster.calls


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
    world.kubelet.problem = "relay: has schema 2, but this gateway reads only up to 1"
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
        made.upstream_status(
            name="box",
            state=UpstreamState.HELD,
            reason="UpstreamAuthFailed",
            message="535 5.7.8 no",
        ),
    )
    await world.round()
    assert world.condition("UpstreamReachable") == ("False", "UpstreamAuthFailed")
    assert world.condition("Ready") == ("True", "Ready")
    world.kubelet.upstreams = (made.upstream_status(name="box", state=UpstreamState.UP),)
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
    assert smarthost_login(world).password == "p"
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


async def test_an_upstream_that_is_not_resolved_keeps_nothing_else_out(world: World) -> None:
    world.cluster.put(relay())
    await world.settle()
    smarthost = {
        "hosts": [{"host": "smtp.example.net"}],
        "auth": {"basic": {"secretRef": {"name": "login"}}},
    }
    upstreams = [{"name": "up", "smarthost": smarthost}, {"name": "box", "sandbox": {}}]
    world.edit("MailRelay", "out", upstreams=upstreams, hostname="new.example.com")
    await world.settle()
    assert world.condition("ResolvedRefs") == ("False", "SecretNotFound")
    assert world.condition("Ready") == ("False", "SecretNotFound")
    loaded = world.kubelet.loaded("out-0").relay
    assert loaded.hostname == "new.example.com"
    assert [one.name for one in loaded.upstreams] == ["box"]
    world.cluster.put(brought("login", username="u", password="p"))
    await world.settle()
    loaded = world.kubelet.loaded("out-0").relay
    assert [one.name for one in loaded.upstreams] == ["up", "box"]
    assert world.condition("Ready") == ("True", "Ready")


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
    assert smarthost_login(world).password == "new"


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
    await world.settle()
    assert world.condition("Programmed") == ("False", "ApplyFailed")
    assert "no quota" in world.cluster.message("MailRelay", "mail", "out", "Programmed")
    world.cluster.writes()
    world.pass_time(130)
    await world.work()
    assert ("apply-status", "MailRelay", "mail", "out") not in world.cluster.writes()
    world.cluster.refuse("apply", "StatefulSet", None)
    world.pass_time(130)
    await world.settle()
    assert world.condition("Ready") == ("True", "Ready")


async def test_an_api_server_that_is_silent_changes_no_condition(world: World) -> None:
    world.cluster.put(relay())
    await world.settle()
    away = Unavailable("applying Secret out-config", "no answer")
    world.cluster.refuse("apply", "Secret", away)
    world.edit("MailRelay", "out", hostname="new.example.com")
    await world.settle()
    assert world.condition("Ready") == ("True", "Ready")
    world.cluster.refuse("apply", "Secret", None)
    world.pass_time(31)
    await world.settle()
    assert world.kubelet.loaded("out-0").relay.hostname == "new.example.com"


async def test_a_pod_that_nobody_controls_is_none_of_ours(world: World) -> None:
    world.cluster.put(relay())
    await world.settle()
    asked = world.kubelet.asked
    asked.clear()
    labels = world.cluster.objects["Pod", "mail", "out-0"]["metadata"]["labels"]
    for name in ("debug-4999", "out-4999"):
        world.cluster.put(
            {
                "apiVersion": "v1",
                "kind": "Pod",
                "metadata": {"name": name, "namespace": "mail", "labels": labels},
                "status": {"podIP": "10.9.9.9", "conditions": []},
            }
        )
    await world.round()
    assert "10.9.9.9" not in asked
    assert asked
    assert world.cluster.objects["StatefulSet", "mail", "out"]["spec"]["replicas"] == 1


async def test_what_was_in_force_ends_with_the_relay_that_it_belonged_to(world: World) -> None:
    everybody = [{"name": "all", "namespaces": {"from": "All"}, "addresses": ["*"]}]
    world.cluster.put(relay(allowedSenders=everybody), sender(namespace="team"))
    await world.settle()
    assert len(world.kubelet.loaded("out-0").senders) == 1
    world.cluster.drop("MailRelay", "mail", "out")
    world.cluster.put(relay(replicas=0))  # its children are still there
    await world.settle()
    assert world.condition("Accepted") == ("False", "Invalid")
    assert world.condition("Programmed") == ("False", "ConfigurationPending")
    assert world.condition("Accepted", "MailSender", "app", "team") == (
        "False",
        "RelayNotAccepted",
    )


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
    await world.settle()
    assert world.condition("Accepted", "MailSender", "app") == ("False", "RelayNotFound")
    assert world.cluster.writes() == [("apply-status", "MailSender", "mail", "app")]
    world.cluster.drop("MailSender", "mail", "app")
    await world.settle()
    assert not world.memory.relays
    assert not world.memory.senders
    assert len(world.contents) == 0


async def test_the_admin_port_has_a_certificate_of_the_relay_s_ca_whatever_the_listeners_have(
    world: World,
) -> None:
    listener = {
        "name": "open",
        "port": 2525,
        "tls": {"mode": "None"},
        "authentication": {"mode": "None", "clientCIDRs": ["10.0.0.0/8"]},
    }
    world.cluster.put(relay(listeners=[listener]))
    await world.settle()
    assert world.condition("Ready") == ("True", "Ready")
    certificate = world.kubelet.loaded("out-0").relay.admin_certificate
    assert certificate is not None
    assert carries(certificate.chain, "out.mail.svc")
    assert carries(certificate.chain, "mailrelay-gateway")
    stateful_set = world.cluster.find("StatefulSet", "mail", "out")
    assert stateful_set is not None
    (container,) = stateful_set["spec"]["template"]["spec"]["containers"]
    assert "--admin-tls" in container["args"]
    probes = [container[f"{one}Probe"]["httpGet"] for one in ("startup", "liveness", "readiness")]
    assert {probe["scheme"] for probe in probes} == {"HTTPS"}
    # Kept over restarts, until it is due.
    world.restart()
    await world.settle()
    assert world.kubelet.loaded("out-0").relay.admin_certificate == certificate
    world.pass_time(61 * 86400)
    await world.settle()
    renewed = world.kubelet.loaded("out-0").relay.admin_certificate
    assert renewed is not None
    assert renewed != certificate
