"""What is watched, as it was last seen: replaced whole on each list, changed by each event of
a watch, and indexed by relay. A round reads here and lists nothing. Pure.

Of each object only that is kept which a plan reads: five thousand tenants may write what they like
into their annotations.
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

#: Namespace and name; the namespace is empty for a cluster's own.
Name = tuple[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One object before and after; None: it was not there, or is not any more."""

    kind: str
    old: Manifest | None
    new: Manifest | None

    @property
    def either(self) -> Manifest:
        """The object, whichever side it is on."""
        found = self.new if self.new is not None else self.old
        assert found is not None  # a change of nothing is none
        return found


class Store:
    """Everything that is watched. `expect` the lists that make it complete, then fill it."""

    def __init__(self) -> None:
        """Hold nothing."""
        self._objects: dict[str, dict[Name, Manifest]] = {}
        self._senders: dict[Name, SeenSender] = {}
        self._senders_of: dict[Name, set[Name]] = {}
        self._pods_of: dict[Name, set[Name]] = {}
        self._lacking: set[tuple[str, str | None]] = set()

    def expect(self, kind: str, namespace: str | None) -> None:
        """This list has to come before anything may be planned."""
        self._lacking.add((kind, namespace))

    @property
    def is_complete(self) -> bool:
        """Whether every list has been seen whole at least once."""
        return not self._lacking

    # --- filling

    def replace(
        self, kind: str, namespace: str | None, objects: Iterable[Manifest]
    ) -> list[Change]:
        """A whole list, of one namespace or (None) of all; what is not in it is gone."""
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
        """One object as it is now, or was: an older version than is known changes nothing."""
        known = self._objects.get(kind, {}).get(_name(found))
        if known is not None and _is_older(found, known):
            return Change(kind=kind, old=known, new=known)
        return self._set(kind, _name(found), trimmed(found))

    def note(self, found: Manifest) -> None:
        """What the API server answered to a write of ours: the watch says it too, but later. An
        object that is not known (any more) is left to the watch."""
        kind = str(found["kind"])
        known = self._objects.get(kind, {}).get(_name(found))
        if known is not None and uid_of(known) == uid_of(found):
            self.put(kind, found)

    def remove(self, kind: str, found: Manifest) -> Change:
        """One object that is gone."""
        return self._set(kind, _name(found), None)

    # --- reading

    def find(self, kind: str, namespace: str, name: str) -> Manifest | None:
        """The object, if there is one."""
        return self._objects.get(kind, {}).get((namespace, name))

    def all(self, kind: str) -> Iterator[Manifest]:
        """Every object of this kind."""
        yield from self._objects.get(kind, {}).values()

    def sender(self, namespace: str, name: str) -> SeenSender | None:
        """The MailSender and its model."""
        return self._senders.get((namespace, name))

    def senders_of(self, namespace: str, name: str) -> tuple[SeenSender, ...]:
        """All MailSenders that name this relay."""
        return tuple(self._senders[one] for one in self._senders_of.get((namespace, name), ()))

    def relays_named(self) -> Iterator[Name]:
        """Every relay that some MailSender names, whether it exists or not."""
        yield from self._senders_of

    def relays_with_senders_in(self, namespace: str) -> Iterator[Name]:
        """Whom a change of this namespace's labels may concern."""
        for relay, senders in self._senders_of.items():
            if any(one[0] == namespace for one in senders):
                yield relay

    def pods_of(self, namespace: str, name: str) -> tuple[Manifest, ...]:
        """All pods that bear the labels of this relay, whoever made them."""
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
    """Namespace and name of the MailRelay that a MailSender names, even if the rest of it is
    wrong."""
    spec = sender.get("spec")
    reference = spec.get("relayRef") if isinstance(spec, dict) else None
    reference = reference if isinstance(reference, dict) else {}
    return str(reference.get("namespace") or namespace_of(sender)), str(reference.get("name") or "")


def relay_of_pod(pod: Manifest | None) -> Name | None:
    """The relay whose label a pod or a StatefulSet bears."""
    if pod is None:
        return None
    name = labels_of(pod).get(LABEL_RELAY)
    return (namespace_of(pod), name) if name else None


def trimmed(found: Manifest) -> Manifest:
    """The object without what no plan reads."""
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
    """Whether one version of an object is older than another. They can be compared as numbers
    (Kubernetes 1.35 says so, and it was never otherwise)."""
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
