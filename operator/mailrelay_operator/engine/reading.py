"""Reading the facts of a relay: everything fresh, from the API server and from the pods. Nothing
is decided here.

What to read is asked of plan/survey.py. A list or an object that could not be read ends the round:
"not read" is never taken for "not there".
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TypeVar

from mailrelay_operator.api import names
from mailrelay_operator.cluster.port import (
    KINDS,
    MAIL_RELAY,
    MAIL_SENDER,
    NAMESPACE,
    POD,
    Cluster,
    ClusterError,
    Forbidden,
    Gateways,
    NotFound,
)
from mailrelay_operator.plan import survey
from mailrelay_operator.plan.facts import (
    Absence,
    Lookup,
    ObjectKey,
    Place,
    PodFacts,
    RelayFacts,
)
from mailrelay_operator.plan.objects import (
    Manifest,
    annotations_of,
    controller_of,
    is_being_deleted,
    labels_of,
    name_of,
    namespace_of,
    parse_timestamp,
    secret_data,
    uid_of,
)
from mailrelay_operator.plan.running import ANNOTATION_STAMPED

#: Requests at a time for one relay; four workers together stay below the client's 32 connections.
AT_A_TIME = 8

_Item = TypeVar("_Item")
_Found = TypeVar("_Found")


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """The namespaces that we may look at; None: all."""

    namespaces: tuple[str, ...] | None = None

    def holds(self, namespace: str) -> bool:
        """Whether we may look at this namespace."""
        return self.namespaces is None or namespace in self.namespaces


@dataclass(frozen=True, slots=True, kw_only=True)
class Reader:
    """Reads facts from these."""

    cluster: Cluster
    gateways: Gateways
    place: Place
    scope: Scope

    async def read(
        self, namespace: str, name: str, *, now: datetime, numbers_due: bool
    ) -> RelayFacts:
        """All facts of this relay; any ClusterError ends it."""
        facts = RelayFacts(
            namespace=namespace,
            name=name,
            relay=await self._relay(namespace, name),
            senders=await self._senders(namespace, name),
            now=now,
            place=self.place,
            numbers_due=numbers_due,
        )
        if facts.relay is None:
            return facts
        own = await self._objects(survey.own_objects(namespace, name))
        facts = replace(facts, objects=own)
        more = await self._objects(survey.referenced_objects(facts) - own.keys())
        spaces = await self._namespaces(survey.namespaces_needed(facts))
        return replace(
            facts,
            objects={**own, **more, **self._unwatched(spaces)},
            namespaces={name_of(one): labels_of(one) for one in spaces},
            pods=await self._pods(facts),
        )

    async def _relay(self, namespace: str, name: str) -> Manifest | None:
        try:
            return await self.cluster.get(MAIL_RELAY, namespace, name)
        except NotFound:
            return None

    async def _senders(self, namespace: str, name: str) -> tuple[Manifest, ...]:
        found = await list_senders(self.cluster, self.scope)
        return tuple(one for one in found if relay_of_sender(one) == (namespace, name))

    async def _objects(self, keys: Iterable[ObjectKey]) -> dict[ObjectKey, Lookup]:
        wanted = sorted(keys)
        found = await gather_bounded(self._look_up, wanted)
        return dict(zip(wanted, found, strict=True))

    async def _look_up(self, key: ObjectKey) -> Lookup:
        if not self.scope.holds(key.namespace):
            return Absence.FORBIDDEN
        try:
            return await self.cluster.get(KINDS[key.kind], key.namespace, key.name)
        except NotFound:
            return Absence.MISSING
        except Forbidden:
            return Absence.FORBIDDEN

    async def _namespaces(self, needed: frozenset[str]) -> tuple[Manifest, ...]:
        if not needed:
            return ()
        if self.scope.namespaces is None:
            # One request for all: a namespace is a kilobyte.
            every = await self.cluster.list(NAMESPACE, None)
            return tuple(one for one in every if name_of(one) in needed)
        found: list[Manifest] = []
        for name in sorted(needed):
            try:
                found.append(await self.cluster.get(NAMESPACE, name, name))
            except NotFound:
                continue
        return tuple(found)

    def _unwatched(self, spaces: Iterable[Manifest]) -> dict[ObjectKey, Lookup]:
        """Namespaces as objects to look at again, where they cannot be watched (a Role allows no
        watch of them)."""
        if self.scope.namespaces is None:
            return {}
        return {
            ObjectKey(kind="Namespace", namespace=name_of(one), name=name_of(one)): one
            for one in spaces
        }

    async def _pods(self, facts: RelayFacts) -> tuple[PodFacts, ...]:
        found = await self.cluster.list(
            POD, facts.namespace, labels=names.selector_labels(facts.name)
        )
        stateful_set = facts.objects[_key(facts, "StatefulSet", facts.name)]
        owner = "" if isinstance(stateful_set, Absence) else uid_of(stateful_set)
        ours = [pod for pod in found if _is_of(pod, owner)]
        secret = facts.objects[_key(facts, "Secret", names.admin_secret_name(facts.name))]
        token = "" if isinstance(secret, Absence) else _token(secret)

        async def ask(pod: Manifest) -> PodFacts:
            return await self._ask(pod, token)

        return tuple(await gather_bounded(ask, ours))

    async def _ask(self, pod: Manifest, token: str) -> PodFacts:
        known = _pod_facts(pod)
        if not known.address or known.terminating or not token:
            return replace(known, trouble="It has no address yet.")
        try:
            status = await self.gateways.status(known.address, token)
        except ClusterError as error:
            return replace(known, trouble=error.detail)
        return replace(known, status=status)


async def list_senders(cluster: Cluster, scope: Scope) -> tuple[Manifest, ...]:
    """All MailSenders that we may look at."""
    if scope.namespaces is None:
        return await cluster.list(MAIL_SENDER, None)
    found: list[Manifest] = []
    for namespace in scope.namespaces:
        found += await cluster.list(MAIL_SENDER, namespace)
    return tuple(found)


def relay_of_sender(sender: Manifest) -> tuple[str, str]:
    """Namespace and name of the MailRelay that a MailSender names, even if the rest of it is
    wrong."""
    spec = sender.get("spec")
    reference = spec.get("relayRef") if isinstance(spec, dict) else None
    reference = reference if isinstance(reference, dict) else {}
    return str(reference.get("namespace") or namespace_of(sender)), str(reference.get("name") or "")


async def gather_bounded(
    ask: Callable[[_Item], Awaitable[_Found]], items: Iterable[_Item]
) -> list[_Found]:
    """The answers in the order of the items, at most AT_A_TIME at a time; the first error ends
    all."""
    limit = asyncio.Semaphore(AT_A_TIME)

    async def one(item: _Item) -> _Found:
        async with limit:
            return await ask(item)

    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(one(item)) for item in items]
    except ExceptionGroup as several:
        raise several.exceptions[0] from None
    return [task.result() for task in tasks]


def _key(facts: RelayFacts, kind: str, name: str) -> ObjectKey:
    return ObjectKey(kind=kind, namespace=facts.namespace, name=name)


def _is_of(pod: Manifest, owner: str) -> bool:
    """Whether a pod with our labels is the StatefulSet's. While that is being replaced its pods
    have no controller."""
    controller = controller_of(pod)
    return controller is None or not owner or controller.get("uid") == owner


def _token(secret: Manifest) -> str:
    return secret_data(secret).get("token", b"").decode(errors="replace").strip()


def _pod_facts(pod: Manifest) -> PodFacts:
    status = pod.get("status") or {}
    ready = any(
        one.get("type") == "Ready" and one.get("status") == "True"
        for one in status.get("conditions") or ()
    )
    annotations = annotations_of(pod)
    return PodFacts(
        name=name_of(pod),
        uid=uid_of(pod),
        address=str(status.get("podIP") or ""),
        ready=ready,
        terminating=is_being_deleted(pod),
        stamp=annotations.get(names.ANNOTATION_DIGEST, ""),
        stamped_at=parse_timestamp(annotations.get(ANNOTATION_STAMPED, "")),
    )
