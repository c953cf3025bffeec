"""The facts that plans are made from, and the material that was minted for them: values only. Pure.

Facts are what was read a moment ago, whole; nothing here was guessed. In standalone the same values
come from files. What a plan says to do is in actions.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum

from mailrelay_gateway.contract.documents import Certificate, ScryptVerifier, Sender, Verifier
from mailrelay_gateway.contract.status import GatewayStatus
from mailrelay_operator import __version__
from mailrelay_operator.api.mailsender import MailSender
from mailrelay_operator.api.surroundings import DEFAULT_USER
from mailrelay_operator.plan.objects import Manifest
from mailrelay_operator.plan.verdicts import Trouble, read_sender


class Absence(StrEnum):
    """Why an object that we looked for is not among the facts."""

    MISSING = "missing"
    FORBIDDEN = "forbidden"


#: What a look-up found.
Lookup = Manifest | Absence


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class ObjectKey:
    """An object by kind, namespace and name."""

    kind: str
    namespace: str
    name: str

    def __str__(self) -> str:
        """As a person writes it."""
        return f"{self.kind} {self.namespace}/{self.name}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where the gateway runs, and what its pods are made of.

    `standalone` means one gateway on this machine: it binds a listener's own port, its certificate
    carries the loopback names too, and there are no pods. `loopback_host` is then the host that
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
    #: Since when this operator runs, and over what time it gives a new image to one relay after the
    #: other.
    started: datetime | None = None
    rollout: timedelta = timedelta()
    #: Audiences of ServiceAccount tokens that a login may show to a token endpoint, networks that
    #: URLs in resources may lead to besides public addresses, and the proxy to those.
    token_audiences: tuple[str, ...] = ()
    allowed_egress: tuple[str, ...] = ()
    egress_proxy: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class PodFacts:
    """One pod of the relay; `status` is what its gateway answered, or None with the `trouble` that
    it was."""

    name: str
    uid: str
    address: str = ""
    ready: bool = False
    terminating: bool = False
    stamped_at: datetime | None = None
    stamp: str = ""
    status: GatewayStatus | None = None
    trouble: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class SeenSender:
    """A MailSender and its model, or why it has none: read once per generation."""

    manifest: Manifest
    model: MailSender | Trouble

    @staticmethod
    def of(manifest: Manifest) -> SeenSender:
        """Read the manifest."""
        return SeenSender(manifest=manifest, model=read_sender(manifest))


@dataclass(frozen=True, slots=True, kw_only=True)
class SenderLogin:
    """How a MailSender logs in, as its own plan found out; without verifiers nobody can."""

    username: str = ""
    verifiers: tuple[Verifier, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """An action of the last plan that failed: the API server's words."""

    message: str
    conflict: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class RelayFacts:
    """All that a MailRelay's plan depends on. `relay` is None when there is no such MailRelay.

    `watched` says that its namespace is one that we may look at. `senders` are all MailSenders that
    name it; `logins` what their own plans found out, by UID: one that is not in it has not been
    looked at yet. `namespaces` holds labels by name; one that is not in it has none. `objects`
    holds every object that the survey asked for, or why it is absent. `versions` are the senders
    (by UID) of shares that were written lately, by the file's digest. `failures` are the objects
    that could not be written. `numbers_due` says that queue numbers may be written again.
    """

    namespace: str
    name: str
    relay: Manifest | None
    now: datetime
    place: Place = Place()
    watched: bool = True
    senders: tuple[SeenSender, ...] = ()
    logins: Mapping[str, SenderLogin] = field(default_factory=dict)
    namespaces: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    objects: Mapping[ObjectKey, Lookup] = field(default_factory=dict)
    pods: tuple[PodFacts, ...] = ()
    versions: Mapping[str, Mapping[str, Sender]] = field(default_factory=dict)
    failures: Mapping[ObjectKey, Failure] = field(default_factory=dict)
    numbers_due: bool = True
    settling_since: datetime | None = None

    def find(self, kind: str, namespace: str, name: str) -> Lookup:
        """What was found under this name. KeyError: it was never looked for, and that is a mistake
        of ours, since "not read" must never be taken for "not there"; in standalone what no file
        holds is missing."""
        key = ObjectKey(kind=kind, namespace=namespace, name=name)
        if self.place.standalone:
            return self.objects.get(key, Absence.MISSING)
        return self.objects[key]


@dataclass(frozen=True, slots=True, kw_only=True)
class Authority:
    """A relay's private CA, both PEM."""

    certificate: str
    key: str = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class LeafWanted:
    """A certificate to issue: its names, by `authority` or (None) by the one that is minted with
    it."""

    dns_names: tuple[str, ...]
    addresses: tuple[str, ...]
    authority: Authority | None = None
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What has to be minted before a relay's plan can be made."""

    authority: bool = False
    admin_token: bool = False
    leaf: LeafWanted | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Material:
    """What was minted: the answer to Wanted."""

    authority: Authority | None = None
    admin_token: str = field(default="", repr=False)
    leaf: Certificate | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ScryptWanted:
    """A brought password that needs a verifier; `known` are those that may fit already."""

    password: bytes = field(repr=False)
    known: tuple[ScryptVerifier, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class SenderMaterial:
    """What a sender's plan asked for: a new password, or the verifier of a brought one (None: it is
    still being computed)."""

    password: str = field(default="", repr=False)
    verifier: ScryptVerifier | None = None
