"""watchNamespaces: the same operator with Roles in the namespaces that it is given, no more."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.e2e.conftest import (
    OPERATOR_NAMESPACE,
    RELAY_NAMESPACE,
    RELEASE,
    TEAM_NAMESPACE,
    Release,
    await_binding,
)
from tests.e2e.kubectl import Kubectl, KubectlFailed, Manifest, condition, eventually
from tests.e2e.mail import Binding, Client
from tests.e2e.manifests import SENDERS, namespace, sender

OUTSIDE = "e2e-outside"


@pytest.fixture(scope="module")
def narrowed(kubectl: Kubectl, release: Release, app: Binding) -> Iterator[None]:
    """The release with watchNamespaces, and an admitted namespace that is not among them."""
    kubectl.apply(namespace(OUTSIDE, mail="allowed"))
    release.upgrade(watchNamespaces=[RELAY_NAMESPACE, TEAM_NAMESPACE])
    yield
    release.upgrade()
    kubectl.run("delete", "namespace", OUTSIDE, "--wait=false")


def test_senders_are_served_inside_and_left_alone_outside(
    kubectl: Kubectl, client: Client, mail_relay: Manifest, narrowed: None
) -> None:
    kubectl.apply(
        sender("outside", OUTSIDE, relay=mail_relay),
        sender("inside", TEAM_NAMESPACE, relay=mail_relay),
    )
    try:
        binding = await_binding(kubectl, "inside-smtp", TEAM_NAMESPACE)
        assert client.login_code(binding) == 235
        accepted = condition(kubectl.get(SENDERS, "outside", OUTSIDE), "Accepted")
        assert (accepted["reason"], accepted["message"]) == ("Pending", "Waiting for controller")
    finally:
        kubectl.delete(SENDERS, "inside", TEAM_NAMESPACE)


def test_a_relay_that_is_not_watched_is_said(kubectl: Kubectl, narrowed: None) -> None:
    elsewhere = {"metadata": {"name": "relay", "namespace": OUTSIDE}}
    kubectl.apply(sender("astray", TEAM_NAMESPACE, relay=elsewhere))
    try:
        kubectl.wait(SENDERS, "astray", TEAM_NAMESPACE, "Accepted=False", 30)
        accepted = condition(kubectl.get(SENDERS, "astray", TEAM_NAMESPACE), "Accepted")
        assert accepted["reason"] == "RelayNotWatched"
        assert OUTSIDE in accepted["message"]
    finally:
        kubectl.delete(SENDERS, "astray", TEAM_NAMESPACE)


def test_a_lost_label_revokes_although_namespaces_cannot_be_watched(
    kubectl: Kubectl, client: Client, app: Binding, narrowed: None
) -> None:
    kubectl.run("label", "namespace", TEAM_NAMESPACE, "mail-")
    try:
        eventually(lambda: client.login_code(app) == 535, deadline=20, what="the login revoked")
    finally:
        kubectl.run("label", "namespace", TEAM_NAMESPACE, "mail=allowed")
    eventually(lambda: client.login_code(app) == 235, deadline=20, what="the login restored")


def test_there_is_no_right_elsewhere(kubectl: Kubectl, narrowed: None) -> None:
    operator = Kubectl(f"--as=system:serviceaccount:{OPERATOR_NAMESPACE}:{RELEASE}")
    operator.run("auth", "can-i", "get", "secrets", "-n", TEAM_NAMESPACE)
    for words in (("get", "secrets"), ("list", "mailsenders.mailrelay.dev"), ("get", "pods")):
        with pytest.raises(KubectlFailed):
            operator.run("auth", "can-i", *words, "-n", OUTSIDE)
