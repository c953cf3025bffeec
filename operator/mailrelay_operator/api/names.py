"""Every name that we derive: objects, labels, annotations, Secret types, ports' names, the field
manager. Pure.

A name is written nowhere else. What a StatefulSet cannot change (serviceName, selector, claim
template) is made from these, so none of those names may ever change.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from mailrelay_gateway.contract.documents import SENDER_SHARES
from mailrelay_gateway.contract.files import RELAY_FILE, share_name, share_of
from mailrelay_operator.api.metadata import GROUP

#: A DNS-1035 label: what a Service may be called. 45, so that NAME-senders-15 and a pod's labels
#: with NAME and a hash of a revision stay within 63.
RELAY_NAME = "[a-z]([a-z0-9-]*[a-z0-9])?"
MAX_RELAY_NAME = 45

#: The value of the label managed-by, and the manager of every field that we apply.
FIELD_MANAGER = "mailrelay"
#: A manager per writer: to the API server one name used with two operations is two managers, and
#: what one of them wrote the other could never take back. What is created with POST is created by a
#: manager that never applies.
FIELD_MANAGER_CREATE = f"{FIELD_MANAGER}-create"
FIELD_MANAGER_PATCH = f"{FIELD_MANAGER}-patch"
FIELD_MANAGER_STATUS = f"{FIELD_MANAGER}-status"

# --- labels
LABEL_NAME = "app.kubernetes.io/name"
LABEL_INSTANCE = "app.kubernetes.io/instance"
LABEL_COMPONENT = "app.kubernetes.io/component"
LABEL_MANAGED_BY = "app.kubernetes.io/managed-by"
LABEL_RELAY = f"{GROUP}/relay"
#: On pods: "true" while Services send clients there; "false" while it drains.
LABEL_ACCEPTING = f"{GROUP}/accepting"
#: On a tenant's Secret: the MailSender it was written for.
LABEL_SENDER = f"{GROUP}/sender"
#: On a Secret that is not ours: "true" says that it is a login that we may read.
LABEL_CREDENTIALS = f"{GROUP}/credentials"

APP_NAME = "mailrelay"
COMPONENT_GATEWAY = "gateway"

# --- annotations
#: On pods: the digest that they shall run; a change makes the kubelet look at the Secrets at once.
ANNOTATION_DIGEST = f"{GROUP}/config-digest"
#: On a MailSender: any new value ends all its passwords at once.
ANNOTATION_REVOKE = f"{GROUP}/revoke"
#: On a MailSender: "true" takes over the Secret that was written for a MailSender of the same name
#: that no longer exists (after a restore), and keeps its password.
ANNOTATION_ADOPT = f"{GROUP}/adopt-secret"
#: On every object that we apply: the hash of what was applied last.
ANNOTATION_APPLIED = f"{GROUP}/applied"
#: On a StatefulSet: a hash of what its owner asked for, to tell a new operator's changes from his.
ANNOTATION_PLANNED_FROM = f"{GROUP}/planned-from"
#: On a tenant's Secret: when its password was minted.
ANNOTATION_MINTED = f"{GROUP}/minted"

# --- types of Secrets: each one that we write has one of these; the chart's policy allows no other
SECRET_TYPE_BINDING = "servicebinding.io/smtp"  # noqa: S105 - a type, not a password
SECRET_TYPE_CONFIG = f"{GROUP}/config"
SECRET_TYPE_CA = f"{GROUP}/ca"
SECRET_TYPE_ADMIN = f"{GROUP}/admin"
SECRET_TYPES = (
    SECRET_TYPE_BINDING,
    SECRET_TYPE_CONFIG,
    SECRET_TYPE_CA,
    SECRET_TYPE_ADMIN,
)

# --- names of ports in pods and Services, beside those of the listeners
PORT_NAME_ADMIN = "admin"
PORT_NAME_PEER = "peer"

#: What minted_username gives: a namespace (DNS-1123 label), a dot, an object's name.
_MINTED = re.compile(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?([.][a-z0-9]([a-z0-9-]*[a-z0-9])?)+")

#: A name that the certificate of every relay carries, so that Prometheus, which knows addresses
#: only and has one name for all of them, can verify the admin ports.
ADMIN_SERVER_NAME = "mailrelay-gateway"

CLAIM_TEMPLATE = "spool"
GATEWAY_CONTAINER = "gateway"


def stateful_set_name(relay: str) -> str:
    """The StatefulSet of a relay."""
    return relay


def service_name(relay: str) -> str:
    """The Service by which clients reach a relay."""
    return relay


def pods_service_name(relay: str) -> str:
    """The headless Service that names the pods (the StatefulSet's serviceName, for life)."""
    return f"{relay}-pods"


def pod_name(relay: str, ordinal: int) -> str:
    """A pod of a relay."""
    return f"{stateful_set_name(relay)}-{ordinal}"


def claim_name(relay: str, ordinal: int) -> str:
    """The PersistentVolumeClaim of a pod."""
    return f"{CLAIM_TEMPLATE}-{pod_name(relay, ordinal)}"


def service_account_name(relay: str) -> str:
    """The ServiceAccount of the pods, which may do nothing."""
    return f"{relay}-gateway"


def disruption_budget_name(relay: str) -> str:
    """The PodDisruptionBudget of a relay."""
    return relay


def network_policy_name(relay: str) -> str:
    """The NetworkPolicy of a relay's pods."""
    return f"{relay}-gateway"


def config_secret_name(relay: str) -> str:
    """The Secret that holds a relay's own part of the configuration."""
    return f"{relay}-config"


def senders_secret_name(relay: str, share: int) -> str:
    """The Secret that holds one share of a relay's senders: NAME-senders-00 to NAME-senders-15."""
    return f"{relay}-{share_name(share)}"


def config_secret_names(relay: str) -> Mapping[str, str]:
    """The Secret of each file of the configuration: `relay`, `senders-00`, ..., in the order of
    the files.
    """
    shares = {
        share_name(share): senders_secret_name(relay, share) for share in range(SENDER_SHARES)
    }
    return {RELAY_FILE: config_secret_name(relay), **shares}


def sender_share(uid: str) -> int:
    """Which share holds the MailSender of this UID (by SHA-256)."""
    return share_of(uid)


def ca_secret_name(relay: str) -> str:
    """The Secret with a relay's private CA; its key never reaches the gateway."""
    return f"{relay}-ca"


def admin_secret_name(relay: str) -> str:
    """The Secret with the token of a relay's admin port."""
    return f"{relay}-admin"


def selector_labels(relay: str) -> dict[str, str]:
    """The labels by which a relay's pods are selected, for life."""
    return {LABEL_NAME: APP_NAME, LABEL_COMPONENT: COMPONENT_GATEWAY, LABEL_RELAY: relay}


def relay_labels(relay: str) -> dict[str, str]:
    """The labels of every object of a relay."""
    return {**selector_labels(relay), LABEL_INSTANCE: relay, LABEL_MANAGED_BY: FIELD_MANAGER}


def scale_selector(relay: str) -> str:
    """The pods' selector as text, as the scale subresource wants it."""
    return ",".join(f"{key}={value}" for key, value in sorted(selector_labels(relay).items()))


def minted_username(namespace: str, name: str) -> str:
    """The username of a MailSender whose password we mint: unique, since namespaces hold no dot."""
    return f"{namespace}.{name}"


def username_is_anothers(username: str, namespace: str) -> bool:
    """Whether a username has the form of one that is minted in another namespace (NAMESPACE.NAME):
    nobody else may bring it along, not even while there is no such MailSender.
    """
    owner, dot, _ = username.partition(".")
    return bool(dot) and owner != namespace and _MINTED.fullmatch(username) is not None


def service_host(relay: str, namespace: str) -> str:
    """The name by which a relay's Service is reached from every namespace."""
    return f"{service_name(relay)}.{namespace}.svc"


def service_hosts(relay: str, namespace: str, cluster_domain: str) -> tuple[str, ...]:
    """Every name of a relay's Service, shortest first: they all stand in the private CA's leaf."""
    name = service_name(relay)
    within = f"{name}.{namespace}"
    return (
        name,
        within,
        f"{within}.{cluster_domain}",
        f"{within}.svc",
        f"{within}.svc.{cluster_domain}",
    )
