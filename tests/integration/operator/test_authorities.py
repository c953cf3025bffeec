"""Certificates and the CAs that tenants verify them with: what cannot be read is said, and nothing
is lost."""

from __future__ import annotations

from mailrelay_operator.cluster.port import Forbidden
from mailrelay_operator.engine.minting import mint_authority, mint_leaf
from mailrelay_operator.plan.facts import LeafWanted
from tests.integration.operator.world import World, relay, secret, sender


async def test_a_ca_that_may_not_be_read_is_never_to_be_deleted(world: World) -> None:
    world.cluster.put(relay(), sender())
    await world.settle()
    ca = world.cluster.data("mail", "out-ca")
    world.cluster.refuse("get", "Secret", Forbidden("reading", "no right"), name="out-ca")
    world.restart()
    await world.settle()
    assert world.condition("Programmed") == ("False", "Forbidden")
    message = world.cluster.message("MailRelay", "mail", "out", "Programmed")
    assert "delete" not in message.lower()
    assert world.cluster.data("mail", "out-ca") == ca
    assert world.cluster.data("mail", "app-smtp")["ca.crt"] == ca["ca.crt"]
    # Taking a right away waits for nothing.
    world.cluster.drop("MailSender", "mail", "app")
    await world.settle()
    assert world.kubelet.loaded("out-0").senders == ()


async def test_a_damaged_ca_is_said_and_left_alone(world: World) -> None:
    world.cluster.put(relay())
    await world.settle()
    damaged = world.cluster.objects["Secret", "mail", "out-ca"]
    damaged["data"] = {"ca.crt": "anVuaw=="}
    world.cluster.put(damaged)
    await world.settle()
    assert world.condition("Programmed") == ("False", "Damaged")
    message = world.cluster.message("MailRelay", "mail", "out", "Programmed")
    assert "delete" not in message.lower()


async def test_a_given_certificate_that_is_gone_for_a_moment_keeps_its_ca(world: World) -> None:
    authority = mint_authority("somebody", now=world.now)
    wanted = LeafWanted(dns_names=("out.mail.svc",), addresses=())
    chain = mint_leaf(wanted, authority, now=world.now)
    noise = "# written by a tool\n" + authority.certificate
    content = {"tls.crt": chain.chain, "tls.key": chain.key, "ca.crt": noise}
    world.cluster.put(secret("cert", type_="kubernetes.io/tls", **content))
    listener = {"name": "submission", "port": 587, "tls": {"certificateRefs": [{"name": "cert"}]}}
    world.cluster.put(relay(listeners=[listener]), sender())
    await world.settle()
    assert world.cluster.data("mail", "app-smtp")["ca.crt"] == authority.certificate
    world.cluster.drop("Secret", "mail", "cert")
    await world.settle()
    assert world.condition("ResolvedRefs") == ("False", "SecretNotFound")
    assert world.cluster.data("mail", "app-smtp")["ca.crt"] == authority.certificate
    world.restart()
    await world.settle()
    assert world.cluster.data("mail", "app-smtp")["ca.crt"] == authority.certificate
