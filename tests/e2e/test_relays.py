"""What becomes of a relay whose spec changes, cannot be acted upon, or goes."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.e2e.conftest import MOUNTED, RELAY_NAMESPACE
from tests.e2e.kubectl import Kubectl, Manifest, condition, eventually
from tests.e2e.mail import Client, Sink, plain_message, token
from tests.e2e.manifests import RELAYS, relay

SCALED = "scaled"
#: Every kind of which a relay has children.
CHILDREN = "statefulsets,services,serviceaccounts,secrets,poddisruptionbudgets,networkpolicies,pods"


@pytest.fixture(scope="module")
def scaled(kubectl: Kubectl, mail_relay: Manifest, sink: Sink) -> Iterator[Manifest]:
    """A relay of two replicas, beside the one that the others use."""
    made = relay(SCALED, RELAY_NAMESPACE, host=sink.host, replicas=2)
    kubectl.apply(made)
    kubectl.wait(RELAYS, SCALED, RELAY_NAMESPACE, "Ready", 120)
    yield made
    kubectl.delete(RELAYS, SCALED, RELAY_NAMESPACE)


def test_an_unsupported_field_is_named_and_changes_nothing_that_runs(
    kubectl: Kubectl, client: Client, sink: Sink
) -> None:
    digest = (kubectl.get(RELAYS, "relay", RELAY_NAMESPACE) or {})["status"]["configDigest"]
    changed = {"spec": {"serviceAccountTokens": {}, "hostname": "changed.example.com"}}
    kubectl.patch(RELAYS, "relay", RELAY_NAMESPACE, changed)
    try:
        kubectl.wait(RELAYS, "relay", RELAY_NAMESPACE, "Accepted=False", 15)
        found = kubectl.get(RELAYS, "relay", RELAY_NAMESPACE)
        accepted = condition(found, "Accepted")
        assert accepted["reason"] == "Unsupported"
        assert "serviceAccountTokens" in accepted["message"]
        word = token()
        assert client.send(MOUNTED, plain_message(word)).is_clean
        # Not even the field that we do support.
        assert b"by relay.example.com" in sink.await_message(word).content
        assert found is not None and found["status"]["configDigest"] == digest
    finally:
        restored = {"spec": {"serviceAccountTokens": None, "hostname": "relay.example.com"}}
        kubectl.patch(RELAYS, "relay", RELAY_NAMESPACE, restored)
    kubectl.wait(RELAYS, "relay", RELAY_NAMESPACE, "Ready", 30)


def test_fewer_replicas_are_blocked_because_mail_may_wait_there(
    kubectl: Kubectl, scaled: Manifest
) -> None:
    kubectl.run("scale", f"{RELAYS}/{SCALED}", "-n", RELAY_NAMESPACE, "--replicas=1")
    kubectl.wait(RELAYS, SCALED, RELAY_NAMESPACE, "Programmed=False", 15)
    found = kubectl.get(RELAYS, SCALED, RELAY_NAMESPACE)
    assert condition(found, "Programmed")["reason"] == "ScaleDownBlocked"
    stateful_set = kubectl.get("statefulset", SCALED, RELAY_NAMESPACE)
    assert stateful_set is not None and stateful_set["spec"]["replicas"] == 2
    kubectl.run("scale", f"{RELAYS}/{SCALED}", "-n", RELAY_NAMESPACE, "--replicas=2")
    kubectl.wait(RELAYS, SCALED, RELAY_NAMESPACE, "Programmed", 30)


def test_what_is_deleted_by_hand_is_made_again(kubectl: Kubectl, scaled: Manifest) -> None:
    kubectl.run("delete", "service", SCALED, "-n", RELAY_NAMESPACE)
    # Any change of the relay makes the operator look; without one, the next resync does.
    kubectl.run("annotate", f"{RELAYS}/{SCALED}", "-n", RELAY_NAMESPACE, "example.com/look=now")
    eventually(
        lambda: kubectl.get("service", SCALED, RELAY_NAMESPACE), deadline=30, what="the Service"
    )


def test_a_deleted_relay_takes_everything_along_but_its_volumes(
    kubectl: Kubectl, scaled: Manifest
) -> None:
    selector = f"mailrelay.dev/relay={SCALED}"
    assert len(kubectl.items(CHILDREN, RELAY_NAMESPACE, selector)) >= 8
    kubectl.delete(RELAYS, SCALED, RELAY_NAMESPACE)
    eventually(
        lambda: kubectl.items(CHILDREN, RELAY_NAMESPACE, selector) == [],
        deadline=60,
        what="no child of the deleted relay is left",
    )
    # Mail may lie in them: they are somebody's to delete.
    claims = {f"spool-{SCALED}-{number}" for number in range(2)}
    found = {item["metadata"]["name"] for item in kubectl.items("pvc", RELAY_NAMESPACE)}
    assert claims <= found
    for claim in claims:
        kubectl.delete("pvc", claim, RELAY_NAMESPACE)
