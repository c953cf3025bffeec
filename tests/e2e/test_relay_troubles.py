"""What goes wrong with one relay: rights are taken away all the same, nobody loses what works, and
nothing is repeated without end.

On a real API server, whose quotas, garbage collector and field managers no fake knows for sure.
"""

from __future__ import annotations

import datetime as dt
import re
import time
import uuid
from collections.abc import Iterator
from typing import Any

import pytest

from tests.e2e.conftest import OPERATOR_NAMESPACE, Release, await_binding
from tests.e2e.kubectl import Kubectl, Manifest, condition, eventually
from tests.e2e.mail import Client
from tests.e2e.manifests import RELAYS, SENDERS, namespace, relay, sender
from tests.peers.certificates import make

NAME = "troubled"
WHERE = f"e2e-troubles-{uuid.uuid4().hex[:8]}"
OWN = {"name": "own", "namespaces": {"from": "Same"}}
TENANTS = {
    "name": "tenants",
    "namespaces": {"from": "Selector", "selector": {"matchLabels": {"mail": "troubled"}}},
    "addresses": ["*"],
}
#: Ten seconds are promised; the rest is for our own calls of kubectl on a busy machine.
PROMISED = 15.0
#: A MailSender's most: addresses, and octets of each.
MOST_ADDRESSES, LONGEST_ADDRESS = 64, 254
#: As many such MailSenders as the addresses of one namespace may be: 2 MiB (plan/shares.py).
FILLING = 129


@pytest.fixture(scope="module")
def troubled(kubectl: Kubectl, release: Release) -> Iterator[Manifest]:
    """A relay of its own, with a MailSender `app` beside it, both ready."""
    made = relay(NAME, WHERE, host="sink.invalid", queue={"ephemeral": {}})
    made["spec"]["allowedSenders"] = [OWN, TENANTS]
    kubectl.apply(namespace(WHERE))
    kubectl.apply(made, sender("app", WHERE, relay=made))
    kubectl.wait(SENDERS, "app", WHERE, "Ready", 120)
    yield made
    kubectl.run("delete", "namespace", WHERE, "--wait=false")


@pytest.fixture
def tenant(kubectl: Kubectl, troubled: Manifest) -> Iterator[str]:
    """A namespace that the relay admits, and gone afterwards."""
    name = f"e2e-tenant-{uuid.uuid4().hex[:8]}"
    kubectl.apply(namespace(name, mail="troubled"))
    yield name
    kubectl.run("delete", "namespace", name, "--wait=false")


def edit(kubectl: Kubectl, **spec: Any) -> None:
    kubectl.patch(RELAYS, NAME, WHERE, {"spec": spec})


def told(kubectl: Kubectl, kind: str, name: str, type_: str, reason: str) -> str:
    """The message of the condition, once it has this reason."""

    def message() -> str:
        found = condition(kubectl.get(kind, name, WHERE), type_)
        return str(found["message"]) if found.get("reason") == reason else ""

    return eventually(message, deadline=60, what=f"{type_} of {kind} {name} is {reason}")


def given(chain: str, key: str, authority: str) -> Manifest:
    """A certificate's Secret, as cert-manager writes it."""
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "cert", "namespace": WHERE},
        "type": "kubernetes.io/tls",
        "stringData": {"tls.crt": chain, "tls.key": key, "ca.crt": authority},
    }


def rounds(kubectl: Kubectl, release: Release) -> float:
    """How many rounds the operator has done since its start."""
    pod = release.operator_pod()
    assert pod is not None
    name = f"{pod['metadata']['name']}:9090"
    text = kubectl.raw(f"/api/v1/namespaces/{OPERATOR_NAMESPACE}/pods/{name}/proxy/metrics")
    counts = re.findall(r"^mailrelay_reconcile_total\{[^}]*\} ([0-9.e+]+)$", text, re.MULTILINE)
    assert counts
    return sum(float(count) for count in counts)


LISTENER = {"name": "submission", "port": 587, "tls": {"certificateRefs": [{"name": "cert"}]}}
CLEAR = {
    "name": "plain",
    "port": 587,
    "tls": {"mode": "None"},
    "authentication": {"mode": "None", "clientCIDRs": ["10.0.0.0/8"]},
}


