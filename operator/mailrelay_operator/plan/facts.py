"""PURE: the facts that a plan is made from, the material that was minted for it, and the Plan
itself: values only.

Facts are what was read a moment ago, whole; nothing here was guessed. In standalone the same values
come from files.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from mailrelay_gateway.config import Certificate, GatewayStatus, ScryptVerifier
from mailrelay_operator.api.surroundings import DEFAULT_USER
from mailrelay_operator.plan.objects import Manifest


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
    operator_namespace: str = "mailrelay-system"
    image: str = "mailrelay-gateway:latest"
    image_pull_policy: str = "IfNotPresent"
    image_pull_secrets: tuple[str, ...] = ()
    monitoring_namespaces: tuple[str, ...] = ()
    #: User and group of the gateway's pods; None: the platform chooses them (OpenShift).
    user: int | None = DEFAULT_USER


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
class RelayFacts:
    """All that a MailRelay's plan depends on. `relay` is None when there is no such MailRelay.

    `senders` are all MailSenders that name it. `namespaces` holds labels by name; one that is not
    in it has none. `objects` holds every object that `references.wanted` asked for, or why it is
    absent. `numbers_due` says that queue numbers may be written again.
    """

    namespace: str
    name: str
    relay: Manifest | None
    now: datetime
    place: Place = Place()
    senders: tuple[Manifest, ...] = ()
    namespaces: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    objects: Mapping[ObjectKey, Lookup] = field(default_factory=dict)
    pods: tuple[PodFacts, ...] = ()
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
class ScryptWanted:
    """A brought password that needs a verifier; `known` are those that may fit already."""

    password: bytes = field(repr=False)
    known: tuple[ScryptVerifier, ...] = ()


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
    """What has to be minted before the plan can be made. Senders are named by UID."""

    authority: bool = False
    admin_token: bool = False
    leaf: LeafWanted | None = None
    passwords: frozenset[str] = frozenset()
    scrypts: Mapping[str, ScryptWanted] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Material:
    """What was minted: the answer to Wanted. Passwords and verifiers are by the sender's UID."""

    authority: Authority | None = None
    admin_token: str = field(default="", repr=False)
    leaf: Certificate | None = None
    passwords: Mapping[str, str] = field(default_factory=dict, repr=False)
    scrypts: Mapping[str, ScryptVerifier] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Something that a person should see in `kubectl describe`; `regarding` is the object."""

    regarding: Manifest
    warning: bool
    reason: str
    note: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Stamp:
    """Annotations for a pod, so that its kubelet looks at the Secrets at once."""

    pod: str
    uid: str
    annotations: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimGrowth:
    """A PersistentVolumeClaim that shall hold `size`."""

    name: str
    uid: str
    size: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Adoption:
    """A child whose controller is gone and whose owner reference shall be `reference` alone."""

    child: ObjectKey
    uid: str
    reference: Manifest


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What to do, in this order: adopt, create (POST; a Conflict ends the round), apply, stamps,
    grow, orphan, statuses, events.

    `files` is the gateway's configuration by file, `digest` its name; both are empty while there is
    none. `orphan` are StatefulSets to be deleted without their pods. `statuses` are whole objects
    whose `status` differs from what is there. `look_again_at` is None when only an event can change
    anything. `wrote_numbers`: a status has new queue numbers. `problems` are sentences for a person
    at a terminal: why something is not acted upon.
    """

    adopt: tuple[Adoption, ...] = ()
    create: tuple[Manifest, ...] = ()
    apply: tuple[Manifest, ...] = ()
    stamps: tuple[Stamp, ...] = ()
    grow: tuple[ClaimGrowth, ...] = ()
    orphan: tuple[Manifest, ...] = ()
    statuses: tuple[Manifest, ...] = ()
    events: tuple[Event, ...] = ()
    look_again_at: datetime | None = None
    files: Mapping[str, bytes] = field(default_factory=dict, repr=False)
    digest: str = ""
    wrote_numbers: bool = False
    settled: bool = True
    problems: tuple[str, ...] = ()
