"""The port: the interface to a cluster that the operator needs.

Only Protocols, values and errors. kube.py implements them with the Kubernetes client, tests in
memory. Every call has a deadline, and raises only a ClusterError.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from mailrelay_gateway.contract.status import GatewayStatus
from mailrelay_operator.plan.objects import Manifest


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """A kind of object: `api_version` and `name` as in a manifest, `plural` as in a path."""

    api_version: str
    name: str
    plural: str
    namespaced: bool = True


MAIL_RELAY = Kind(api_version="mailrelay.dev/v1alpha1", name="MailRelay", plural="mailrelays")
MAIL_SENDER = Kind(api_version="mailrelay.dev/v1alpha1", name="MailSender", plural="mailsenders")
MAIL_DOMAIN = Kind(api_version="mailrelay.dev/v1alpha1", name="MailDomain", plural="maildomains")
NAMESPACE = Kind(api_version="v1", name="Namespace", plural="namespaces", namespaced=False)
SECRET = Kind(api_version="v1", name="Secret", plural="secrets")
CONFIG_MAP = Kind(api_version="v1", name="ConfigMap", plural="configmaps")
SERVICE = Kind(api_version="v1", name="Service", plural="services")
SERVICE_ACCOUNT = Kind(api_version="v1", name="ServiceAccount", plural="serviceaccounts")
POD = Kind(api_version="v1", name="Pod", plural="pods")
CLAIM = Kind(api_version="v1", name="PersistentVolumeClaim", plural="persistentvolumeclaims")
STATEFUL_SET = Kind(api_version="apps/v1", name="StatefulSet", plural="statefulsets")
DISRUPTION_BUDGET = Kind(
    api_version="policy/v1", name="PodDisruptionBudget", plural="poddisruptionbudgets"
)
NETWORK_POLICY = Kind(
    api_version="networking.k8s.io/v1", name="NetworkPolicy", plural="networkpolicies"
)
EVENT = Kind(api_version="events.k8s.io/v1", name="Event", plural="events")

#: Every kind that the operator reads or writes, by its name in a manifest.
KINDS: Mapping[str, Kind] = {
    kind.name: kind
    for kind in (
        MAIL_RELAY,
        MAIL_SENDER,
        MAIL_DOMAIN,
        NAMESPACE,
        SECRET,
        CONFIG_MAP,
        SERVICE,
        SERVICE_ACCOUNT,
        POD,
        CLAIM,
        STATEFUL_SET,
        DISRUPTION_BUDGET,
        NETWORK_POLICY,
        EVENT,
    )
}


class ClusterError(Exception):
    """A failed request: `doing` says what was attempted, `detail` what the cluster answered."""

    def __init__(self, doing: str, detail: str) -> None:
        """Describe the request and the answer."""
        super().__init__(f"{doing}: {detail}")
        self.doing = doing
        self.detail = detail


class NotFound(ClusterError):
    """The object does not exist."""


class Conflict(ClusterError):
    """The object already exists, has another UID than expected, or was changed meanwhile."""


class Forbidden(ClusterError):
    """RBAC does not allow it, or an admission policy refused it."""


class Invalid(ClusterError):
    """The API server rejected the object's contents."""


class Unavailable(ClusterError):
    """No usable answer: deadline, connection, 429 or 5xx. The result is unknown; try again later.

    `answered`: the API server is available, but failed for this object, for example in a webhook.
    """

    def __init__(self, doing: str, detail: str, *, answered: bool = False) -> None:
        """Describe the request, the answer, and whether the API server sent one."""
        super().__init__(doing, detail)
        self.answered = answered


class Expired(ClusterError):
    """The requested version is too old: list again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WatchEvent:
    """One event of a watch: the current object or, if `gone`, its last state. A bookmark has only a
    version. `version` is where to resume."""

    version: str
    found: Manifest | None = None
    gone: bool = False


class Cluster(Protocol):
    """The API server."""

    async def served(self, api_version: str) -> frozenset[str]:
        """The plurals that the API server serves in this group and version; empty if it does not
        serve them."""
        ...

    async def get(self, kind: Kind, namespace: str, name: str) -> Manifest:
        """The object; NotFound."""
        ...

    async def version(self, kind: Kind, namespace: str, name: str) -> str:
        """The object's resourceVersion, without its contents, possibly slightly stale; raises
        NotFound."""
        ...

    async def list(
        self,
        kind: Kind,
        namespace: str | None,
        *,
        labels: Mapping[str, str] | None = None,
        trim: Callable[[Manifest], Manifest] | None = None,
    ) -> tuple[tuple[Manifest, ...], str]:
        """All objects of one namespace, or (None) of all, and the version of the list; never a
        partial list. Of each object only what `trim` returns is kept."""
        ...

    def watch(
        self,
        kind: Kind,
        namespace: str | None,
        *,
        version: str,
        labels: Mapping[str, str] | None = None,
    ) -> AsyncIterator[WatchEvent]:
        """Changes after `version`, until the API server ends the watch after some minutes. Raises
        Expired if it is too old, Unavailable if the connection broke or went silent."""
        ...

    async def create(self, manifest: Manifest) -> Manifest:
        """POST; Conflict when an object of that name exists."""
        ...

    async def apply(self, manifest: Manifest, *, force: bool = True) -> Manifest:
        """Server-side apply. With `metadata.uid` or `metadata.resourceVersion`, raises Conflict
        unless exactly that object or version exists; without `force`, also if another manager owns
        a field that this changes."""
        ...

    async def apply_status(self, manifest: Manifest) -> Manifest:
        """Server-side apply of `status`; raises NotFound if the object is gone."""
        ...

    async def merge(self, kind: Kind, namespace: str, name: str, patch: Manifest) -> Manifest:
        """JSON merge patch (RFC 7396); with `metadata.uid`, raises Conflict unless exactly that
        object exists."""
        ...

    async def delete(
        self, kind: Kind, namespace: str, name: str, *, uid: str, orphan: bool = False
    ) -> None:
        """Delete exactly this object, with its dependents or (orphan) without; its absence is not
        an error."""
        ...


class Gateways(Protocol):
    """The admin port of the gateway's pods."""

    async def status(self, address: str, token: str, *, authority: str, name: str) -> GatewayStatus:
        """GET /status of the pod at this IP address, within two seconds, if it has a certificate
        for `name` issued by this CA (PEM); raises Unavailable or Forbidden."""
        ...
