"""The facts that plans are made from, and the keys and passwords generated for them: values only.
Pure.

Facts are what was just read from the cluster, in full; standalone, the same values come from files.
The actions of a plan are in actions.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum

from mailrelay_gateway.contract.documents import Certificate, ScryptVerifier, Sender, Verifier
from mailrelay_gateway.contract.status import GatewayStatus
from mailrelay_operator import __version__
from mailrelay_operator.api.mailsender import MailSender, MailSenderStatus
from mailrelay_operator.api.surroundings import DEFAULT_USER
from mailrelay_operator.plan.objects import Manifest
from mailrelay_operator.plan.verdicts import Trouble, read_sender


class Absence(StrEnum):
    """Why an object that was looked up is not among the facts."""

    MISSING = "missing"
    FORBIDDEN = "forbidden"


#: The result of a lookup.
Lookup = Manifest | Absence


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class ObjectKey:
    """An object by kind, namespace and name."""

    kind: str
    namespace: str
    name: str

    def __str__(self) -> str:
        """`KIND NAMESPACE/NAME`."""
        return f"{self.kind} {self.namespace}/{self.name}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where the gateway runs, and what its pods are made of.

    `standalone` means one gateway on this machine without pods: it binds the listener's port
    itself, and its certificate also has the loopback names. `loopback_host` is then the host that
    tenants get.
    """

    standalone: bool = False
    loopback_host: str = "127.0.0.1"
    cluster_domain: str = "cluster.local"
    operator_namespace: str = "mail-system"
    image: str = f"mailrelay-gateway:{__version__}"
    image_pull_policy: str = "IfNotPresent"
    image_pull_secrets: tuple[str, ...] = ()
    monitoring_namespaces: tuple[str, ...] = ()
    #: User and group of the gateway's pods; None: the platform chooses them (OpenShift).
    user: int | None = DEFAULT_USER
    #: When this operator started, and over what time it rolls out a new image, one relay after
    #: another.
    started: datetime | None = None
    rollout: timedelta = timedelta()
    #: Audiences of ServiceAccount tokens that a login may send to a token endpoint, networks that
    #: URLs in resources may lead to besides public addresses, and the proxy to use for them.
    token_audiences: tuple[str, ...] = ()
    allowed_egress: tuple[str, ...] = ()
    egress_proxy: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class PodFacts:
    """One pod of the relay; `status` is its gateway's answer, or None, with the reason in
    `trouble`."""

    name: str
    uid: str
    address: str = ""
    ready: bool = False
    terminating: bool = False
    stamped_at: datetime | None = None
    stamp: str = ""
    status: GatewayStatus | None = None
    trouble: str = ""


_NO_STATUS = MailSenderStatus()


@dataclass(frozen=True, slots=True, kw_only=True)
class SeenSender:
    """A MailSender and its model, or why it cannot be read; parsed once per generation. The model
    has an empty status, the same for all: the manifest has the current one, and 5,000 initial ones
    would take 30 MiB."""

    manifest: Manifest
    model: MailSender | Trouble

    @staticmethod
    def of(manifest: Manifest) -> SeenSender:
        """Parse the manifest."""
        model = read_sender({key: one for key, one in manifest.items() if key != "status"})
        if isinstance(model, MailSender):
            model = model.model_copy(update={"status": _NO_STATUS})
        return SeenSender(manifest=manifest, model=model)


@dataclass(frozen=True, slots=True, kw_only=True)
class SenderLogin:
    """A MailSender's login, from its own plan; without verifiers no client can log in."""

    username: str = ""
    verifiers: tuple[Verifier, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """A failed action of the last plan, with the API server's message."""

    message: str
    conflict: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class RelayFacts:
    """Everything that a MailRelay's plan depends on. `relay` is None if it does not exist.

    `watched`: its namespace is watched. `senders` are all MailSenders that refer to it; `logins`
    are the results of their plans by UID, without those not planned yet; `trusted` are the
    digests of the `ca.crt` in their Secrets as last read, likewise. `namespaces` has labels by
    name; a namespace that is not in it has none. `objects` has every object that the survey
    requires, or why it is absent. `versions` are the senders (by UID) of recently written shares,
    by the file's digest. `failures` are the objects that could not be written. `numbers_due`: queue
    figures may be written again. `settling_since`: since when some pod does not run the newest
    configuration; `newest_since`: since when that is the one of `newest_digest`.
    """

    namespace: str
    name: str
    relay: Manifest | None
    now: datetime
    place: Place = Place()
    watched: bool = True
    senders: tuple[SeenSender, ...] = ()
    logins: Mapping[str, SenderLogin] = field(default_factory=dict)
    trusted: Mapping[str, str] = field(default_factory=dict)
    namespaces: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    objects: Mapping[ObjectKey, Lookup] = field(default_factory=dict)
    pods: tuple[PodFacts, ...] = ()
    versions: Mapping[str, Mapping[str, Sender]] = field(default_factory=dict)
    failures: Mapping[ObjectKey, Failure] = field(default_factory=dict)
    numbers_due: bool = True
    settling_since: datetime | None = None
    newest_digest: str = ""
    newest_since: datetime | None = None

    def find(self, kind: str, namespace: str, name: str) -> Lookup:
        """The object or why it is absent. Raises KeyError if it was never looked up, which is a
        bug: "not read" must not be taken for "does not exist". Standalone, what no file contains is
        missing."""
        key = ObjectKey(kind=kind, namespace=namespace, name=name)
        if self.place.standalone:
            return self.objects.get(key, Absence.MISSING)
        return self.objects[key]


@dataclass(frozen=True, slots=True, kw_only=True)
class Authority:
    """A relay's private CA: certificate and key in PEM."""

    certificate: str
    key: str = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class LeafWanted:
    """A certificate to issue: its names and the issuing `authority`; None for the CA generated with
    it."""

    dns_names: tuple[str, ...]
    addresses: tuple[str, ...]
    authority: Authority | None = None
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What has to be generated before a relay's plan can be made. `authority` is a CA that
    issues at once, `next_authority` one that clients learn to trust first."""

    authority: bool = False
    next_authority: bool = False
    admin_token: bool = False
    leaf: LeafWanted | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Material:
    """What was generated for Wanted."""

    authority: Authority | None = None
    next_authority: Authority | None = None
    admin_token: str = field(default="", repr=False)
    leaf: Certificate | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ScryptWanted:
    """A password of an existing Secret that needs a verifier; `known` are verifiers that may
    already match it."""

    password: bytes = field(repr=False)
    known: tuple[ScryptVerifier, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class SenderMaterial:
    """What a sender's plan requires: a new password, or the verifier of an existing one (None:
    still being computed)."""

    password: str = field(default="", repr=False)
    verifier: ScryptVerifier | None = None
