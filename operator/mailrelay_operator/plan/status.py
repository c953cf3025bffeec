"""Makes status objects from verdicts, and Events from changed conditions. An unchanged status is
not written. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import TypeVar

from pydantic import ValidationError

from mailrelay_operator.api.conditions import (
    Condition,
    Verdict,
    find_condition,
    set_conditions,
)
from mailrelay_operator.api.maildomain import MailDomainStatus
from mailrelay_operator.api.mailrelay import MailRelayStatus
from mailrelay_operator.api.mailsender import MailSenderStatus
from mailrelay_operator.api.reasons import Reason
from mailrelay_operator.plan.actions import Announce, ApplyStatus, key_of
from mailrelay_operator.plan.objects import Manifest, name_of, namespace_of, uid_of

_Status = TypeVar("_Status", MailRelayStatus, MailSenderStatus, MailDomainStatus)


def relay_status_of(relay: Manifest) -> MailRelayStatus:
    """The MailRelay's current status; an unreadable one counts as not written yet."""
    return _status_of(relay, MailRelayStatus)


def sender_status_of(sender: Manifest) -> MailSenderStatus:
    """The MailSender's current status."""
    return _status_of(sender, MailSenderStatus)


def domain_status_of(domain: Manifest) -> MailDomainStatus:
    """The MailDomain's current status."""
    return _status_of(domain, MailDomainStatus)


def judged(
    kind: str,
    old: Iterable[Condition],
    verdicts: Mapping[str, Verdict],
    *,
    generation: int,
    now: datetime,
) -> tuple[Condition, ...]:
    """All conditions of the kind, for the newest generation; the status's generationInForce names
    the one in effect."""
    return set_conditions(kind, old, verdicts, generation=generation, now=now)


def ready(verdicts: Mapping[str, Verdict], needed: Iterable[str], *, otherwise: Verdict) -> Verdict:
    """The verdict of Ready: that of the first needed condition that is not True, with its reason,
    or `otherwise`."""
    for type_ in needed:
        verdict = verdicts[type_]
        if verdict.status != "True":
            return Verdict(
                status="False" if verdict.status == "False" else "Unknown",
                reason=verdict.reason,
                message=f"{type_} is {verdict.status}: {verdict.message}",
            )
    return otherwise


def written(owner: Manifest, status: _Status, old: _Status) -> tuple[ApplyStatus, ...]:
    """The action that writes this status; none if it is unchanged."""
    if status == old and owner.get("status"):
        return ()
    manifest = {
        "apiVersion": owner["apiVersion"],
        "kind": owner["kind"],
        "metadata": {"name": name_of(owner), "namespace": namespace_of(owner)},
        "status": status.model_dump(mode="json", by_alias=True, exclude_none=True),
    }
    return (ApplyStatus(owner=key_of(owner), manifest=manifest),)


def transitions(
    owner: Manifest, old: Iterable[Condition], new: Iterable[Condition]
) -> tuple[Announce, ...]:
    """Events for a condition that is now False for a new reason, for one that recovered, and for
    the first time that the object is ready."""
    before = tuple(old)
    new = tuple(new)
    found: list[Announce] = []
    for condition in new:
        was = find_condition(before, condition.type)
        if was is not None and (was.status, was.reason) == (condition.status, condition.reason):
            continue
        # Ready has the reason of the condition that blocks it, which has its own Event.
        said = condition.type == "Ready" and any(
            one.reason == condition.reason for one in new if one is not condition
        )
        failed = condition.status == "False" and condition.reason not in _QUIET and not said
        recovered = (
            condition.status == "True"
            and was is not None
            and was.status == "False"
            and was.reason not in _QUIET
        )
        # Not each time that a changed spec reaches the gateways.
        settled = was is not None and was.reason == Reason.CONFIGURATION_PENDING
        first_ready = condition.status == "True" and condition.type == "Ready" and not settled
        if failed or recovered or first_ready:
            found.append(
                Announce(
                    owner=key_of(owner),
                    regarding=regarding(owner),
                    warning=failed,
                    reason=condition.reason,
                    note=f"{condition.type}: {condition.message}"[:MAX_NOTE],
                )
            )
    return tuple(found)


#: events.k8s.io/v1 limits note to 1 kB.
MAX_NOTE = 1000
#: Reasons without an Event: transient ones, and those that another condition's Event reports.
_QUIET = frozenset(
    {Reason.PENDING, Reason.CONFIGURATION_PENDING, Reason.REPLICAS_PENDING, Reason.NOT_READY}
    | {Reason.RELAY_NOT_PROGRAMMED, Reason.NO_READY_REPLICA, Reason.SPOOL_EPHEMERAL}
    | {Reason.SECRET_PENDING}
)


def regarding(owner: Manifest) -> Manifest:
    """The reference from an Event to its object."""
    return {
        "apiVersion": owner["apiVersion"],
        "kind": owner["kind"],
        "namespace": namespace_of(owner),
        "name": name_of(owner),
        "uid": uid_of(owner),
    }


def _status_of(owner: Manifest, model: type[_Status]) -> _Status:
    try:
        return model.model_validate(owner.get("status") or {}, by_alias=True, by_name=False)
    except ValidationError:
        return model()
