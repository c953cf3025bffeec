"""A cluster in memory: the port's Cluster with the semantics that the engine relies on, and no
more.

Server-side apply keeps what others wrote and drops what we no longer say, and tells managers apart
by name and operation as the real one does; a UID or version that does not match is a Conflict; what
Kubernetes keeps immutable, or does not take, is Invalid.
"""

from __future__ import annotations

import base64
import copy
import itertools
import re
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

from mailrelay_operator.api.names import (
    FIELD_MANAGER,
    FIELD_MANAGER_CREATE,
    FIELD_MANAGER_PATCH,
    FIELD_MANAGER_STATUS,
)
from mailrelay_operator.cluster.port import (
    KINDS,
    ClusterError,
    Conflict,
    Invalid,
    Kind,
    NotFound,
    WatchEvent,
)
from mailrelay_operator.plan.objects import Manifest, labels_of, name_of, namespace_of

#: `list` is also the name of a method below.
Manifests = list[Manifest]
Writes = list[tuple[str, str, str, str]]
Words = list[tuple[str, str]]
#: Who wrote fields: the manager's name and its operation, which together are one manager.
Manager = tuple[str, str]

CREATED = "2026-01-01T00:00:00Z"
#: Octets that a Secret may hold.
MAX_SECRET = 1024 * 1024
_QUALIFIED = re.compile(
    r"([a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?"
)


