"""Gathers the facts of a relay: watched objects from the store, objects read by name from the
contents, and the status from the pods. No decisions.

plan/survey.py says what to read. An object that cannot be read ends the round: "not read" is never
taken for "does not exist".
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TypeVar

from mailrelay_gateway.contract.moments import parse_rfc3339
from mailrelay_operator.api import names
from mailrelay_operator.cluster.port import ClusterError, Gateways
from mailrelay_operator.engine.backlog import Key
from mailrelay_operator.engine.contents import Contents
from mailrelay_operator.engine.memory import Memory
from mailrelay_operator.engine.ringing import sender_key
from mailrelay_operator.engine.scope import Scope
from mailrelay_operator.engine.store import Store
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
    secret_data,
    uid_of,
)
from mailrelay_operator.plan.own import own_objects
from mailrelay_operator.plan.running import ANNOTATION_STAMPED
from mailrelay_operator.plan.senders import sender_uid

#: Concurrent requests to the API server for one relay; those above the client's 64 connections wait
#: for one.
AT_A_TIME = 8
#: Concurrent requests to the pods of one relay: to all of them (`replicas` is at most 100, and some
#: may be on the way out). Unreachable ones take 2 s each, and a revocation waits for the answers.
PODS_AT_A_TIME = 128

_Item = TypeVar("_Item")
_Found = TypeVar("_Found")


@dataclass(frozen=True, slots=True, kw_only=True)
class Reader:
    """Reads facts from these sources."""

    store: Store
    contents: Contents
    gateways: Gateways
    memory: Memory
    place: Place
    scope: Scope

    async def read(self, key: Key, *, now: datetime, numbers_due: bool) -> RelayFacts:
        """All facts of this relay; raises any ClusterError."""
        namespace, name = key.namespace, key.name
        part = self.memory.relay(key)
        relay = self.store.find("MailRelay", namespace, name)
        senders = self.store.senders_of(namespace, name)
        keys = [(sender_key(one.manifest), sender_uid(one.manifest)) for one in senders]
        facts = RelayFacts(
            namespace=namespace,
            name=name,
            relay=None if relay is None or is_being_deleted(relay) else relay,
            watched=self.scope.holds(namespace),
            senders=senders,
            logins=self.memory.logins(keys),
            trusted=self.memory.trusted(keys),
            versions=part.versions,
            failures=part.failures,
            now=now,
            place=self.place,
            numbers_due=numbers_due,
            settling_since=part.settling_since,
            newest_digest=part.newest_digest,
            newest_since=part.newest_since,
        )
        if facts.relay is None:
            self.contents.reads(key, soon=())
            return facts
        own = own_objects(namespace, name)
        facts = replace(facts, objects=await self._objects(own))
        others = survey.referenced_objects(facts) - own
        spaces = survey.namespaces_needed(facts)
        looked_at = self._unwatched(spaces)
        self.contents.reads(key, soon=others | looked_at | _balanced(facts), late=own)
        return replace(
            facts,
            objects={**facts.objects, **await self._objects(others)},
            namespaces=await self._labels(spaces),
            pods=await self._pods(facts),
        )

    async def _objects(self, keys: Iterable[ObjectKey]) -> dict[ObjectKey, Lookup]:
        wanted = sorted(keys)
        found = await gather_bounded(self._look_up, wanted)
        return dict(zip(wanted, found, strict=True))

    async def _look_up(self, key: ObjectKey) -> Lookup:
        # The watch selects mailrelay's labels: an object that is not in the store may exist
        # without them.
        watched = self.store.find(key.kind, key.namespace, key.name)
        return watched if watched is not None else await self.contents.get(key)

    def _unwatched(self, needed: frozenset[str]) -> frozenset[ObjectKey]:
        """Namespaces as objects to check periodically, if they cannot be watched (a Role cannot
        permit it)."""
        if self.scope.namespaces is None:
            return frozenset()
        return frozenset(_namespace(one) for one in needed if self.scope.holds(one))

    async def _labels(self, needed: frozenset[str]) -> dict[str, dict[str, str]]:
        found: dict[str, dict[str, str]] = {}
        for name in sorted(needed):
            if self.scope.namespaces is None:
                space: Lookup | None = self.store.find("Namespace", "", name)
            else:
                space = await self.contents.get(_namespace(name))
            if space is not None and not isinstance(space, Absence):
                found[name] = dict(labels_of(space))
        return found

    async def _pods(self, facts: RelayFacts) -> tuple[PodFacts, ...]:
        """The pods controlled by the relay's own StatefulSet: no others are counted or sent the
        token, whatever their names and labels."""
        stateful_set = facts.objects[_key(facts, "StatefulSet", facts.name)]
        if isinstance(stateful_set, Absence):
            return ()
        owner = uid_of(stateful_set)
        ours = [
            pod
            for pod in self.store.pods_of(facts.namespace, facts.name)
            if (controller := controller_of(pod)) is not None and controller.get("uid") == owner
        ]
        secret = facts.objects[_key(facts, "Secret", names.admin_secret_name(facts.name))]
        token = "" if isinstance(secret, Absence) else _token(secret)

        authority = survey.known_trust(facts)
        host = names.service_host(facts.name, facts.namespace)

        async def ask(pod: Manifest) -> PodFacts:
            return await self._ask(pod, token, authority=authority, name=host)

        return tuple(await gather_bounded(ask, ours, at_a_time=PODS_AT_A_TIME))

    async def _ask(self, pod: Manifest, token: str, *, authority: str, name: str) -> PodFacts:
        known = _pod_facts(pod)
        if not known.address or known.terminating or not token or not authority:
            return replace(known, trouble="It has no address yet.")
        try:
            status = await self.gateways.status(
                known.address, token, authority=authority, name=name
            )
        except ClusterError as error:
            return replace(known, trouble=error.detail)
        return replace(known, status=status)


async def gather_bounded(
    ask: Callable[[_Item], Awaitable[_Found]],
    items: Iterable[_Item],
    *,
    at_a_time: int = AT_A_TIME,
) -> list[_Found]:
    """The results in the order of the items, at most so many concurrently; the first error cancels
    the rest."""
    limit = asyncio.Semaphore(at_a_time)

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


def _namespace(name: str) -> ObjectKey:
    return ObjectKey(kind="Namespace", namespace=name, name=name)


def _balanced(facts: RelayFacts) -> frozenset[ObjectKey]:
    """The Service for clients while its load balancer has no address yet."""
    key = _key(facts, "Service", names.service_name(facts.name))
    found = facts.objects[key]
    if isinstance(found, Absence) or found["spec"].get("type") != "LoadBalancer":
        return frozenset()
    return frozenset({key})


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
        stamped_at=parse_rfc3339(annotations.get(ANNOTATION_STAMPED, "")),
    )
