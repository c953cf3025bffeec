"""Least privilege on the real API server: the operator's fence, the gateways' nothing."""

from __future__ import annotations

import pytest

from tests.e2e.conftest import OPERATOR_NAMESPACE, RELAY_NAMESPACE, RELEASE, TEAM_NAMESPACE
from tests.e2e.kubectl import Kubectl, KubectlFailed, Manifest
from tests.e2e.mail import Binding
from tests.e2e.manifests import relay

OPERATOR = f"system:serviceaccount:{OPERATOR_NAMESPACE}:{RELEASE}"


@pytest.fixture(scope="module")
def as_operator(app: Binding) -> Kubectl:
    """The operator's identity, once everything is there."""
    return Kubectl(f"--as={OPERATOR}", "--as-group=system:serviceaccounts")


def secret(name: str, type_: str, **data: str) -> Manifest:
    """A Secret that says of itself that it is the operator's."""
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {
            "name": name,
            "namespace": TEAM_NAMESPACE,
            "labels": {"app.kubernetes.io/managed-by": "mailrelay"},
            "ownerReferences": [
                {
                    "apiVersion": "mailrelay.dev/v1alpha1",
                    "kind": "MailSender",
                    "name": "app",
                    "uid": "0-0-0-0-0",
                    "controller": True,
                }
            ],
        },
        "type": type_,
        "stringData": data,
    }


@pytest.mark.parametrize(
    "type_", ["Opaque", "kubernetes.io/basic-auth", "mailrelay.example/config", "mailrelay.dev"]
)
def test_the_operator_cannot_create_a_secret_of_another_type(
    as_operator: Kubectl, type_: str
) -> None:
    with pytest.raises(KubectlFailed, match="may write only Secrets of type"):
        as_operator.apply(secret("planted", type_, username="a", password="b"), server_side=True)


def test_the_operator_cannot_change_a_secret_that_is_not_ours(
    kubectl: Kubectl, as_operator: Kubectl
) -> None:
    theirs = secret("theirs", "Opaque", key="value")
    del theirs["metadata"]["ownerReferences"]  # or it would be collected as garbage
    kubectl.apply(theirs)
    try:
        with pytest.raises(KubectlFailed, match="may write only Secrets of type"):
            as_operator.patch("secret", "theirs", TEAM_NAMESPACE, {"data": {"key": "eA=="}})
        # Not by changing its type, either.
        with pytest.raises(KubectlFailed, match=r"immutable|may write only"):
            as_operator.patch("secret", "theirs", TEAM_NAMESPACE, {"type": "mailrelay.dev/config"})
    finally:
        kubectl.delete("secret", "theirs", TEAM_NAMESPACE)


@pytest.mark.parametrize(
    "words",
    [
        ("list", "secrets"),
        ("watch", "secrets"),
        ("delete", "secrets"),
        ("list", "configmaps"),
        ("create", "pods"),
        ("create", "pods", "--subresource=exec"),
        ("update", "mailrelays.mailrelay.dev"),
        ("delete", "mailrelays.mailrelay.dev"),
        ("create", "clusterroles.rbac.authorization.k8s.io"),
        ("delete", "persistentvolumeclaims"),
        ("delete", "pods"),
        ("get", "pods"),
        ("create", "serviceaccounts", "--subresource=token"),
    ],
)
def test_what_the_operator_may_not_do(as_operator: Kubectl, words: tuple[str, ...]) -> None:
    with pytest.raises(KubectlFailed) as refused:
        as_operator.run("auth", "can-i", *words, "--namespace", TEAM_NAMESPACE)
    assert "error" not in refused.value.stderr.lower()


def test_the_operator_was_never_refused_what_it_needs(kubectl: Kubectl, app: Binding) -> None:
    log = kubectl.run("logs", "-n", OPERATOR_NAMESPACE, f"deployment/{RELEASE}")
    assert "Secret" in log
    assert [line for line in log.splitlines() if "cannot " in line and "forbidden" in line] == []


def test_the_gateways_hold_no_token_and_no_rights(kubectl: Kubectl, app: Binding) -> None:
    pod = kubectl.get("pod", "relay-0", RELAY_NAMESPACE)
    assert pod is not None
    account = pod["spec"]["serviceAccountName"]
    sources = [
        source
        for volume in pod["spec"]["volumes"]
        for source in volume.get("projected", {}).get("sources", ())
    ]
    assert not any("serviceAccountToken" in source for source in sources)
    gateway = Kubectl(f"--as=system:serviceaccount:{RELAY_NAMESPACE}:{account}")
    with pytest.raises(KubectlFailed):
        gateway.run("auth", "can-i", "get", "secrets", "--namespace", RELAY_NAMESPACE)


def test_the_namespace_of_the_relay_enforces_restricted_pods(
    kubectl: Kubectl, app: Binding
) -> None:
    for name in (OPERATOR_NAMESPACE, RELAY_NAMESPACE):
        labels = (kubectl.get("namespace", name) or {})["metadata"]["labels"]
        assert labels["pod-security.kubernetes.io/enforce"] == "restricted"


def test_editors_make_senders_and_admins_make_relays(kubectl: Kubectl, app: Binding) -> None:
    kubectl.run(
        "create", "rolebinding", "ed", "--clusterrole=edit", "--user=ed", "-n", TEAM_NAMESPACE
    )
    ed = Kubectl("--as=ed")
    ed.run("auth", "can-i", "create", "mailsenders.mailrelay.dev", "-n", TEAM_NAMESPACE)
    ed.run("auth", "can-i", "get", "mailrelays.mailrelay.dev", "-n", TEAM_NAMESPACE)
    for denied in (
        ("patch", "mailsenders.mailrelay.dev", "--subresource=status"),
        ("create", "mailrelays.mailrelay.dev"),
        ("patch", "mailrelays.mailrelay.dev", "--subresource=scale"),
        ("create", "maildomains.mailrelay.dev"),
    ):
        with pytest.raises(KubectlFailed):
            ed.run("auth", "can-i", *denied, "-n", TEAM_NAMESPACE)
    words = ("rolebinding", "ada", "--clusterrole=admin", "--user=ada", "-n", TEAM_NAMESPACE)
    kubectl.run("create", *words)
    Kubectl("--as=ada").run(
        "auth", "can-i", "create", "mailrelays.mailrelay.dev", "-n", TEAM_NAMESPACE
    )


def test_cel_refuses_in_a_sentence(kubectl: Kubectl, app: Binding) -> None:
    wrong = relay("wrong", RELAY_NAMESPACE, host="smtp.example.net")
    wrong["spec"]["listeners"] = [{"name": "admin", "port": 8025}]
    with pytest.raises(KubectlFailed, match="8025"):
        kubectl.apply(wrong)