class FakeCluster:
    """The API server. `log` holds every write as (verb, kind, namespace, name), `calls` counts all
    calls by verb and kind; `refuse` makes calls fail."""

    def __init__(self) -> None:
        self.objects: dict[tuple[str, str, str], Manifest] = {}
        self.managed: dict[tuple[str, str, str], dict[Manager, Manifest]] = {}
        self.log: Writes = []
        self.calls: Counter[tuple[str, str]] = Counter()
        self.refusals: dict[tuple[str, str, str | None], ClusterError] = {}
        self.watchers: list[Callable[[Manifest, bool], None]] = []
        self._numbers = itertools.count(1)

    # --- for tests

    def put(self, *manifests: Manifest) -> None:
        """Have these objects exist, as if a person had applied them."""
        for manifest in manifests:
            key = _key(manifest)
            before = self.objects.get(key)
            stored = copy.deepcopy(manifest)
            metadata = stored["metadata"]
            if KINDS[manifest["kind"]].namespaced:
                metadata.setdefault("namespace", "default")
            old = before["metadata"] if before else {}
            metadata.setdefault("uid", old.get("uid") or f"uid-{next(self._numbers)}")
            metadata.setdefault("creationTimestamp", old.get("creationTimestamp") or CREATED)
            changed = before is None or before.get("spec") != stored.get("spec")
            metadata["generation"] = old.get("generation", 0) + int(changed)
            if before is not None and "status" in before:
                stored.setdefault("status", before["status"])
            self.store(stored)

    def drop(self, kind: str, namespace: str, name: str) -> None:
        """Have the object gone, and the pods of a StatefulSet with it."""
        gone = self.objects.pop((kind, namespace, name))
        self.managed.pop((kind, namespace, name), None)
        self._tell(gone, gone=True)
        for pod in self._pods_of(gone):
            self.drop("Pod", namespace, name_of(pod))

    def find(self, kind: str, namespace: str, name: str) -> Manifest | None:
        """The object as it is."""
        return self.objects.get((kind, namespace, name))

    def data(self, namespace: str, name: str) -> dict[str, str]:
        """A Secret's data, decoded."""
        secret = self.objects["Secret", namespace, name]
        return {
            key: base64.b64decode(value).decode("utf-8", "replace")
            for key, value in (secret.get("data") or {}).items()
        }

    def condition(self, kind: str, namespace: str, name: str, type_: str) -> tuple[str, str]:
        """Status and reason of a condition."""
        for condition in self.objects[kind, namespace, name]["status"]["conditions"]:
            if condition["type"] == type_:
                return condition["status"], condition["reason"]
        raise LookupError(type_)

    def message(self, kind: str, namespace: str, name: str, type_: str) -> str:
        """The message of a condition."""
        for condition in self.objects[kind, namespace, name]["status"]["conditions"]:
            if condition["type"] == type_:
                return str(condition["message"])
        raise LookupError(type_)

    def writes(self) -> Writes:
        """What was written since the last call, Events left out."""
        found = [entry for entry in self.log if entry[1] != "Event"]
        self.log.clear()
        return found

    def events(self) -> Words:
        """Kind and reason of every Event."""
        return [
            (one["regarding"]["kind"], one["reason"])
            for (kind, _, _), one in sorted(self.objects.items())
            if kind == "Event"
        ]

    def refuse(
        self, verb: str, kind: str, error: ClusterError | None, *, name: str | None = None
    ) -> None:
        """Have every such call (of the object `name`, or of all) fail, until called with None."""
        if error is None:
            self.refusals.pop((verb, kind, name), None)
        else:
            self.refusals[verb, kind, name] = error

    # --- the port

    async def served(self, api_version: str) -> frozenset[str]:
        self._refuse("served", api_version, "")
        return frozenset(kind.plural for kind in KINDS.values() if kind.api_version == api_version)

    async def get(self, kind: Kind, namespace: str, name: str) -> Manifest:
        self._refuse("get", kind.name, name)
        found = self.objects.get((kind.name, namespace if kind.namespaced else "", name))
        if found is None:
            raise NotFound(f"reading {kind.name} {name}", "not found")
        return copy.deepcopy(found)

    async def version(self, kind: Kind, namespace: str, name: str) -> str:
        return str((await self.get(kind, namespace, name))["metadata"]["resourceVersion"])

    async def list(
        self,
        kind: Kind,
        namespace: str | None,
        *,
        labels: Mapping[str, str] | None = None,
        trim: Callable[[Manifest], Manifest] | None = None,
    ) -> tuple[tuple[Manifest, ...], str]:
        self._refuse("list", kind.name, "")
        found = tuple(
            trim(copy.deepcopy(one)) if trim is not None else copy.deepcopy(one)
            for (of, where, _), one in sorted(self.objects.items())
            if of == kind.name
            and namespace in (None, where)
            and (labels or {}).items() <= labels_of(one).items()
        )
        return found, str(next(self._numbers))

    async def watch(
        self,
        kind: Kind,
        namespace: str | None,
        *,
        version: str,
        labels: Mapping[str, str] | None = None,
    ) -> AsyncIterator[WatchEvent]:
        nothing: tuple[WatchEvent, ...] = ()  # a World hands changes on itself
        for event in nothing:
            yield event

    async def create(self, manifest: Manifest) -> Manifest:
        key = _key(manifest)
        self._refuse("create", manifest["kind"], name_of(manifest))
        if key in self.objects:
            raise Conflict(f"creating {key}", "already exists")
        _check(None, manifest)
        self.log.append(("create", *key))
        self.managed[key] = {(FIELD_MANAGER_CREATE, "Update"): copy.deepcopy(manifest)}
        self.put(manifest)
        return copy.deepcopy(self.objects[key])

    async def apply(self, manifest: Manifest, *, force: bool = True) -> Manifest:
        self._refuse("apply", manifest["kind"], name_of(manifest))
        said = copy.deepcopy(manifest)
        said.pop("status", None)
        ours = self.managed.get(_key(manifest), {}).get((FIELD_MANAGER, "Apply"), {})
        if not force and _contradicts(self.objects.get(_key(manifest)), said, ours):
            raise Conflict(f"applying {_key(manifest)}", "Apply failed with 1 conflict")
        return self._apply(manifest, said, (FIELD_MANAGER, "Apply"), "apply")

    async def apply_status(self, manifest: Manifest) -> Manifest:
        self._refuse("apply-status", manifest["kind"], name_of(manifest))
        if _key(manifest) not in self.objects:
            raise NotFound(f"applying status of {_key(manifest)}", "not found")
        said = {key: copy.deepcopy(manifest[key]) for key in ("apiVersion", "kind", "status")}
        return self._apply(manifest, said, (FIELD_MANAGER_STATUS, "Apply"), "apply-status")

    async def merge(self, kind: Kind, namespace: str, name: str, patch: Manifest) -> Manifest:
        self._refuse("merge", kind.name, name)
        key = (kind.name, namespace, name)
        found = self.objects.get(key)
        if found is None:
            raise NotFound(f"patching {key}", "not found")
        uid = patch.get("metadata", {}).get("uid")
        if uid is not None and uid != found["metadata"]["uid"]:
            raise Conflict(f"patching {key}", "uid mismatch")
        self.log.append(("merge", *key))
        self.managed.setdefault(key, {})[FIELD_MANAGER_PATCH, "Update"] = copy.deepcopy(patch)
        self.store(_merge_patch(found, patch))
        return copy.deepcopy(self.objects[key])

    async def delete(
        self, kind: Kind, namespace: str, name: str, *, uid: str, orphan: bool = False
    ) -> None:
        self._refuse("delete", kind.name, name)
        key = (kind.name, namespace, name)
        found = self.objects.get(key)
        if found is None:
            return
        if found["metadata"]["uid"] != uid:
            raise Conflict(f"deleting {key}", "uid mismatch")
        self.log.append(("orphan" if orphan else "delete", *key))
        if orphan:
            for pod in self._pods_of(found):
                pod["metadata"]["ownerReferences"] = []
                self.store(pod)
        self.drop(*key)

    # --- inside

    def _pods_of(self, owner: Manifest) -> Manifests:
        uid = owner["metadata"]["uid"]
        return [
            one
            for (kind, _, _), one in self.objects.items()
            if kind == "Pod"
            and any(known["uid"] == uid for known in one["metadata"].get("ownerReferences") or ())
        ]

    def _refuse(self, verb: str, kind: str, name: str) -> None:
        self.calls[verb, kind] += 1
        error = self.refusals.get((verb, kind, name)) or self.refusals.get((verb, kind, None))
        if error is not None:
            raise error

    def _apply(self, manifest: Manifest, said: Manifest, manager: Manager, verb: str) -> Manifest:
        key = _key(manifest)
        found = self.objects.get(key)
        for field in ("uid", "resourceVersion"):
            wanted = manifest["metadata"].get(field)
            if wanted and (found is None or found["metadata"][field] != wanted):
                raise Conflict(f"applying {key}", f"{field} mismatch")
        if "metadata" in said:
            said["metadata"].pop("resourceVersion", None)
        managers = self.managed.setdefault(key, {})
        others = [fields for known, fields in managers.items() if known != manager]
        dropped = _without(managers.get(manager, {}), [said, *others])
        result = _apply_to(copy.deepcopy(found) if found else {}, dropped, said)
        _check(found, result)
        managers[manager] = said
        self.log.append((verb, *key))
        if found is not None and result == found:
            return copy.deepcopy(found)
        if found is None:
            self.put(result)
        else:
            if result.get("spec") != found.get("spec"):
                result["metadata"]["generation"] += 1
            self.store(result)
        return copy.deepcopy(self.objects[key])

    def store(self, manifest: Manifest) -> None:
        if not manifest.get("data", True):
            del manifest["data"]  # as the real one: no empty map is kept
        manifest["metadata"]["resourceVersion"] = str(next(self._numbers))
        self.objects[_key(manifest)] = manifest
        self._tell(manifest, gone=False)

    def _tell(self, manifest: Manifest, *, gone: bool) -> None:
        for watcher in self.watchers:
            watcher(copy.deepcopy(manifest), gone)


