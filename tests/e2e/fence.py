"""What the tests of the fence are made of: what the operator plans, what belongs to a tenant, and
what the operator never plans."""

from __future__ import annotations

import copy
import os
from dataclasses import replace
from typing import Any

from mailrelay_operator.api.mailrelay import MailRelaySpec
from mailrelay_operator.plan.facts import Authority, Place
from mailrelay_operator.plan.manifests import network, secrets, services, statefulset
from mailrelay_operator.plan.succession import Authorities
from tests.e2e.conftest import OPERATOR_NAMESPACE, RELEASE
from tests.e2e.kubectl import Manifest

NAMESPACE = "e2e-fence"
IMAGE = os.environ.get("MAILRELAY_GATEWAY_IMAGE", "mailrelay-gateway:e2e")
REPOSITORY = IMAGE.rpartition(":")[0]
ACCOUNT = f"system:serviceaccount:{OPERATOR_NAMESPACE}:{RELEASE}"
NAME = "fenced"
RELAY: Manifest = {
    "apiVersion": "mailrelay.dev/v1alpha1",
    "kind": "MailRelay",
    "metadata": {"name": NAME, "namespace": NAMESPACE, "uid": "0-0-0-0-0"},
}
SPEC: dict[str, Any] = {
    "hostname": "relay.example.com",
    "upstreams": [{"name": "box", "sandbox": {}}],
    "template": {"imagePullSecrets": [{"name": "registry"}]},
    "service": {"annotations": {"example.com/internal": "true"}},
}
PLACE = Place(image=IMAGE, operator_namespace=OPERATOR_NAMESPACE)
#: What the pods, claims and other children of a relay are labelled with.
OURS = {
    "app.kubernetes.io/name": "mailrelay",
    "app.kubernetes.io/component": "gateway",
    "mailrelay.dev/relay": NAME,
}
MANAGED = OURS | {
    "app.kubernetes.io/managed-by": "mailrelay",
    "app.kubernetes.io/instance": NAME,
    "mailrelay.dev/accepting": "true",
}


def planned(**spec: Any) -> dict[str, Manifest]:
    """What the operator applies for a MailRelay, by kind; one Secret stands for all of them."""
    read = MailRelaySpec.model_validate(SPEC | spec)
    made = [
        statefulset.service_account(RELAY),
        statefulset.stateful_set(RELAY, read, place=PLACE, replicas=1, volume_size="10Gi"),
        services.client_service(RELAY, read),
        network.network_policy(RELAY, read, PLACE),
        network.disruption_budget(RELAY),
        secrets.ca_secret(RELAY, Authorities(current=Authority(certificate="c", key="k"))),
    ]
    return {one["kind"]: one for one in made}


def federated(audience: str) -> Manifest:
    """The StatefulSet of a MailRelay that logs in with a token of the pod's, for this audience."""
    login = {
        "username": "robot@example.com",
        "flow": "Federated",
        "tokenURL": "https://login.example.com/token",
        "clientID": "client",
    }
    smarthost = {"hosts": [{"host": "smtp.example.com"}], "auth": {"oauth2": login}}
    read = MailRelaySpec.model_validate(
        SPEC | {"upstreams": [{"name": "out", "smarthost": smarthost}]}
    )
    place = replace(PLACE, token_audiences=("api://AzureADTokenExchange",))
    made = statefulset.stateful_set(RELAY, read, place=place, replicas=1, volume_size="10Gi")
    (tokens,) = [
        one for one in made["spec"]["template"]["spec"]["volumes"] if one["name"] == "tokens"
    ]
    (source,) = tokens["projected"]["sources"]
    source["serviceAccountToken"]["audience"] = audience
    if not audience:  # that of the API server, as Kubernetes has it
        del source["serviceAccountToken"]["audience"]
    return made


def changed(manifest: Manifest, path: str, value: Any) -> Manifest:
    """The manifest with another value at `a.b.0.c`; `-` appends to a list."""
    made = copy.deepcopy(manifest)
    at: Any = made
    *above, last = path.split(".")
    for step in above:
        at = at[int(step)] if isinstance(at, list) else at.setdefault(step, {})
    if last == "-":
        at.append(value)
    elif isinstance(at, list):
        at[int(last)] = value
    else:
        at[last] = value
    return made


def metadata(name: str, labels: dict[str, str] | None = None, where: str = NAMESPACE) -> Manifest:
    return {"name": name, "namespace": where, "labels": labels or {}}


def pod(name: str, where: str, labels: dict[str, str], **spec: Any) -> Manifest:
    """A pod that no node is asked to run."""
    waiting = {"schedulingGates": [{"name": "example.com/never"}]}
    container = {"name": "gateway", "image": IMAGE}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": metadata(name, labels, where),
        "spec": {"containers": [container], **waiting, **spec},
    }


