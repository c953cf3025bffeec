"""One tenant's trouble is that tenant's: it is said on its own status, it backs off, and nobody
else waits for it."""

from __future__ import annotations

from typing import Any

import pytest

from mailrelay_operator.cluster.port import (
    ClusterError,
    Conflict,
    Forbidden,
    Invalid,
    Unavailable,
)
from mailrelay_operator.engine.minting import mint_authority, mint_leaf
from mailrelay_operator.engine.scope import Scope
from mailrelay_operator.plan.facts import LeafWanted
from tests.integration.operator.world import (
    SELECTOR,
    World,
    namespace,
    relay,
    secret,
    sender,
    usernames,
)

REFUSALS = [
    Forbidden("applying Secret three-smtp", "exceeded quota: secrets=10"),
    Forbidden("applying Secret three-smtp", "namespace team is being terminated"),
    Invalid("applying Secret three-smtp", "denied by policy"),
    Unavailable("applying Secret three-smtp", 'failed calling webhook "x"', answered=True),
]


@pytest.mark.parametrize("error", REFUSALS)
async def test_a_tenant_whose_secret_is_refused_holds_up_nobody(
    world: World, error: ClusterError
) -> None:
    world.cluster.put(relay(), sender("one"), sender("two"))
    await world.settle()
    world.cluster.put(sender("three"), sender("four"))
    world.cluster.refuse("apply", "Secret", error, name="three-smtp")
    await world.settle()
    assert usernames(world) == {"mail.one", "mail.two", "mail.three", "mail.four"}
    for name in ("one", "two", "four"):
        assert world.condition("Ready", "MailSender", name) == ("True", "Ready")
    assert world.condition("Programmed", "MailSender", "three") == ("False", "ApplyFailed")
    assert error.detail in world.cluster.message("MailSender", "mail", "three", "Programmed")
    assert ("MailSender", "ApplyFailed") in world.cluster.events()
    tried = len(world.unfinished)
    world.pass_time(300)
    await world.work()
    assert len(world.unfinished) == tried + 1  # it backs off, and nobody's round is repeated
    world.cluster.refuse("apply", "Secret", None, name="three-smtp")
    world.pass_time(120)
    await world.settle()
    assert world.condition("Ready", "MailSender", "three") == ("True", "Ready")


async def test_conflicts_on_one_tenants_secret_end(world: World) -> None:
    world.cluster.put(relay(), sender("one"), sender("two"))
    world.cluster.refuse("apply", "Secret", Conflict("applying", "changed"), name="one-smtp")
    await world.settle()
    assert world.condition("Ready", "MailSender", "two") == ("True", "Ready")
    before = len(world.unfinished)
    world.pass_time(3600)
    await world.work()
    assert len(world.unfinished) - before <= 2


async def test_an_immutable_secret_is_said_in_the_api_servers_words(world: World) -> None:
    world.cluster.put(relay(), sender())
    await world.settle()
    frozen = world.cluster.objects["Secret", "mail", "app-smtp"]
    world.cluster.put(frozen | {"immutable": True})
    world.edit("MailRelay", "out", listeners=[{"name": "tls", "port": 465}])
    await world.settle()
    assert world.condition("Programmed", "MailSender", "app") == ("False", "ApplyFailed")
    message = world.cluster.message("MailSender", "mail", "app", "Programmed")
    assert "immutable" in message


@pytest.mark.parametrize("spec", [{"port": 2525, "tls": {"mode": "None"}}, {}])
async def test_a_sender_that_cannot_connect_is_no_reason_to_look_again(
    world: World, spec: dict[str, Any]
) -> None:
    if not spec:  # a certificate without the Service's name
        chain = mint_leaf(
            LeafWanted(dns_names=("other.example",), addresses=()),
            mint_authority("somebody", now=world.now),
            now=world.now,
        )
        certificate = {"tls.crt": chain.chain, "tls.key": chain.key}
        world.cluster.put(secret("cert", type_="kubernetes.io/tls", **certificate))
        spec = {"port": 587, "tls": {"certificateRefs": [{"name": "cert"}]}}
    else:
        spec["authentication"] = {"mode": "None", "clientCIDRs": ["10.0.0.0/8"]}
    world.cluster.put(relay(listeners=[{"name": "only", **spec}]), sender())
    await world.settle()
    world.pass_time(11)  # a newcomer is looked at once more, to say why it is not ready
    await world.settle()
    rounds = len(world.rounds)
    world.pass_time(3600)
    await world.work()
    assert [key.kind for key in world.rounds[rounds:]] == ["MailRelay"]  # for its queue's numbers
    found = world.condition("ResolvedRefs", "MailSender", "app")
    assert found[1] in ("NoLoginListener", "CertificateNameMismatch")


