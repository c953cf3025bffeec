"""One tenant's trouble is that tenant's, and what is taken back is taken back.

On a real API server, whose field managers, quotas and immutable fields no fake knows for sure.
"""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Iterator
from typing import Any

import pytest

from tests.e2e.conftest import RELAY_NAMESPACE, TEAM_NAMESPACE, await_binding
from tests.e2e.kubectl import Kubectl, Manifest, condition, eventually
from tests.e2e.mail import Client
from tests.e2e.manifests import RELAYS, SENDERS, namespace, sender
from tests.peers.certificates import make


@pytest.fixture
def tenant(kubectl: Kubectl, mail_relay: Manifest) -> Iterator[str]:
    """A namespace that is admitted, and gone afterwards."""
    name = f"e2e-tenant-{uuid.uuid4().hex[:8]}"
    kubectl.apply(namespace(name, mail="allowed"))
    yield name
    kubectl.run("delete", "namespace", name, "--wait=false")


def secret_of(kubectl: Kubectl, name: str, where: str) -> dict[str, Any]:
    found = kubectl.get("secret", name, where)
    return dict((found or {}).get("data") or {})


def test_deleting_the_secret_brings_a_new_password_and_ends_the_old_one(
    kubectl: Kubectl, client: Client, tenant: str, mail_relay: Manifest
) -> None:
    kubectl.apply(sender("leaked", tenant, relay=mail_relay))
    old = await_binding(kubectl, "leaked-smtp", tenant)
    assert client.login_code(old) == 235
    kubectl.delete("secret", "leaked-smtp", tenant)
    new = await_binding(kubectl, "leaked-smtp", tenant, deadline=30)
    assert client.login_code(new) == 235
    eventually(lambda: client.login_code(old) == 535, deadline=80, what="the old password ends")
    assert client.login_code(new) == 235


def test_a_sender_that_is_made_again_has_another_password(
    kubectl: Kubectl, client: Client, tenant: str, mail_relay: Manifest
) -> None:
    kubectl.apply(sender("again", tenant, relay=mail_relay))
    old = await_binding(kubectl, "again-smtp", tenant)
    kubectl.run("delete", SENDERS, "again", "-n", tenant, "--wait=true")
    kubectl.apply(sender("again", tenant, relay=mail_relay))  # before the garbage collector, or not
    kubectl.wait(SENDERS, "again", tenant, "Ready", 60)
    new = await_binding(kubectl, "again-smtp", tenant)
    assert (client.login_code(new), client.login_code(old)) == (235, 535)


def test_the_annotation_ends_a_password_at_once(
    kubectl: Kubectl, client: Client, tenant: str, mail_relay: Manifest
) -> None:
    kubectl.apply(sender("marked", tenant, relay=mail_relay))
    old = await_binding(kubectl, "marked-smtp", tenant)
    kubectl.run("annotate", SENDERS, "marked", "-n", tenant, "mailrelay.dev/revoke=now")
    eventually(lambda: client.login_code(old) == 535, deadline=15, what="the old password ends")
    eventually(
        lambda: client.login_code(await_binding(kubectl, "marked-smtp", tenant)) == 235,
        deadline=30,
        what="the new password works",
    )


def test_a_tenant_without_quota_is_told_and_holds_up_nobody(
    kubectl: Kubectl, tenant: str, mail_relay: Manifest
) -> None:
    quota = {
        "apiVersion": "v1",
        "kind": "ResourceQuota",
        "metadata": {"name": "no-secrets", "namespace": tenant},
        "spec": {"hard": {"secrets": "0"}},
    }
    kubectl.apply(quota)
    eventually(
        lambda: bool((kubectl.get("resourcequota", "no-secrets", tenant) or {}).get("status")),
        deadline=30,
        what="the quota is counted",
    )
    kubectl.apply(sender("poor", tenant, relay=mail_relay))
    kubectl.apply(sender("neighbour", TEAM_NAMESPACE, relay=mail_relay))
    try:
        kubectl.wait(SENDERS, "neighbour", TEAM_NAMESPACE, "Ready", 30)

        def told() -> bool:
            found = condition(kubectl.get(SENDERS, "poor", tenant), "Programmed")
            return found.get("reason") == "ApplyFailed" and "exceeded quota" in found["message"]

        eventually(told, deadline=30, what="the quota is on the status, in the server's words")
        kubectl.delete("resourcequota", "no-secrets", tenant)
        kubectl.wait(SENDERS, "poor", tenant, "Ready", 150)
    finally:
        kubectl.delete(SENDERS, "neighbour", TEAM_NAMESPACE)


