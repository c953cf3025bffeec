"""What a plan says to do: one ordered list of typed actions, each with its owner. Pure.

The engine does them in this order, and stops at none but the API server's silence: an action that
fails is a fact of the next plan.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from mailrelay_operator.plan.facts import ObjectKey, SenderLogin
from mailrelay_operator.plan.objects import Manifest, name_of, namespace_of
from mailrelay_operator.plan.verdicts import Complaint
from mailrelay_operator.plan.view import RelayView


@dataclass(frozen=True, slots=True, kw_only=True)
class Create:
    """POST: the object must not exist yet."""

    owner: ObjectKey
    manifest: Manifest

    @property
    def target(self) -> ObjectKey:
        """The object that is written."""
        return key_of(self.manifest)


@dataclass(frozen=True, slots=True, kw_only=True)
class Apply:
    """Server-side apply of the whole of what we say of the object. `makes` says that it is not
    there: where another has made one of that name meanwhile, nothing of that one is overwritten."""

    owner: ObjectKey
    manifest: Manifest
    makes: bool = False

    @property
    def target(self) -> ObjectKey:
        """The object that is written."""
        return key_of(self.manifest)


@dataclass(frozen=True, slots=True, kw_only=True)
class ApplyStatus:
    """Server-side apply of the status subresource of the owner."""

    owner: ObjectKey
    manifest: Manifest

    @property
    def target(self) -> ObjectKey:
        """The object that is written."""
        return self.owner


@dataclass(frozen=True, slots=True, kw_only=True)
class Patch:
    """A merge patch of that very object (`uid`). `optional`: that it is gone is no failure."""

    owner: ObjectKey
    target: ObjectKey
    uid: str
    patch: Manifest
    optional: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Delete:
    """Delete that very object; `orphan` leaves its dependents behind."""

    owner: ObjectKey
    target: ObjectKey
    uid: str
    orphan: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Announce:
    """An Event: something that a person should see in `kubectl describe`."""

    owner: ObjectKey
    regarding: Manifest
    warning: bool
    reason: str
    note: str

    @property
    def target(self) -> ObjectKey:
        """The object that it speaks of."""
        return self.owner


Action = Create | Apply | ApplyStatus | Patch | Delete | Announce
#: What only says how things are; made again when an action before it failed.
REPORTS = (ApplyStatus, Announce)


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What to do for one key, in order. `look_again_at` is None when only an event can change
    anything. `problems` are for a person at a terminal: why something is not acted upon.
    """

    actions: tuple[Action, ...] = ()
    look_again_at: datetime | None = None
    problems: tuple[Complaint, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class RelayPlan(Plan):
    """A relay's plan. `view` is what its senders' plans stand on; `files` is the gateway's
    configuration by file, `digest` its name, both empty while there is none; `versions` are its
    shares' senders by the digest of the file. `settled`: every pod runs it. `wrote_numbers`: a
    status has new queue numbers."""

    view: RelayView
    files: Mapping[str, bytes] = field(default_factory=dict, repr=False)
    digest: str = ""
    versions: Mapping[str, Mapping[str, object]] = field(default_factory=dict, repr=False)
    settled: bool = True
    wrote_numbers: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class SenderPlan(Plan):
    """A sender's plan; `login` is what the relay's gateways shall know of it (None: nothing new was
    found out)."""

    login: SenderLogin | None = None


def key_of(manifest: Manifest) -> ObjectKey:
    """Kind, namespace and name of an object."""
    return ObjectKey(
        kind=str(manifest["kind"]), namespace=namespace_of(manifest), name=name_of(manifest)
    )
