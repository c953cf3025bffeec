"""PURE: what MailSenders get: their Secret, once every ready replica knows its password, and their
status."""

from __future__ import annotations

from dataclasses import dataclass

from mailrelay_operator.api.conditions import Verdict, find_condition
from mailrelay_operator.api.mailsender import MailSenderStatus
from mailrelay_operator.api.reasons import Reason
from mailrelay_operator.plan.endpoint import Endpoint, name_trouble
from mailrelay_operator.plan.facts import Event, RelayFacts
from mailrelay_operator.plan.manifests.secrets import binding_secret, binding_secret_update
from mailrelay_operator.plan.objects import (
    Manifest,
    generation_of,
    is_being_deleted,
    timestamp,
    uid_of,
)
from mailrelay_operator.plan.senders import SecretState, SenderPlan
from mailrelay_operator.plan.status import (
    judged,
    ready,
    sender_status_of,
    status_object,
    transitions,
)
from mailrelay_operator.plan.survey import Survey
from mailrelay_operator.plan.verdicts import Trouble, joined


@dataclass(frozen=True, slots=True, kw_only=True)
class SenderObjects:
    """What is to be done for the senders. `waits`: somebody's Secret is held back until the
    gateways know it."""

    create: tuple[Manifest, ...] = ()
    apply: tuple[Manifest, ...] = ()
    statuses: tuple[Manifest, ...] = ()
    events: tuple[Event, ...] = ()
    waits: bool = False


def sender_objects(
    facts: RelayFacts, found: Survey, endpoint: Endpoint | None, *, known: bool
) -> SenderObjects:
    """Secrets, statuses and Events of all senders. `known`: every ready replica runs the
    configuration that this plan writes, so that what is new in it may be shown (verifier first,
    Secret second)."""
    create: list[Manifest] = []
    apply: list[Manifest] = []
    statuses: list[Manifest] = []
    events: list[Event] = []
    mismatch = None
    if endpoint is not None and found.in_force is not None:
        mismatch = name_trouble(endpoint, found.in_force.resolved)
    for sender in found.senders:
        if sender.entry is not None and endpoint is not None and mismatch is None:
            secret = _secret(facts, sender, endpoint, known=known)
            if secret is not None:
                (create if sender.secret_state is SecretState.MISSING else apply).append(secret)
        old = sender_status_of(sender.manifest)
        runs = known or _ran_already(found, sender, old)
        verdicts = _verdicts(found, sender, endpoint, mismatch, known=runs)
        status = _status(facts, sender, endpoint, verdicts, old)
        written = status_object(sender.manifest, status, old)
        if written is not None:
            statuses.append(written)
        events += transitions(sender.manifest, old.conditions, status.conditions)
    return SenderObjects(
        create=tuple(create),
        apply=tuple(apply),
        statuses=tuple(statuses),
        events=tuple(events),
        waits=any(
            one.secret_state is SecretState.MISSING and one.entry is not None
            for one in found.senders
        ),
    )


def orphaned_statuses(facts: RelayFacts) -> tuple[tuple[Manifest, ...], tuple[Event, ...]]:
    """What is said to MailSenders whose relay is not there."""
    trouble = Trouble(
        reason=Reason.RELAY_NOT_FOUND,
        message=f"There is no MailRelay {facts.namespace}/{facts.name}: create it, or make the"
        " MailSender anew with another relayRef.",
    )
    waiting = Verdict(
        status="Unknown", reason=Reason.PENDING, message="The MailSender is not accepted."
    )
    statuses: list[Manifest] = []
    events: list[Event] = []
    for manifest in facts.senders:
        if is_being_deleted(manifest):
            continue
        verdicts = {
            "Accepted": trouble.verdict(),
            "ResolvedRefs": waiting,
            "Programmed": waiting,
        }
        verdicts["Ready"] = ready(verdicts, ("Accepted",), otherwise=waiting)
        old = sender_status_of(manifest)
        generation = generation_of(manifest)
        conditions = judged(
            "MailSender",
            old.conditions,
            verdicts,
            generation=generation,
            now=facts.now,
        )
        status = old.model_copy(
            update={"conditions": conditions, "observed_generation": generation}
        )
        written = status_object(manifest, status, old)
        if written is not None:
            statuses.append(written)
        events += transitions(manifest, old.conditions, conditions)
    return tuple(statuses), tuple(events)


def _ran_already(found: Survey, sender: SenderPlan, old: MailSenderStatus) -> bool:
    """Whether the gateways knew the sender just so before: another sender's change is no news of
    this one."""
    was = find_condition(old.conditions, "Programmed")
    unchanged = found.written_senders.get(sender.uid) == sender.entry
    return unchanged and was is not None and was.status == "True"