def test_an_immutable_secret_is_said_in_the_servers_words(
    kubectl: Kubectl, tenant: str, mail_relay: Manifest
) -> None:
    kubectl.apply(sender("frozen", tenant, relay=mail_relay))
    await_binding(kubectl, "frozen-smtp", tenant)
    kubectl.patch("secret", "frozen-smtp", tenant, {"immutable": True})
    kubectl.run("annotate", SENDERS, "frozen", "-n", tenant, "mailrelay.dev/revoke=now")

    def told() -> bool:
        found = condition(kubectl.get(SENDERS, "frozen", tenant), "Programmed")
        return found.get("reason") == "ApplyFailed" and "immutable" in found["message"]

    eventually(told, deadline=60, what="the refusal is on the status")
    kubectl.delete("secret", "frozen-smtp", tenant)
    kubectl.wait(SENDERS, "frozen", tenant, "Ready", 150)


def test_a_pod_that_nobody_controls_is_no_replica(kubectl: Kubectl, mail_relay: Manifest) -> None:
    labels = (kubectl.get("pod", "relay-0", RELAY_NAMESPACE) or {})["metadata"]["labels"]
    ours = {key: value for key, value in labels.items() if "kubernetes.io/pod-index" not in key}
    ours.pop("controller-revision-hash", None)
    ours.pop("statefulset.kubernetes.io/pod-name", None)
    restricted = {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "runAsNonRoot": True,
        "runAsUser": 1000,
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    container = {"name": "x", "image": "none.invalid/none", "securityContext": restricted}
    kubectl.apply(
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": "debug-4999", "namespace": RELAY_NAMESPACE, "labels": ours},
            "spec": {"containers": [container], "automountServiceAccountToken": False},
        }
    )
    try:
        # A change that comes after it has gone through: the pod was seen, and counted for nothing.
        kubectl.patch(RELAYS, "relay", RELAY_NAMESPACE, {"spec": {"hostname": "new.example.com"}})
        kubectl.wait(RELAYS, "relay", RELAY_NAMESPACE, "Ready", 60)
        stateful_set = kubectl.get("statefulset", "relay", RELAY_NAMESPACE)
        assert stateful_set is not None
        assert stateful_set["spec"]["replicas"] == 1
    finally:
        kubectl.patch(RELAYS, "relay", RELAY_NAMESPACE, {"spec": {"hostname": "relay.example.com"}})
        kubectl.delete("pod", "debug-4999", RELAY_NAMESPACE)


def test_what_the_plan_drops_is_gone_from_the_tenants_secret(
    kubectl: Kubectl, mail_relay: Manifest
) -> None:
    """A relay moves from its private CA to a certificate of a public one, and back."""
    where = f"e2e-moving-{uuid.uuid4().hex[:8]}"
    kubectl.apply(namespace(where))
    moving = {
        **mail_relay,
        "metadata": {"name": "moving", "namespace": where},
        "spec": {
            **mail_relay["spec"],
            "queue": {"ephemeral": {}},
            "allowedSenders": [{"name": "own", "namespaces": {"from": "Same"}}],
        },
    }
    try:
        kubectl.apply(moving, sender("app", where, relay=moving))
        kubectl.wait(SENDERS, "app", where, "Ready", 90)
        before = secret_of(kubectl, "app-smtp", where)
        assert "ca.crt" in before
        chain, key = make(names=(f"moving.{where}.svc",), ends=dt.timedelta(days=30))
        kubectl.apply(
            {
                "apiVersion": "v1",
                "kind": "Secret",
                "metadata": {"name": "cert", "namespace": where},
                "type": "kubernetes.io/tls",
                "stringData": {"tls.crt": chain, "tls.key": key},
            }
        )
        listener = {
            "name": "submission",
            "port": 587,
            "tls": {"certificateRefs": [{"name": "cert"}]},
        }
        kubectl.patch(RELAYS, "moving", where, {"spec": {"listeners": [listener]}})
        eventually(
            lambda: "ca.crt" not in secret_of(kubectl, "app-smtp", where),
            deadline=30,
            what="the CA that is no longer used is gone",
        )
        assert secret_of(kubectl, "app-smtp", where)["password"] == before["password"]
        kubectl.patch(RELAYS, "moving", where, {"spec": {"listeners": None}})
        eventually(
            lambda: secret_of(kubectl, "app-smtp", where).get("ca.crt") == before["ca.crt"],
            deadline=30,
            what="the private CA is back",
        )
    finally:
        kubectl.run("delete", "namespace", where, "--wait=false")