def _key(manifest: Manifest) -> tuple[str, str, str]:
    kind = KINDS[manifest["kind"]]
    return kind.name, namespace_of(manifest) if kind.namespaced else "", name_of(manifest)


def _apply_to(found: Any, dropped: Any, said: Any) -> Any:
    """Server-side apply: dictionaries merge, lists of conditions merge by type, other lists are
    ours; what nobody says any more goes."""
    if isinstance(said, dict):
        found = found if isinstance(found, dict) else {}
        for key, below in (dropped or {}).items():
            if key not in said and below is not None and not isinstance(below, dict):
                found.pop(key, None)
            elif key not in said and isinstance(below, dict) and key in found:
                left = _apply_to(found[key], below, {})
                if left:
                    found[key] = left
                else:
                    found.pop(key)
        for key, value in said.items():
            found[key] = _apply_to(found.get(key), (dropped or {}).get(key), value)
        return found
    return copy.deepcopy(said)


def _contradicts(found: Any, said: Any, ours: Any) -> bool:
    """Whether `said` would change a field that another has written."""
    if isinstance(said, dict) and isinstance(found, dict):
        below = ours if isinstance(ours, dict) else {}
        return any(
            _contradicts(found[key], value, below.get(key))
            for key, value in said.items()
            if key in found
        )
    return bool(found is not None and found != said and ours is None)


def _without(fields: Any, others: Manifests) -> dict[str, Any]:
    """The leaves of `fields` that none of the others has."""
    left: dict[str, Any] = {}
    for key, value in fields.items():
        having = [one[key] for one in others if key in one]
        if isinstance(value, dict):
            below = _without(value, [one for one in having if isinstance(one, dict)])
            if below:
                left[key] = below
        elif not having:
            left[key] = value if value is not None else ""
    return left


def _merge_patch(found: Any, patch: Any) -> Any:
    """RFC 7396."""
    if not isinstance(patch, dict):
        return copy.deepcopy(patch)
    result = dict(found) if isinstance(found, dict) else {}
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = _merge_patch(result.get(key), value)
    return result


def _check(found: Manifest | None, result: Manifest) -> None:
    """What the API server refuses."""
    doing = f"writing {_key(result)}"
    for name in result["metadata"].get("annotations") or {}:
        if not _QUALIFIED.fullmatch(name):
            raise Invalid(doing, f"metadata.annotations: Invalid value: {name!r}")
    owners = result["metadata"].get("ownerReferences") or []
    if sum(bool(one.get("controller")) for one in owners) > 1:
        raise Invalid(doing, "Only one reference can have Controller set to true")
    if result["kind"] == "Secret":
        size = sum(len(base64.b64decode(value)) for value in (result.get("data") or {}).values())
        if size > MAX_SECRET:
            raise Invalid(doing, f"data: Too long: may not be more than {MAX_SECRET} bytes")
    if found is None:
        return
    if found["kind"] == "Secret":
        if found.get("type") != result.get("type"):
            raise Invalid(doing, "type: field is immutable")
        if found.get("immutable") and found.get("data") != result.get("data"):
            raise Invalid(doing, "data: field is immutable when `immutable` is set")
    if found["kind"] == "StatefulSet":
        for field in ("serviceName", "selector", "volumeClaimTemplates", "podManagementPolicy"):
            if found["spec"].get(field) != result["spec"].get(field):
                raise Invalid(doing, f"updates to {field} are forbidden")
