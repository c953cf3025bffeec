"""Credentials: verifier first, Secret second; whatever changes acts within ten seconds."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from tests.e2e.conftest import RELAY_NAMESPACE, TEAM_NAMESPACE, await_binding
from tests.e2e.kubectl import Kubectl, Manifest, condition, eventually
from tests.e2e.mail import Binding, Client, plain_message, token
from tests.e2e.manifests import RELAYS, SENDERS, basic_auth, namespace, sender

#: Ten seconds are promised; the rest is for our own calls of kubectl on a busy machine.
PROMISED = 15.0


def incarnation(kubectl: Kubectl) -> tuple[str, int]:
    """Which pod runs, and how often it was restarted."""
    pod = kubectl.get("pod", "relay-0", RELAY_NAMESPACE)
    assert pod is not None
    return pod["metadata"]["uid"], pod["status"]["containerStatuses"][0]["restartCount"]


@pytest.fixture
def unchanged_pod(kubectl: Kubectl, mail_relay: Manifest) -> Iterator[None]:
    """The gateway is the same process at the end of the test."""
    before = incarnation(kubectl)
    yield
    assert incarnation(kubectl) == before


@dataclass(frozen=True, slots=True, kw_only=True)
class Leaver:
    """A MailSender `leaver` in a namespace of its own that is admitted for now."""

    namespace: str
    binding: Binding


@pytest.fixture
def leaver(kubectl: Kubectl, mail_relay: Manifest) -> Iterator[Leaver]:
    name = f"e2e-leaver-{uuid.uuid4().hex[:8]}"
    kubectl.apply(namespace(name, mail="allowed"))
    kubectl.apply(sender("leaver", name, relay=mail_relay))
    yield Leaver(namespace=name, binding=await_binding(kubectl, "leaver-smtp", name))
    kubectl.run("delete", "namespace", name, "--wait=false")


def await_login(client: Client, binding: Binding, code: int, *, what: str) -> None:
    """The relay answers AUTH with this code, within the promised time."""
    eventually(lambda: client.login_code(binding) == code, deadline=PROMISED, what=what)


def test_a_secret_appears_only_when_its_password_works(
    kubectl: Kubectl, client: Client, mail_relay: Manifest
) -> None:
    names = [f"fresh-{number}" for number in range(3)]
    kubectl.apply(*(sender(name, TEAM_NAMESPACE, relay=mail_relay) for name in names))
    try:
        for name in names:
            # No second chance: the first login with what the Secret says has to succeed.
            assert client.login_code(await_binding(kubectl, f"{name}-smtp", TEAM_NAMESPACE)) == 235
    finally:
        for name in names:
            kubectl.delete(SENDERS, name, TEAM_NAMESPACE)


def test_losing_the_label_revokes_and_getting_it_back_restores(
    kubectl: Kubectl, client: Client, leaver: Leaver, unchanged_pod: None
) -> None:
    assert client.login_code(leaver.binding) == 235
    kubectl.run("label", "namespace", leaver.namespace, "mail-")
    await_login(
        client, leaver.binding, 535, what="the login of a namespace that is no longer admitted"
    )
    kubectl.wait(SENDERS, "leaver", leaver.namespace, "Accepted=False", 15)
    accepted = condition(kubectl.get(SENDERS, "leaver", leaver.namespace), "Accepted")
    assert accepted["reason"] == "NamespaceNotAllowed"
    kubectl.run("label", "namespace", leaver.namespace, "mail=allowed")
    eventually(
        lambda: client.login_code(await_binding(kubectl, "leaver-smtp", leaver.namespace)) == 235,
        deadline=30,
        what="the login of a namespace that is admitted again",
    )


def test_deleting_a_sender_revokes_and_takes_its_secret_along(
    kubectl: Kubectl, client: Client, leaver: Leaver, unchanged_pod: None
) -> None:
    kubectl.delete(SENDERS, "leaver", leaver.namespace)
    await_login(client, leaver.binding, 535, what="the login of a MailSender that was deleted")
    eventually(
        lambda: kubectl.get("secret", "leaver-smtp", leaver.namespace) is None,
        deadline=30,
        what="the Secret goes with its MailSender",
    )


def test_a_suspended_sender_is_told_to_come_back(
    kubectl: Kubectl, client: Client, leaver: Leaver, unchanged_pod: None
) -> None:
    kubectl.patch(SENDERS, "leaver", leaver.namespace, {"spec": {"suspend": True}})

    def reply() -> int:
        report = client.send(leaver.binding, plain_message(token()))
        return report.replies[0][0] if report.replies else 0

    eventually(lambda: reply() == 450, deadline=PROMISED, what="450 to a suspended MailSender")
    assert client.login_code(leaver.binding) == 235


def test_a_changed_login_acts_without_a_restart(
    kubectl: Kubectl, client: Client, app: Binding, mail_relay: Manifest, unchanged_pod: None
) -> None:
    kubectl.apply(
        basic_auth("legacy", TEAM_NAMESPACE, "legacy-user", "first-password"),
        sender(
            "legacy",
            TEAM_NAMESPACE,
            relay=mail_relay,
            credentials={"existingSecretRef": {"name": "legacy"}},
        ),
    )
    try:
        kubectl.wait(SENDERS, "legacy", TEAM_NAMESPACE, "Ready", 30)
        old = app.with_login("legacy-user", "first-password")
        new = app.with_login("legacy-user", "second-password")
        assert (client.login_code(old), client.login_code(new)) == (235, 535)
        kubectl.apply(basic_auth("legacy", TEAM_NAMESPACE, "legacy-user", "second-password"))
        await_login(client, new, 235, what="the new password")
        assert client.login_code(old) == 535
    finally:
        kubectl.delete(SENDERS, "legacy", TEAM_NAMESPACE)
        kubectl.delete("secret", "legacy", TEAM_NAMESPACE)


def test_a_changed_limit_acts_without_a_restart(
    kubectl: Kubectl, client: Client, app: Binding, unchanged_pod: None
) -> None:
    message = plain_message(token()) + b"x" * 70 + b"\r\n" * 50_000

    def reply() -> int:
        return client.send(app, message).replies[0][0]

    assert reply() == 250
    limits = {"spec": {"limits": {"message": {"maxSize": "64Ki"}}}}
    kubectl.patch(RELAYS, "relay", RELAY_NAMESPACE, limits)
    try:
        eventually(lambda: reply() == 552, deadline=PROMISED, what="552 above the new limit")
    finally:
        kubectl.patch(RELAYS, "relay", RELAY_NAMESPACE, {"spec": {"limits": None}})
    eventually(lambda: reply() == 250, deadline=PROMISED, what="250 below the old limit")
