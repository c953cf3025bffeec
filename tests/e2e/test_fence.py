"""The admission policies on a real API server: the operator's account writes what the operator
plans, and nothing else. What it is refused here, its role alone would allow.

Everything that the account does is a dry run: admission is asked, nothing is stored.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from typing import Any

import pytest
from kubernetes import client, config

from tests.e2e.conftest import Release
from tests.e2e.fence import (
    ACCOUNT,
    MANAGED,
    NAMESPACE,
    OURS,
    PINNED,
    REPOSITORY,
    THEIRS,
    changed,
    claim,
    federated,
    metadata,
    owner,
    planned,
    pod,
)
from tests.e2e.kubectl import Kubectl, KubectlFailed, Manifest, eventually
from tests.e2e.manifests import SENDERS, namespace


class Account:
    """The operator's account, dry runs only."""

    def __init__(self) -> None:
        self._kubectl = Kubectl(f"--as={ACCOUNT}", "--as-group=system:serviceaccounts")
        config.load_kube_config()  # type: ignore[no-untyped-call]
        self._api = client.ApiClient()

    def apply(self, manifest: Manifest) -> str:
        words = ("apply", "--server-side", "--force-conflicts", "--field-manager=mailrelay")
        return self._kubectl.run(*words, "--dry-run=server", "-f", "-", stdin=json.dumps(manifest))

    def patch(self, path: str, patch: Any) -> None:
        """PATCH of an object by its path, as the operator does: it may not GET all that it may
        patch, which kubectl would do first."""
        kind = "json-patch" if isinstance(patch, list) else "merge-patch"
        headers = {
            "Content-Type": f"application/{kind}+json",
            "Accept": "application/json",
            "Impersonate-User": ACCOUNT,
            "Impersonate-Group": "system:serviceaccounts",
        }
        request = self._api.param_serialize(
            "PATCH",
            path,
            query_params=[("dryRun", "All")],
            header_params=headers,
            body=patch,
            auth_settings=["BearerToken"],
        )
        response = self._api.call_api(*request)
        response.read()  # type: ignore[no-untyped-call]
        if response.status >= 300:
            raise KubectlFailed(("patch", path), str(response.data))

    def run(self, *words: str) -> str:
        return self._kubectl.run(*words, "--dry-run=server")


@pytest.fixture(scope="module")
def account(kubectl: Kubectl, release: Release) -> Iterator[Account]:
    """The account, beside objects of a tenant's and pods and claims that look like a gateway's."""
    kubectl.apply(namespace(NAMESPACE, restricted=False))
    kubectl.run("delete", "pod", "e2e-fence", "-n", "kube-system", "--ignore-not-found")
    kubectl.apply(*THEIRS, pod("fenced-0", NAMESPACE, MANAGED), claim("spool-fenced-0", OURS))
    made = Account()
    # Policies are compiled and enforced some moments after they are there.
    eventually(
        lambda: refusal(lambda: made.patch(path("Service"), {"spec": {"selector": None}})),
        deadline=30,
        what="the policies are in force",
    )
    yield made
    kubectl.run("delete", "pod", "e2e-fence", "-n", "kube-system", "--ignore-not-found")
    kubectl.run("delete", "namespace", NAMESPACE, "--wait=false")


PLURALS = {
    "Secret": "api/v1|secrets",
    "Service": "api/v1|services",
    "ServiceAccount": "api/v1|serviceaccounts",
    "Pod": "api/v1|pods",
    "PersistentVolumeClaim": "api/v1|persistentvolumeclaims",
    "StatefulSet": "apis/apps/v1|statefulsets",
    "NetworkPolicy": "apis/networking.k8s.io/v1|networkpolicies",
    "PodDisruptionBudget": "apis/policy/v1|poddisruptionbudgets",
}


def path(kind: str, name: str = "theirs", where: str = NAMESPACE) -> str:
    group, _, plural = PLURALS[kind].partition("|")
    return f"/{group}/namespaces/{where}/{plural}/{name}"


def refusal(attempt: Any) -> str:
    """With which words an attempt is refused by a policy; empty if it is not."""
    try:
        attempt()
    except KubectlFailed as failed:
        return failed.stderr if "ValidatingAdmissionPolicy" in failed.stderr else ""
    return ""


@pytest.mark.parametrize("kind", planned())
def test_what_the_operator_plans_is_let_through(account: Account, kind: str) -> None:
    account.apply(planned()[kind])


def test_so_is_a_relay_with_an_ephemeral_queue(account: Account) -> None:
    account.apply(planned(queue={"ephemeral": {}})["StatefulSet"])


def test_so_is_one_with_a_federated_login(account: Account) -> None:
    account.apply(federated("api://AzureADTokenExchange"))


