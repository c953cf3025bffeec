"""The last known state of watched objects: replaced by each list, changed by each watch event, and
indexed by relay. Rounds read from it instead of listing. Pure.

Keeps only the parts of an object that a plan reads: tenants may write anything into their
annotations.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from mailrelay_operator.api.metadata import GROUP
from mailrelay_operator.api.names import LABEL_RELAY
from mailrelay_operator.plan.facts import SeenSender
from mailrelay_operator.plan.objects import (
    Manifest,
    generation_of,
    labels_of,
    name_of,
    namespace_of,
    uid_of,
    version_of,
)

#: Namespace and name; the namespace is empty for cluster-scoped objects.
Name = tuple[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One object before and after; None: it did not exist, or no longer exists."""

    kind: str
    old: Manifest | None
    new: Manifest | None

    @property
    def either(self) -> Manifest:
        """The object after the change, or before if it was deleted."""
        found = self.new if self.new is not None else self.old
        assert found is not None  # a change has at least one side
        return found


class Store:
    """All watched objects. `expect` the lists that make it complete, then fill it."""

    def __init__(self) -> None:
        """An empty store."""
        self._objects: dict[str, dict[Name, Manifest]] = {}
        self._senders: dict[Name, SeenSender] = {}
        self._senders_of: dict[Name, set[Name]] = {}
        self._pods_of: dict[Name, set[Name]] = {}
        self._lacking: set[tuple[str, str | None]] = set()

    def expect(self, kind: str, namespace: str | None) -> None:
        """Require this list before anything is planned."""
        self._lacking.add((kind, namespace))

    @property
    def is_complete(self) -> bool:
        """Whether every list has been received at least once."""
        return not self._lacking

    # --- filling

    def replace(
        self, kind: str, namespace: str | None, objects: Iterable[Manifest]
    ) -> list[Change]:
        """Replace one namespace, or (None) all, with a list; what is not in it is deleted."""
        new = {_name(one): one for one in objects}
        gone = [
            name
            for name in self._objects.get(kind, {})
            if namespace in (None, name[0]) and name not in new
        ]
        changes = [self._set(kind, name, None) for name in gone]
        changes += [self._set(kind, name, trimmed(one)) for name, one in new.items()]
        self._lacking.discard((kind, namespace))
        return changes

    def put(self, kind: str, found: Manifest) -> Change:
        """Store one object, unless a newer version is known."""
        known = self._objects.get(kind, {}).get(_name(found))
        if known is not None and _is_older(found, known):
            return Change(kind=kind, old=known, new=known)
        return self._set(kind, _name(found), trimmed(found))

    def note(self, found: Manifest) -> None:
        """Store the API server's answer to a write, ahead of the watch. Objects that are not (or no
        longer) known are left to the watch."""
        kind = str(found["kind"])
        known = self._objects.get(kind, {}).get(_name(found))
        if known is not None and uid_of(known) == uid_of(found):
            self.put(kind, found)

    def remove(self, kind: str, found: Manifest) -> Change:
        """Remove a deleted object."""
        return self._set(kind, _name(found), None)

    # --- reading

    def find(self, kind: str, namespace: str, name: str) -> Manifest | None:
        """The object, if it exists."""
        return self._objects.get(kind, {}).get((namespace, name))

    def all(self, kind: str) -> Iterator[Manifest]:
        """Every object of this kind."""
        yield from self._objects.get(kind, {}).values()

    def sender(self, namespace: str, name: str) -> SeenSender | None:
        """The MailSender and its model."""
        return self._senders.get((namespace, name))

    def senders_of(self, namespace: str, name: str) -> tuple[SeenSender, ...]:
        """All MailSenders that refer to this relay."""
        return tuple(self._senders[one] for one in self._senders_of.get((namespace, name), ()))

    def relays_named(self) -> Iterator[Name]:
        """Every relay that a MailSender refers to, whether it exists or not."""
        yield from self._senders_of

    def relays_with_senders_in(self, namespace: str) -> Iterator[Name]:
        """The relays that a change of this namespace's labels may concern."""
        for relay, senders in self._senders_of.items():
            if any(one[0] == namespace for one in senders):
                yield relay

    def pods_of(self, namespace: str, name: str) -> tuple[Manifest, ...]:
        """All pods with the labels of this relay, whoever created them."""
        pods = self._objects.get("Pod", {})
        return tuple(pods[one] for one in sorted(self._pods_of.get((namespace, name), ())))

    # --- inside

    def _set(self, kind: str, name: Name, found: Manifest | None) -> Change:
        objects = self._objects.setdefault(kind, {})
        old = objects.get(name)
        if found is None:
            objects.pop(name, None)
        else:
            objects[name] = found
        if kind == "MailSender":
            self._index_sender(name, old, found)
        elif kind == "Pod":
            _reindex(self._pods_of, name, relay_of_pod(old), relay_of_pod(found))
        return Change(kind=kind, old=old, new=found)

    def _index_sender(self, name: Name, old: Manifest | None, found: Manifest | None) -> None:
        _reindex(
            self._senders_of,
            name,
            relay_of_sender(old) if old else None,
            relay_of_sender(found) if found else None,
        )
        if found is None:
            self._senders.pop(name, None)
            return
        known = self._senders.get(name)
        if known is not None and _is_same_spec(known.manifest, found):
            self._senders[name] = SeenSender(manifest=found, model=known.model)
        else:
            self._senders[name] = SeenSender.of(found)


