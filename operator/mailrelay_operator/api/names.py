"""All derived names: of objects, labels, annotations, Secret types, ports and the field managers.
Pure.

No other module spells out a name. A StatefulSet's immutable fields (serviceName, selector, claim
template) derive from these, so those names may never change.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from mailrelay_gateway.contract.documents import SENDER_SHARES
from mailrelay_gateway.contract.files import RELAY_FILE, share_name, share_of
from mailrelay_operator.api.metadata import GROUP

#: A DNS-1035 label, as a Service's name must be. At most 45 characters, so that NAME-senders-15 and
#: the pods' label with NAME and a revision hash stay within 63.
RELAY_NAME = "[a-z]([a-z0-9-]*[a-z0-9])?"
MAX_RELAY_NAME = 45

#: The value of the label managed-by, and the field manager of everything that is applied.
FIELD_MANAGER = "mailrelay"
#: A field manager per operation: to the API server one name used with two operations is two
#: managers, and neither can remove fields of the other. Objects created with POST have a manager
#: that never applies.
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
#: On a user's Secret: "true" marks it as credentials that the operator may read.
LABEL_CREDENTIALS = f"{GROUP}/credentials"

APP_NAME = "mailrelay"
COMPONENT_GATEWAY = "gateway"

# --- annotations
#: On pods: the digest of the wanted configuration; a change makes the kubelet sync Secrets at once.
ANNOTATION_DIGEST = f"{GROUP}/config-digest"
#: On a MailSender: any new value revokes all its passwords at once.
ANNOTATION_REVOKE = f"{GROUP}/revoke"
#: On a MailSender: "true" adopts the Secret of a deleted MailSender of the same name (after a
#: restore), and keeps its password.
ANNOTATION_ADOPT = f"{GROUP}/adopt-secret"
#: On every applied object: the hash of its last applied state.
ANNOTATION_APPLIED = f"{GROUP}/applied"
#: On a StatefulSet: a hash of the relay's spec, to tell its changes from those of a new operator.
ANNOTATION_PLANNED_FROM = f"{GROUP}/planned-from"
#: On a tenant's Secret: when its password was generated.
ANNOTATION_MINTED = f"{GROUP}/minted"

# --- types of the Secrets that the operator writes; the chart's policy allows it no others
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

# --- names of ports in pods and Services besides the listeners'
PORT_NAME_ADMIN = "admin"
PORT_NAME_PEER = "peer"

#: The form of minted_username: a namespace (DNS-1123 label), a dot, an object's name.
_MINTED = re.compile(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?([.][a-z0-9]([a-z0-9-]*[a-z0-9])?)+")

#: A name in the certificate of every relay, so that Prometheus, which scrapes by IP address and has
#: one server name for all targets, can verify the admin ports.
ADMIN_SERVER_NAME = "mailrelay-gateway"

CLAIM_TEMPLATE = "spool"
GATEWAY_CONTAINER = "gateway"


def stateful_set_name(relay: str) -> str:
    """The StatefulSet of a relay."""
    return relay


def service_name(relay: str) -> str:
    """The Service through which clients reach a relay."""
    return relay


def pods_service_name(relay: str) -> str:
    """The headless Service of the pods (the StatefulSet's serviceName, which is immutable)."""
    return f"{relay}-pods"


def pod_name(relay: str, ordinal: int) -> str:
    """A pod of a relay."""
    return f"{stateful_set_name(relay)}-{ordinal}"


def claim_name(relay: str, ordinal: int) -> str:
    """The PersistentVolumeClaim of a pod."""
    return f"{CLAIM_TEMPLATE}-{pod_name(relay, ordinal)}"


def service_account_name(relay: str) -> str:
    """The ServiceAccount of the pods, which has no permissions."""
    return f"{relay}-gateway"


def disruption_budget_name(relay: str) -> str:
    """The PodDisruptionBudget of a relay."""
    return relay


def network_policy_name(relay: str) -> str:
    """The NetworkPolicy of a relay's pods."""
    return f"{relay}-gateway"


def config_secret_name(relay: str) -> str:
    """The Secret with the relay's own part of the configuration."""
    return f"{relay}-config"


def senders_secret_name(relay: str, share: int) -> str:
    """The Secret with one share of a relay's senders: NAME-senders-00 to NAME-senders-15."""
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
    """The share of the MailSender with this UID (by SHA-256)."""
    return share_of(uid)


def ca_secret_name(relay: str) -> str:
    """The Secret with a relay's private CA; the gateway never gets its key."""
    return f"{relay}-ca"


def admin_secret_name(relay: str) -> str:
    """The Secret with the token of a relay's admin port."""
    return f"{relay}-admin"


def selector_labels(relay: str) -> dict[str, str]:
    """The labels that select a relay's pods; immutable."""
    return {LABEL_NAME: APP_NAME, LABEL_COMPONENT: COMPONENT_GATEWAY, LABEL_RELAY: relay}


def relay_labels(relay: str) -> dict[str, str]:
    """The labels of every object of a relay."""
    return {**selector_labels(relay), LABEL_INSTANCE: relay, LABEL_MANAGED_BY: FIELD_MANAGER}


def scale_selector(relay: str) -> str:
    """The pods' selector as text, for the scale subresource."""
    return ",".join(f"{key}={value}" for key, value in sorted(selector_labels(relay).items()))


def minted_username(namespace: str, name: str) -> str:
    """The username with a generated password: unique, since namespaces contain no dot."""
    return f"{namespace}.{name}"


def username_is_anothers(username: str, namespace: str) -> bool:
    """Whether a username has the form of a generated one of another namespace (NAMESPACE.NAME). It
    is reserved even while there is no such MailSender.
    """
    owner, dot, _ = username.partition(".")
    return bool(dot) and owner != namespace and _MINTED.fullmatch(username) is not None


def service_host(relay: str, namespace: str) -> str:
    """The DNS name of a relay's Service, valid in every namespace."""
    return f"{service_name(relay)}.{namespace}.svc"


def service_hosts(relay: str, namespace: str, cluster_domain: str) -> tuple[str, ...]:
    """Every DNS name of a relay's Service, shortest first: the names in its certificate."""
    name = service_name(relay)
    within = f"{name}.{namespace}"
    return (
        name,
        within,
        f"{within}.{cluster_domain}",
        f"{within}.svc",
        f"{within}.svc.{cluster_domain}",
    )
