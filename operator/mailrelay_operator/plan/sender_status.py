"""The status of a MailSender: each condition is a chain of small checks; the first that finds
something is the verdict. Pure.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

from mailrelay_gateway.contract.status import SenderFault
from mailrelay_operator.api.conditions import Verdict, find_condition
from mailrelay_operator.api.mailsender import MailSender, MailSenderStatus
from mailrelay_operator.api.reasons import Reason
from mailrelay_operator.plan.actions import Announce, ApplyStatus
from mailrelay_operator.plan.credentials import Credentials
from mailrelay_operator.plan.facts import Failure
from mailrelay_operator.plan.objects import Manifest, generation_of
from mailrelay_operator.plan.status import judged, ready, sender_status_of, transitions, written
from mailrelay_operator.plan.verdicts import Trouble
from mailrelay_operator.plan.view import Admission, RelayView


@dataclass(frozen=True, slots=True, kw_only=True)
class Situation:
    """The input of a sender's conditions. `fault` is what was refused about its domain or address;
    `failure` is why its Secret could not be written last time; `is_new`: it was first seen a few
    seconds ago."""

    manifest: Manifest
    model: MailSender | Trouble
    view: RelayView
    admission: Admission
    credentials: Credentials
    is_known: bool
    fault: SenderFault | None
    failure: Failure | None
    last_rotated: str | None
    is_new: bool
    now: datetime


Check = Callable[[Situation], Verdict | None]


def report(at: Situation) -> tuple[ApplyStatus | Announce, ...]:
    """The status, if it changed, and Events for notable changes."""
    old = sender_status_of(at.manifest)
    verdicts = {
        "Accepted": _judge(at, ACCEPTED, Reason.ACCEPTED),
        "ResolvedRefs": _judge(at, RESOLVED_REFS, Reason.RESOLVED_REFS),
        "Programmed": _judge(at, PROGRAMMED, Reason.PROGRAMMED, _PROGRAMMED),
    }
    fine = all(verdicts[one].status == "True" for one in ("Accepted", "ResolvedRefs"))
    if at.is_new and fine and _is_on_its_way(at, verdicts["Programmed"], old):
        return ()
    needed = tuple(verdicts)
    verdicts["Deliverable"] = _judge(at, DELIVERABLE, Reason.DELIVERABLE)
    verdicts["Ready"] = ready(
        verdicts, needed, otherwise=_judge(at, READY, Reason.READY, _usable(at))
    )
    generation = generation_of(at.manifest)
    conditions = judged("MailSender", old.conditions, verdicts, generation=generation, now=at.now)
    endpoint, entry = at.view.endpoint, at.admission.entry
    attached = entry is not None and endpoint is not None
    status = MailSenderStatus(
        observed_generation=generation,
        generation_in_force=_in_force(at, old, generation),
        conditions=conditions,
        username=entry.username if entry is not None else "",
        endpoint=endpoint.shown if attached and endpoint is not None else None,
        secret_name=at.credentials.name if attached else "",
        last_rotated=at.last_rotated or (old.last_rotated if attached else None),
        usage=old.usage,
    )
    return *written(at.manifest, status, old), *transitions(at.manifest, old.conditions, conditions)


def _is_on_its_way(at: Situation, programmed: Verdict, old: MailSenderStatus) -> bool:
    """Whether it has no status yet and will probably be ready in a second or two: this saves one
    write per new sender."""
    passing = programmed.reason in (Reason.RELAY_NOT_PROGRAMMED, Reason.SECRET_PENDING)
    waiting = at.admission.credential is not None and at.admission.entry is None
    unsaid = old.observed_generation is None
    return unsaid and (passing or waiting) and at.failure is None


def _in_force(at: Situation, old: MailSenderStatus, generation: int) -> int | None:
    """The generation in effect: the newest or, while that is refused, the previous one."""
    if at.admission.entry is None:
        return None
    return generation if at.admission.is_newest else old.generation_in_force


def _judge(at: Situation, checks: Sequence[Check], otherwise: Reason, message: str = "") -> Verdict:
    for check in checks:
        verdict = check(at)
        if verdict is not None:
            return verdict
    return Verdict(status="True", reason=otherwise, message=message or otherwise.sentence)


# --- Accepted


def _relay_takes_senders(at: Situation) -> Verdict | None:
    return at.view.trouble.verdict() if at.view.trouble is not None else None


def _spec_is_valid(at: Situation) -> Verdict | None:
    return at.model.verdict() if isinstance(at.model, Trouble) else None


def _relay_admits_it(at: Situation) -> Verdict | None:
    return at.admission.refused.verdict() if at.admission.refused is not None else None


def _secret_is_not_anothers(at: Situation) -> Verdict | None:
    return at.credentials.not_ours.verdict() if at.credentials.not_ours is not None else None


ACCEPTED: Sequence[Check] = (
    _relay_takes_senders,  # make sure that the relay exists and is in effect
    _spec_is_valid,  # make sure that every field of the spec is supported
    _relay_admits_it,  # make sure that the relay's owner allows namespace, addresses and username
    _secret_is_not_anothers,  # make sure that no foreign Secret is overwritten
)


# --- ResolvedRefs


def _is_attached(at: Situation) -> Verdict | None:
    if at.view.trouble is None and at.admission.credential is not None:
        return None
    return _waiting("The MailSender is not accepted.")


def _secret_is_usable(at: Situation) -> Verdict | None:
    return at.credentials.trouble.verdict() if at.credentials.trouble is not None else None


def _clients_can_connect(at: Situation) -> Verdict | None:
    return at.view.unusable.verdict() if at.view.unusable is not None else None


RESOLVED_REFS: Sequence[Check] = (
    _is_attached,  # make sure that the spec is in effect
    _secret_is_usable,  # make sure that the Secret has a login that may be used
    _clients_can_connect,  # make sure that a client that verifies the certificate gets a connection
)


# --- Programmed


def _relay_knows_it(at: Situation) -> Verdict | None:
    if at.admission.entry is not None:
        return None
    return _waiting("The relay's configuration does not include this MailSender.")


def _replicas_know_it(at: Situation) -> Verdict | None:
    if at.is_known or _ran_already(at):
        return None
    return _false(Reason.RELAY_NOT_PROGRAMMED)


def _secret_could_be_written(at: Situation) -> Verdict | None:
    if at.failure is None:
        return None
    return Verdict(
        status="False",
        reason=Reason.APPLY_FAILED,
        message=f"Secret {at.credentials.name} could not be written: {at.failure.message}",
    )


def _secret_is_written(at: Situation) -> Verdict | None:
    connectable = at.view.endpoint is not None and at.view.unusable is None
    if not connectable or not at.credentials.wants_password:
        return None
    return _false(Reason.SECRET_PENDING)


PROGRAMMED: Sequence[Check] = (
    _relay_knows_it,  # make sure that it is in the configuration
    _secret_could_be_written,  # make sure that the API server's error is quoted
    _replicas_know_it,  # make sure that every ready replica runs its entry
    _secret_is_written,  # make sure that its Secret has the password that the replicas have
)
_PROGRAMMED = "Every ready replica of the relay has this MailSender."


def _ran_already(at: Situation) -> bool:
    """Whether the gateways had it before: a changed password in transit, or a replica that starts,
    does not change that."""
    was = find_condition(sender_status_of(at.manifest).conditions, "Programmed")
    same = was is not None and was.observed_generation == generation_of(at.manifest)
    return same and was is not None and was.status == "True"


# --- Deliverable


def _nobody_refuses_it(at: Situation) -> Verdict | None:
    fault = at.fault
    if fault is None:
        return None
    words = {one.value: one for one in Reason if "Deliverable" in one.conditions}
    return Verdict(
        status="False",
        reason=words.get(fault.reason, Reason.SENDER_DOMAIN_REJECTED),
        message=f"Refused since {fault.since}: {fault.message}",
    )


DELIVERABLE: Sequence[Check] = (
    _nobody_refuses_it,  # make sure that the owner of the domain sees what receivers say of it
)


# --- Ready


def _is_not_suspended(at: Situation) -> Verdict | None:
    suspended = at.admission.entry is not None and at.admission.entry.suspend
    return _false(Reason.SUSPENDED) if suspended else None


READY: Sequence[Check] = (
    _is_not_suspended,  # make sure that MAIL is answered with 250
)


def _usable(at: Situation) -> str:
    endpoint = at.view.endpoint
    return f"Mail can be submitted at {endpoint.host}:{endpoint.port}." if endpoint else ""


def _false(reason: Reason) -> Verdict:
    return Verdict(status="False", reason=reason, message=reason.sentence)


def _waiting(message: str) -> Verdict:
    return Verdict(status="Unknown", reason=Reason.PENDING, message=message)
