"""A cluster in memory: the port's Cluster and Gateways with the semantics that the engine relies
on, and no more.

Server-side apply keeps what others wrote and drops what we no longer say; a UID that does not match
is a Conflict; what Kubernetes keeps immutable is Invalid. A small kubelet makes pods of
StatefulSets, which load their Secrets at start and whenever something about the pod changes, as the
real one does at once.
"""

from __future__ import annotations

import base64
import copy
import itertools
from collections.abc import Mapping
from typing import Any

from mailrelay_gateway import config
from mailrelay_gateway.config import FILE_NAME, GatewayStatus, QueueStatus, UpstreamStatus
from mailrelay_operator.cluster.port import (
    KINDS,
    ClusterError,
    Conflict,
    Forbidden,
    Invalid,
    Kind,
    NotFound,
    Unavailable,
)
from mailrelay_operator.plan.gateway_config import token_hash
from mailrelay_operator.plan.objects import Manifest, labels_of, name_of, namespace_of

#: `list` is also the name of a method below.
Manifests = list[Manifest]
Writes = list[tuple[str, str, str, str]]
Words = list[tuple[str, str]]

CREATED = "2026-01-01T00:00:00Z"


class FakeCluster:
    """The API server. `log` holds every write as (verb, kind, namespace, name); `refuse` makes
    calls fail."""

    def __init__(self) -> None:
        self.objects: dict[tuple[str, str, str], Manifest] = {}
        self.applied: dict[tuple[str, str, str, str], Manifest] = {}
        self.log: Writes = []
        self.refusals: dict[tuple[str, str], ClusterError] = {}
        self._numbers = itertools.count(1)

    # --- for tests

    def put(self, *manifests: Manifest) -> None:
        """Have these objects exist, as if a person had applied them."""
        for manifest in manifests:
            key = _key(manifest)
            before = self.objects.get(key)
            stored = copy.deepcopy(manifest)
            metadata = stored["metadata"]
            metadata.setdefault("namespace", "default")
            old = before["metadata"] if before else {}
            metadata.setdefault("uid", old.get("uid") or f"uid-{next(self._numbers)}")
            metadata.setdefault("creationTimestamp", old.get("creationTimestamp") or CREATED)
            changed = before is None or before.get("spec") != stored.get("spec")
            metadata["generation"] = old.get("generation", 0) + int(changed)
            if before is not None and "status" in before:
                stored.setdefault("status", before["status"])
            self._store(stored)

    def drop(self, kind: str, namespace: str, name: str) -> None:
        """Have the object gone, and the pods of a StatefulSet with it."""
        gone = self.objects.pop((kind, namespace, name))
        for pod in self._pods_of(gone):
            del self.objects["Pod", namespace, name_of(pod)]

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

    def refuse(self, verb: str, kind: str, error: ClusterError | None) -> None:
        """Have every such call fail, until called with None."""
        if error is None:
            self.refusals.pop((verb, kind), None)
        else:
            self.refusals[verb, kind] = error

    # --- the port

    async def served(self, api_version: str) -> frozenset[str]:
        self._refuse("served", api_version)
        return frozenset(kind.plural for kind in KINDS.values() if kind.api_version == api_version)

    async def get(self, kind: Kind, namespace: str, name: str) -> Manifest:
        self._refuse("get", kind.name)
        found = self.objects.get((kind.name, namespace if kind.namespaced else "", name))
        if found is None:
            raise NotFound(f"reading {kind.name} {name}", "not found")
        return copy.deepcopy(found)

    async def version(self, kind: Kind, namespace: str, name: str) -> str:
        return str((await self.get(kind, namespace, name))["metadata"]["resourceVersion"])

    async def list(
        self, kind: Kind, namespace: str | None, *, labels: Mapping[str, str] | None = None
    ) -> tuple[Manifest, ...]:
        self._refuse("list", kind.name)
        return tuple(
            copy.deepcopy(one)
            for (of, where, _), one in sorted(self.objects.items())
            if of == kind.name
            and namespace in (None, where)
            and (labels or {}).items() <= labels_of(one).items()
        )

    async def create(self, manifest: Manifest) -> Manifest:
        key = _key(manifest)
        self._refuse("create", manifest["kind"])
        if key in self.objects:
            raise Conflict(f"creating {key}", "already exists")
        self.log.append(("create", *key))
        self.put(manifest)
        return copy.deepcopy(self.objects[key])

    async def apply(self, manifest: Manifest) -> Manifest:
        return self._apply(manifest, "")

    async def apply_status(self, manifest: Manifest) -> Manifest:
        if _key(manifest) not in self.objects:
            raise NotFound(f"applying status of {_key(manifest)}", "not found")
        return self._apply(manifest, "status")

    async def merge(self, kind: Kind, namespace: str, name: str, patch: Manifest) -> Manifest:
        self._refuse("merge", kind.name)
        key = (kind.name, namespace, name)
        found = self.objects.get(key)
        if found is None:
            raise NotFound(f"patching {key}", "not found")
        uid = patch["metadata"].get("uid")
        if uid is not None and uid != found["metadata"]["uid"]:
            raise Conflict(f"patching {key}", "uid mismatch")
        self.log.append(("merge", *key))
        self._store(_merge_patch(found, patch))
        return copy.deepcopy(self.objects[key])

    async def delete(
        self, kind: Kind, namespace: str, name: str, *, uid: str, orphan: bool = False
    ) -> None:
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
        self.drop(*key)

    # --- inside

    def _pods_of(self, owner: Manifest) -> Manifests:
        uid = owner["metadata"]["uid"]
        return [
            one
            for (kind, _, _), one in self.objects.items()
            if kind == "Pod"
            and any(known["uid"] == uid for known in one["metadata"]["ownerReferences"])
        ]

    def _refuse(self, verb: str, kind: str) -> None:
        error = self.refusals.get((verb, kind))
        if error is not None:
            raise error

    def _apply(self, manifest: Manifest, subresource: str) -> Manifest:
        key = _key(manifest)
        self._refuse("apply-status" if subresource else "apply", manifest["kind"])
        found = self.objects.get(key)
        uid = manifest["metadata"].get("uid")
        if uid is not None and (found is None or found["metadata"]["uid"] != uid):
            raise Conflict(f"applying {key}", "uid mismatch")
        said = copy.deepcopy(manifest)
        if subresource:
            said = {
                "apiVersion": said["apiVersion"],
                "kind": said["kind"],
                "status": said["status"],
            }
        else:
            said.pop("status", None)
        before = self.applied.get((*key, subresource), {})
        result = _apply_to(copy.deepcopy(found) if found else {}, before, said)
        self.applied[*key, subresource] = said
        if found is not None:
            _check_immutable(found, result)
        _check_owners(result)
        self.log.append(("apply-status" if subresource else "apply", *key))
        if found is not None and result == found:
            return copy.deepcopy(found)
        if found is None:
            self.put(result)
        else:
            if result.get("spec") != found.get("spec"):
                result["metadata"]["generation"] += 1
            self._store(result)
        return copy.deepcopy(self.objects[key])

    def _store(self, manifest: Manifest) -> None:
        manifest["metadata"]["resourceVersion"] = str(next(self._numbers))
        self.objects[_key(manifest)] = manifest