def test_a_certificate_that_is_gone_for_a_moment_takes_no_ca_away(
    kubectl: Kubectl, troubled: Manifest
) -> None:
    """People delete its Secret to have it issued again."""
    chain, key = make(names=(f"{NAME}.{WHERE}.svc",), ends=dt.timedelta(days=30))
    kubectl.apply(given(chain, key, chain))
    edit(kubectl, listeners=[LISTENER])
    try:
        eventually(
            lambda: await_binding(kubectl, "app-smtp", WHERE).ca == chain,
            deadline=60,
            what="the given CA is in the tenant's Secret",
        )
        before = await_binding(kubectl, "app-smtp", WHERE)
        kubectl.delete("secret", "cert", WHERE)
        told(kubectl, RELAYS, NAME, "ResolvedRefs", "SecretNotFound")
        # The Secret is written once more while the certificate is gone.
        kubectl.run("annotate", SENDERS, "app", "-n", WHERE, f"mailrelay.dev/revoke={WHERE}")
        eventually(
            lambda: await_binding(kubectl, "app-smtp", WHERE).password != before.password,
            deadline=60,
            what="a new password",
        )
        assert await_binding(kubectl, "app-smtp", WHERE).ca == chain
        kubectl.apply(given(chain, key, chain))
        kubectl.wait(RELAYS, NAME, WHERE, "ResolvedRefs", 30)
    finally:
        edit(kubectl, listeners=None)
        kubectl.delete("secret", "cert", WHERE)
    kubectl.wait(SENDERS, "app", WHERE, "Ready", 60)


@pytest.mark.parametrize(
    ("listener", "reason"), [(LISTENER, "CertificateNameMismatch"), (CLEAR, "NoLoginListener")]
)
def test_nobody_waits_for_a_login_that_cannot_come(
    kubectl: Kubectl,
    release: Release,
    troubled: Manifest,
    listener: Manifest,
    reason: str,
) -> None:
    chain, key = make(names=("other.example.com",), ends=dt.timedelta(days=30))
    kubectl.apply(given(chain, key, chain))
    edit(kubectl, listeners=[listener])
    try:
        told(kubectl, SENDERS, "app", "ResolvedRefs", reason)

        def rests() -> bool:
            """Whether three seconds pass without a round of anything; the fault was one each
            second."""
            before = rounds(kubectl, release)
            time.sleep(3)
            return rounds(kubectl, release) == before

        eventually(rests, deadline=60, what="the operator comes to rest")
    finally:
        edit(kubectl, listeners=None)
        kubectl.delete("secret", "cert", WHERE)
    kubectl.wait(SENDERS, "app", WHERE, "Ready", 120)


def test_what_is_taken_away_never_waits_for_the_rest_of_an_edit(
    kubectl: Kubectl, client: Client, troubled: Manifest, tenant: str
) -> None:
    kubectl.apply(sender("leaver", tenant, relay=troubled))
    binding = await_binding(kubectl, "leaver-smtp", tenant)
    assert client.login_code(binding) == 235
    auth = {"basic": {"secretRef": {"name": "missing"}}}
    smarthost = {"hosts": [{"host": "sink.invalid", "port": 587}], "auth": auth}
    edit(
        kubectl,
        allowedSenders=[OWN],
        upstreams=[{"name": "other", "smarthost": smarthost}],
    )
    try:
        eventually(
            lambda: client.login_code(binding) == 535,
            deadline=PROMISED,
            what="the namespace that was taken away is locked out",
        )
        told(kubectl, RELAYS, NAME, "ResolvedRefs", "SecretNotFound")
        status = (kubectl.get(RELAYS, NAME, WHERE) or {})["status"]
        assert status["generationInForce"] < status["observedGeneration"]
    finally:
        spec = troubled["spec"]
        edit(kubectl, allowedSenders=spec["allowedSenders"], upstreams=spec["upstreams"])
    kubectl.wait(RELAYS, NAME, WHERE, "ResolvedRefs", 30)


