"""The actions of a plan: one ordered list of typed actions, each with its owner. Pure.

The engine performs them in this order and stops only when the API server does not answer: a failed
action is a fact of the next plan.
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
        """The object to write."""
        return key_of(self.manifest)


@dataclass(frozen=True, slots=True, kw_only=True)
class Apply:
    """Server-side apply of the whole desired object. `makes`: the object does not exist; if another
    one of that name has been created meanwhile, it is not overwritten. `first`: later actions were
    planned with it, and wait if it fails."""

    owner: ObjectKey
    manifest: Manifest
    makes: bool = False
    first: bool = False

    @property
    def target(self) -> ObjectKey:
        """The object to write."""
        return key_of(self.manifest)


@dataclass(frozen=True, slots=True, kw_only=True)
class ApplyStatus:
    """Server-side apply of the status subresource of the owner."""

    owner: ObjectKey
    manifest: Manifest

    @property
    def target(self) -> ObjectKey:
        """The object to write."""
        return self.owner


@dataclass(frozen=True, slots=True, kw_only=True)
class Patch:
    """A merge patch of exactly this object (`uid`). `optional`: its absence is no failure."""

    owner: ObjectKey
    target: ObjectKey
    uid: str
    patch: Manifest
    optional: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Delete:
    """Delete exactly this object; `orphan` keeps its dependents."""

    owner: ObjectKey
    target: ObjectKey
    uid: str
    orphan: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Announce:
    """An Event, as shown by `kubectl describe`."""

    owner: ObjectKey
    regarding: Manifest
    warning: bool
    reason: str
    note: str

    @property
    def target(self) -> ObjectKey:
        """The object that the Event is about."""
        return self.owner


Action = Create | Apply | ApplyStatus | Patch | Delete | Announce
#: Actions that only report state; planned again when an earlier action failed.
REPORTS = (ApplyStatus, Announce)


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What to do for one key, in order. `look_again_at` is None when only a watch event can change
    anything. `problems` say on a terminal why something has no effect.
    """

    actions: tuple[Action, ...] = ()
    look_again_at: datetime | None = None
    problems: tuple[Complaint, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class RelayPlan(Plan):
    """A relay's plan. `view` is the input of its senders' plans; `files` is the gateway's
    configuration by file and `digest` its digest, both empty while there is none; `trust` is
    the PEM of the relay's own CAs; `versions` has the senders of its shares by the digest of the
    file. `settled`: every pod runs it.
    `wrote_numbers`: the status has new queue figures."""

    view: RelayView
    files: Mapping[str, bytes] = field(default_factory=dict, repr=False)
    digest: str = ""
    trust: str = ""
    versions: Mapping[str, Mapping[str, object]] = field(default_factory=dict, repr=False)
    settled: bool = True
    wrote_numbers: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class SenderPlan(Plan):
    """A sender's plan; `login` is the login that the relay's gateways should know (None:
    unchanged)."""

    login: SenderLogin | None = None


def key_of(manifest: Manifest) -> ObjectKey:
    """Kind, namespace and name of an object."""
    return ObjectKey(
        kind=str(manifest["kind"]), namespace=namespace_of(manifest), name=name_of(manifest)
    )
