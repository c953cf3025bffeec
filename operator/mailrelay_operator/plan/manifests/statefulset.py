"""The StatefulSet of a relay and its ServiceAccount: pods that the restricted Pod Security
Standard admits. Pure.

serviceName, selector, claim template and pod management policy are immutable in a StatefulSet.
"""

from __future__ import annotations

from collections.abc import Sequence

from mailrelay_gateway.contract.documents import ADMIN_PORT
from mailrelay_gateway.contract.files import FILE_NAME
from mailrelay_gateway.contract.oauth2 import TOKENS_FOLDER, token_file_name
from mailrelay_operator.api.mailrelay import MailRelaySpec
from mailrelay_operator.api.names import (
    ANNOTATION_PLANNED_FROM,
    CLAIM_TEMPLATE,
    GATEWAY_CONTAINER,
    LABEL_ACCEPTING,
    PORT_NAME_ADMIN,
    config_secret_names,
    pods_service_name,
    relay_labels,
    selector_labels,
    service_account_name,
    stateful_set_name,
)
from mailrelay_operator.plan.facts import Place
from mailrelay_operator.plan.manifests.metadata import child
from mailrelay_operator.plan.manifests.services import by_port, port_name
from mailrelay_operator.plan.objects import Manifest, name_of
from mailrelay_operator.plan.rollout import planned_from
from mailrelay_operator.plan.token_logins import audiences

CONFIG_FOLDER = "/etc/mailrelay"
SPOOL_FOLDER = "/var/spool/mailrelay"
TOKENS_VOLUME = "tokens"
#: Seconds: an hour, as for every pod's default token. Identity providers accept at most a day.
TOKEN_SECONDS = 3600
#: Octets of the node's disk for /tmp (64Mi) and the container's log (10Mi a file).
EPHEMERAL_SPARE = 128 * 1024 * 1024
#: 5 s of accepting mail and 120 s for final replies, with a margin before SIGKILL.
GRACE_SECONDS = 150


def service_account(relay: Manifest) -> Manifest:
    """An identity without permissions, and without a token in the pods."""
    name = service_account_name(name_of(relay))
    return child(relay, api_version="v1", kind="ServiceAccount", name=name) | {
        "automountServiceAccountToken": False
    }


def stateful_set(
    relay: Manifest, spec: MailRelaySpec, *, place: Place, replicas: int, volume_size: str
) -> Manifest:
    """The gateway's pods. `volume_size` is the claim template's, which may differ from the spec
    while volumes are expanded."""
    name = name_of(relay)
    body: Manifest = {
        "replicas": replicas,
        "serviceName": pods_service_name(name),
        # OrderedReady never recovers from a bad image: it waits for the broken pod to become ready.
        "podManagementPolicy": "Parallel",
        "updateStrategy": {"type": "RollingUpdate"},
        "revisionHistoryLimit": 3,
        "selector": {"matchLabels": selector_labels(name)},
        "template": {
            "metadata": {"labels": relay_labels(name) | {LABEL_ACCEPTING: "true"}},
            "spec": _pod(name, spec, place),
        },
    }
    if spec.queue.kind == "storage":
        # Volumes with mail outlive the StatefulSet, its pods and even the MailRelay.
        body["persistentVolumeClaimRetentionPolicy"] = {
            "whenDeleted": "Retain",
            "whenScaled": "Retain",
        }
        body["volumeClaimTemplates"] = [_claim_template(name, spec, volume_size)]
    origin = planned_from(spec, replicas=replicas, volume_size=volume_size)
    return child(
        relay,
        api_version="apps/v1",
        kind="StatefulSet",
        name=stateful_set_name(name),
        annotations={ANNOTATION_PLANNED_FROM: origin},
    ) | {"spec": body}


def _claim_template(name: str, spec: MailRelaySpec, size: str) -> Manifest:
    volume = spec.queue.volume
    claim: Manifest = {
        "accessModes": [volume.access_mode],
        "resources": {"requests": {"storage": size}},
        "volumeMode": "Filesystem",
    }
    if volume.storage_class_name is not None:
        claim["storageClassName"] = volume.storage_class_name
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": CLAIM_TEMPLATE, "labels": selector_labels(name)},
        "spec": claim,
    }


