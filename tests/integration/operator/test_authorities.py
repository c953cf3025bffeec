"""Certificates and the CAs that tenants verify them with: what cannot be read is said, and nothing
is lost."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from datetime import timedelta

import pytest
from cryptography.exceptions import InvalidSignature

from mailrelay_operator.cluster.port import Forbidden, Unavailable
from mailrelay_operator.engine.minting import mint_authority, mint_leaf
from mailrelay_operator.engine.ringing import relay_key
from mailrelay_operator.plan.certificates import AUTHORITY_LIFE, parse_chain
from mailrelay_operator.plan.facts import LeafWanted
from mailrelay_operator.plan.objects import encoded
from mailrelay_operator.plan.succession import (
    NEXT_MINTED,
    OVERLAP,
    Authorities,
    read_authorities,
    write_authorities,
)
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


# --- a new CA beside the old one

DAY = timedelta(days=1)


def ages(world: World, days_left: int) -> None:
    """As if the CA had been generated long ago: so many days of it are left."""
    found = world.cluster.objects["Secret", "mail", "out-ca"]
    long_ago = world.now + days_left * DAY - AUTHORITY_LIFE
    old = Authorities(current=mint_authority("mail/out", now=long_ago))
    world.cluster.put(found | {"data": encoded(write_authorities(old))})


def ca_of(world: World, secret_name: str = "app-smtp") -> str:
    return world.cluster.data("mail", secret_name)["ca.crt"]


def stored(world: World) -> Authorities:
    data = world.cluster.data("mail", "out-ca")
    found = read_authorities({key: value.encode() for key, value in data.items()})
    assert found is not None
    return found


def issued_by(world: World, bundle: str) -> int | None:
    """Which CA of a bundle issued what the gateway serves to tenants and at its admin port."""
    document = world.kubelet.loaded("out-0").relay
    (served,) = document.listeners[0].tls.certificates
    assert document.admin_certificate == served
    for number, one in enumerate(parse_chain(bundle)):
        try:
            parse_chain(served.chain)[0].verify_directly_issued_by(one)
        except (ValueError, InvalidSignature):
            continue
        return number
    return None


async def a_day(world: World, days: float = 1) -> None:
    world.pass_time(days * 86400)
    await world.settle()
    world.pass_time(120)
    await world.settle()


async def test_a_new_ca_is_in_every_ca_crt_for_30_days_before_it_issues(world: World) -> None:
    world.cluster.put(relay(), sender(), sender("other"))
    await world.settle()
    ages(world, NEXT_MINTED.days + 2)
    await a_day(world)
    alone = ca_of(world)
    assert len(parse_chain(alone)) == 1
    for _ in range(4):
        await a_day(world)
    both = ca_of(world)
    began = stored(world).spread
    assert began is not None
    assert ca_of(world, "other-smtp") == ca_of(world, "out-ca") == both
    assert world.memory.relays[relay_key("mail", "out")].trust == both  # for Prometheus
    assert issued_by(world, alone) == 0
    before = Counter(world.cluster.events())
    while issued_by(world, alone) == 0:
        assert world.condition("Ready") == ("True", "Ready")
        assert world.now - began < OVERLAP
        assert ca_of(world) == both
        await a_day(world)
    assert world.now - began >= OVERLAP
    assert issued_by(world, both) == 1  # clients that loaded both verify it
    said = Counter(world.cluster.events()) - before
    assert said == {("MailRelay", "AuthorityReplaced"): 1}
    assert set(parse_chain(ca_of(world))) == set(parse_chain(both))  # until the old one ends
    assert issued_by(world, ca_of(world)) == 0
    await a_day(world, NEXT_MINTED.days)
    assert len(parse_chain(ca_of(world))) == 1
    assert world.condition("Ready") == ("True", "Ready")


async def test_the_days_of_a_new_ca_count_from_the_last_ca_crt(world: World) -> None:
    world.cluster.put(relay(), sender(), sender("slow"))
    await world.settle()
    ages(world, NEXT_MINTED.days - 1)
    error = Unavailable("applying", 'failed calling webhook "x"', answered=True)
    world.cluster.refuse("apply", "Secret", error, name="slow-smtp")
    for _ in range(3):
        await a_day(world)
    assert len(parse_chain(ca_of(world))) == 2
    assert len(parse_chain(ca_of(world, "slow-smtp"))) == 1
    assert stored(world).next is not None
    assert stored(world).spread is None
    world.cluster.refuse("apply", "Secret", None, name="slow-smtp")
    await a_day(world)
    await a_day(world)
    assert ca_of(world, "slow-smtp") == ca_of(world)
    assert stored(world).spread is not None


async def test_one_tenant_keeps_the_others_on_an_old_ca_for_a_week_only(world: World) -> None:
    world.cluster.put(relay(), sender(), sender("stuck"))
    await world.settle()
    ages(world, NEXT_MINTED.days - 1)
    error = Unavailable("applying", 'failed calling webhook "x"', answered=True)
    world.cluster.refuse("apply", "Secret", error, name="stuck-smtp")
    for _ in range(10):
        await a_day(world)
    assert stored(world).spread is not None


async def test_an_operator_that_restarts_does_not_begin_the_30_days_again(world: World) -> None:
    world.cluster.put(relay(), sender())
    await world.settle()
    ages(world, NEXT_MINTED.days - 1)
    for _ in range(3):
        await a_day(world)
    since = stored(world).spread
    assert since is not None
    world.restart()
    await a_day(world)
    assert stored(world).spread == since


@pytest.mark.parametrize("known_for", [None, 10])
async def test_a_ca_that_has_really_expired_is_replaced_at_once_and_said(
    world: World, known_for: int | None
) -> None:
    world.cluster.put(relay(), sender())
    await world.settle()
    ages(world, known_for or 0)
    if known_for is not None:  # the operator was away until ten days before the end
        for _ in range(2):
            await a_day(world)
        assert len(parse_chain(ca_of(world))) == 2
        await a_day(world, known_for)
    else:
        await world.settle()
    assert ("MailRelay", "AuthorityReplaced") in world.cluster.events()
    assert len(parse_chain(ca_of(world))) == 1
    assert issued_by(world, ca_of(world)) == 0
    assert world.condition("Ready") == ("True", "Ready")
    assert world.condition("Ready", "MailSender", "app") == ("True", "Ready")


async def test_a_deleted_ca_is_trusted_no_longer_and_said(world: World) -> None:
    world.cluster.put(relay(), sender())
    await world.settle()
    assert ("MailRelay", "AuthorityReplaced") not in world.cluster.events()
    before = ca_of(world)
    world.cluster.drop("Secret", "mail", "out-ca")
    await a_day(world)
    assert ("MailRelay", "AuthorityReplaced") in world.cluster.events()
    assert not set(parse_chain(before)) & set(parse_chain(ca_of(world)))
    assert issued_by(world, ca_of(world)) == 0


async def test_no_client_learns_a_ca_that_could_not_be_stored(world: World) -> None:
    world.cluster.put(relay(), sender())
    await world.settle()
    before = ca_of(world)
    ages(world, 0)
    error = Unavailable("applying", "etcd is full", answered=True)
    world.cluster.refuse("apply", "Secret", error, name="out-ca")
    await a_day(world)
    assert ca_of(world) == before
    world.cluster.refuse("apply", "Secret", None, name="out-ca")
    await a_day(world)
    assert ca_of(world) == ca_of(world, "out-ca") != before
    assert issued_by(world, ca_of(world)) == 0


async def test_a_restored_secret_does_not_bring_the_old_ca_back(world: World) -> None:
    """What a backup tool writes belongs to another field manager: an apply that leaves a key out
    does not remove it."""
    world.cluster.put(relay(), sender())
    await world.settle()
    ages(world, NEXT_MINTED.days - 1)
    for _ in range(3):
        await a_day(world)
    found = stored(world)
    assert found.next is not None
    assert found.spread is not None
    since = replace(found, spread=found.spread - OVERLAP)
    secret_ = world.cluster.objects["Secret", "mail", "out-ca"]
    world.cluster.put(secret_ | {"data": encoded(write_authorities(since))})
    for _ in range(3):
        await a_day(world)
        assert stored(world).current == found.next
        assert stored(world).next is None
    assert world.cluster.events().count(("MailRelay", "AuthorityReplaced")) == 1
