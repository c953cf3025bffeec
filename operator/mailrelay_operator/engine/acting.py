"""Performs the actions of a plan one by one. A failed action does not stop the others, and is
reported, so that the next plan can say so.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import structlog

from mailrelay_operator.api.names import ANNOTATION_APPLIED
from mailrelay_operator.cluster.port import (
    KINDS,
    Cluster,
    ClusterError,
    Conflict,
    NotFound,
    Unavailable,
)
from mailrelay_operator.engine.announcing import Announcer
from mailrelay_operator.engine.contents import Contents
from mailrelay_operator.engine.store import Store
from mailrelay_operator.plan.actions import (
    Action,
    Announce,
    Apply,
    ApplyStatus,
    Create,
    Delete,
    Patch,
)
from mailrelay_operator.plan.facts import Failure, ObjectKey
from mailrelay_operator.plan.objects import Manifest, version_of

log = structlog.get_logger()

#: Remembered objects that the API server normalizes to another notation: a few per relay.
MAX_REWRITTEN = 10_000


@dataclass(slots=True)
class Outcome:
    """The outcome of a list of actions: which objects could not be written, and why. `error` is the
    first; `silent`: the API server did not answer, so the rest was postponed."""

    failures: dict[ObjectKey, Failure] = field(default_factory=dict)
    error: ClusterError | None = None
    silent: bool = False

    @property
    def is_conflict(self) -> bool:
        """Whether the only failures are concurrent writes by others."""
        return bool(self.failures) and all(one.conflict for one in self.failures.values())


class Actor:
    """Writes to the cluster, and passes the results to contents and store."""

    def __init__(
        self, *, cluster: Cluster, contents: Contents, store: Store, announcer: Announcer
    ) -> None:
        """Write through `cluster`; Events go to `announcer`."""
        self._cluster = cluster
        self._contents = contents
        self._store = store
        self._announcer = announcer
        # Applied objects as the API server stores them, if normalized.
        self._rewritten: dict[ObjectKey, tuple[str, str]] = {}

    async def do(self, actions: Iterable[Action]) -> Outcome:
        """Perform them in order."""
        outcome = Outcome()
        for action in actions:
            try:
                await self._do(action)
            except ClusterError as error:
                self._contents.forget(action.target)
                conflict = isinstance(error, Conflict)
                outcome.failures[action.target] = Failure(message=str(error), conflict=conflict)
                outcome.error = outcome.error or error
                if isinstance(error, Unavailable) and not error.answered:
                    outcome.silent = True
                    break
                if isinstance(action, Create) or (isinstance(action, Apply) and action.first):
                    break  # later actions were planned with the object that was not written
        return outcome

    async def _do(self, action: Action) -> None:
        match action:
            case Create():
                self._contents.note(await self._cluster.create(action.manifest))
                log.info("created", object=str(action.target))
            case Apply():
                await self._apply(action)
            case ApplyStatus():
                try:
                    self._store.note(await self._cluster.apply_status(action.manifest))
                except NotFound:
                    return  # deleted meanwhile
            case Patch():
                await self._patch(action)
            case Delete():
                kind, target = KINDS[action.target.kind], action.target
                await self._cluster.delete(
                    kind, target.namespace, target.name, uid=action.uid, orphan=action.orphan
                )
                self._contents.forget(target)
            case Announce():
                self._announcer.announce(action)

    async def _apply(self, action: Apply) -> None:
        key, manifest = action.target, marked(action.manifest)
        there = self._contents.known(key) or self._store.find(key.kind, key.namespace, key.name)
        if there is not None and self._holds(key, there, manifest):
            return
        result = await self._cluster.apply(manifest, force=not action.makes)
        said, seen = _said(manifest), projected(result, _said(manifest))
        if seen != said:  # for example a quantity in another notation
            if len(self._rewritten) >= MAX_REWRITTEN:
                self._rewritten.clear()  # each is then only applied once more
            self._rewritten[key] = (_mark_of(manifest), _digest(seen))
        if self._store.find(key.kind, key.namespace, key.name) is not None:
            self._store.note(result)
            self._contents.forget(key)
        else:
            self._contents.note(result)
        if there is None or version_of(result) != version_of(there):
            log.info("applied", object=str(key))

    def _holds(self, key: ObjectKey, there: Manifest, manifest: Manifest) -> bool:
        """Whether the object is as wanted: it was the last one applied, and is unchanged since."""
        mark, said = _mark_of(manifest), _said(manifest)
        if _mark_of(there) != mark:
            return False
        seen = projected(there, said)
        return bool(seen == said) or self._rewritten.get(key) == (mark, _digest(seen))

    async def _patch(self, action: Patch) -> None:
        target = action.target
        patch = dict(action.patch)
        if action.uid:
            patch["metadata"] = {**patch.get("metadata", {}), "uid": action.uid}
        try:
            result = await self._cluster.merge(
                KINDS[target.kind], target.namespace, target.name, patch
            )
        except (NotFound, Conflict):
            if action.optional:
                return  # deleted or re-created: the watch will report it
            raise
        self._store.note({"kind": target.kind, **result})
        if target.kind != "Pod":
            self._contents.forget(target)
            log.info("patched", object=str(target))


def marked(manifest: Manifest) -> Manifest:
    """The object with the hash of its wanted state, from which the next round sees whether an
    earlier apply left fields that are no longer wanted."""
    annotations = {
        **(manifest["metadata"].get("annotations") or {}),
        ANNOTATION_APPLIED: _digest(_said(manifest))[:32],
    }
    return {**manifest, "metadata": {**manifest["metadata"], "annotations": annotations}}


def projected(found: Any, said: Any) -> Any:
    """The part of `found` that has the fields of `said`."""
    if found is None and said in ({}, []):
        return said  # the API server does not store empty maps and lists
    if isinstance(said, Mapping) and isinstance(found, Mapping):
        return {key: projected(found.get(key), value) for key, value in said.items()}
    if isinstance(said, list) and isinstance(found, list) and len(said) == len(found):
        return [projected(one, other) for one, other in zip(found, said, strict=True)]
    return found


def _said(manifest: Manifest) -> Manifest:
    """The wanted object without its version."""
    metadata = {
        key: value
        for key, value in manifest["metadata"].items()
        if key not in ("uid", "resourceVersion")
    }
    return {**manifest, "metadata": metadata}


def _mark_of(manifest: Manifest) -> str:
    annotations = manifest["metadata"].get("annotations") or {}
    return str(annotations.get(ANNOTATION_APPLIED, ""))


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
