"""MailSenders: the handshake, their passwords, their Secrets, and how all of it is taken back."""

from __future__ import annotations

import hashlib

import pytest

from mailrelay_gateway.contract.documents import ScryptVerifier
from mailrelay_gateway.contract.status import SenderFault, UpstreamState
from mailrelay_operator.cluster.port import (
    Forbidden,
)
from mailrelay_operator.engine.minting import mint_authority, mint_leaf
from mailrelay_operator.engine.ringing import relay_key
from mailrelay_operator.engine.scope import Scope
from mailrelay_operator.plan.facts import LeafWanted
from tests.integration.operator.world import (
    SELECTOR,
    TENANTS,
    World,
    brought,
    hashes,
    namespace,
    relay,
    secret,
    sender,
    sha256,
    usernames,
)
from tests.models import made


async def test_a_sender_gets_a_secret_with_all_that_a_client_needs(world: World) -> None:
    world.cluster.put(relay(), sender())
    await world.settle()
    data = world.cluster.data("mail", "app-smtp")
    password = data.pop("password")
    assert len(password) == 43
    assert data.pop("ca.crt") == world.cluster.data("mail", "out-ca")["ca.crt"]
    assert data == {
        "type": "smtp",
        "provider": "mailrelay",
        "host": "out.mail.svc",
        "port": "587",
        "tls": "starttls",
        "username": "mail.app",
        "uri": f"smtp://mail.app:{password}@out.mail.svc:587",
    }
    found = world.cluster.objects["Secret", "mail", "app-smtp"]
    assert found["type"] == "servicebinding.io/smtp"
    (entry,) = world.kubelet.loaded("out-0").senders
    assert entry.verifiers == (made.sha256_verifier(hash=sha256(password)),)
    assert world.condition("Ready", "MailSender", "app") == ("True", "Ready")
    status = world.cluster.objects["MailSender", "mail", "app"]["status"]
    assert status["endpoint"] == {"host": "out.mail.svc", "port": 587, "tls": "StartTLS"}
    assert (status["observedGeneration"], status["generationInForce"]) == (1, 1)
    assert status["username"] == "mail.app"


async def test_the_verifier_comes_first_and_the_secret_second(world: World) -> None:
    world.cluster.put(relay(replicas=2))
    await world.settle()
    world.kubelet.slow.add("out-1")
    world.cluster.put(sender())
    for _ in range(7):
        await world.round()
        world.pass_time(2)
    assert usernames(world) == {"mail.app"}
    assert world.cluster.find("Secret", "mail", "app-smtp") is None
    assert world.condition("Ready", "MailSender", "app") == ("False", "RelayNotProgrammed")
    world.kubelet.slow.clear()
    await world.settle()
    password = world.cluster.data("mail", "app-smtp")["password"]
    for pod in ("out-0", "out-1"):
        (entry,) = world.kubelet.loaded(pod).senders
        assert made.sha256_verifier(hash=sha256(password)) in entry.verifiers


async def test_a_newcomer_of_a_relay_that_starts_is_told_once(world: World) -> None:
    """A platform that is installed whole: a status for each sender of each relay that starts would
    be written for nobody, and delay them all."""
    world.kubelet.slow.add("out-0")
    world.cluster.put(relay(), sender())
    for _ in range(5):
        await world.round()
        world.pass_time(10)
    world.kubelet.slow.clear()
    await world.settle()
    assert world.condition("Ready", "MailSender", "app") == ("True", "Ready")
    assert [one for one in world.cluster.writes() if one[1:] == ("MailSender", "mail", "app")] == [
        ("apply-status", "MailSender", "mail", "app")
    ]


async def test_a_relay_that_does_not_start_is_told_to_its_senders(world: World) -> None:
    world.kubelet.slow.add("out-0")
    world.cluster.put(relay(), sender())
    for _ in range(7):
        await world.round()
        world.pass_time(10)
    assert world.condition("Ready", "MailSender", "app") == ("False", "RelayNotProgrammed")