@pytest.mark.parametrize(
    "audience", ["", "https://kubernetes.default.svc", "mailrelay.dev/queue", "elsewhere"]
)
def test_a_token_of_another_audience_is_not_mounted(account: Account, audience: str) -> None:
    assert "tokenAudiences of the chart" in refusal(lambda: account.apply(federated(audience)))


def test_where_no_audience_is_allowed_no_token_is_mounted(
    account: Account, release: Release
) -> None:
    release.upgrade(tokenAudiences=[])
    try:
        evil = federated("api://AzureADTokenExchange")
        eventually(
            lambda: "tokenAudiences of the chart" in refusal(lambda: account.apply(evil)),
            deadline=30,
            what="the policy that allows none",
        )
        account.apply(planned()["StatefulSet"])
    finally:
        release.upgrade()


# --- what a review could do with the account before


def test_no_image_of_a_foreign_pod_is_changed(account: Account) -> None:
    patch = [{"op": "replace", "path": "/spec/containers/0/image", "value": "evil:1"}]
    where = path("Pod", "e2e-fence", "kube-system")
    said = refusal(lambda: account.patch(where, patch))
    assert "only pods of its own gateways" in said


def test_no_privileged_stateful_set_is_made(account: Account) -> None:
    evil = copy.deepcopy(next(one for one in THEIRS if one["kind"] == "StatefulSet"))
    evil["metadata"] = metadata("evil", MANAGED, "kube-system")
    evil["spec"]["template"]["spec"] |= {
        "serviceAccountName": "namespace-controller",
        "hostPID": True,
        "volumes": [{"name": "root", "hostPath": {"path": "/"}}],
    }
    assert "ValidatingAdmissionPolicy" in refusal(lambda: account.apply(evil))


def test_no_foreign_service_is_turned_elsewhere(account: Account) -> None:
    patch: Manifest = {"spec": {"selector": {"app": "evil"}}}
    for where in (path("Service", "kube-dns", "kube-system"), path("Service")):
        said = refusal(lambda where=where: account.patch(where, patch))
        assert "may change only objects labelled" in said


def test_no_tenant_s_network_policy_is_opened(account: Account) -> None:
    patch: Manifest = {"spec": {"ingress": [{}]}}
    said = refusal(lambda: account.patch(path("NetworkPolicy"), patch))
    assert "may change only objects labelled" in said


def test_no_tenant_s_stateful_set_is_deleted(account: Account) -> None:
    said = refusal(lambda: account.run("delete", "statefulset", "theirs", "-n", NAMESPACE))
    assert "may change only objects labelled" in said


@pytest.mark.parametrize(
    ("kind", "patch"),
    [
        ("Secret", {"data": {"password": "eA=="}}),
        ("ServiceAccount", {"automountServiceAccountToken": True}),
        ("PodDisruptionBudget", {"spec": {"maxUnavailable": 1}}),
        ("StatefulSet", {"spec": {"replicas": 1}}),
        ("Pod", {"metadata": {"annotations": {"mailrelay.dev/config-digest": "x"}}}),
    ],
)
def test_nothing_else_of_a_tenant_s_is_changed(account: Account, kind: str, patch: Any) -> None:
    assert "may change only" in refusal(lambda: account.patch(path(kind), patch))


@pytest.mark.parametrize(
    "kind", ["Secret", "ServiceAccount", "Service", "NetworkPolicy", "PodDisruptionBudget"]
)
def test_nothing_becomes_ours_by_saying_so(account: Account, kind: str) -> None:
    taking = {"metadata": {"labels": MANAGED, "ownerReferences": [owner()]}}
    said = refusal(lambda: account.patch(path(kind), taking))
    assert "may change only objects labelled" in said


@pytest.mark.parametrize(
    ("kind", "path", "value", "sentence"),
    PINNED,
    ids=[f"{kind} {path.rpartition('.')[2]} {n}" for n, (kind, path, *_) in enumerate(PINNED)],
)
def test_what_the_operator_never_plans_is_refused(
    account: Account, kind: str, path: str, value: Any, sentence: str
) -> None:
    evil = changed(planned()[kind], path, value)
    assert sentence in refusal(lambda: account.apply(evil))


# --- pods and claims of ours


@pytest.mark.parametrize(
    "change",
    [
        {"annotations": {"mailrelay.dev/config-digest": "1", "mailrelay.dev/config-stamped": "2"}},
        {"labels": {"mailrelay.dev/accepting": "false"}},
    ],
)
def test_pods_of_ours_are_stamped(account: Account, change: Manifest) -> None:
    account.patch(path("Pod", "fenced-0"), {"metadata": change})