def _secret(
    facts: RelayFacts, sender: SenderPlan, endpoint: Endpoint, *, known: bool
) -> Manifest | None:
    """The tenant's Secret as it shall be created or applied now, if it is ours and due."""
    if sender.entry is None or not sender.password:
        return None
    if sender.secret_state is SecretState.MISSING and known:
        return binding_secret(
            sender.manifest,
            name=sender.secret_name,
            relay=facts.name,
            endpoint=endpoint,
            username=sender.entry.username,
            password=sender.password,
            minted=timestamp(facts.now),
        )
    if sender.secret_state is SecretState.PRESENT and sender.secret is not None:
        return binding_secret_update(
            sender.manifest,
            name=sender.secret_name,
            relay=facts.name,
            endpoint=endpoint,
            username=sender.entry.username,
            password=sender.password,
            uid=uid_of(sender.secret),
        )
    return None


def _verdicts(
    found: Survey,
    sender: SenderPlan,
    endpoint: Endpoint | None,
    mismatch: Trouble | None,
    *,
    known: bool,
) -> dict[str, Verdict]:
    verdicts: dict[str, Verdict] = {}
    refused = sender.refused
    if found.in_force is None:
        refused = Trouble(
            reason=Reason.RELAY_NOT_ACCEPTED, message=Reason.RELAY_NOT_ACCEPTED.sentence
        )
    verdicts["Accepted"] = (
        refused.verdict()
        if refused is not None
        else Verdict(status="True", reason=Reason.ACCEPTED, message=Reason.ACCEPTED.sentence)
    )
    unresolved = joined(tuple(one for one in (sender.unresolved, mismatch) if one is not None))
    if sender.model is None:
        verdicts["ResolvedRefs"] = _waiting("The MailSender is not accepted.")
    elif unresolved is not None:
        verdicts["ResolvedRefs"] = unresolved.verdict()
    else:
        verdicts["ResolvedRefs"] = Verdict(
            status="True", reason=Reason.RESOLVED_REFS, message=Reason.RESOLVED_REFS.sentence
        )
    if sender.entry is None:
        verdicts["Programmed"] = _waiting("The relay is not told of this MailSender.")
    elif not known:
        reason = Reason.RELAY_NOT_PROGRAMMED
        verdicts["Programmed"] = Verdict(status="False", reason=reason, message=reason.sentence)
    else:
        verdicts["Programmed"] = Verdict(
            status="True",
            reason=Reason.PROGRAMMED,
            message="Every ready replica of the relay knows this MailSender.",
        )
    verdicts["Ready"] = ready(
        verdicts,
        ("Accepted", "ResolvedRefs", "Programmed"),
        otherwise=_otherwise(found, sender, endpoint),
    )
    return verdicts


def _otherwise(found: Survey, sender: SenderPlan, endpoint: Endpoint | None) -> Verdict:
    """Ready, when nothing else is in the way."""
    if endpoint is None:
        return Verdict(
            status="False",
            reason=Reason.NOT_READY,
            message="No listener of the relay takes logins: it needs one with TLS.",
        )
    if sender.model is not None and sender.model.spec.suspend:
        reason = Reason.SUSPENDED
        return Verdict(status="False", reason=reason, message=reason.sentence)
    if sender.secret_state is SecretState.MISSING:
        return Verdict(
            status="False", reason=Reason.NOT_READY, message="The Secret is about to be written."
        )
    return Verdict(
        status="True",
        reason=Reason.READY,
        message=f"Mail can be submitted at {endpoint.host}:{endpoint.port}.",
    )


def _waiting(message: str) -> Verdict:
    return Verdict(status="Unknown", reason=Reason.PENDING, message=message)


def _status(
    facts: RelayFacts,
    sender: SenderPlan,
    endpoint: Endpoint | None,
    verdicts: dict[str, Verdict],
    old: MailSenderStatus,
) -> MailSenderStatus:
    generation = generation_of(sender.manifest)
    in_force = sender.remembered.generation if sender.remembered is not None else None
    attached = sender.entry is not None and endpoint is not None
    return MailSenderStatus(
        observed_generation=generation,
        generation_in_force=in_force,
        conditions=judged(
            "MailSender",
            old.conditions,
            verdicts,
            generation=generation,
            now=facts.now,
        ),
        username=sender.entry.username if sender.entry is not None else "",
        endpoint=endpoint.shown if attached and endpoint is not None else None,
        secret_name=sender.secret_name if attached else "",
        last_rotated=sender.last_rotated,
        usage=old.usage,
    )