def _pod(name: str, spec: MailRelaySpec, place: Place) -> Manifest:
    volumes: list[Manifest] = [_config_volume(name), _tmp_volume()]
    tokens = audiences(spec, place.token_audiences)
    if tokens:
        volumes.append(_tokens_volume(tokens))
    if spec.queue.kind == "ephemeral":
        # The kubelet evicts a pod above the limit, and its mail is lost: the gateway answers 452
        # well before (--queue-size). Without a limit the node would run out of disk.
        limit = str(spec.queue.size)
        volumes.append({"name": CLAIM_TEMPLATE, "emptyDir": {"sizeLimit": limit}})
    user = place.user
    pod: Manifest = {
        "serviceAccountName": service_account_name(name),
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": GRACE_SECONDS,
        "securityContext": {
            "runAsNonRoot": True,
            **({} if user is None else {"runAsUser": user, "runAsGroup": user, "fsGroup": user}),
            # Do not walk a spool of a million files at each start.
            "fsGroupChangePolicy": "OnRootMismatch",
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        # With the default ndots:5, each lookup of a smarthost tries the search domains first, where
        # a wildcard could answer.
        "dnsConfig": {"options": [{"name": "ndots", "value": "1"}]},
        "topologySpreadConstraints": [
            {
                "maxSkew": 1,
                "topologyKey": "kubernetes.io/hostname",
                "whenUnsatisfiable": "ScheduleAnyway",
                "labelSelector": {"matchLabels": selector_labels(name)},
            }
        ],
        "containers": [_container(spec, place)],
        "volumes": volumes,
    }
    secrets = (*(one.name for one in spec.template.image_pull_secrets), *place.image_pull_secrets)
    if secrets:
        pod["imagePullSecrets"] = [{"name": one} for one in dict.fromkeys(secrets)]
    return pod


def _container(spec: MailRelaySpec, place: Place) -> Manifest:
    ports: list[Manifest] = [
        {"name": port_name(listener), "containerPort": listener.pod_port, "protocol": "TCP"}
        for listener in by_port(spec.listeners)
    ]
    ports.append({"name": PORT_NAME_ADMIN, "containerPort": ADMIN_PORT, "protocol": "TCP"})
    requests = {"cpu": "100m", "memory": "128Mi"}
    bound: list[str] = []
    if spec.queue.kind == "ephemeral" and spec.queue.size is not None:
        # Reserved on the node by the scheduler; the rest is for /tmp and the log.
        requests["ephemeral-storage"] = str(spec.queue.size.octets + EPHEMERAL_SPARE)
        bound = ["--queue-size", str(spec.queue.size.octets)]
    return {
        "name": GATEWAY_CONTAINER,
        "image": spec.image or place.image,
        "imagePullPolicy": place.image_pull_policy,
        "args": [
            "--config",
            CONFIG_FOLDER,
            "--spool",
            SPOOL_FOLDER,
            "--admin",
            f"any:{ADMIN_PORT}",
            "--admin-tls",
            "--bind",
            "any",
            *bound,
        ],
        "ports": ports,
        # Reading a large spool takes time.
        "startupProbe": _probe("/livez", period=2, failures=150),
        "livenessProbe": _probe("/livez", period=10, failures=6),
        "readinessProbe": _probe("/readyz", period=5, failures=2),
        # One event loop uses one core; a CPU limit would only add latency to the final reply.
        "resources": {
            "requests": requests,
            "limits": {"memory": "512Mi"},
        },
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "volumeMounts": [
            {"name": "config", "mountPath": CONFIG_FOLDER, "readOnly": True},
            {"name": CLAIM_TEMPLATE, "mountPath": SPOOL_FOLDER},
            {"name": "tmp", "mountPath": "/tmp"},  # noqa: S108 - a mount point
            *(
                [{"name": TOKENS_VOLUME, "mountPath": TOKENS_FOLDER, "readOnly": True}]
                if audiences(spec, place.token_audiences)
                else []
            ),
        ],
    }


def _probe(path: str, *, period: int, failures: int) -> Manifest:
    return {
        "httpGet": {"path": path, "port": PORT_NAME_ADMIN, "scheme": "HTTPS"},
        "periodSeconds": period,
        "timeoutSeconds": 2,
        "failureThreshold": failures,
    }


def _config_volume(name: str) -> Manifest:
    """All files of the configuration, each optional: adding a volume later would restart the
    pods."""
    sources = [
        {
            "secret": {
                "name": secret,
                "items": [{"key": FILE_NAME, "path": f"{file}/{FILE_NAME}"}],
                "optional": True,
            }
        }
        for file, secret in config_secret_names(name).items()
    ]
    return {"name": "config", "projected": {"defaultMode": 0o440, "sources": sources}}


def _tokens_volume(wanted: Sequence[str]) -> Manifest:
    """A token of the pod's ServiceAccount for each audience, renewed by the kubelet."""
    sources = [
        {
            "serviceAccountToken": {
                "audience": audience,
                "expirationSeconds": TOKEN_SECONDS,
                "path": token_file_name(audience),
            }
        }
        for audience in wanted
    ]
    return {"name": TOKENS_VOLUME, "projected": {"defaultMode": 0o440, "sources": sources}}


def _tmp_volume() -> Manifest:
    return {"name": "tmp", "emptyDir": {"sizeLimit": "64Mi"}}