class FakeKubelet:
    """Runs the pods of all StatefulSets and answers for their gateways (the port's Gateways).

    `upstreams` and `queue` are what every gateway reports; a pod in `silent` does not answer;
    `slow` pods do not load.
    """

    def __init__(self, cluster: FakeCluster) -> None:
        self.cluster = cluster
        self.upstreams: tuple[UpstreamStatus, ...] = ()
        self.queue = QueueStatus()
        self.silent: set[str] = set()
        self.slow: set[str] = set()
        self.problem = ""
        self._loaded: dict[str, config.GatewayConfig] = {}
        self._seen: dict[str, object] = {}
        self._addresses: dict[str, str] = {}

    def run(self) -> None:
        """One look at everything: start pods, let the changed ones load, update the
        StatefulSets' status."""
        for (kind, namespace, name), one in list(self.cluster.objects.items()):
            if kind == "StatefulSet" and "template" in one["spec"]:
                self._run_stateful_set(namespace, name, one)

    async def status(self, address: str, token: str) -> GatewayStatus:
        pod = next(name for name, known in self._addresses.items() if known == address)
        loaded = self._loaded.get(pod)
        if pod in self.silent or loaded is None:
            raise Unavailable(f"asking {pod}", "no answer within 2 s")
        if loaded.relay.admin_token_sha256 != token_hash(token):
            raise Forbidden(f"asking {pod}", "it does not know our token yet")
        return GatewayStatus(
            version="0",
            digest=loaded.digest,
            started_at=CREATED,
            upstreams=self.upstreams,
            queue=self.queue,
            problem=self.problem,
        )

    def _run_stateful_set(self, namespace: str, name: str, one: Manifest) -> None:
        replicas = one["spec"]["replicas"]
        for ordinal in range(replicas):
            pod = f"{name}-{ordinal}"
            there = self.cluster.find("Pod", namespace, pod)
            if there is None:
                self._start(namespace, pod, one)
            elif not there["metadata"]["ownerReferences"]:
                there["metadata"]["ownerReferences"] = [_owner(one)]  # as its controller adopts
            self._load(namespace, name, pod)
        pods = [self.cluster.find("Pod", namespace, f"{name}-{n}") for n in range(replicas)]
        one["status"] = {
            "replicas": replicas,
            "readyReplicas": sum(_is_ready(pod) for pod in pods if pod),
            "updatedReplicas": replicas,
            "observedGeneration": one["metadata"]["generation"],
            "currentRevision": "a",
            "updateRevision": "a",
        }

    def _start(self, namespace: str, pod: str, owner: Manifest) -> None:
        address = f"10.0.0.{len(self._addresses) + 1}"
        self._addresses[pod] = address
        self._loaded.pop(pod, None)
        self.cluster.put(
            {
                "apiVersion": "v1",
                "kind": "Pod",
                "metadata": {
                    "name": pod,
                    "namespace": namespace,
                    "labels": owner["spec"]["template"]["metadata"]["labels"],
                    "ownerReferences": [_owner(owner)],
                },
                "spec": {},
                "status": {"podIP": address, "conditions": []},
            }
        )

    def _load(self, namespace: str, relay: str, pod: str) -> None:
        found = self.cluster.find("Pod", namespace, pod)
        assert found is not None
        seen = copy.deepcopy(found["metadata"].get("annotations"))
        if pod in self.slow or (pod in self._loaded and self._seen.get(pod) == seen):
            return
        files: dict[str, bytes] = {}
        for source in self._sources(namespace, relay):
            secret = self.cluster.find("Secret", namespace, source["secret"]["name"])
            item = source["secret"]["items"][0]
            if secret is not None and FILE_NAME in (secret.get("data") or {}):
                folder = item["path"].partition("/")[0]
                files[folder] = base64.b64decode(secret["data"][FILE_NAME])
        if "relay" in files:
            self._loaded[pod] = config.load(files)
            self._seen[pod] = seen
            found["status"]["conditions"] = [{"type": "Ready", "status": "True"}]

    def _sources(self, namespace: str, relay: str) -> list[dict[str, Any]]:
        found = self.cluster.find("StatefulSet", namespace, relay)
        assert found is not None
        volumes = found["spec"]["template"]["spec"]["volumes"]
        sources = next(one for one in volumes if one["name"] == "config")["projected"]["sources"]
        return list(sources)

    def loaded(self, pod: str) -> config.GatewayConfig:
        """The configuration that a gateway runs."""
        return self._loaded[pod]