def relay_of_sender(sender: Manifest) -> Name:
    """Namespace and name of the MailRelay that a MailSender refers to, even if the rest of it is
    invalid."""
    spec = sender.get("spec")
    reference = spec.get("relayRef") if isinstance(spec, dict) else None
    reference = reference if isinstance(reference, dict) else {}
    return str(reference.get("namespace") or namespace_of(sender)), str(reference.get("name") or "")


def relay_of_pod(pod: Manifest | None) -> Name | None:
    """The relay in the label of a pod or StatefulSet."""
    if pod is None:
        return None
    name = labels_of(pod).get(LABEL_RELAY)
    return (namespace_of(pod), name) if name else None


def trimmed(found: Manifest) -> Manifest:
    """The object without the parts that no plan reads."""
    metadata = {
        key: value
        for key, value in found["metadata"].items()
        if key not in ("managedFields", "annotations")
    }
    ours = {
        key: value
        for key, value in (found["metadata"].get("annotations") or {}).items()
        if key.startswith(f"{GROUP}/")
    }
    if ours:
        metadata["annotations"] = ours
    kept = {key: value for key, value in found.items() if key != "metadata"}
    if found.get("kind") in ("Pod", "Namespace"):
        kept.pop("spec", None)
    return {**kept, "metadata": metadata}


def is_before(version: str, other: str) -> bool:
    """Whether one resourceVersion is older than another. They compare as numbers (guaranteed since
    Kubernetes 1.35, and true before)."""
    return version.isdecimal() and other.isdecimal() and int(version) < int(other)


def _is_older(found: Manifest, known: Manifest) -> bool:
    return uid_of(found) == uid_of(known) and is_before(version_of(found), version_of(known))


def _is_same_spec(old: Manifest, new: Manifest) -> bool:
    same = generation_of(old) == generation_of(new)
    return same and uid_of(old) == uid_of(new) and generation_of(new) > 0


def _reindex(index: dict[Name, set[Name]], name: Name, old: Name | None, new: Name | None) -> None:
    if old is not None and old != new:
        members = index.get(old, set())
        members.discard(name)
        if not members:
            index.pop(old, None)
    if new is not None:
        index.setdefault(new, set()).add(name)


def _name(found: Manifest) -> Name:
    return namespace_of(found), name_of(found)