async def test_an_operator_that_dies_before_the_secret_is_shown_mints_another(world: World) -> None:
    world.cluster.put(relay())
    await world.settle()
    world.kubelet.slow.add("out-0")
    world.cluster.put(sender())
    await world.round()
    world.restart()
    world.kubelet.slow.clear()
    await world.settle()
    password = world.cluster.data("mail", "app-smtp")["password"]
    assert hashes(world)[0] == sha256(password)
    world.pass_time(60)
    await world.settle()
    assert hashes(world) == [sha256(password)]


async def test_what_the_plan_drops_is_gone_from_the_tenants_secret(world: World) -> None:
    world.cluster.put(relay(), sender())
    await world.settle()
    assert "ca.crt" in world.cluster.data("mail", "app-smtp")
    chain = mint_leaf(
        LeafWanted(dns_names=("out.mail.svc",), addresses=()),
        mint_authority("a public CA", now=world.now),
        now=world.now,
    )
    certificate = {"tls.crt": chain.chain, "tls.key": chain.key}
    world.cluster.put(secret("cert", type_="kubernetes.io/tls", **certificate))
    listener = {"name": "submission", "port": 587, "tls": {"certificateRefs": [{"name": "cert"}]}}
    world.edit("MailRelay", "out", listeners=[listener])
    await world.settle()
    data = world.cluster.data("mail", "app-smtp")
    assert "ca.crt" not in data
    assert len(data["password"]) == 43


async def test_a_secret_is_never_there_without_its_contents(world: World) -> None:
    """A pod that starts in that very moment would mount an empty one."""
    seen: list[int] = []
    world.cluster.watchers.append(
        lambda found, _: (
            seen.append(len(found.get("data") or {}))
            if found["metadata"]["name"] == "app-smtp"
            else None
        )
    )
    world.cluster.put(relay(), sender())
    await world.settle()
    assert seen == [9]


async def test_a_secret_that_another_made_meanwhile_is_left_alone(world: World) -> None:
    world.cluster.put(relay())
    await world.settle()
    world.kubelet.slow.add("out-0")
    world.cluster.put(sender())
    await world.round()  # there was none when it was looked for
    world.kubelet.slow.clear()
    world.kubelet.run()
    theirs = secret("app-smtp", type_="servicebinding.io/smtp")
    theirs["data"] = {"password": "bWluZQ=="}
    del theirs["stringData"]
    world.cluster.put(theirs)
    world.doorbell.add(relay_key("mail", "out"))
    await world.work()
    assert world.unfinished  # the API server said so
    await world.settle()
    assert world.cluster.data("mail", "app-smtp") == {"password": "mine"}
    assert world.condition("Accepted", "MailSender", "app") == ("False", "NotOwned")


async def test_a_secret_that_could_not_be_made_is_made_later(world: World) -> None:
    world.cluster.put(relay(), sender())
    world.cluster.refuse("apply", "Secret", Forbidden("applying", "no"), name="app-smtp")
    await world.settle()
    assert world.cluster.find("Secret", "mail", "app-smtp") is None
    assert world.condition("Programmed", "MailSender", "app") == ("False", "ApplyFailed")
    world.restart()
    world.cluster.refuse("apply", "Secret", None, name="app-smtp")
    await world.settle()
    password = world.cluster.data("mail", "app-smtp")["password"]
    assert hashes(world)[0] == sha256(password)
    assert world.condition("Ready", "MailSender", "app") == ("True", "Ready")


async def test_a_secret_that_is_not_ours_is_left_alone(world: World) -> None:
    theirs = secret("app-smtp", type_="Opaque", password="mine")
    world.cluster.put(relay(), sender(), theirs)
    await world.settle()
    assert world.condition("Accepted", "MailSender", "app") == ("False", "NotOwned")
    assert world.cluster.objects["Secret", "mail", "app-smtp"]["stringData"] == {"password": "mine"}
    assert world.condition("Ready") == ("True", "Ready")


