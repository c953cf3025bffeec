"""MailSender: what an app team asks for, and what it is told. Pure.

A sender names a relay; the relay admits its namespace (admission.py). Its Secret is written, or its
login read.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from mailrelay_operator.api.conditions import (
    GENERATION_IN_FORCE,
    OBSERVED_GENERATION,
    Condition,
    Endpoint,
    initial_conditions,
)
from mailrelay_operator.api.grammar import Flag, MailboxPattern, ObjectName
from mailrelay_operator.api.limits import SenderLimits
from mailrelay_operator.api.metadata import API_VERSION, NamedRef, ObjectMeta, RelayRef
from mailrelay_operator.api.quantities import Duration
from mailrelay_operator.api.shape import ATOMIC, DISTINCT, NAMED, Observed, Struct, rule, transition


class Credentials(Struct):
    """The password; exactly one of secretName and existingSecretRef."""

    secret_name: ObjectName | None = Field(
        None,
        description="Name of the Secret that the operator writes: host, port, username, a minted"
        " password, tls, uri and ca.crt, as the Service Binding specification names them. It"
        " must not exist yet.",
    )
    rotate_every: Duration | None = Field(
        None,
        description="How often a new password is minted; the one before stays valid until"
        " the next. Left out: never.",
    )
    existing_secret_ref: NamedRef | None = Field(
        None,
        description="Secret with the keys username and password, brought along from another"
        ' relay; read, never written. It is labelled mailrelay.dev/credentials: "true". A'
        " username of the form NAMESPACE.NAME belongs to that namespace.",
    )

    @rule(
        "has(self.secretName) != has(self.existingSecretRef)",
        "Name exactly one of secretName and existingSecretRef.",
    )
    def are_minted_or_brought(self) -> bool:
        """Make sure it is clear whose password it is."""
        return (self.secret_name is None) != (self.existing_secret_ref is None)

    @rule(
        "!has(self.rotateEvery) || has(self.secretName)",
        "Only a minted password is rotated: rotateEvery needs secretName.",
        field="rotateEvery",
    )
    def rotates_only_what_is_minted(self) -> bool:
        """Make sure a rotation is not asked for in vain."""
        return self.rotate_every is None or self.secret_name is not None

    @rule(
        "!has(self.rotateEvery) || duration(self.rotateEvery) >= duration('1h')",
        "A password is rotated at most every 1h, so that its users can follow.",
        field="rotateEvery",
    )
    def rotates_slowly(self) -> bool:
        """Make sure pods have the time to read the new password while the old one is valid."""
        return self.rotate_every is None or self.rotate_every.seconds >= 3600


class MailSenderSpec(Struct):
    """Who sends, as what, by which relay."""

    relay_ref: RelayRef = Field(description="The MailRelay to send by. It can never be changed.")
    from_: tuple[MailboxPattern, ...] = Field(
        min_length=1,
        max_length=64,
        description="Addresses to send as: billing@example.com, or *@example.com. Envelope"
        " sender and header From must both match. The relay must allow them.",
        json_schema_extra=DISTINCT,
    )
    credentials: Credentials | None = Field(
        None, description="The password to log in with. Left out: ServiceAccount tokens only."
    )
    service_accounts: tuple[NamedRef, ...] = Field(
        (),
        max_length=32,
        description="ServiceAccounts of this namespace whose pods may log in with a"
        " projected token.",
        json_schema_extra=NAMED,
    )
    limits: SenderLimits | None = Field(
        None, description="Limits of one's own; they can only lower the relay's."
    )
    suspend: Flag = Field(
        False,
        description="Refuse new mail for now (450 4.7.1); logins succeed, and what is queued"
        " goes out.",
    )

    @rule(
        "has(self.credentials) || (has(self.serviceAccounts) && size(self.serviceAccounts) > 0)",
        "Nobody could log in: name credentials or serviceAccounts.",
        field="credentials",
    )
    def can_log_in(self) -> bool:
        """Make sure the sender is of use."""
        return self.credentials is not None or bool(self.service_accounts)

    @transition(
        # CEL knows the word namespace, so Kubernetes writes the field with underscores there.
        """self.relayRef.name == oldSelf.relayRef.name && (!has(self.relayRef.__namespace__)
        || !has(oldSelf.relayRef.__namespace__)
        || self.relayRef.__namespace__ == oldSelf.relayRef.__namespace__)""",
        "relayRef cannot be changed: make another MailSender, move the workload, then delete"
        " this one.",
        field="relayRef",
    )
    def keeps_its_relay(self, old: MailSenderSpec) -> bool:
        """Make sure no credential is left behind in another relay. That a namespace is written
        down which is not one's own, only the chart's admission policy can tell.
        """
        return not self.relay_ref.is_changed_from(old.relay_ref)


class Usage(Observed):
    """How much of a limit is used; written at most once a minute."""

    unit: Literal["Messages", "Recipients"] = Field(description="What is counted.")
    per: str = Field(max_length=28, description="The time of the limit.")
    used: int = Field(0, ge=0, description="How many are used now.")
    limit: int = Field(0, ge=0, description="How many are allowed.")


class MailSenderStatus(Observed):
    """What the operator knows of the sender."""

    observed_generation: int | None = Field(None, ge=0, description=OBSERVED_GENERATION)
    generation_in_force: int | None = Field(None, ge=0, description=GENERATION_IN_FORCE)
    conditions: tuple[Condition, ...] = Field(
        default_factory=lambda: initial_conditions("MailSender"),
        max_length=16,
        description="Accepted: the relay admits the sender. ResolvedRefs: its Secret can be"
        " used, and the relay's certificate carries the host's name. Programmed:"
        " every replica of the relay knows it. Ready: all of these, and the"
        " Secret is written.",
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]},
    )
    username: str = Field("", max_length=320, description="Username to log in with.")
    endpoint: Endpoint | None = Field(None, description="Where to connect to.")
    secret_name: str = Field(
        "", max_length=253, description="Secret that holds all that a client needs."
    )
    last_rotated: str | None = Field(
        None,
        max_length=64,
        description="When the password was minted.",
        json_schema_extra={"format": "date-time"},
    )
    usage: tuple[Usage, ...] = Field(
        (), max_length=16, description="Use against limits.", json_schema_extra=ATOMIC
    )


class MailSender(Struct):
    """The right of a workload to send mail as some addresses, and its credentials."""

    api_version: Literal["mailrelay.dev/v1alpha1"] = API_VERSION  # type: ignore[assignment]
    kind: Literal["MailSender"] = "MailSender"
    metadata: ObjectMeta
    spec: MailSenderSpec
    status: MailSenderStatus = Field(default_factory=MailSenderStatus)

    @property
    def relay_key(self) -> tuple[str, str]:
        """Namespace and name of the MailRelay that it names."""
        return self.spec.relay_ref.namespace or self.metadata.namespace, self.spec.relay_ref.name
