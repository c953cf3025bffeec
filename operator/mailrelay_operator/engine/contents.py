"""A cache of objects that are read by name instead of watched, such as Secrets, which the operator
may not list. They are read again when their version changes.
"""

from __future__ import annotations

from collections.abc import Iterable

from mailrelay_operator.cluster.port import KINDS, Cluster, Forbidden, NotFound
from mailrelay_operator.engine.backlog import Key
from mailrelay_operator.engine.scope import Scope
from mailrelay_operator.plan.actions import key_of
from mailrelay_operator.plan.facts import Absence, Lookup, ObjectKey
from mailrelay_operator.plan.objects import Manifest, version_of


class Contents:
    """Cached objects and their readers. Bounded by what the keys of the backlog read: an object
    without readers is dropped."""

    def __init__(self, cluster: Cluster, scope: Scope) -> None:
        """Read from `cluster`, within `scope`."""
        self._cluster = cluster
        self._scope = scope
        self._found: dict[ObjectKey, Lookup] = {}
        self._reads: dict[Key, tuple[frozenset[ObjectKey], frozenset[ObjectKey]]] = {}
        self._readers: dict[ObjectKey, set[Key]] = {}

    def __len__(self) -> int:
        """The number of cached objects."""
        return len(self._found)

    async def get(self, key: ObjectKey) -> Lookup:
        """The object, or why it is absent; any other ClusterError is raised."""
        known = self._found.get(key)
        if known is not None:
            return known
        found: Lookup
        if not self._scope.holds(key.namespace):
            return Absence.FORBIDDEN
        try:
            found = await self._cluster.get(KINDS[key.kind], key.namespace, key.name)
            found["metadata"].pop("managedFields", None)
        except NotFound:
            found = Absence.MISSING
        except Forbidden:
            found = Absence.FORBIDDEN
        self._found[key] = found
        return found

    def known(self, key: ObjectKey) -> Manifest | None:
        """The cached object, if any."""
        found = self._found.get(key)
        return None if found is None or isinstance(found, Absence) else found

    def note(self, found: Manifest) -> None:
        """Store the API server's answer to a write."""
        found["metadata"].pop("managedFields", None)
        self._found[key_of(found)] = found

    def forget(self, key: ObjectKey) -> None:
        """Drop it, so that it is read again."""
        self._found.pop(key, None)

    def reads(
        self, reader: Key, *, soon: Iterable[ObjectKey], late: Iterable[ObjectKey] = ()
    ) -> None:
        """Set the objects that this key's rounds read: foreign ones, which are checked every few
        seconds, and those that only the operator writes."""
        before = self._reads.get(reader)
        after = (frozenset(soon), frozenset(late))
        if before == after:
            return
        old = before[0] | before[1] if before is not None else frozenset()
        new = after[0] | after[1]
        for key in old - new:
            readers = self._readers.get(key, set())
            readers.discard(reader)
            if not readers:
                self._readers.pop(key, None)
                self._found.pop(key, None)
        for key in new - old:
            self._readers.setdefault(key, set()).add(reader)
        if new:
            self._reads[reader] = after
        else:
            self._reads.pop(reader, None)

    def watched(self) -> tuple[tuple[ObjectKey, ...], tuple[ObjectKey, ...]]:
        """All objects to check again: the foreign ones (soon) and the operator's own (late)."""
        soon: dict[ObjectKey, None] = {}
        late: dict[ObjectKey, None] = {}
        for first, second in self._reads.values():
            soon.update(dict.fromkeys(first))
            late.update(dict.fromkeys(second))
        return tuple(soon), tuple(key for key in late if key not in soon)

    def readers(self, key: ObjectKey) -> frozenset[Key]:
        """The keys that read this object."""
        return frozenset(self._readers.get(key, ()))

    def version(self, key: ObjectKey) -> str | None:
        """The cached version, or why there is none; None if not read yet."""
        found = self._found.get(key)
        if found is None:
            return None
        return found.value if isinstance(found, Absence) else version_of(found)