async def test_a_password_that_was_edited_is_not_taken_for_one_of_ours(world: World) -> None:
    world.cluster.put(relay(), sender())
    await world.settle()
    password = world.cluster.data("mail", "app-smtp")["password"]
    edited = world.cluster.objects["Secret", "mail", "app-smtp"]
    edited["stringData"] = {"password": "hunter2"}
    world.cluster.put(edited)
    await world.settle()
    assert world.condition("ResolvedRefs", "MailSender", "app") == ("False", "SecretInvalid")
    (entry,) = world.kubelet.loaded("out-0").senders
    assert entry.verifiers == (made.sha256_verifier(hash=sha256(password)),)


async def test_a_namespace_that_is_not_admitted_gets_nothing(world: World) -> None:
    world.cluster.put(relay(), sender(namespace="team"))
    await world.settle()
    assert world.condition("Accepted", "MailSender", "app", "team") == (
        "False",
        "NamespaceNotAllowed",
    )
    assert usernames(world) == set()
    assert world.cluster.find("Secret", "team", "app-smtp") is None


async def test_an_address_too_many_keeps_what_was_in_force(world: World) -> None:
    world.cluster.put(
        relay(allowedSenders=TENANTS), namespace("team", mail="allowed"), sender(namespace="team")
    )
    await world.settle()
    world.edit("MailSender", "app", "team", **{"from": ["ceo@other.example"]})
    await world.settle()
    assert world.condition("Accepted", "MailSender", "app", "team") == (
        "False",
        "AddressNotAllowed",
    )
    (entry,) = world.kubelet.loaded("out-0").senders
    assert entry.addresses == ("*@example.com",)
    # The relay takes the addresses back: then the old spec is not in force either.
    only_news = [{"name": "teams", "namespaces": SELECTOR, "addresses": ["*@news.example.com"]}]
    world.edit("MailRelay", "out", allowedSenders=only_news)
    await world.settle()
    assert usernames(world) == set()


async def test_a_suspended_sender_is_known_but_not_ready(world: World) -> None:
    world.cluster.put(relay(), sender(suspend=True))
    await world.settle()
    (entry,) = world.kubelet.loaded("out-0").senders
    assert entry.suspend
    assert world.condition("Ready", "MailSender", "app") == ("False", "Suspended")


BROUGHT = {"existingSecretRef": {"name": "legacy"}}


async def test_what_receivers_say_of_a_senders_domain_is_its_condition(world: World) -> None:
    world.cluster.put(relay())
    world.cluster.put(sender())
    world.cluster.put(sender("other"))
    await world.settle()
    assert world.condition("Deliverable", "MailSender", "app") == ("True", "Deliverable")
    uid = world.cluster.objects["MailSender", "mail", "app"]["metadata"]["uid"]
    fault = SenderFault(
        uid=uid,
        reason="SenderDomainRejected",
        message="550 5.7.26 unauthenticated (sender app@example.com)",
        since="2026-01-01T00:00:00Z",
    )
    world.kubelet.upstreams = (
        made.upstream_status(name="box", state=UpstreamState.UP, senders=(fault,)),
    )
    world.pass_time(61)
    await world.settle()
    assert world.condition("Deliverable", "MailSender", "app") == ("False", "SenderDomainRejected")
    message = world.cluster.message("MailSender", "mail", "app", "Deliverable")
    assert message == (
        "Refused since 2026-01-01T00:00:00Z: 550 5.7.26 unauthenticated (sender app@example.com)"
    )
    assert world.condition("Ready", "MailSender", "app") == ("True", "Ready")
    assert world.condition("Deliverable", "MailSender", "other") == ("True", "Deliverable")
    world.kubelet.upstreams = (made.upstream_status(name="box", state=UpstreamState.UP),)
    world.pass_time(61)
    await world.settle()
    assert world.condition("Deliverable", "MailSender", "app") == ("True", "Deliverable")


