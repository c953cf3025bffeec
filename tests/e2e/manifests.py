"""What the end-to-end tests apply: namespaces, relays, senders, and the pods of the other side."""

from __future__ import annotations

from typing import Any

from tests.e2e.kubectl import Manifest, peers_image
from tests.models.manifests import mail_relay, mail_sender

#: On every namespace of ours, so that a run finds what an earlier one left.
OURS = "mailrelay-e2e"
SINK_PORT = 2525
#: In full: kubectl asks for the first group that has such a plural, and a test may bring another.
RELAYS = "mailrelays.mailrelay.dev"
SENDERS = "mailsenders.mailrelay.dev"


def namespace(name: str, *, restricted: bool = True, **labels: str) -> Manifest:
    """A namespace; Pod Security `restricted` refuses whatever pod is not."""
    enforced = {"pod-security.kubernetes.io/enforce": "restricted"} if restricted else {}
    return {
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {"name": name, "labels": {OURS: "true", **enforced, **labels}},
    }


def relay(name: str, namespace: str, *, host: str, **spec: Any) -> Manifest:
    """A MailRelay with one smarthost without TLS, open to namespaces labelled mail=allowed."""
    smarthost = {"hosts": [{"host": host, "port": SINK_PORT}], "tls": {"mode": "None"}}
    usual = {
        "allowedSenders": [
            {
                "name": "teams",
                "namespaces": {
                    "from": "Selector",
                    "selector": {"matchLabels": {"mail": "allowed"}},
                },
                "addresses": ["*@example.com"],
            }
        ],
        "upstreams": [{"name": "smarthost", "smarthost": smarthost}],
        # Tests wait for second attempts.
        "retry": {"maxInterval": "2s"},
        "queue": {"storage": {"size": "256Mi"}},
    }
    return mail_relay(name, namespace, **(usual | spec))


def sender(name: str, namespace: str, *, relay: Manifest, **spec: Any) -> Manifest:
    """A MailSender that may send as *@example.com and gets the Secret NAME-smtp."""
    reference = {key: relay["metadata"][key] for key in ("name", "namespace")}
    return mail_sender(name, namespace, **({"relayRef": reference} | spec))


def basic_auth(name: str, namespace: str, username: str, password: str) -> Manifest:
    """A login that somebody brought along."""
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {
            "name": name,
            "namespace": namespace,
            "labels": {"mailrelay.dev/credentials": "true"},
        },
        "type": "kubernetes.io/basic-auth",
        "stringData": {"username": username, "password": password},
    }


def peer_pod(
    name: str,
    namespace: str,
    command: list[str],
    *,
    secrets: dict[str, str] | None = None,
    port: int | None = None,
    root: bool = False,
) -> Manifest:
    """A pod of the peers' image; `secrets`: names of Secrets by the folder to mount them at."""
    container: Manifest = {
        "name": "peer",
        "image": peers_image(),
        "imagePullPolicy": "IfNotPresent",
        "command": command,
        "volumeMounts": [
            {"name": f"secret-{number}", "mountPath": folder, "readOnly": True}
            for number, folder in enumerate(secrets or {})
        ],
    }
    if root:
        container["securityContext"] = {"runAsUser": 0, "runAsGroup": 0}
    else:
        container["securityContext"] = {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "runAsNonRoot": True,
            "seccompProfile": {"type": "RuntimeDefault"},
        }
    if port:
        probe = {"tcpSocket": {"port": port}, "periodSeconds": 1}
        container |= {"ports": [{"containerPort": port}], "readinessProbe": probe}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": namespace, "labels": {"peer": name}},
        "spec": {
            "automountServiceAccountToken": False,
            "terminationGracePeriodSeconds": 1,
            "containers": [container],
            "volumes": [
                {"name": f"secret-{number}", "secret": {"secretName": secret}}
                for number, secret in enumerate((secrets or {}).values())
            ],
        },
    }


def peer_service(name: str, namespace: str, port: int) -> Manifest:
    """The name by which a peer is reached: NAME.NAMESPACE.svc.cluster.local."""
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"selector": {"peer": name}, "ports": [{"port": port, "targetPort": port}]},
    }


def address(name: str, namespace: str) -> str:
    """A Service's full name: the gateway never uses search domains."""
    return f"{name}.{namespace}.svc.cluster.local"