def _key(manifest: Manifest) -> tuple[str, str, str]:
    kind = KINDS[manifest["kind"]]
    return kind.name, namespace_of(manifest) if kind.namespaced else "", name_of(manifest)


def _owner(stateful_set: Manifest) -> Manifest:
    return {
        "apiVersion": "apps/v1",
        "kind": "StatefulSet",
        "name": name_of(stateful_set),
        "uid": stateful_set["metadata"]["uid"],
        "controller": True,
    }


def _is_ready(pod: Manifest) -> bool:
    return any(one["type"] == "Ready" for one in pod["status"]["conditions"])


def _apply_to(found: Any, before: Any, said: Any) -> Any:
    """Server-side apply by one manager: dictionaries merge, lists of conditions merge by type,
    other lists are ours."""
    if isinstance(said, dict):
        found = found if isinstance(found, dict) else {}
        before = before if isinstance(before, dict) else {}
        for key in before:
            if key not in said:
                found.pop(key, None)
        for key, value in said.items():
            found[key] = _apply_to(found.get(key), before.get(key), value)
        return found
    return copy.deepcopy(said)


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


def _check_immutable(found: Manifest, result: Manifest) -> None:
    if found["kind"] == "Secret" and found.get("type") != result.get("type"):
        raise Invalid("applying a Secret", "type: field is immutable")
    if found["kind"] == "StatefulSet":
        for field in ("serviceName", "selector", "volumeClaimTemplates", "podManagementPolicy"):
            if found["spec"].get(field) != result["spec"].get(field):
                raise Invalid("applying a StatefulSet", f"updates to {field} are forbidden")


def _check_owners(result: Manifest) -> None:
    owners = result.get("metadata", {}).get("ownerReferences") or []
    if sum(bool(one.get("controller")) for one in owners) > 1:
        raise Invalid("applying", "Only one reference can have Controller set to true")
