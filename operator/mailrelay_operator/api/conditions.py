"""Conditions: which types each kind has, how they begin, and how a new verdict changes them. Pure.

All types of a kind are always written. A condition's lastTransitionTime changes only when its
status does; its observedGeneration names the spec that it describes. The reasons are in
reasons.py.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Literal

from pydantic import Field

from mailrelay_gateway.contract.moments import rfc3339
from mailrelay_operator.api.reasons import Reason
from mailrelay_operator.api.shape import Observed

#: The condition types of each kind, in the order in which they are written and read.
RELAY_CONDITIONS = (
    "Accepted",
    "ResolvedRefs",
    "Programmed",
    "Durable",
    "UpstreamReachable",
    "Ready",
)
SENDER_CONDITIONS = ("Accepted", "ResolvedRefs", "Programmed", "Deliverable", "Ready")
DOMAIN_CONDITIONS = ("Accepted", "KeysReady", "DNSVerified", "Ready")

CONDITION_TYPES: Mapping[str, tuple[str, ...]] = {
    "MailRelay": RELAY_CONDITIONS,
    "MailSender": SENDER_CONDITIONS,
    "MailDomain": DOMAIN_CONDITIONS,
}

Status = Literal["True", "False", "Unknown"]

#: As in Gateway API: a time that means "never".
EPOCH = "1970-01-01T00:00:00Z"
WAITING = "Waiting for controller"
#: metav1.Condition: 32 KiB for a message; a person reads much less, and status is read often.
MAX_MESSAGE_LENGTH = 4096


#: Descriptions of the fields that the statuses of all kinds share.
OBSERVED_GENERATION = (
    "The newest generation of the spec that the operator has seen, accepted or not. While it is"
    " behind metadata.generation, the status describes an older spec."
)
GENERATION_IN_FORCE = (
    "The generation of the spec that is in effect: an older one while the newest is refused or"
    " has unresolved references. Unset: none is."
)


class Endpoint(Observed):
    """Where a client connects to log in."""

    host: str = Field(min_length=1, max_length=253, description="Host name.")
    port: int = Field(ge=1, le=65535, description="Port.")
    tls: Literal["StartTLS", "Implicit"] = Field(
        description="StartTLS: the client starts TLS with STARTTLS. Implicit: TLS from the first"
        " byte."
    )

    def __str__(self) -> str:
        """`host:port`."""
        return f"{self.host}:{self.port}"


class Condition(Observed):
    """One observation of an object's state, like metav1.Condition."""

    type: Annotated[str, Field(min_length=1, max_length=316)] = Field(
        description="What is observed."
    )
    status: Status = Field(description="True, False or Unknown. True is always good.")
    reason: Annotated[str, Field(min_length=1, max_length=1024)] = Field(
        description="Reason, in one word; see the reference of reasons."
    )
    message: Annotated[str, Field(max_length=32768)] = Field(
        description="Explanation, and what to do."
    )
    last_transition_time: str = Field(
        max_length=64,
        description="When the status last changed.",
        json_schema_extra={"format": "date-time"},
    )
    observed_generation: int = Field(
        0,
        ge=0,
        description="The generation of the spec that this describes; if it is older than"
        " metadata.generation, the newest spec has not been seen yet.",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """The new state of one condition."""

    status: Status
    reason: Reason
    message: str


def initial_conditions(kind: str) -> tuple[Condition, ...]:
    """The conditions of an object that no operator has seen yet: the schema's default."""
    return tuple(_pending(type_) for type_ in CONDITION_TYPES[kind])


def set_conditions(
    kind: str,
    old: Iterable[Condition],
    verdicts: Mapping[str, Verdict],
    *,
    generation: int,
    now: datetime,
) -> tuple[Condition, ...]:
    """The conditions after `verdicts` (by type): all types of the kind, in order; those without
    a verdict are unchanged.

    Raises KeyError for a verdict of a type that the kind does not have. Types that the kind no
    longer has are dropped.
    """
    types = CONDITION_TYPES[kind]
    for type_ in verdicts:
        if type_ not in types:
            raise KeyError(f"{kind} has no condition {type_}; it has {', '.join(types)}")
    before = {condition.type: condition for condition in old}
    return tuple(
        _after(before.get(type_, _pending(type_)), verdicts.get(type_), generation, now)
        for type_ in types
    )


def find_condition(conditions: Iterable[Condition], type_: str) -> Condition | None:
    """The condition of this type, if present."""
    return next((condition for condition in conditions if condition.type == type_), None)


def _pending(type_: str) -> Condition:
    return Condition(
        type=type_,
        status="Unknown",
        reason=Reason.PENDING,
        message=WAITING,
        last_transition_time=EPOCH,
    )


def _after(before: Condition, verdict: Verdict | None, generation: int, now: datetime) -> Condition:
    if verdict is None:
        return before
    flipped = verdict.status != before.status or before.last_transition_time == EPOCH
    message = verdict.message
    if len(message) > MAX_MESSAGE_LENGTH:
        message = message[: MAX_MESSAGE_LENGTH - 1] + "…"
    return Condition(
        type=before.type,
        status=verdict.status,
        reason=verdict.reason.value,
        message=message,
        last_transition_time=rfc3339(now) if flipped else before.last_transition_time,
        observed_generation=generation,
    )
