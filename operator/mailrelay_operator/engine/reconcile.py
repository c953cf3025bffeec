"""One round of one key: gather the facts, generate what is needed, plan, and perform the plan.
Level-triggered and idempotent.

plan/ decides what to do.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TypeVar

from mailrelay_operator.api.names import ca_secret_name
from mailrelay_operator.api.reasons import Reason
from mailrelay_operator.cluster.port import ClusterError, Unavailable
from mailrelay_operator.engine.acting import Actor, Outcome
from mailrelay_operator.engine.backlog import Key, Urgency
from mailrelay_operator.engine.contents import Contents
from mailrelay_operator.engine.memory import Memory, RelayMemory, SenderMemory
from mailrelay_operator.engine.minting import mint, mint_password
from mailrelay_operator.engine.reading import Reader
from mailrelay_operator.engine.ringing import relay_key, sender_key, urgency_of_login
from mailrelay_operator.engine.store import Store, relay_of_sender
from mailrelay_operator.engine.verifiers import Verifiers
from mailrelay_operator.plan.actions import REPORTS, Action, Announce, Plan, RelayPlan
from mailrelay_operator.plan.credentials import Credentials, SecretState
from mailrelay_operator.plan.domain import plan_domain
from mailrelay_operator.plan.facts import (
    Absence,
    Failure,
    Material,
    ObjectKey,
    SenderMaterial,
    Wanted,
)
from mailrelay_operator.plan.objects import is_being_deleted
from mailrelay_operator.plan.relay import plan_relay, plan_without_relay
from mailrelay_operator.plan.sender import (
    SenderFacts,
    judges_newest,
    look,
    plan_sender,
    secret_to_read,
)
from mailrelay_operator.plan.senders import sender_uid
from mailrelay_operator.plan.succession import trusted_by
from mailrelay_operator.plan.survey import Survey, survey, wanted
from mailrelay_operator.plan.view import RelayView, changed_for

#: Seconds between two updates of queue figures in a status: each is a write to etcd.
NUMBERS_EVERY = 60.0
#: Number of senders from which a relay is surveyed and planned in a thread: a thousand take tens of
#: milliseconds, and watches must be served meanwhile.
MANY_SENDERS = 200

_Result = TypeVar("_Result")


class Unfinished(Exception):
    """A round that did not complete its plan and is retried with back-off. `conflict`: only a
    concurrent write prevented it; `silent`: the API server did not answer."""

    def __init__(self, detail: str, *, conflict: bool = False, silent: bool = False) -> None:
        """Say what prevented it."""
        super().__init__(detail)
        self.conflict = conflict
        self.silent = silent


@dataclass(frozen=True, slots=True, kw_only=True)
class Clock:
    """The times that rounds need: `monotonic` in seconds, `now` in UTC."""

    monotonic: Callable[[], float]
    now: Callable[[], datetime]


class Reconciler:
    """Performs rounds. One per process; rounds of different keys may run concurrently."""

    def __init__(
        self,
        *,
        store: Store,
        contents: Contents,
        reader: Reader,
        actor: Actor,
        verifiers: Verifiers,
        memory: Memory,
        clock: Clock,
        ring: Callable[[Key, Urgency], None],
    ) -> None:
        """Read with `reader`, write with `actor`; `ring` puts a key on the backlog."""
        self._store = store
        self._contents = contents
        self._reader = reader
        self._actor = actor
        self._verifiers = verifiers
        self._memory = memory
        self._clock = clock
        self._ring = ring

    async def reconcile(self, key: Key) -> float | None:
        """One round; returns the seconds until the next one (None: only on an event). Raises
        Unfinished if it was not completed."""
        try:
            match key.kind:
                case "MailRelay":
                    return await self._reconcile_relay(key)
                case "MailSender":
                    return await self._reconcile_sender(key)
                case _:
                    return await self._reconcile_domain(key)
        except ClusterError as error:
            silent = isinstance(error, Unavailable) and not error.answered
            raise Unfinished(str(error), silent=silent) from error

    # --- a relay

    async def _reconcile_relay(self, key: Key) -> float | None:
        memory = self._memory.relay(key)
        moment = self._clock.monotonic()
        facts = await self._reader.read(
            key,
            now=self._clock.now(),
            numbers_due=moment - memory.numbers_written_at >= NUMBERS_EVERY,
        )
        if facts.relay is None:
            self._publish(key, memory, plan_without_relay(facts).view)
            if not facts.senders:
                self._memory.forget(key)
            return None
        relay = facts.relay
        found = await _in_background(lambda: survey(facts, relay), many=len(facts.senders))
        material = await self._mint(key, found)
        plan = await self._plan(found, material, memory)
        memory.note_versions(plan.versions)
        memory.note_newest(plan.digest, now=facts.now)
        memory.settling_since = None if plan.settled else memory.settling_since or facts.now
        memory.serving_since = None if plan.view.starting else memory.serving_since or facts.now
        outcome = await self._actor.do(_writes(plan))
        failures = _still_failing(memory.failures, outcome)
        if failures != memory.failures:
            memory.failures = failures
            again = replace(found, facts=replace(facts, failures=failures))
            plan = await self._plan(again, material, memory)
        if not outcome.silent:
            told = await self._actor.do(_reports(plan))
            outcome = _joined(outcome, told)
            if plan.wrote_numbers and not told.failures:
                memory.numbers_written_at = moment
        if not _lost_authority(plan, material, outcome):
            memory.trust = plan.trust
            self._publish(key, memory, plan.view)
        return self._pause(plan, outcome, facts.now)

    async def _plan(self, found: Survey, material: Material, memory: RelayMemory) -> RelayPlan:
        def plan() -> RelayPlan:
            return plan_relay(found, material, encodings=memory.encodings)

        return await _in_background(plan, many=len(found.candidates))

    async def _mint(self, key: Key, found: Survey) -> Material:
        asked = wanted(found)
        if asked == Wanted():
            return Material()
        now = self._clock.now()
        return await asyncio.to_thread(mint, asked, relay=f"{key.namespace}/{key.name}", now=now)

    def _publish(self, key: Key, memory: RelayMemory, view: RelayView) -> None:
        """Pass the view on to the senders, and wake those for whom it has changed."""
        changed = changed_for(memory.view, view)
        memory.view = view
        if not changed:
            return
        for one in self._store.senders_of(key.namespace, key.name):
            if sender_uid(one.manifest) in changed:
                self._ring(sender_key(one.manifest), Urgency.AWAITED)

    # --- a sender

    async def _reconcile_sender(self, key: Key) -> float | None:
        seen = self._store.sender(key.namespace, key.name)
        if seen is None or is_being_deleted(seen.manifest):
            self._contents.reads(key, soon=())
            self._verifiers.forget(key)
            self._memory.forget(key)
            return None
        relay = relay_key(*relay_of_sender(seen.manifest))
        part = self._memory.relays.get(relay)
        if part is None or part.view is None:
            return None  # its relay's first round will ring
        if not judges_newest(part.view, seen.manifest):
            return None  # newer than the view; the relay was rung with it, and will ring
        memory = self._memory.sender(key, sender_uid(seen.manifest))
        memory.since = memory.since or self._clock.now()
        secret = secret_to_read(part.view, seen.manifest)
        self._contents.reads(key, soon=() if secret is None else (secret,))
        facts = SenderFacts(
            manifest=seen.manifest,
            model=seen.model,
            view=part.view,
            now=self._clock.now(),
            secret=await self._contents.get(secret) if secret else Absence.MISSING,
            login=memory.login,
            failures=memory.failures,
            since=memory.since,
            serving_since=part.serving_since,
        )
        memory.trusted = trusted_by(facts.secret)
        found = look(facts)
        material = self._sender_material(key, found, memory)
        plan = plan_sender(facts, found, material)
        if plan.login is not None:
            memory.login = plan.login
            self._ring(relay, urgency_of_login(facts.verifiers, plan.login))
        writes = _writes(plan)
        outcome = await self._actor.do(writes)
        failures = _still_failing(memory.failures, outcome)
        if not outcome.silent:
            told = _reports(plan)
            if failures != memory.failures or (writes and secret and not outcome.failures):
                # Report at once what has just been written or refused.
                memory.failures = failures
                there = await self._contents.get(secret) if secret else Absence.MISSING
                memory.trusted = trusted_by(there)
                facts = replace(facts, login=memory.login, failures=failures, secret=there)
                found = look(facts)
                plan = plan_sender(facts, found, self._sender_material(key, found, memory))
                told = (*(one for one in told if _is_of_login(one)), *_reports(plan))
            outcome = _joined(outcome, await self._actor.do(told))
        return self._pause(plan, outcome, facts.now)

    def _sender_material(
        self, key: Key, found: Credentials, memory: SenderMemory
    ) -> SenderMaterial:
        if found.wants_scrypt is not None:
            return SenderMaterial(verifier=self._verifiers.find(key, found.wants_scrypt))
        if found.wants_password:
            # Kept until it is in the Secret: its verifier is in transit to the gateways.
            memory.password = memory.password or mint_password()
            return SenderMaterial(password=memory.password)
        if found.state is SecretState.PRESENT:
            memory.password = ""
        return SenderMaterial()

    # --- a domain

    async def _reconcile_domain(self, key: Key) -> float | None:
        domain = self._store.find("MailDomain", key.namespace, key.name)
        if domain is None or is_being_deleted(domain):
            return None
        now = self._clock.now()
        plan = plan_domain(domain, now=now)
        return self._pause(plan, await self._actor.do(plan.actions), now)

    # --- all

    def _pause(self, plan: Plan, outcome: Outcome, now: datetime) -> float | None:
        if outcome.error is not None:
            raise Unfinished(
                str(outcome.error), conflict=outcome.is_conflict, silent=outcome.silent
            )
        if plan.look_again_at is None:
            return None
        return max(0.0, (plan.look_again_at - now).total_seconds())


async def _in_background(work: Callable[[], _Result], *, many: int) -> _Result:
    return work() if many < MANY_SENDERS else await asyncio.to_thread(work)


def _writes(plan: Plan) -> tuple[Action, ...]:
    return tuple(one for one in plan.actions if not isinstance(one, REPORTS))


def _reports(plan: Plan) -> tuple[Action, ...]:
    return tuple(one for one in plan.actions if isinstance(one, REPORTS))


def _lost_authority(plan: RelayPlan, material: Material, outcome: Outcome) -> bool:
    """Whether a new CA may not have been stored: no client must learn it, since the next round
    generates another."""
    if material.authority is None:
        return False
    secret = ca_secret_name(plan.view.name)
    key = ObjectKey(kind="Secret", namespace=plan.view.namespace, name=secret)
    return outcome.silent or key in outcome.failures


def _is_of_login(action: Action) -> bool:
    """Whether it is an Event about the login, which a second plan does not repeat."""
    return isinstance(action, Announce) and action.reason == Reason.CREDENTIAL_REVOKED


def _still_failing(before: dict[ObjectKey, Failure], outcome: Outcome) -> dict[ObjectKey, Failure]:
    """The objects that currently cannot be written. A concurrent write is no failure: the next
    round plans with the new state."""
    if outcome.silent:
        return before  # the results are unknown
    return {key: one for key, one in outcome.failures.items() if not one.conflict}


def _joined(first: Outcome, second: Outcome) -> Outcome:
    return Outcome(
        failures={**first.failures, **second.failures},
        error=first.error or second.error,
        silent=first.silent or second.silent,
    )