def claim(name: str, labels: dict[str, str]) -> Manifest:
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": metadata(name, labels),
        "spec": {
            "accessModes": ["ReadWriteOnce"],
            "storageClassName": "none",
            "resources": {"requests": {"storage": "1Gi"}},
        },
    }


THEIR_LABELS = {"app": "theirs"}
THEIRS: tuple[Manifest, ...] = (
    pod("e2e-fence", "kube-system", THEIR_LABELS, hostNetwork=True),
    pod("theirs", NAMESPACE, THEIR_LABELS),
    claim("spool-theirs", THEIR_LABELS),
    {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": metadata("theirs"),
        "type": "servicebinding.io/smtp",
        "stringData": {"password": "another provisioner's"},
    },
    {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": metadata("theirs"),
        "spec": {"selector": THEIR_LABELS, "ports": [{"port": 80}]},
    },
    {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata("theirs")},
    {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": metadata("theirs"),
        "spec": {"podSelector": {}, "policyTypes": ["Ingress"]},
    },
    {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": metadata("theirs"),
        "spec": {"maxUnavailable": 0, "selector": {"matchLabels": THEIR_LABELS}},
    },
    {
        "apiVersion": "apps/v1",
        "kind": "StatefulSet",
        "metadata": metadata("theirs"),
        "spec": {
            "replicas": 0,
            "serviceName": "theirs",
            "selector": {"matchLabels": THEIR_LABELS},
            "template": {
                "metadata": {"labels": THEIR_LABELS},
                "spec": {"containers": [{"name": "db", "image": "db:1"}]},
            },
        },
    },
)


def owner() -> Manifest:
    return {
        "apiVersion": "mailrelay.dev/v1alpha1",
        "kind": "MailRelay",
        "name": NAME,
        "uid": "0-0-0-0-0",
        "controller": True,
    }


