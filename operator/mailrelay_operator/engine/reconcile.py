"""One round of one key: read the facts, mint what is wanted, plan, carry the plan out.
Level-triggered, safe to repeat.

What to do is decided in plan/; here is the order of doing it, and what happens when a part of it
fails.
"""

from __future__ import annotations

import asyncio
import secrets
import socket
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

import structlog

from mailrelay_operator.cluster.port import (
    CLAIM,
    EVENT,
    KINDS,
    MAIL_DOMAIN,
    POD,
    Cluster,
    ClusterError,
    Conflict,
    Forbidden,
    Invalid,
    NotFound,
)
from mailrelay_operator.engine.backlog import Key
from mailrelay_operator.engine.memory import Memory, RelayMemory, key_of
from mailrelay_operator.engine.minting import mint
from mailrelay_operator.engine.reading import Reader
from mailrelay_operator.plan import survey
from mailrelay_operator.plan.domain import plan_domain
from mailrelay_operator.plan.facts import (
    Absence,
    Event,
    Material,
    ObjectKey,
    Plan,
    RelayFacts,
    Wanted,
)
from mailrelay_operator.plan.objects import Manifest, is_being_deleted, namespace_of, version_of
from mailrelay_operator.plan.relay import plan_relay
from mailrelay_operator.plan.relay_status import plan_failure
from mailrelay_operator.plan.status import regarding

log = structlog.get_logger()

#: Seconds between two rows of queue numbers in a status: each row is a write to etcd.
NUMBERS_EVERY = 60.0
#: Seconds after which a round is tried again that somebody else's write has overtaken.
AFTER_CONFLICT = 1.0
#: Seconds after which something is tried again that the API server refused, for one tenant or one
#: volume.
AFTER_REFUSAL = 10.0
REPORTING_CONTROLLER = "mailrelay.dev/operator"


class Overtaken(Exception):
    """Somebody wrote between our reading and our writing: the round is to be repeated, and is no
    failure."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Clock:
    """The times that rounds need: `monotonic` in seconds, `now` in UTC."""

    monotonic: Callable[[], float]
    now: Callable[[], datetime]


class Reconciler:
    """Does rounds. One per process; rounds of different keys may run at the same time."""

    def __init__(self, *, cluster: Cluster, reader: Reader, memory: Memory, clock: Clock) -> None:
        """Read by `reader`, write to `cluster`."""
        self._cluster = cluster
        self._reader = reader
        self._memory = memory
        self._clock = clock

    async def reconcile(self, key: Key) -> float | None:
        """One round; returns after how many seconds to look again (None: when something
        happens). Overtaken and ClusterError say that it did not come to its end."""
        if key.kind == "MailDomain":
            return await self._reconcile_domain(key)
        return await self._reconcile_relay(key)

    async def _reconcile_relay(self, key: Key) -> float | None:
        memory = self._memory.of(key)
        moment = self._clock.monotonic()
        facts = await self._reader.read(
            key.namespace,
            key.name,
            now=self._clock.now(),
            numbers_due=moment - memory.numbers_written_at >= NUMBERS_EVERY,
        )
        # In a thread: with a thousand senders it is half a second, and watches must be served
        # meanwhile.
        facts = replace(facts, settling_since=memory.settling_since)
        wanted = await asyncio.to_thread(survey.wanted, facts)
        material = await self._mint(facts, wanted, memory)
        plan = await asyncio.to_thread(plan_relay, facts, material)
        _remember(memory, facts, material, plan, moment)
        whole = await self._carry_out(facts, plan, memory)
        if facts.relay is None:
            self._memory.forget(key)
        if plan.look_again_at is None:
            return None
        pause = max(0.0, (plan.look_again_at - facts.now).total_seconds())
        return pause if whole else max(pause, AFTER_REFUSAL)

    async def _reconcile_domain(self, key: Key) -> float | None:
        try:
            domain = await self._cluster.get(MAIL_DOMAIN, key.namespace, key.name)
        except NotFound:
            return None
        if not is_being_deleted(domain):
            plan = plan_domain(domain, now=self._clock.now())
            await self._report(plan)
        return None

    async def _mint(self, facts: RelayFacts, wanted: Wanted, memory: RelayMemory) -> Material:
        if wanted == Wanted():
            return Material()
        material = await asyncio.to_thread(
            mint,
            wanted,
            relay=f"{facts.namespace}/{facts.name}",
            now=facts.now,
            passwords=dict(memory.passwords),
            verifiers=memory.fitting_verifiers(wanted.scrypts),
        )
        memory.keep_verifiers(wanted.scrypts, material.scrypts)
        return material

    async def _carry_out(self, facts: RelayFacts, plan: Plan, memory: RelayMemory) -> bool:
        """Do what the plan says; whether all of it was done. The relay's own objects stop at the
        first that is refused, a tenant's Secret that is refused stops nobody."""
        try:
            await self._adopt(plan)
            for manifest in plan.create:
                if _is_own(manifest):
                    await self._create(manifest)
            for manifest in plan.apply:
                if _is_own(manifest):
                    await self._apply(manifest, facts, memory)
        except (Invalid, Forbidden) as error:
            await self._report(plan_failure(facts, plan, str(error)))
            raise
        await self._stamp_pods(facts, plan)
        refused = await self._for_tenants(facts, plan, memory)
        try:
            await self._grow(facts, plan)
        except (Invalid, Forbidden) as error:
            await self._report(plan_failure(facts, plan, str(error)))
            return False
        await self._report(plan)
        return not refused

    async def _for_tenants(self, facts: RelayFacts, plan: Plan, memory: RelayMemory) -> bool:
        """The tenants' Secrets; whether any was refused, as in a namespace that is being
        deleted."""
        refused = False
        todo = [(one, True) for one in plan.create] + [(one, False) for one in plan.apply]
        for manifest, is_new in todo:
            if _is_own(manifest):
                continue
            try:
                if is_new:
                    await self._create(manifest)
                else:
                    await self._apply(manifest, facts, memory)
            except (Invalid, Forbidden, NotFound) as error:
                refused = True
                log.warning("refused", object=str(key_of(manifest)), detail=str(error))
        return refused

    async def _report(self, plan: Plan) -> None:
        await self._write_statuses(plan.statuses)
        await self._post_events(plan.events)

    async def _adopt(self, plan: Plan) -> None:
        for one in plan.adopt:
            patch = {"metadata": {"uid": one.uid, "ownerReferences": [one.reference]}}
            kind = KINDS[one.child.kind]
            try:
                await self._cluster.merge(kind, one.child.namespace, one.child.name, patch)
            except (NotFound, Conflict) as error:
                raise Overtaken(str(error)) from error
            log.info("adopted", object=str(one.child))

    async def _create(self, manifest: Manifest) -> None:
        try:
            await self._cluster.create(manifest)
        except Conflict as error:
            raise Overtaken(str(error)) from error
        log.info("created", object=str(key_of(manifest)))

    async def _apply(self, manifest: Manifest, facts: RelayFacts, memory: RelayMemory) -> None:
        found = facts.objects.get(key_of(manifest))
        there = None if found is None or isinstance(found, Absence) else found
        if memory.is_applied(manifest, there):
            return
        try:
            result = await self._cluster.apply(manifest)
        except Conflict as error:
            raise Overtaken(str(error)) from error
        memory.note_applied(manifest, result)
        if there is None or version_of(result) != version_of(there):
            log.info("applied", object=str(key_of(manifest)))

    async def _stamp_pods(self, facts: RelayFacts, plan: Plan) -> None:
        for stamp in plan.stamps:
            patch = {"metadata": {"uid": stamp.uid, "annotations": dict(stamp.annotations)}}
            try:
                await self._cluster.merge(POD, facts.namespace, stamp.pod, patch)
            except (NotFound, Conflict):
                continue  # gone or another one: it will be seen in the next round

    async def _grow(self, facts: RelayFacts, plan: Plan) -> None:
        for claim in plan.grow:
            patch = {
                "metadata": {"uid": claim.uid},
                "spec": {"resources": {"requests": {"storage": claim.size}}},
            }
            await self._cluster.merge(CLAIM, facts.namespace, claim.name, patch)
        for stateful_set in plan.orphan:
            key = key_of(stateful_set)
            uid = str(stateful_set["metadata"]["uid"])
            await self._cluster.delete(
                KINDS[key.kind], key.namespace, key.name, uid=uid, orphan=True
            )

    async def _write_statuses(self, statuses: Iterable[Manifest]) -> None:
        for status in statuses:
            try:
                await self._cluster.apply_status(status)
            except NotFound:
                continue  # deleted meanwhile

    async def _post_events(self, events: Iterable[Event]) -> None:
        for event in events:
            log.info(
                "event",
                object=str(key_of(event.regarding)),
                reason=event.reason,
                note=event.note,
            )
            try:
                await self._cluster.create(event_object(event, now=self._clock.now()))
            except ClusterError as error:
                log.warning("event-not-posted", detail=str(error))