def test_a_refused_service_holds_up_no_revocation(
    kubectl: Kubectl, client: Client, troubled: Manifest, tenant: str
) -> None:
    quota = {
        "apiVersion": "v1",
        "kind": "ResourceQuota",
        "metadata": {"name": "no-load-balancers", "namespace": WHERE},
        "spec": {"hard": {"services.loadbalancers": "0"}},
    }
    kubectl.apply(quota, sender("leaver", tenant, relay=troubled))
    binding = await_binding(kubectl, "leaver-smtp", tenant)
    eventually(
        lambda: bool(
            (kubectl.get("resourcequota", "no-load-balancers", WHERE) or {}).get("status")
        ),
        deadline=30,
        what="the quota is counted",
    )
    edit(kubectl, service={"type": "LoadBalancer"})
    try:
        message = told(kubectl, RELAYS, NAME, "Programmed", "ApplyFailed")
        assert "exceeded quota" in message
        assert client.login_code(binding) == 235
        kubectl.run("label", "namespace", tenant, "mail-")
        eventually(
            lambda: client.login_code(binding) == 535,
            deadline=PROMISED,
            what="the login of a namespace that is no longer admitted",
        )
    finally:
        edit(kubectl, service=None)
        kubectl.delete("resourcequota", "no-load-balancers", WHERE)
    kubectl.wait(RELAYS, NAME, WHERE, "Programmed", 150)


def crowd(kubectl: Kubectl, tenant: str, troubled: Manifest, *names: str, size: int) -> None:
    """MailSenders with so many of the longest addresses each."""

    def address(name: str, number: int) -> str:
        domain = f".{'x' * 60}.{name}-{number:02d}.example.com"
        local = "l" * 64
        return f"{local}@{'y' * 60}.{'z' * (LONGEST_ADDRESS - 64 - 62 - len(domain))}{domain}"

    made = [
        sender(
            name,
            tenant,
            relay=troubled,
            **{"from": [address(name, number) for number in range(size)]},
        )
        for name in names
    ]
    assert all(len(one) == LONGEST_ADDRESS for one in made[0]["spec"]["from"])
    kubectl.apply(*made, server_side=True)


def test_who_is_in_a_full_relay_stays_and_who_grows_is_refused(
    kubectl: Kubectl, client: Client, troubled: Manifest, tenant: str
) -> None:
    small = sender("older", tenant, relay=troubled, **{"from": ["a@example.com"]})
    kubectl.apply(small, server_side=True)
    older = await_binding(kubectl, "older-smtp", tenant)
    names = [f"app-{number:03d}" for number in range(FILLING)]
    for begin in range(0, FILLING, 43):
        some = names[begin : begin + 43]
        crowd(kubectl, tenant, troubled, *some, size=MOST_ADDRESSES)
    every = [SENDERS, "--all", "-n", tenant, "--for=condition=Ready"]
    kubectl.run("wait", *every, "--timeout=120s", deadline=130)
    youngest = await_binding(kubectl, f"{names[-1]}-smtp", tenant)

    def full() -> bool:
        found = [kubectl.get(SENDERS, name, tenant) for name in ("newcomer", "older")]
        return all(condition(one, "Accepted").get("reason") == "RelayFull" for one in found)

    crowd(kubectl, tenant, troubled, "newcomer", size=MOST_ADDRESSES)
    crowd(kubectl, tenant, troubled, "older", size=MOST_ADDRESSES)
    eventually(full, deadline=60, what="both find no room")
    assert kubectl.get("secret", "newcomer-smtp", tenant) is None
    # By what it had; and nobody who is younger was thrown out for it.
    assert [client.login_code(one) for one in (older, youngest)] == [235, 235]
    for found in kubectl.items(SENDERS, tenant):
        if found["metadata"]["name"] in names:
            assert condition(found, "Accepted")["status"] == "True"


def test_of_a_relay_that_was_deleted_nothing_stays_in_force(
    kubectl: Kubectl, troubled: Manifest
) -> None:
    """The last test of this relay: one of the same name is created with a spec that is refused."""
    kubectl.run("delete", RELAYS, NAME, "-n", WHERE, "--wait=true")
    refused = {**troubled, "spec": {**troubled["spec"], "serviceAccountTokens": {}}}
    kubectl.apply(refused)  # before the garbage collector has taken the old one's objects, or not
    told(kubectl, RELAYS, NAME, "Accepted", "Unsupported")
    status = (kubectl.get(RELAYS, NAME, WHERE) or {})["status"]
    assert "generationInForce" not in status
    told(kubectl, SENDERS, "app", "Accepted", "RelayNotAccepted")
    assert "generationInForce" not in (kubectl.get(SENDERS, "app", WHERE) or {})["status"]
    edit(kubectl, serviceAccountTokens=None)
    kubectl.wait(SENDERS, "app", WHERE, "Ready", 150)
