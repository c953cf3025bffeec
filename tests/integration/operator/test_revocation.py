"""What is taken back is taken back: at once, and whatever else is wrong."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from mailrelay_gateway.contract.status import GatewayStatus
from mailrelay_operator.cluster.port import Forbidden, Invalid, Unavailable
from tests.integration.operator.world import (
    TENANTS,
    World,
    hashes,
    namespace,
    relay,
    secret,
    sender,
    sha256,
    usernames,
)


async def test_a_deleted_secret_comes_back_and_the_old_password_ends(world: World) -> None:
    world.cluster.put(relay(), sender())
    await world.settle()
    old = world.cluster.data("mail", "app-smtp")["password"]
    seen_at = world.seconds
    world.cluster.drop("Secret", "mail", "app-smtp")
    world.kubelet.slow.add("out-0")
    await world.round()
    # The new one must be known before it is shown, and the old one is not taken away before.
    assert world.cluster.find("Secret", "mail", "app-smtp") is None
    assert hashes(world) == [sha256(old)]
    world.kubelet.slow.clear()
    await world.settle()
    data = world.cluster.data("mail", "app-smtp")
    assert data["username"] == "mail.app"
    assert data["password"] != old
    assert hashes(world) == [sha256(data["password"]), sha256(old)]
    assert ("MailSender", "CredentialRevoked") in world.cluster.events()
    world.pass_time(seen_at + 61 - world.seconds)
    await world.settle()
    assert hashes(world) == [sha256(data["password"])]
    assert world.condition("Ready", "MailSender", "app") == ("True", "Ready")


async def test_a_revoked_password_ends_although_its_secret_cannot_be_written(world: World) -> None:
    world.cluster.put(relay(), sender())
    await world.settle()
    old = world.cluster.data("mail", "app-smtp")["password"]
    world.cluster.drop("Secret", "mail", "app-smtp")
    refusal = Forbidden("applying", "exceeded quota")
    world.cluster.refuse("apply", "Secret", refusal, name="app-smtp")
    await world.round()
    world.pass_time(62)
    await world.settle()
    assert sha256(old) not in hashes(world)


async def test_a_secret_that_was_replaced_by_anothers_ends_the_password_too(world: World) -> None:
    world.cluster.put(relay(), sender())
    await world.settle()
    old = world.cluster.data("mail", "app-smtp")["password"]
    world.cluster.drop("Secret", "mail", "app-smtp")
    world.cluster.put(secret("app-smtp", type_="Opaque", password="mine"))
    await world.round()
    assert hashes(world) == [sha256(old)]
    assert world.condition("Accepted", "MailSender", "app") == ("False", "NotOwned")
    assert ("MailSender", "CredentialRevoked") in world.cluster.events()
    world.restart()  # the end is in the configuration
    world.pass_time(61)
    await world.settle()
    assert usernames(world) == set()
    world.cluster.drop("Secret", "mail", "app-smtp")
    world.pass_time(20)
    await world.settle()
    new = world.cluster.data("mail", "app-smtp")["password"]
    assert new != old
    assert hashes(world) == [sha256(new)]


async def test_an_operator_that_was_restarted_still_ends_the_old_password(world: World) -> None:
    world.cluster.put(relay(), sender())
    await world.settle()
    old = world.cluster.data("mail", "app-smtp")["password"]
    world.cluster.drop("Secret", "mail", "app-smtp")
    await world.settle()
    world.restart()
    await world.settle()
    assert sha256(old) in hashes(world)
    world.pass_time(61)
    await world.settle()
    assert hashes(world) == [sha256(world.cluster.data("mail", "app-smtp")["password"])]


async def test_another_name_for_the_secret_ends_the_old_password_after_a_while(
    world: World,
) -> None:
    world.cluster.put(relay(), sender())
    await world.settle()
    old = world.cluster.data("mail", "app-smtp")["password"]
    world.edit("MailSender", "app", credentials={"secretName": "other"})
    await world.settle()
    new = world.cluster.data("mail", "other")["password"]
    assert hashes(world) == [sha256(new), sha256(old)]
    world.pass_time(61)
    await world.settle()
    assert hashes(world) == [sha256(new), sha256(old)]
    world.pass_time(541)
    await world.settle()
    assert hashes(world) == [sha256(new)]


async def test_the_annotation_ends_all_passwords_at_once(world: World) -> None:
    world.cluster.put(relay(), sender())
    await world.settle()
    old = world.cluster.data("mail", "app-smtp")["password"]
    revoked = sender()
    revoked["metadata"]["annotations"] = {"mailrelay.dev/revoke": "leaked on Monday"}
    world.cluster.put(revoked)
    await world.settle()
    new = world.cluster.data("mail", "app-smtp")["password"]
    assert new != old
    assert hashes(world) == [sha256(new)]
    world.restart()
    await world.settle()
    assert world.cluster.data("mail", "app-smtp")["password"] == new


async def test_a_sender_that_is_made_again_never_gets_the_password_of_the_one_before(
    world: World,
) -> None:
    world.cluster.put(relay(), sender())
    await world.settle()
    old = world.cluster.data("mail", "app-smtp")["password"]
    world.cluster.drop("MailSender", "mail", "app")
    world.cluster.put(sender())  # before the garbage collector has taken the Secret
    await world.settle()
    assert world.condition("Accepted", "MailSender", "app") == ("False", "NotOwned")
    assert usernames(world) == set()
    world.cluster.drop("Secret", "mail", "app-smtp")
    await world.settle()
    new = world.cluster.data("mail", "app-smtp")["password"]
    assert new != old
    assert hashes(world) == [sha256(new)]
    assert world.condition("Ready", "MailSender", "app") == ("True", "Ready")


async def test_losing_the_label_revokes_the_credential(world: World) -> None:
    world.cluster.put(
        relay(allowedSenders=TENANTS), namespace("team", mail="allowed"), sender(namespace="team")
    )
    await world.settle()
    assert usernames(world) == {"team.app"}
    world.cluster.put(namespace("team"))
    await world.settle()
    assert usernames(world) == set()
    assert world.condition("Accepted", "MailSender", "app", "team") == (
        "False",
        "NamespaceNotAllowed",
    )


async def test_revocation_acts_while_the_relays_own_spec_is_refused(world: World) -> None:
    world.cluster.put(
        relay(allowedSenders=TENANTS), namespace("team", mail="allowed"), sender(namespace="team")
    )
    await world.settle()
    world.edit("MailRelay", "out", replicas=0)
    world.cluster.put(namespace("team"))
    await world.settle()
    assert world.condition("Accepted") == ("False", "Invalid")
    assert usernames(world) == set()


async def test_narrowing_acts_although_the_same_edit_names_a_missing_secret(world: World) -> None:
    world.cluster.put(
        relay(allowedSenders=TENANTS), namespace("team", mail="allowed"), sender(namespace="team")
    )
    await world.settle()
    smarthost = {
        "hosts": [{"host": "smtp.example.net"}],
        "auth": {"basic": {"secretRef": {"name": "lacking"}}},
    }
    world.edit(
        "MailRelay",
        "out",
        allowedSenders=[{"name": "own", "namespaces": {"from": "Same"}}],
        upstreams=[{"name": "up", "smarthost": smarthost}],
    )
    await world.settle()
    assert world.condition("ResolvedRefs") == ("False", "SecretNotFound")
    assert usernames(world) == set()


async def test_narrowing_acts_although_another_part_of_the_edit_is_refused(world: World) -> None:
    world.cluster.put(
        relay(allowedSenders=TENANTS), namespace("team", mail="allowed"), sender(namespace="team")
    )
    await world.settle()
    world.edit(
        "MailRelay",
        "out",
        allowedSenders=[{"name": "own", "namespaces": {"from": "Same"}}],
        replicas=0,
    )
    await world.settle()
    assert world.condition("Accepted") == ("False", "Invalid")
    assert usernames(world) == set()


async def test_widening_waits_for_the_rest_of_the_edit(world: World) -> None:
    world.cluster.put(relay(), sender(namespace="team"))
    await world.settle()
    everybody = [{"name": "all", "namespaces": {"from": "All"}, "addresses": ["*"]}]
    world.edit("MailRelay", "out", allowedSenders=everybody, replicas=0)
    await world.settle()
    assert usernames(world) == set()


async def test_a_revocation_reaches_the_pods_although_a_service_is_refused(world: World) -> None:
    world.cluster.put(
        relay(allowedSenders=TENANTS), namespace("team", mail="allowed"), sender(namespace="team")
    )
    await world.settle()
    world.cluster.refuse("apply", "Service", Invalid("applying Service out", "bad annotation"))
    world.edit("MailRelay", "out", service={"annotations": {"example.com/x": "y"}})
    await world.work()
    world.cluster.put(namespace("team"))
    await world.work()
    world.kubelet.run()
    assert usernames(world) == set()
    assert world.condition("Programmed") == ("False", "ApplyFailed")


async def test_a_deleted_sender_is_revoked_and_its_share_emptied(world: World) -> None:
    world.cluster.put(relay(), sender())
    await world.settle()
    world.cluster.drop("MailSender", "mail", "app")
    await world.settle()
    assert usernames(world) == set()


async def test_a_revocation_waits_once_for_all_pods_that_do_not_answer(world: World) -> None:
    """Each takes two seconds, and they are asked at the same time."""
    pods = 40
    world.cluster.put(relay(replicas=pods), sender(), sender("gone"))
    await world.settle()
    assert usernames(world) == {"mail.app", "mail.gone"}
    asked: set[str] = set()
    together = asyncio.Event()

    class Unreachable:
        async def status(
            self, address: str, token: str, *, authority: str, name: str
        ) -> GatewayStatus:
            asked.add(address)
            if len(asked) == pods:
                together.set()
            await together.wait()
            raise Unavailable(f"asking {address}", "no answer within 2 s")

    reconciler = world.reconciler
    reconciler._reader = replace(reconciler._reader, gateways=Unreachable())
    world.cluster.drop("MailSender", "mail", "gone")
    async with asyncio.timeout(60):
        await world.round()
    assert usernames(world) == {"mail.app"}