def event_object(event: Event, *, now: datetime) -> Manifest:
    """An Event as `kubectl describe` shows it."""
    host = socket.gethostname()[:128]
    return {
        "apiVersion": EVENT.api_version,
        "kind": EVENT.name,
        "metadata": {
            # A name of our own, not generateName: a POST that is repeated makes no second Event.
            "name": f"{event.regarding['metadata']['name'][:200]}.{secrets.token_hex(8)}",
            "namespace": namespace_of(event.regarding),
        },
        "eventTime": now.strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
        "type": "Warning" if event.warning else "Normal",
        "reason": event.reason,
        "action": "Reconcile",
        "note": event.note,
        "regarding": regarding(event.regarding),
        "reportingController": REPORTING_CONTROLLER,
        "reportingInstance": host,
    }


def _remember(
    memory: RelayMemory, facts: RelayFacts, material: Material, plan: Plan, moment: float
) -> None:
    """Keep what the next round needs, before anything is written: a password that is on its way
    to the gateways must not change because the round failed half-way."""
    memory.passwords = dict(material.passwords)
    memory.namespaces = frozenset(namespace_of(one) for one in facts.senders)
    memory.watched = watched(facts)
    memory.settling_since = None if plan.settled else memory.settling_since or facts.now
    if plan.wrote_numbers:
        memory.numbers_written_at = moment


def watched(facts: RelayFacts) -> dict[ObjectKey, str]:
    """What is looked at every few seconds: all that the relay refers to, its StatefulSet, and,
    where namespaces cannot be watched, those of its senders. With the version as it was read."""
    own = survey.own_objects(facts.namespace, facts.name)
    found: dict[ObjectKey, str] = {
        key: _version(one)
        for key, one in facts.objects.items()
        if key not in own or key.kind == "StatefulSet"
    }
    return found


def _version(found: Manifest | Absence) -> str:
    return found.value if isinstance(found, Absence) else version_of(found)


def _is_own(manifest: Manifest) -> bool:
    """Whether this belongs to the relay rather than to one of its tenants."""
    owners: list[Mapping[str, Any]] = manifest["metadata"].get("ownerReferences") or []
    return any(owner.get("kind") == "MailRelay" for owner in owners)