async def test_newcomers_get_their_secret_although_something_changes_all_the_time(
    world: World,
) -> None:
    world.cluster.put(relay())
    await world.settle()
    for number in range(12):
        world.cluster.put(sender(f"preview-{number}"))
        world.pass_time(2)
        await world.work()  # the kubelet is always one change behind
        world.kubelet.run()
    assert world.cluster.find("Secret", "mail", "preview-3-smtp") is not None


async def test_a_relay_outside_the_watched_namespaces_is_said(world: World) -> None:
    world = World(Scope(namespaces=("team",)))
    world.cluster.put(sender(namespace="team"))
    await world.settle()
    assert world.condition("Accepted", "MailSender", "app", "team") == ("False", "RelayNotWatched")
    assert world.unfinished == []


#: Tenants in trouble, each in its own namespace, and two that are not.
TROUBLED = ("loop", "quota", "webhook", "noise")


def troubled() -> World:
    """A relay with senders of everybody, all ready."""
    world = World()
    everybody = {"name": "all", "namespaces": {"from": "All"}, "addresses": ["*"]}
    selecting = {"name": "some", "namespaces": SELECTOR, "addresses": ["*"]}
    world.cluster.put(
        relay(allowedSenders=[everybody, selecting]),
        *(namespace(one) for one in TROUBLED),
        *(sender(f"{one}-{n}", one) for one in TROUBLED for n in range(3)),
        *(sender(f"quiet-{n}") for n in range(2)),
    )
    return world


def disturb(world: World, step: int) -> None:
    """What the four do at every moment."""
    for n in range(3):
        if world.cluster.find("Secret", "loop", f"loop-{n}-smtp") is not None:
            world.cluster.drop("Secret", "loop", f"loop-{n}-smtp")
        for one, why in (("quota", "exceeded quota"), ("webhook", 'failed calling webhook "x"')):
            error = Unavailable("applying", why, answered=True)
            world.cluster.refuse("apply", "Secret", error, name=f"{one}-{n}-smtp")
            if step % 20 == 0:
                world.edit("MailSender", f"{one}-{n}", one, **{"from": [f"{step}@example.com"]})
    noisy = world.cluster.find("Namespace", "", "noise")
    assert noisy is not None
    noisy["metadata"]["annotations"] = {"example.com/noise": str(step)}
    world.cluster.put(noisy)


async def changes(world: World, *, disturbed: bool) -> list[float]:
    """Seconds of the world from each of some changes of a quiet tenant to its status."""
    took: list[float] = []
    for number in range(10):
        began, step = world.seconds, 0
        world.edit("MailSender", "quiet-0", "mail", **{"from": [f"{number}@example.com"]})
        wanted = world.cluster.objects["MailSender", "mail", "quiet-0"]["metadata"]["generation"]
        while True:
            if disturbed:
                disturb(world, 100 * number + step)
            await world.look()
            await world.work()
            world.kubelet.run()
            status = world.cluster.objects["MailSender", "mail", "quiet-0"]["status"]
            if status.get("generationInForce") == wanted and status["observedGeneration"] == wanted:
                break
            world.pass_time(0.25)
            step += 1
            assert step < 100
        took.append(world.seconds - began)
    return took


async def test_four_tenants_in_trouble_make_nobody_wait() -> None:
    """Not once more than twice as long as without them, by the clock of the backlogs."""
    world = troubled()
    await world.settle()
    alone = await changes(world, disturbed=False)
    rounds = len(world.rounds)
    beside = await changes(world, disturbed=True)
    assert max(beside) <= 2 * max(alone)
    quiet = [key for key in world.rounds[rounds:] if key.name == "quiet-1"]
    assert len(quiet) <= 10  # at most once for each change of the relay that is its own
    assert world.condition("Ready", "MailSender", "quiet-1") == ("True", "Ready")
    for key, _ in world.unfinished:
        assert key.namespace in TROUBLED


async def test_the_last_of_many_changes_is_told_as_soon_as_any(world: World) -> None:
    """Gateways are asked often after each change, however long there have been others."""
    world.cluster.put(relay(), sender())
    await world.settle()
    for number in range(120):
        world.edit("MailSender", "app", "mail", **{"from": [f"{number}@example.com"]})
        await world.work()
        world.kubelet.run()
        world.pass_time(0.5)
    world.edit("MailSender", "app", "mail", **{"from": ["last@example.com"]})
    edited = world.seconds
    while world.condition("Ready", "MailSender", "app") != ("True", "Ready") or (
        world.cluster.objects["MailSender", "mail", "app"]["status"]["observedGeneration"] != 122
    ):
        await world.work()
        world.kubelet.run()
        world.pass_time(0.25)
        assert world.seconds - edited <= 5.0