POD = "spec.template.spec."
CONTAINER = f"{POD}containers.0."
PINNED: tuple[tuple[str, str, Any, str], ...] = (
    ("StatefulSet", "metadata.labels", {}, "may write only objects labelled"),
    ("StatefulSet", "metadata.ownerReferences", [], "owned by a MailRelay"),
    ("StatefulSet", "metadata.finalizers", ["example.com/stuck"], "may not set finalizers"),
    ("StatefulSet", "metadata.name", "another", "must have the name of its MailRelay"),
    ("StatefulSet", f"{POD}serviceAccountName", "default", "the ServiceAccount NAME-gateway"),
    ("StatefulSet", f"{POD}automountServiceAccountToken", True, "must not mount its API token"),
    ("StatefulSet", f"{POD}hostNetwork", True, "must not use host namespaces"),
    ("StatefulSet", f"{POD}hostPID", True, "must not use host namespaces"),
    ("StatefulSet", f"{POD}hostIPC", True, "must not use host namespaces"),
    ("StatefulSet", f"{POD}shareProcessNamespace", True, "must not use host namespaces"),
    ("StatefulSet", f"{POD}nodeName", "control-plane", "nodeName or runtimeClassName"),
    ("StatefulSet", f"{POD}runtimeClassName", "other", "must not use host namespaces"),
    ("StatefulSet", f"{POD}securityContext.runAsNonRoot", False, "must run as non-root"),
    ("StatefulSet", f"{POD}securityContext.runAsUser", 0, "must run as non-root"),
    (
        "StatefulSet",
        f"{POD}securityContext.seccompProfile.type",
        "Unconfined",
        "the seccomp profile RuntimeDefault",
    ),
    (
        "StatefulSet",
        f"{POD}securityContext.sysctls",
        [{"name": "kernel.msgmax", "value": "1"}],
        "set no other security options",
    ),
    (
        "StatefulSet",
        f"{POD}securityContext.seLinuxOptions",
        {"type": "spc_t"},
        "set no other security options",
    ),
    (
        "StatefulSet",
        f"{POD}securityContext.supplementalGroups",
        [0],
        "set no other security options",
    ),
    (
        "StatefulSet",
        "spec.template.metadata.annotations",
        {"k8s.v1.cni.cncf.io/networks": "host"},
        "no annotations other than",
    ),
    (
        "StatefulSet",
        f"{POD}containers.-",
        {"name": "two", "image": IMAGE},
        "must have exactly one container",
    ),
    ("StatefulSet", f"{POD}containers.0.name", "other", "must have exactly one container"),
    (
        "StatefulSet",
        f"{POD}initContainers",
        [{"name": "first", "image": IMAGE}],
        "must have exactly one container",
    ),
    ("StatefulSet", f"{CONTAINER}image", "evil:1", "a gateway's image must be from"),
    ("StatefulSet", f"{CONTAINER}image", f"{REPOSITORY}-evil:1", "a gateway's image must be from"),
    ("StatefulSet", f"{CONTAINER}image", f"evil/{IMAGE}", "a gateway's image must be from"),
    ("StatefulSet", f"{CONTAINER}command", ["sh"], "the image's own program"),
    ("StatefulSet", f"{CONTAINER}env", [{"name": "A", "value": "b"}], "without environment"),
    (
        "StatefulSet",
        f"{CONTAINER}envFrom",
        [{"secretRef": {"name": "theirs"}}],
        "without environment",
    ),
    (
        "StatefulSet",
        f"{CONTAINER}lifecycle",
        {"postStart": {"exec": {"command": ["sh"]}}},
        "without environment, hooks",
    ),
    ("StatefulSet", f"{CONTAINER}ports.0.hostPort", 2525, "devices and host ports"),
    (
        "StatefulSet",
        f"{CONTAINER}securityContext",
        {"privileged": True, "allowPrivilegeEscalation": True},
        "must have no privileges",
    ),
    ("StatefulSet", f"{CONTAINER}securityContext.allowPrivilegeEscalation", True, "no privileges"),
    ("StatefulSet", f"{CONTAINER}securityContext.readOnlyRootFilesystem", False, "read-only root"),
    (
        "StatefulSet",
        f"{CONTAINER}securityContext.capabilities.add",
        ["SYS_ADMIN"],
        "no capabilities",
    ),
    ("StatefulSet", f"{CONTAINER}securityContext.capabilities.drop", [], "no capabilities"),
    ("StatefulSet", f"{CONTAINER}securityContext.runAsUser", 0, "must have no privileges"),
    ("StatefulSet", f"{CONTAINER}securityContext.runAsNonRoot", False, "must have no privileges"),
    (
        "StatefulSet",
        f"{CONTAINER}securityContext.seccompProfile",
        {"type": "Unconfined"},
        "must have no privileges",
    ),
    *(
        (
            "StatefulSet",
            f"{POD}volumes.-",
            {"name": "more", **volume},
            "may mount only empty directories",
        )
        for volume in (
            {"hostPath": {"path": "/"}},
            {"secret": {"secretName": "theirs"}},
            {"configMap": {"name": "theirs"}},
            {"persistentVolumeClaim": {"claimName": "spool-theirs"}},
            {"projected": {"sources": [{"secret": {"name": "theirs"}}]}},
            {"projected": {"sources": [{"serviceAccountToken": {"path": "token"}}]}},
            {"projected": {"sources": [{"configMap": {"name": "fenced-x"}}]}},
            {"csi": {"driver": "example.com"}},
            {"nfs": {"server": "a", "path": "/"}},
        )
    ),
    (
        "StatefulSet",
        "spec.volumeClaimTemplates.-",
        {"metadata": {"name": "other"}, "spec": claim("other", {})["spec"]},
        "may claim only one volume",
    ),
    ("Service", "metadata.labels", {}, "may write only objects labelled"),
    ("Service", "metadata.ownerReferences", [], "owned by a MailRelay"),
    ("Service", "metadata.finalizers", ["example.com/stuck"], "may not set finalizers"),
    ("Service", "spec.selector", {"k8s-app": "kube-dns"}, "must select only gateways of its own"),
    ("Service", "spec.selector", OURS | {"mailrelay.dev/relay": "b"}, "must select only gateways"),
    ("Service", "spec.externalIPs", ["192.0.2.1"], "must not set external addresses"),
    (
        "Service",
        "spec",
        {"type": "ExternalName", "externalName": "evil.example.com", "selector": OURS},
        "must not set external addresses",
    ),
    ("NetworkPolicy", "spec.podSelector", {}, "must select only gateways of its own"),
    ("NetworkPolicy", "metadata.labels", {}, "may write only objects labelled"),
    ("PodDisruptionBudget", "spec.selector", {}, "must select only gateways of its own"),
    ("PodDisruptionBudget", "metadata.labels", {}, "may write only objects labelled"),
    ("ServiceAccount", "automountServiceAccountToken", True, "must not mount its token"),
    ("ServiceAccount", "metadata.name", "default2", "must be NAME-gateway"),
    ("ServiceAccount", "imagePullSecrets", [{"name": "theirs"}], "must not mount its token"),
    ("ServiceAccount", "secrets", [{"name": "theirs"}], "must not mount its token"),
    ("Secret", "type", "Opaque", "may write only Secrets of type"),
    ("Secret", "metadata.labels", {}, "may write only objects labelled"),
    ("Secret", "metadata.ownerReferences", [], "owned by a MailRelay"),
)