@pytest.mark.parametrize(
    ("patch", "sentence"),
    [
        (
            [{"op": "replace", "path": "/spec/containers/0/image", "value": f"{REPOSITORY}:2"}],
            "may change only the metadata of a pod",
        ),
        ({"metadata": {"labels": {"app": "other"}}}, "may change no label of a pod"),
        (
            {"metadata": {"labels": {"mailrelay.dev/relay": "other"}}},
            "may change no label of a pod",
        ),
        (
            {"metadata": {"labels": {"app.kubernetes.io/instance": None}}},
            "may change no label of a",
        ),
        (
            {"metadata": {"annotations": {"example.com/a": "b"}}},
            "may change no annotations of a pod",
        ),
        (
            {"metadata": {"finalizers": ["example.com/stuck"]}},
            "may not change owners or finalizers",
        ),
        ({"metadata": {"ownerReferences": [owner()]}}, "may not change owners or finalizers"),
    ],
)
def test_nothing_else_of_our_pods_is_changed(account: Account, patch: Any, sentence: str) -> None:
    assert sentence in refusal(lambda: account.patch(path("Pod", "fenced-0"), patch))


@pytest.mark.parametrize(
    ("name", "patch", "sentence"),
    [
        ("spool-theirs", {"metadata": {"labels": OURS}}, "only claims of its own gateways"),
        ("spool-fenced-0", {"metadata": {"finalizers": None}}, "may change only the size"),
        ("spool-fenced-0", {"metadata": {"labels": {"a": "b"}}}, "may change only the size"),
        ("spool-fenced-0", {"metadata": {"annotations": {"a": "b"}}}, "may change only the size"),
        (
            "spool-fenced-0",
            {"metadata": {"ownerReferences": [owner()]}},
            "may change only the size",
        ),
    ],
)
def test_claims_only_grow(account: Account, name: str, patch: Any, sentence: str) -> None:
    where = path("PersistentVolumeClaim", name)
    assert sentence in refusal(lambda: account.patch(where, patch))


# --- what its role does not allow is fenced too, should somebody give it more


@pytest.fixture
def as_admin(kubectl: Kubectl, account: Account) -> Iterator[Account]:
    """The account, bound to cluster-admin by mistake."""
    words = ("clusterrolebinding", "e2e-fence")
    kubectl.run("delete", *words, "--ignore-not-found")
    kubectl.run("create", *words, "--clusterrole=cluster-admin", f"--user={ACCOUNT}")
    eventually(
        lambda: Kubectl(f"--as={ACCOUNT}").run("auth", "can-i", "*", "*"),
        deadline=30,
        what="the account may do everything",
    )
    yield account
    kubectl.run("delete", *words)


def test_even_an_admin_s_account_writes_nothing_else(as_admin: Account) -> None:
    where = ("-n", NAMESPACE)
    for words in (
        ("create", "configmap", "more", *where),
        ("create", "namespace", "more"),
        ("create", "clusterrolebinding", "more", "--clusterrole=admin", "--user=a"),
        ("delete", "secret", "theirs", *where),
        ("delete", "pod", "fenced-0", *where),
        ("delete", "pvc", "spool-fenced-0", *where),
        ("label", "namespace", NAMESPACE, "mail=allowed"),
        ("scale", "statefulset", "theirs", "--replicas=3", *where),
    ):
        said = refusal(lambda words=words: as_admin.run(*words))
        assert "the mailrelay operator may not do this" in said, words
    with pytest.raises(KubectlFailed, match="may not do this: CREATE serviceaccounts/token"):
        Kubectl(f"--as={ACCOUNT}").run("create", "token", "theirs", *where)


# --- for everybody


def test_a_relay_ref_is_not_moved_by_naming_another_namespace(
    kubectl: Kubectl, account: Account
) -> None:
    mine = {
        "apiVersion": "mailrelay.dev/v1alpha1",
        "kind": "MailSender",
        "metadata": {"name": "mine", "namespace": NAMESPACE},
        "spec": {
            "relayRef": {"name": "nobody"},
            "from": ["*@example.com"],
            "credentials": {"secretName": "mine-smtp"},
        },
    }
    kubectl.apply(mine)
    own = {"spec": {"relayRef": {"namespace": NAMESPACE}}}
    words = ("patch", SENDERS, "mine", "-n", NAMESPACE, "--type=merge", "--dry-run=server", "-p")
    kubectl.run(*words, json.dumps(own))
    other = {"spec": {"relayRef": {"namespace": "default"}}}
    with pytest.raises(KubectlFailed, match="relayRef is immutable: create another"):
        kubectl.run(*words, json.dumps(other))
    kubectl.delete(SENDERS, "mine", NAMESPACE)
