"""The CAs of a relay on a real API server: a new one beside one that expires soon, the day on which
it takes over, and one that expired before anybody could learn the next.

Time cannot be let pass here; the Secret is written as time would have left it.
"""

from __future__ import annotations

import base64
import dataclasses
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

from mailrelay_operator.engine.minting import mint_authority
from mailrelay_operator.plan.certificates import AUTHORITY_LIFE, parse_chain
from mailrelay_operator.plan.succession import (
    OVERLAP,
    Authorities,
    read_authorities,
    write_authorities,
)
from tests.e2e.conftest import Release, await_binding
from tests.e2e.kubectl import Kubectl, Manifest, condition, eventually
from tests.e2e.mail import Binding, Client
from tests.e2e.manifests import RELAYS, SENDERS, namespace, relay, sender

WHERE = f"e2e-authorities-{uuid.uuid4().hex[:8]}"
NAME = "aging"
#: A change inside a Secret is seen within 10 s, a next CA is in use one look later (60 s).
SEEN = 120.0


@pytest.fixture(scope="module")
def aging(kubectl: Kubectl, release: Release) -> Iterator[Manifest]:
    """A relay of its own with a MailSender, both ready."""
    made = relay(NAME, WHERE, host="sink.invalid", queue={"ephemeral": {}})
    made["spec"]["allowedSenders"] = [{"name": "own", "namespaces": {"from": "Same"}}]
    kubectl.apply(namespace(WHERE))
    kubectl.apply(made, sender("app", WHERE, relay=made))
    kubectl.wait(SENDERS, "app", WHERE, "Ready", 120)
    yield made
    kubectl.run("delete", "namespace", WHERE, "--wait=false")


def stored(kubectl: Kubectl) -> Authorities:
    found = kubectl.get("secret", f"{NAME}-ca", WHERE)
    assert found is not None
    read = read_authorities({key: base64.b64decode(one) for key, one in found["data"].items()})
    assert read is not None
    return read


def store(kubectl: Kubectl, authorities: Authorities) -> None:
    plain = {key: one.decode() for key, one in write_authorities(authorities).items()}
    kubectl.patch("secret", f"{NAME}-ca", WHERE, {"stringData": plain})


def old(days_left: int) -> Authorities:
    minted = datetime.now(UTC) + timedelta(days=days_left) - AUTHORITY_LIFE
    return Authorities(current=mint_authority(f"{WHERE}/{NAME}", now=minted))


def bundle(kubectl: Kubectl) -> str:
    return await_binding(kubectl, "app-smtp", WHERE).ca


def trusts(client: Client, binding: Binding, *, ca: str) -> bool:
    """Whether a client with this CA gets through TLS and logs in."""
    return client.login_code(dataclasses.replace(binding, ca=ca)) == 235


def replaced(kubectl: Kubectl) -> list[str]:
    """The types of the Events about it, oldest first."""
    events = kubectl.items("events", WHERE)
    return [one["type"] for one in events if one["reason"] == "AuthorityReplaced"]


def test_a_new_ca_stands_beside_one_that_expires_and_takes_over_after_30_days(
    kubectl: Kubectl, aging: Manifest, client: Client
) -> None:
    expiring = old(days_left=100)
    store(kubectl, expiring)
    eventually(
        lambda: (
            bundle(kubectl).startswith(expiring.bundle) and len(parse_chain(bundle(kubectl))) == 2
        ),
        deadline=SEEN,
        what="the next CA is in the tenant's ca.crt, after the one that issues",
    )
    both = await_binding(kubectl, "app-smtp", WHERE)
    eventually(
        lambda: trusts(client, both, ca=expiring.bundle),
        deadline=30,
        what="the old CA still issues",
    )
    assert trusts(client, both, ca=both.ca)
    eventually(lambda: stored(kubectl).spread, deadline=SEEN, what="the 30 days have begun")
    assert stored(kubectl).bundle == both.ca

    found = stored(kubectl)
    assert found.next is not None
    assert found.spread is not None
    store(kubectl, dataclasses.replace(found, spread=found.spread - OVERLAP))
    following = Authorities(current=found.next)
    eventually(
        lambda: trusts(client, both, ca=following.bundle),
        deadline=SEEN,
        what="the new CA issues",
    )
    assert trusts(client, both, ca=both.ca)
    eventually(
        lambda: (
            stored(kubectl)
            == dataclasses.replace(following, previous=(expiring.current.certificate,))
        ),
        deadline=30,
        what="the old CA is only trusted",
    )
    eventually(lambda: replaced(kubectl) == ["Normal"], deadline=30, what="an Event says so")
    # The operator asks the pods by it, and the kubelet's probes go on.
    assert condition(kubectl.get(RELAYS, NAME, WHERE), "Ready")["status"] == "True"
    pods = kubectl.items("pods", WHERE)
    assert [one["status"]["containerStatuses"][0]["restartCount"] for one in pods] == [0]


def test_a_ca_that_has_expired_is_replaced_at_once_and_said(
    kubectl: Kubectl, aging: Manifest, client: Client
) -> None:
    before = replaced(kubectl)
    expired = old(days_left=-1)
    store(kubectl, expired)
    eventually(
        lambda: stored(kubectl).current != expired.current,
        deadline=SEEN,
        what="a CA in its place",
    )
    fresh = stored(kubectl)
    eventually(lambda: bundle(kubectl) == fresh.bundle, deadline=30, what="the tenant has it")
    binding = await_binding(kubectl, "app-smtp", WHERE)
    eventually(lambda: trusts(client, binding, ca=fresh.bundle), deadline=30, what="it issues")
    eventually(
        lambda: replaced(kubectl).count("Warning") > before.count("Warning"),
        deadline=30,
        what="a warning says that clients must load it again",
    )
