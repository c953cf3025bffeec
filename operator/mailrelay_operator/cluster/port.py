"""The port: all that we need of a cluster, in our own words.

Only Protocols, values and errors live here. kube.py implements them with the Kubernetes client;
tests implement them in memory. Every call has a deadline of the implementation's own, and raises
nothing but a ClusterError.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
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

#: Every kind that this operator ever reads or writes, by the name in a manifest.
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
    """The cluster did not do what we asked: `doing` says what, `detail` what it answered."""

    def __init__(self, doing: str, detail: str) -> None:
        """Say what was tried, and what came back."""
        super().__init__(f"{doing}: {detail}")
        self.doing = doing
        self.detail = detail


class NotFound(ClusterError):
    """There is no such object."""


class Conflict(ClusterError):
    """The object exists already, or is not the one (UID) that was meant, or changed meanwhile."""


class Forbidden(ClusterError):
    """Our role does not allow it, or an admission policy refused it."""


class Invalid(ClusterError):
    """The API server refused the object's contents."""


class Unavailable(ClusterError):
    """No usable answer: deadline, connection, 429 or 5xx. Nothing is known; try again later.

    `answered` says that the API server is there: it failed at this one object, as where a webhook
    fails.
    """

    def __init__(self, doing: str, detail: str, *, answered: bool = False) -> None:
        """Say what was tried, what came back, and whether it came from the API server."""
        super().__init__(doing, detail)
        self.answered = answered


class Expired(ClusterError):
    """The version that was asked for is too old: list again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WatchEvent:
    """One event of a watch: the object as it is, or (`gone`) as it was last. A bookmark has only a
    version. `version` is where to go on from."""

    version: str
    found: Manifest | None = None
    gone: bool = False


class Cluster(Protocol):
    """The API server."""

    async def served(self, api_version: str) -> frozenset[str]:
        """The plurals that the API server serves in this group and version; none when it knows
        neither."""
        ...

    async def get(self, kind: Kind, namespace: str, name: str) -> Manifest:
        """The object; NotFound."""
        ...

    async def version(self, kind: Kind, namespace: str, name: str) -> str:
        """The object's resourceVersion, without its contents, as of a moment ago; NotFound."""
        ...

    async def list(
        self, kind: Kind, namespace: str | None, *, labels: Mapping[str, str] | None = None
    ) -> tuple[tuple[Manifest, ...], str]:
        """All objects, of one namespace or (None) of all, and the version of the list; the whole
        list or an error, never a part of it."""
        ...

    def watch(
        self,
        kind: Kind,
        namespace: str | None,
        *,
        version: str,
        labels: Mapping[str, str] | None = None,
    ) -> AsyncIterator[WatchEvent]:
        """What changes after `version`, until the API server ends the watch after some minutes;
        Expired when it is too old, Unavailable when the connection broke or went silent."""
        ...

    async def create(self, manifest: Manifest) -> Manifest:
        """POST; Conflict when an object of that name exists."""
        ...

    async def apply(self, manifest: Manifest, *, force: bool = True) -> Manifest:
        """Server-side apply. With `metadata.uid` or `metadata.resourceVersion`, Conflict unless
        that very object or version exists; without `force`, Conflict where another wrote a field
        that this changes."""
        ...

    async def apply_status(self, manifest: Manifest) -> Manifest:
        """Server-side apply of `status`; NotFound when the object is gone."""
        ...

    async def merge(self, kind: Kind, namespace: str, name: str, patch: Manifest) -> Manifest:
        """JSON merge patch (RFC 7396); with `metadata.uid`, Conflict unless that very object
        exists."""
        ...

    async def delete(
        self, kind: Kind, namespace: str, name: str, *, uid: str, orphan: bool = False
    ) -> None:
        """Delete that very object, its dependents with it or (orphan) left behind; gone already is
        fine."""
        ...


class Gateways(Protocol):
    """The admin port of the gateway's pods."""

    async def status(self, address: str, token: str, *, authority: str, name: str) -> GatewayStatus:
        """GET /status of the pod at this IP address, within two seconds, from whoever has a
        certificate for `name` by this CA (PEM); Unavailable, Forbidden."""
        ...