async def test_a_brought_password_becomes_a_scrypt_verifier_that_stays(world: World) -> None:
    login = brought("legacy", username="old-app", password="s3cret")
    world.cluster.put(relay(), sender(credentials=BROUGHT), login)
    await world.settle()
    (entry,) = world.kubelet.loaded("out-0").senders
    assert entry.username == "old-app"
    (verifier,) = entry.verifiers
    assert isinstance(verifier, ScryptVerifier)
    found = hashlib.scrypt(
        b"s3cret",
        salt=bytes.fromhex(verifier.salt),
        n=verifier.n,
        r=verifier.r,
        p=verifier.p,
        maxmem=1 << 28,
        dklen=32,
    )
    assert found.hex() == verifier.hash
    assert world.condition("Ready", "MailSender", "app") == ("True", "Ready")
    world.restart()
    await world.settle()
    assert world.kubelet.loaded("out-0").senders == (entry,)
    login["stringData"]["password"] = "changed"
    world.cluster.put(login)
    await world.settle()
    (changed,) = world.kubelet.loaded("out-0").senders
    assert changed.verifiers != entry.verifiers
    world.cluster.drop("Secret", "mail", "legacy")
    await world.settle()
    assert usernames(world) == set()
    assert world.condition("ResolvedRefs", "MailSender", "app") == ("False", "SecretNotFound")


async def test_a_brought_login_needs_a_mark(world: World) -> None:
    login = secret("legacy", type_="Opaque", username="old-app", password="s3cret")
    world.cluster.put(relay(), sender(credentials=BROUGHT), login)
    await world.settle()
    assert world.condition("ResolvedRefs", "MailSender", "app") == ("False", "SecretNotPermitted")
    login["metadata"]["labels"] = {"mailrelay.dev/credentials": "true"}
    world.cluster.put(login)
    await world.settle()
    assert usernames(world) == {"old-app"}


async def test_of_two_equal_usernames_the_older_sender_keeps_it(world: World) -> None:
    older = sender("older", credentials=BROUGHT)
    older["metadata"]["creationTimestamp"] = "2025-01-01T00:00:00Z"
    login = brought("legacy", username="shared", password="one")
    world.cluster.put(relay(), sender("newer", credentials=BROUGHT), older, login)
    await world.settle()
    (entry,) = world.kubelet.loaded("out-0").senders
    assert entry.name == "older"
    assert world.condition("Accepted", "MailSender", "newer") == ("False", "UsernameTaken")


async def test_a_brought_username_never_takes_a_minted_one(world: World) -> None:
    thief = sender("thief", credentials=BROUGHT)
    thief["metadata"]["creationTimestamp"] = "2025-01-01T00:00:00Z"
    login = brought("legacy", username="mail.app", password="one")
    world.cluster.put(relay(), sender(), thief, login)
    await world.settle()
    (entry,) = world.kubelet.loaded("out-0").senders
    assert entry.name == "app"
    assert world.condition("Accepted", "MailSender", "thief") == ("False", "UsernameTaken")


async def test_a_sender_of_no_relay_is_told_so(world: World) -> None:
    world.cluster.put(sender())
    await world.settle()
    assert world.condition("Accepted", "MailSender", "app") == ("False", "RelayNotFound")


async def test_one_senders_change_is_no_news_to_another(world: World) -> None:
    world.cluster.put(relay(), sender("one"))
    await world.settle()
    world.cluster.put(sender("two"))
    world.cluster.writes()
    await world.settle()
    assert ("apply-status", "MailSender", "mail", "one") not in world.cluster.writes()


async def test_a_new_port_is_written_into_the_secret_and_the_password_stays(world: World) -> None:
    world.cluster.put(relay(), sender())
    await world.settle()
    before = world.cluster.data("mail", "app-smtp")
    world.edit(
        "MailRelay", "out", listeners=[{"name": "tls", "port": 465, "tls": {"mode": "Implicit"}}]
    )
    await world.settle()
    after = world.cluster.data("mail", "app-smtp")
    assert after["password"] == before["password"]
    assert (after["port"], after["tls"]) == ("465", "implicit")
    assert after["uri"].startswith("smtps://mail.app:")


@pytest.mark.parametrize("namespaces", [("mail", "team"), ("mail",)])
async def test_an_operator_of_some_namespaces_serves_those(namespaces: tuple[str, ...]) -> None:
    world = World(Scope(namespaces=namespaces))
    world.cluster.put(
        relay(allowedSenders=TENANTS), namespace("team", mail="allowed"), sender(namespace="team")
    )
    await world.settle()
    expected = {"team.app"} if "team" in namespaces else set()
    assert usernames(world) == expected
